"""What to do about what an Ollama does not give."""

from collectors.diagnosis import Remedy
from collectors.ollama.collector import OLD_CONTEXT_REASON, UNCOUNTED_REASON
from planner.diagnosis import Lack
from planner.readings import Gap

_GATEWAY = (
    "Put LiteLLM in front of it (`model: ollama_chat/NAME`, `api_base: http://HOST:11434`) and read that as "
    "[[sources.litellm]]; then set counted_by_gateway = true here."
)


def remedy(gap: Gap) -> Remedy:
    """What brings the missing field, word for word."""
    if gap.reason == UNCOUNTED_REASON:
        return Remedy(fix=_GATEWAY)
    if gap.reason == OLD_CONTEXT_REASON:
        fix = "Update Ollama to a version of July 2025 or later (`ollama --version`)."
        return Remedy(fix=fix, lack=Lack.LOADED_CONTEXT)
    return Remedy(lack=None if gap.metric else Lack.SERVER_FACTS)
