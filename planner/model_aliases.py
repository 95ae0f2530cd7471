"""Whether a gateway and a server mean the same model, and what makes us think so."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from planner.links import LinkReason

SELF_HOSTED_PREFIXES = frozenset(
    {
        "custom_openai",
        "hosted_vllm",
        "huggingface",
        "infinity",
        "litellm_proxy",
        "llamafile",
        "lm_studio",
        "nvidia_nim",
        "ollama",
        "ollama_chat",
        "openai",
        "openai_like",
        "text-completion-openai",
        "triton",
        "vllm",
        "xinference",
    }
)
"""What LiteLLM puts before the name of a model that may run on servers of one's own.

Source: docs.litellm.ai, "Providers" (November 2026): the routes for OpenAI-compatible servers, vLLM, Ollama, NIM,
Triton, Hugging Face TGI, Infinity, Xinference, llamafile and LM Studio.
"""

ELSEWHERE = frozenset(
    {
        "ai21",
        "anthropic",
        "azure",
        "azure_ai",
        "bedrock",
        "cerebras",
        "cohere",
        "cohere_chat",
        "databricks",
        "deepinfra",
        "deepseek",
        "fireworks_ai",
        "gemini",
        "groq",
        "mistral",
        "nebius",
        "novita",
        "openrouter",
        "perplexity",
        "replicate",
        "sagemaker",
        "sagemaker_chat",
        "sambanova",
        "together_ai",
        "vertex_ai",
        "voyage",
        "watsonx",
        "xai",
    }
)
"""Providers that serve models on machines of their own, by the same list: what they are paid for did not run here."""

_LATEST = ":latest"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ServedName:
    """A model as a server names it, and `root`, the checkpoint that it loaded, where it says so."""

    name: str
    root: str | None = None


def provider_elsewhere(model: str, provider: str, aliases: Mapping[str, str] | None = None) -> str | None:
    """The provider that runs this model on machines of its own; None where it may run on ours.

    A configured alias says that it runs here, and so does a provider that is told and is none of `ELSEWHERE`: the name
    before the slash may then be the owner of the weights (databricks/dbrx-instruct, mistral/...).
    """
    if aliases and model in aliases:
        return None
    prefix, slash, _ = model.partition("/")
    told = provider.strip().lower() or (prefix.lower() if slash else "")
    return told if told in ELSEWHERE else None


def same_model(asked: str, served: ServedName, aliases: Mapping[str, str] | None = None) -> LinkReason | None:
    """Why the model that a gateway names is the one that a server offers, by the strongest reason; None if it is not.

    `aliases` maps names of the gateway to names of servers, as configured. A name with an alias means what the alias
    says and nothing else, also where a server offers that name and none the alias.
    """
    meant = aliases.get(asked) if aliases else None
    if meant is None:
        return _same(asked, served)
    return LinkReason.ALIAS if meant == served.name else _same(meant, served)


@lru_cache(maxsize=65_536)
def _same(asked: str, served: ServedName) -> LinkReason | None:
    if asked == served.name:
        return LinkReason.SAME_NAME
    if _without_latest(asked) == _without_latest(served.name):
        return LinkReason.SAME_TAG
    bare = without_provider(asked)
    if _without_latest(bare) == _without_latest(served.name):
        return LinkReason.WITHOUT_PROVIDER
    if served.root and bare == served.root:
        return LinkReason.SAME_ROOT
    if _letters(bare) == _letters(served.name):
        return LinkReason.SAME_LETTERS
    ends = {_last_part(served.name), _last_part(served.root or served.name)}
    return LinkReason.LAST_PART if _last_part(bare) in ends - {""} else None


def without_provider(model: str) -> str:
    """The name without the prefixes of a gateway, of which there may be several."""
    prefix, slash, rest = model.partition("/")
    while slash and rest and prefix.lower() in SELF_HOSTED_PREFIXES:
        model = rest
        prefix, slash, rest = model.partition("/")
    return model


def _without_latest(model: str) -> str:
    return model.removesuffix(_LATEST)


def _letters(model: str) -> str:
    """Letters, digits, and what separates owner and name; what stands between digits counts: 3.1, 3-1 and 31 differ."""
    folded = re.sub(r"(?<=\d)\.(?=\d)", "p", _without_latest(model).lower())
    folded = re.sub(r"(?<=\d)[^a-z0-9/:]+(?=\d)", "+", folded)
    return re.sub(r"[^a-z0-9/:+]+", "", folded)


def _last_part(model: str) -> str:
    return _letters(model.rstrip("/").rpartition("/")[2])
