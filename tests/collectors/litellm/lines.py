"""Lines of LiteLLM's `/metrics`, written the way its client writes them."""

from datetime import UTC, datetime, timedelta

from collectors.litellm.scrape import read_metrics
from collectors.litellm.series_memory import SeriesMemory
from planner.readings import Batch

NOW = datetime(2026, 11, 16, 12, 0, tzinfo=UTC)
BEGAN_S = 1_763_280_000.0  # 2025-11-16 08:00 UTC
GATEWAY = "gateway:4000"

_NOBODY = {
    "api_key_alias": "None",
    "api_provider": "hosted_vllm",
    "client_ip": "10.0.0.7",
    "end_user": "None",
    "hashed_api_key": "88dc28d0f030c55ed4ab77ed8faf0981",
    "requested_model": "public",
    "team": "None",
    "team_alias": "None",
    "user": "default_user_id",
    "user_agent": "curl/8",
    "user_email": "None",
}


def labels(**given: str) -> str:
    """A label block with LiteLLM's words for what is not given; an empty value leaves the label out."""
    named = {name: value for name, value in {**_NOBODY, **given}.items() if value != "-"}
    return "{" + ",".join(f'{name}="{value}"' for name, value in sorted(named.items())) + "}"


def counter(name: str, value: float, *, began_s: float | None = BEGAN_S, **given: str) -> str:
    """A counter's line and the gauge that says when its series began."""
    block = labels(**given)
    lines = f"litellm_{name}_total{block} {value}\n"
    return lines if began_s is None else f"{lines}litellm_{name}_created{block} {began_s}\n"


def used(
    requests: float = 3,
    tokens: tuple[float, float] = (30, 60),
    dollars: float = 0.5,
    *,
    began_s: float | None = BEGAN_S,
    **given: str,
) -> str:
    """Everything that a few requests to one model leave on the page."""
    model = {"model": given.pop("model", "org/Model"), **given}
    return (
        counter("proxy_total_requests_metric", requests, began_s=began_s, **given)
        + counter("input_tokens_metric", tokens[0], began_s=began_s, **model)
        + counter("output_tokens_metric", tokens[1], began_s=began_s, **model)
        + counter("total_tokens_metric", sum(tokens), began_s=began_s, **model)
        + counter("spend_metric", dollars, began_s=began_s, **model)
    )


def process(started_s: float = BEGAN_S) -> str:
    """When the gateway's process started; absent with several workers."""
    return f"process_start_time_seconds {started_s}\n"


def understood(
    text: str,
    *,
    dimensions: tuple[str, ...] = ("team", "key"),
    keep_personal: bool = False,
    memory: SeriesMemory | None = None,
    minute: int = 0,
) -> Batch:
    """What the collector makes of a page."""
    return read_metrics(
        text,
        observed_at=NOW + timedelta(minutes=minute),
        source="it",
        target="gateway:4000/metrics",
        gateway=GATEWAY,
        dimensions=dimensions,
        keep_personal=keep_personal,
        memory=memory or SeriesMemory(),
    )


def values(batch: Batch, dimension: str = "") -> dict[tuple[str, str, str], float]:
    """Model, owner and quantity to the newest value, of one dimension."""
    return {(one.model, one.owner, one.quantity): one.value for one in batch.spend if one.dimension == dimension}
