"""Counters summed up over labels that are not kept, so that a sum falls only when the gateway starts anew.

A sum over the series of a page falls when one of them is missing: LiteLLM removes series that nobody used for a while
(`prometheus_metrics_ttl_seconds`, `prometheus_metrics_max_series_per_metric`), a line is unreadable, a value is NaN. A
counter that falls looks like a restart, after which all of it is counted again. So each series is followed by itself,
and what it added goes into the sums of its names: a series that is missing adds nothing and takes nothing away. The
same holds for a series that goes under another name than before, as failed requests do when a second model stands
behind a public name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

MAX_ABSENT = 10_000
"""Series that are not on the page and are remembered all the same, those that were seen last."""
MAX_SUMS = 100_000
"""Sums of one gateway: clients can put any text into the name of a model."""

NOISE_RATIO = 1e-9
"""Less than this share below the last value is none the less: several workers are added up in changing order."""

SeriesKey = tuple[str, tuple[tuple[str, str], ...]]
"""Name of the counter and its labels, sorted."""
SumKey = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """One series of a page: its value (None where that is no count), and when it began (None where that is not told).

    As an answer of `SeriesMemory.take`, `value` is what the series adds to the sums that it belongs to.
    """

    source_name: str
    labels: Mapping[str, str]
    value: float | None
    began_s: float | None

    @property
    def key(self) -> SeriesKey:
        """What this series is known by."""
        return self.source_name, tuple(sorted(self.labels.items()))


@dataclass(slots=True)
class Sum:
    """What was counted in all; when the oldest series of it began, and since when its value counts, where that is told.

    The two differ for a sum that began while gpufleet ran: what is new on a page was counted since the page before.
    """

    begun_on_s: float | None  # the page on which it was first seen
    value: float = 0.0
    began_s: float | None = None
    since_s: float | None = None


class SeriesMemory:
    """Remembers the last value of every series of one gateway, and the sums that were made of them."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._process: float | None = None
        self._last: dict[SeriesKey, float | None] = {}  # in the order in which they were last seen
        self._last_at_s: float | None = None
        self._before_s: float | None = None
        self._was_whole = True
        self.sums: dict[SumKey, Sum] = {}
        self.names: set[str] = set()  # of counters that were there once
        self.addresses: dict[tuple[str, str], set[str]] = {}  # who answers for a provider's model
        self.removed = 0  # series that a whole page did not have any more
        self.is_full = False

    @property
    def process_started_s(self) -> float | None:
        """When the gateway's process started: one worker says it, several do not."""
        return self._process

    @property
    def remembered(self) -> int:
        """How many series are followed, those included that are not on the page."""
        return len(self._last)

    def begun_now(self, one: Sum) -> bool:
        """Whether the last page was the first with this sum."""
        return one.begun_on_s == self._last_at_s

    def take(
        self, page: Sequence[Counted], *, process_started_s: float | None, at_s: float, is_whole: bool
    ) -> list[Counted]:
        """What each series of a page adds; of the first page after a start of the gateway or of gpufleet, all.

        `is_whole` says that the page holds every series that there is: one that is new on it began after the last one.
        """
        told = {one.key: one for one in page}
        if self._has_restarted(told, process_started_s):
            self._forget()
        self._process = process_started_s if process_started_s is not None else self._process
        previous_s, was_whole = self._last_at_s, self._was_whole
        added_by: list[Counted] = []
        for key, one in told.items():
            is_known = key in self._last
            last = self._last.pop(key, None)
            self._last[key] = last if one.value is None else one.value
            self.names.add(one.source_name)
            if one.value is None:
                continue
            if previous_s is None:
                added = one.value
            elif last is not None:
                added = one.value if _fell(one.value, last) else max(one.value - last, 0.0)
            elif not is_known and (was_whole or (one.began_s is not None and one.began_s > previous_s)):
                added = one.value
            else:  # it may have counted long before it could be read
                added = 0.0
            added_by.append(replace(one, value=added))
        absent = len(self._last) - len(told)
        self.removed = absent if is_whole else 0
        for key in list(self._last)[: max(absent - MAX_ABSENT, 0)]:
            del self._last[key]
        self._before_s, self._last_at_s, self._was_whole = previous_s, at_s, is_whole
        return added_by

    def add(self, key: SumKey, counted: Counted) -> None:
        """Add to one sum; where there are MAX_SUMS, no other is begun and `is_full` says so."""
        one = self.sums.get(key)
        if one is None:
            if len(self.sums) >= MAX_SUMS:
                self.is_full = True
                return
            one = self.sums[key] = Sum(begun_on_s=self._last_at_s)
        one.value += counted.value or 0.0
        if self.begun_now(one):
            one.began_s = _earliest(one.began_s, counted.began_s)
            one.since_s = _earliest(one.since_s, counted.began_s if self._before_s is None else self._before_s)

    def _has_restarted(self, told: Mapping[SeriesKey, Counted], process_started_s: float | None) -> bool:
        """Whether another process answers: it says so or, where none does, more series fell or are gone than went on.

        A single series that fell is one that was removed and began anew.
        """
        if process_started_s is not None or self._process is not None:
            return None not in (self._process, process_started_s) and process_started_s != self._process
        known = [(told.get(key), last) for key, last in self._last.items() if last]
        fallen = sum(one is not None and one.value is not None and _fell(one.value, last) for one, last in known)
        gone = sum(one is None for one, _ in known)
        return fallen > 0 and 2 * (fallen + gone) > len(known)


def _fell(value: float, last: float) -> bool:
    return value < last - NOISE_RATIO * last


def _earliest(one: float | None, other: float | None) -> float | None:
    return min((each for each in (one, other) if each is not None), default=None)
