"""What LiteLLM calls each of our quantities, in every generation of its names; adding one is adding a row.

Of two rows for one quantity the earlier wins when a scrape has both.
"""

from dataclasses import dataclass

NAMES = "litellm/integrations/prometheus.py of 1.109.1 and a scrape of 1.106.2"
OLDER = "docs/my-website/docs/proxy/prometheus.md of mid 2025"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantityRow:
    """One counter of `/metrics`: our quantity, and where name and unit were read."""

    source_name: str
    quantity: str
    source: str


ROWS: tuple[QuantityRow, ...] = (
    QuantityRow(source_name="litellm_proxy_total_requests_metric_total", quantity="requests", source=NAMES),
    QuantityRow(source_name="litellm_requests_metric_total", quantity="requests", source=f"{NAMES} (deprecated)"),
    QuantityRow(source_name="litellm_proxy_failed_requests_metric_total", quantity="failed_requests", source=NAMES),
    QuantityRow(
        source_name="litellm_llm_api_failed_requests_metric_total",
        quantity="failed_requests",
        source=f"{NAMES} (deprecated)",
    ),
    QuantityRow(source_name="litellm_input_tokens_metric_total", quantity="input_tokens", source=NAMES),
    QuantityRow(source_name="litellm_input_tokens_total", quantity="input_tokens", source=OLDER),
    QuantityRow(source_name="litellm_output_tokens_metric_total", quantity="output_tokens", source=NAMES),
    QuantityRow(source_name="litellm_output_tokens_total", quantity="output_tokens", source=OLDER),
    QuantityRow(source_name="litellm_total_tokens_metric_total", quantity="total_tokens", source=NAMES),
    QuantityRow(source_name="litellm_total_tokens_total", quantity="total_tokens", source=OLDER),
    QuantityRow(source_name="litellm_spend_metric_total", quantity="cost_usd", source=NAMES),
)

BY_SOURCE_NAME = {row.source_name: row for row in ROWS}
EXPECTED = ("requests", "input_tokens", "output_tokens", "cost_usd")
"""Quantities whose absence costs the user something; failures appear with the first failure."""

CREATED = "_created"
"""Suffix of the gauge that says when a counter's series began; absent with several workers (multiprocess mode)."""
PROCESS_START = "process_start_time_seconds"

DEPLOYMENT_SUCCESS = "litellm_deployment_success_responses_total"
"""Answers by deployment, the only counter that names the address (`api_base`) of who answered."""
OLLAMA_PROVIDERS = ("ollama", "ollama_chat")
"""Providers without metrics of their own: the gateway's counts are the only ones (docs/providers/ollama)."""


def source_names(quantity: str) -> tuple[str, ...]:
    """What LiteLLM calls one of our quantities, the newest name first."""
    return tuple(row.source_name for row in ROWS if row.quantity == quantity)


def created_name(source_name: str) -> str:
    """The name of the gauge that says when the series of a counter began."""
    return source_name.removesuffix("_total") + CREATED
