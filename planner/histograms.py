"""Counts of values by bucket: percentiles, means, and sums over ranks, endpoints and models.

Percentiles are those of Prometheus' `histogram_quantile` (prometheus.io/docs, "Query functions", classic histograms,
version 3): linear within the bucket in which the rank falls.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentile:
    """A percentile as far as buckets tell it: it lies above `low` and is at most `high`.

    `high` is None above the last bound; `value` is then that bound, and the true one lies anywhere above.
    """

    value: float
    low: float
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How many values fell in each bucket.

    `bounds` are the finite upper bounds in rising order. `counts[i]` values lay above `bounds[i - 1]` and were at most
    `bounds[i]`; the last count is of those above all bounds, so there is one more count than bounds. `total` is the
    sum of all values.
    """

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    total: float

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.bounds) + 1:
            raise ValueError(f"{len(self.bounds)} bounds make {len(self.bounds) + 1} buckets, not {len(self.counts)}")
        if any(later <= earlier for earlier, later in pairwise(self.bounds)):
            raise ValueError(f"bounds must rise: {self.bounds}")

    @property
    def count(self) -> float:
        """How many values there were."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """Mean of all values; None when there was none."""
        count = self.count
        return self.total / count if count > 0 else None

    def percentile(self, ratio: float) -> Percentile | None:
        """The value that a share `ratio` (0..1) of all values does not exceed; None without values or bounds.

        The first bucket begins at 0 where its bound is positive, else its bound is the answer.
        """
        if not 0 <= ratio <= 1:
            raise ValueError(f"a percentile is a share of 0 to 1, not {ratio}")
        cumulative = list(accumulate(max(count, 0.0) for count in self.counts))
        if not self.bounds or cumulative[-1] <= 0:
            return None
        rank = ratio * cumulative[-1]
        bucket = next(at for at, reached in enumerate(cumulative) if reached >= rank and reached > 0)
        if bucket == len(self.bounds):
            return Percentile(value=self.bounds[-1], low=self.bounds[-1], high=None)
        high = self.bounds[bucket]
        if bucket == 0 and high <= 0:
            return Percentile(value=high, low=float("-inf"), high=high)
        low = self.bounds[bucket - 1] if bucket else 0.0
        before = cumulative[bucket - 1] if bucket else 0.0
        share = (rank - before) / (cumulative[bucket] - before)
        # A rounding error in the last digit must not leave the bucket.
        return Percentile(value=min(max(low + (high - low) * share, low), high), low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedHistogram:
    """A sum of histograms; `dropped_bounds` are those that not all of them have, so that it is coarser than they are.

    Percentiles of it are right for the common bounds. `parts` is how many histograms it is made of.
    """

    histogram: Histogram
    dropped_bounds: tuple[float, ...]
    parts: int

    @property
    def note(self) -> str | None:
        """What was lost by summing over different bounds, as a sentence; None when nothing was."""
        if not self.dropped_bounds:
            return None
        listed = ", ".join(f"{bound:g}" for bound in self.dropped_bounds)
        kept = len(self.histogram.bounds)
        return (
            f"Summed over {self.parts} histograms with different bounds: only the {kept} bounds that all have are "
            f"kept, {listed} are not."
        )


def merge(histograms: Iterable[Histogram]) -> MergedHistogram | None:
    """The sum over ranks, endpoints or models; None of no histogram.

    How many values were at most a bound is known exactly where every histogram has that bound, so different bounds are
    merged on the common ones alone. One without values is at most nothing everywhere: its bounds take none away.
    """
    parts = list(histograms)
    if not parts:
        return None
    telling = [part for part in parts if any(part.counts)] or parts
    common = sorted(set(telling[0].bounds).intersection(*(part.bounds for part in telling[1:])))
    everything = sorted({bound for part in telling for bound in part.bounds})
    counts = [0.0] * (len(common) + 1)
    for part in telling:
        for at, count in enumerate(_over(part, common)):
            counts[at] += count
    return MergedHistogram(
        histogram=Histogram(bounds=tuple(common), counts=tuple(counts), total=sum(part.total for part in parts)),
        dropped_bounds=tuple(bound for bound in everything if bound not in set(common)),
        parts=len(parts),
    )


def _over(part: Histogram, bounds: list[float]) -> list[float]:
    """The counts of a histogram over some of its bounds."""
    if len(bounds) == len(part.bounds):
        return list(part.counts)
    counts = [0.0] * (len(bounds) + 1)
    at = 0
    for bound, count in zip((*part.bounds, float("inf")), part.counts, strict=True):
        while at < len(bounds) and bounds[at] < bound:
            at += 1
        counts[at] += count
    return counts
