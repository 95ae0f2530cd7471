"""What to do about what a LiteLLM does not give: lines of its configuration."""

from collectors.diagnosis import Remedy
from collectors.errors import BadPayload, CollectorError, Unauthorized, Unsupported
from collectors.litellm.metrics import EXPECTED, source_names
from collectors.litellm.scrape import NOBODY_ASKED
from planner.diagnosis import Lack
from planner.readings import Gap

_NEEDED = tuple(source_names(one)[0].removesuffix("_total") for one in EXPECTED)
_BOUNDS = ("max_owners", "max_pages")
_IN_ONE_PIECE = "were read in one piece"


def remedy(gap: Gap) -> Remedy:
    """What brings the missing figure, word for word."""
    reason = gap.reason
    if reason == NOBODY_ASKED:
        return Remedy(is_natural=True)
    if source_names(gap.metric or ""):
        return Remedy(
            fix="Add it to prometheus_metrics_config in LiteLLM's litellm_settings, or remove that setting:\n"
            f"prometheus_metrics_config:\n  - group: gpufleet\n    metrics: [{', '.join(_NEEDED)}]"
        )
    if reason.startswith("the gateway removed"):
        return Remedy(
            fix="Remove prometheus_metrics_ttl_seconds and prometheus_metrics_max_series_per_metric from LiteLLM's "
            "litellm_settings, or rely on its daily figures.",
            lack=Lack.COUNTED_BEFORE,
        )
    if "prometheus_metrics_config" in reason:
        return Remedy(
            fix="Leave the labels of persons (end_user, user, user_email) out of these metrics: include_labels in "
            "prometheus_metrics_config of LiteLLM's litellm_settings names those that stay.",
            lack=Lack.PART_OF_USAGE,
        )
    owners = "use by " in reason or reason.startswith("only the ") or "cannot be asked for by itself" in reason
    lack = Lack.OWNERS if owners or _IN_ONE_PIECE in reason else Lack.LINES if _is_line(reason) else Lack.PART_OF_USAGE
    if gap.metric is not None:
        return Remedy()
    for bound in _BOUNDS:
        if bound in reason or (bound == "max_pages" and _IN_ONE_PIECE in reason):
            return Remedy(fix=f"Raise {bound} in the source's table.", lack=lack)
    return Remedy(lack=lack)


def _is_line(reason: str) -> bool:
    return reason.startswith(("line not read", "the answer ends in the middle"))


def error_fix(error: CollectorError) -> str | None:
    """What to do where the gateway, or one of its two kinds of figures, cannot be read at all."""
    if isinstance(error, Unauthorized):
        return "Put a key of the gateway (of its administrator for daily figures) into a file: bearer_token_file."
    if isinstance(error, BadPayload):
        return 'In the gateway\'s config.yaml:\nlitellm_settings:\n  callbacks: ["prometheus"]'
    if isinstance(error, Unsupported):
        return "Give LiteLLM a database (DATABASE_URL), or set read_daily_activity = false in the source's table."
    return None
