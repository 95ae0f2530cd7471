"""Sums of use and money per span of time, model and owner, exact: money is added up in decimals."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from planner.token_usage import TokenUsage

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MOST = 2**63 - 1
"""The largest number of tokens or requests that the store keeps; a sum above it is no count of anything."""

Amount = Decimal | int


@dataclass(frozen=True, slots=True, order=True)
class TallyKey:
    """What a sum is about: a span that starts at a full hour or day, a model, and an owner of it."""

    start: datetime
    length: timedelta
    model: str
    dimension: str = ""
    owner: str = ""


@dataclass(slots=True)
class _Sums:
    """Amounts by our quantity; a quantity is absent until it is told."""

    amounts: dict[str, Decimal] = field(default_factory=dict)
    usage_details: dict[str, Decimal] = field(default_factory=dict)
    cost_details: dict[str, Decimal] = field(default_factory=dict)

    @property
    def is_nothing(self) -> bool:
        """Whether no model was asked and nothing was used: Langfuse lists hours that it fills in, and plain spans."""
        used = {quantity: amount for quantity, amount in self.amounts.items() if quantity != "requests"}
        return not any(used.values()) and not any(self.cost_details.values())

    def usage(self, key: TallyKey) -> TokenUsage:
        return TokenUsage(
            start=key.start,
            end=key.start + key.length,
            model=key.model,
            dimension=key.dimension,
            owner=key.owner,
            requests=self._count("requests"),
            input_tokens=self._count("input_tokens"),
            output_tokens=self._count("output_tokens"),
            total_tokens=self._count("total_tokens"),
            cost_usd=float(self.amounts["cost_usd"]) if "cost_usd" in self.amounts else None,
            usage_details=_floats(self.usage_details),
            cost_details=_floats(self.cost_details),
        )

    @property
    def is_too_much(self) -> bool:
        """Whether a sum is larger than anything that is counted."""
        return any(amount > MOST for amount in self.amounts.values())

    def _count(self, quantity: str) -> int | None:
        amount = self.amounts.get(quantity)
        return None if amount is None else round(amount)


def _floats(details: Mapping[str, Decimal]) -> dict[str, float]:
    return {key: float(amount) for key, amount in sorted(details.items())}


class Tally:
    """Adds up what answers say; the order in which it is told makes no difference."""

    def __init__(self) -> None:
        self._sums: dict[TallyKey, _Sums] = defaultdict(_Sums)

    def add(self, key: TallyKey, quantity: str, amount: Amount | None) -> None:
        """Add an amount; None says nothing, not even zero."""
        if amount is not None:
            amounts = self._sums[key].amounts
            amounts[quantity] = amounts.get(quantity, Decimal(0)) + amount

    def add_detail(self, key: TallyKey, details: str, name: str, amount: Amount | None) -> None:
        """Add to one key of `usage_details` or `cost_details`."""
        if amount is not None and name:
            kept = self._sums[key].usage_details if details == "usage_details" else self._sums[key].cost_details
            kept[name] = kept.get(name, Decimal(0)) + amount

    def merge(self, other: "Tally") -> None:
        """Add everything of another one."""
        for key, sums in other._sums.items():
            for quantity, amount in sums.amounts.items():
                self.add(key, quantity, amount)
            for details, kept in (("usage_details", sums.usage_details), ("cost_details", sums.cost_details)):
                for name, amount in kept.items():
                    self.add_detail(key, details, name, amount)

    def amount(self, dimension: str, quantity: str) -> Decimal:
        """The sum of one quantity over all spans, models and owners of a dimension ("" for the totals)."""
        found = (sums.amounts.get(quantity) for key, sums in self._sums.items() if key.dimension == dimension)
        return sum((amount for amount in found if amount is not None), Decimal(0))

    def usage(self, gaps: list[str]) -> Iterator[TokenUsage]:
        """Every sum as a row, in a stable order; spans without a model and without use are no use.

        A row that is larger than anything that is counted is a gap.
        """
        for key in sorted(self._sums):
            sums = self._sums[key]
            if sums.is_too_much:
                gaps.append("a sum was left out: it is larger than anything that is counted")
            elif key.model or not sums.is_nothing:
                yield sums.usage(key)
