"""What gateways and trace stores say about use and cost: tokens, requests and money per model, team and hour."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsage:
    """Use and cost of one model by one user of it in one span of time, as a source totals it.

    A source that is asked again about the same span replaces what it said before: late traces change the past. `owner`
    is the value of `dimension` ("team", "user", "environment", "tag", "key"); both are "" for the total of the model.
    Never add totals to the parts. Tokens are None where the source does not say, not 0. `usage_details` and
    `cost_details` are the source's own keys (input, output, cache_read_input_tokens, ...); they need not add up.
    """

    start: datetime
    end: datetime
    model: str
    dimension: str = ""
    owner: str = ""
    provider: str = ""
    requests: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cost_usd: float | None = None
    usage_details: Mapping[str, float] = field(default_factory=dict)
    cost_details: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSpan:
    """A span of time that a source was asked about completely: what it does not list there was not used."""

    start: datetime
    end: datetime
    dimension: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CumulativeSpend:
    """A counter of a gateway (LiteLLM's /metrics): tokens, requests or dollars since it started; stored as increments.

    `quantity` is one of requests, failed_requests, input_tokens, output_tokens, total_tokens, cost_usd.
    """

    gateway: str  # host:port
    model: str
    dimension: str
    owner: str
    quantity: str
    value: float
    observed_at: datetime
    provider: str = ""
    started_at: datetime | None = None
