"""What engines counted over a window: increments with the time they cover, and their sums over ranks and replicas."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from planner.histograms import Histogram, MergedHistogram, merge
from planner.serving_readings import ServingSubject

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What one counter added in a window; `covered_s` is how much of the window its readings cover.

    An increment that reaches beyond the window counts by its share of time in it, so that windows that lie end to end
    add up to the whole.
    """

    cluster: str
    subject: ServingSubject
    metric: str
    label: str
    increment: float
    covered_s: float

    @property
    def per_s(self) -> float | None:
        """The rate while it was read; None when no reading covers any of the window."""
        return self.increment / self.covered_s if self.covered_s > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """A sum over several counters; `per_s` adds up their rates, None when none of them is covered."""

    increment: float
    per_s: float | None
    covered_s: float  # of the one that was read longest
    parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedHistogram:
    """What one histogram added in a window, and how much of the window its readings cover."""

    cluster: str
    subject: ServingSubject
    metric: str
    histogram: Histogram
    covered_s: float


def summed(counted: Iterable[Counted], by: Callable[[Counted], K]) -> dict[K, Total]:
    """Sums over all counters with the same key: over ranks by endpoint, over replicas by model, over labels."""
    groups: dict[K, list[Counted]] = {}
    for one in counted:
        groups.setdefault(by(one), []).append(one)
    return {key: _total(group) for key, group in groups.items()}


def merged(counted: Iterable[CountedHistogram], by: Callable[[CountedHistogram], K]) -> dict[K, MergedHistogram]:
    """Sums of histograms with the same key, on the bounds that all of them have."""
    groups: dict[K, list[Histogram]] = {}
    for one in counted:
        groups.setdefault(by(one), []).append(one.histogram)
    return {key: found for key, group in groups.items() if (found := merge(group)) is not None}


def _total(group: list[Counted]) -> Total:
    rates = [rate for one in group if (rate := one.per_s) is not None]
    return Total(
        increment=sum(one.increment for one in group),
        per_s=sum(rates) if rates else None,
        covered_s=max(one.covered_s for one in group),
        parts=len(group),
    )
