"""What the daily activity endpoints add up to, per day, model and owner."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from collectors.litellm.wire import SpendMetrics
from planner.token_usage import TokenUsage

DAY = timedelta(days=1)
MOST = 2**63 - 1
"""The largest number that the store keeps."""
_DETAILS = ("cache_read_input_tokens", "cache_creation_input_tokens", "failed_requests")

RowKey = tuple[date, str, str, str]
"""Day, model, dimension, owner."""


@dataclass(slots=True)
class Sums:
    """What the gateway counted under LiteLLM's own names; a name is absent until it is told."""

    counts: dict[str, int] = field(default_factory=dict)
    money: dict[str, float] = field(default_factory=dict)

    def add(self, metrics: SpendMetrics) -> None:
        """Take in one more part; numbers that the gateway did not give stay unknown."""
        for name, value in metrics:
            if isinstance(value, int):
                self.counts[name] = self.counts.get(name, 0) + value
            elif isinstance(value, float):
                self.money[name] = self.money.get(name, 0.0) + value

    def merge(self, other: "Sums") -> None:
        """Take in another sum: two keys may have one alias."""
        for name, count in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        for name, amount in other.money.items():
            self.money[name] = self.money.get(name, 0.0) + amount

    @property
    def is_too_much(self) -> bool:
        """Whether a sum is larger than anything that is counted."""
        return any(count > MOST for count in self.counts.values())

    def usage(self, key: RowKey) -> TokenUsage:
        """As one row of a day of UTC; what the gateway splits further is kept under its own names."""
        day, model, dimension, owner = key
        start = midnight(day)
        return TokenUsage(
            start=start,
            end=start + DAY,
            model=model,
            dimension=dimension,
            owner=owner,
            requests=self.counts.get("api_requests", self.counts.get("successful_requests")),
            input_tokens=self.counts.get("prompt_tokens"),
            output_tokens=self.counts.get("completion_tokens"),
            total_tokens=self.counts.get("total_tokens"),
            cost_usd=self.money.get("spend"),
            usage_details={name: float(self.counts[name]) for name in _DETAILS if self.counts.get(name)},
            cost_details={"flat_cost": self.money["flat_cost"]} if self.money.get("flat_cost") else {},
        )


@dataclass(slots=True)
class Activity:
    """Everything that one question was answered with, over all its pages."""

    models: dict[tuple[date, str], Sums] = field(default_factory=lambda: defaultdict(Sums))
    keys: dict[tuple[date, str, str], Sums] = field(default_factory=lambda: defaultdict(Sums))
    owners: dict[str, str] = field(default_factory=dict)  # id to the name for people
    spend_of_owner: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    keys_left_out: int = 0


def midnight(day: date) -> datetime:
    """The moment at which a day of UTC begins."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
