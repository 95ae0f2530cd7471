"""What counters and histograms are made of, followed part by part, so that no sum falls because a part is not there.

The store takes a count that falls for one that began anew and counts all of it again. A sum falls as well when one of
its parts is gone (a label value that the engine dropped), begins anew, or stood on a line that could not be read. So a
part that is gone keeps what it had counted, one that begins anew goes on from there, and on a page of which something
is lost only that is taken which has the same parts and buckets as before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum

from collectors.serving.histograms import Buckets, Contradiction, merged
from collectors.serving.workers import Workers
from planner.serving_readings import ServingSubject

MAX_PARTS = 1_024
"""Parts of one sum that are followed; labels that change with every request are no parts."""
MAX_SUMS = 20_000
"""Sums of one server that are followed: 256 models with all metrics of an engine."""
MAX_NAMES = 16
"""Unknown labels of one server that gaps name; a server may make up new ones for every page."""
NOISE_RATIO = 1e-9
"""Less than this share below the last value is the last value: sums lose last digits in changing order."""

_SAME_START = timedelta(seconds=1)

Sum = tuple[str, ServingSubject, str]
"""Metric, subject and label: one reading."""
PartKey = tuple[int, frozenset[tuple[str, str]]]
"""Row of the table, and the labels that tell parts apart."""
Told = tuple[Buckets, datetime | None]
"""What a part holds, and since when it counts. A counter is a histogram without buckets, its value the count."""
Shape = frozenset[tuple[PartKey, tuple[float, ...]]]
"""The parts of a sum with their buckets."""


class Trouble(IntEnum):
    """What may be lost of a metric on a page."""

    NONE = 0
    SOMEWHERE = 1  # the page is cut, or has a line of which nobody knows what it was about
    HERE = 2  # a line of this metric could not be read


class Incomplete(ValueError):
    """A sum that cannot be told from this page; the message says why."""


@dataclass(frozen=True, slots=True)
class _Part:
    """`before` is what it had counted before it began anew, `since` when that began."""

    told: Buckets
    started_at: datetime | None
    before: Buckets | None
    since: datetime | None

    def has_begun_anew(self, told: Buckets, started_at: datetime | None) -> bool:
        """Whether a part does not count on from where it was. Raises Contradiction."""
        last = self.told
        if last.bounds != told.bounds:
            return True
        if started_at is not None and self.started_at is not None and started_at > self.started_at + _SAME_START:
            return True
        if any(map(_is_less, (*told.counts, told.count), (*last.counts, last.count))):
            return True
        if _is_less(told.total, last.total):
            raise Contradiction("the sum of its values fell, and their number did not")
        return False

    def whole(self) -> Buckets | None:
        """All that it has counted; None where its buckets became others."""
        return self.told if self.before is None else merged((self.before, self.told))


@dataclass(slots=True)
class _Memory:
    parts: dict[PartKey, _Part] = field(default_factory=dict)
    shape: Shape | None = None  # of the last page that was whole
    last_shape: Shape | None = None  # of the last page
    is_refused: bool = False


class Parts:
    """The parts of all sums of one server, from page to page; pages come in the order of their time.

    `workers` are the processes behind its address, of an engine that names them.
    """

    def __init__(self) -> None:
        self.workers = Workers()
        self._sums: dict[Sum, _Memory] = {}
        self._names: set[str] = set()

    def check(
        self, of: Sum, told: Mapping[PartKey, tuple[float, ...]], trouble: Trouble, *, may_be_first: bool
    ) -> None:
        """Raise Incomplete where a page in trouble does not have what earlier ones had.

        `told` are the parts with the bounds of their buckets. `may_be_first`: where there was no earlier page, what
        there is is taken as it is.
        """
        memory = self._memory(of)
        shape: Shape = frozenset(told.items())
        before = memory.shape
        if before is None and trouble is Trouble.SOMEWHERE:
            before = memory.last_shape
        memory.last_shape = shape
        if trouble is Trouble.NONE:
            memory.shape = shape
        elif before != shape and not (before is None and may_be_first):
            raise Incomplete("a line was lost that may be a part of it; it was left out")

    def add_up(self, of: Sum, told: Mapping[PartKey, Told]) -> Told | None:
        """The sum of all that its parts have counted, and since when; None when their buckets differ.

        Where no part goes on from where it was, the engine began anew, and the sum with it. Raises Incomplete, and
        Contradiction for a part whose sum of values falls while their number does not.
        """
        memory = self._memory(of)
        if memory.is_refused or len(memory.parts.keys() | told.keys()) > MAX_PARTS:
            memory.is_refused, memory.parts = True, {}
            raise Incomplete(f"it is split into more than {MAX_PARTS} parts; it was left out")
        known = memory.parts
        seen = {key: known[key].has_begun_anew(*one) for key, one in told.items() if key in known}
        parts = {} if all(seen.values()) else dict(known)
        for key, (buckets, started_at) in told.items():
            before = parts.get(key)
            if before is None:
                parts[key] = _Part(buckets, started_at, None, started_at)
            else:
                counted = before.whole() if seen[key] else before.before
                parts[key] = _Part(buckets, started_at or before.started_at, counted, before.since or started_at)
        wholes = [whole for part in parts.values() if (whole := part.whole()) is not None]
        whole = merged(wholes) if len(wholes) == len(parts) else None
        memory.parts = {} if whole is None else parts
        if whole is None:
            return None
        return whole, min((part.since for part in parts.values() if part.since is not None), default=None)

    def names_to_tell(self, labels: Sequence[str]) -> list[str]:
        """Of these labels those that a gap names, and an ellipsis for the others."""
        self._names.update(labels[: MAX_NAMES - len(self._names)])
        told = [label for label in labels if label in self._names]
        return told if len(told) == len(labels) else [*told, "…"]

    def _memory(self, of: Sum) -> _Memory:
        memory = self._sums.get(of)
        if memory is None:
            if len(self._sums) >= MAX_SUMS:
                self._sums.clear()
            memory = self._sums[of] = _Memory()
        return memory


def _is_less(new: float, old: float) -> bool:
    return new < old - NOISE_RATIO * old
