"""Prometheus' histograms as they come: unordered, repeated, without the last bucket, contradicting themselves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from collectors.serving.table import MAX_VALUE
from collectors.serving.wire import Values

MAX_BUCKETS = 512
"""More buckets than this no engine has."""


class Contradiction(ValueError):
    """Counts that no histogram can have; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """A histogram: finite bounds in rising order, cumulative counts, number and sum of all values."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    count: float
    total: float


def buckets_of(values: Values, *, factor: float = 1.0) -> Buckets | None:
    """The histogram of one series, in base units by `factor`; None when there is nothing of one.

    The count is that of all values: `_count`, or else the last bucket. A bucket that is given twice counts once.
    Raises Contradiction.
    """
    if values.is_no_number:
        raise Contradiction("it holds something that is not a number")
    told = sorted(set(values.buckets))
    infinite = [count for bound, count in told if bound == math.inf]
    finite = [(bound, count) for bound, count in told if math.isfinite(bound)]
    count = values.count if values.count is not None else max(infinite, default=None)
    if count is None or values.total is None:
        if not told and values.total is None and count is None:
            return None
        raise Contradiction("its count or its sum is missing")
    if len(finite) > MAX_BUCKETS:
        raise Contradiction(f"it has more than {MAX_BUCKETS} buckets")
    bounds = tuple(bound for bound, _ in finite)
    counts = tuple(number for _, number in finite)
    if not all(map(math.isfinite, (*counts, count, values.total))):
        raise Contradiction("one of its numbers is not finite")
    if max(*counts, count, values.total) > MAX_VALUE:
        raise Contradiction("one of its numbers is larger than anything that is counted")
    if values.total < 0:
        raise Contradiction("the sum of its values is negative")
    if len(set(bounds)) != len(bounds):
        raise Contradiction("a bucket is given twice with different counts")
    if any(after < before for before, after in zip((0.0, *counts), (*counts, count), strict=True)):
        raise Contradiction("its buckets do not rise to its count")
    if any(number != count for number in infinite):
        raise Contradiction("its last bucket is not its count")
    if factor != 1.0:
        bounds = tuple(bound * factor for bound in bounds)
    return Buckets(bounds=bounds, counts=counts, count=count, total=values.total * factor)


def merged(parts: Sequence[Buckets]) -> Buckets | None:
    """The histogram of all values of several; None when their buckets differ."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if any(part.bounds != first.bounds for part in parts):
        return None
    return Buckets(
        bounds=first.bounds,
        counts=tuple(map(sum, zip(*(part.counts for part in parts), strict=True))),
        count=sum(part.count for part in parts),
        total=sum(part.total for part in parts),
    )
