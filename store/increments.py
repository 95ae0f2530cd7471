"""How cumulative values become increments: what was added between two readings, and when a count began anew.

A reading that is not newer than the last one adds nothing and loses nothing, since later values hold all that came
before. A count began anew where it says that it started after the last reading, or where it fell and nothing says that
this is an older look or another process: then all of it is new. The first sight of a series adds nothing, as nobody
knows over which time it was counted, unless it says that it began a short while ago.

Several processes may answer at one address, and two roads may tell of one process at nearly the same moment. The
process that started last is followed; what another one counted is never added to it.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from operator import sub
from typing import NamedTuple

NEW_SERIES_MS = 3_600_000
"""A series that began less than an hour before its first reading is counted from its beginning."""

NOISE_RATIO = 1e-9
"""Less than this share below the last value is no reset: sums over processes lose last digits in changing order."""

SAME_START_MS = 1_000
"""Starts that differ by no more are the same one: some tell it in whole seconds."""

_CLOCK_AHEAD_MS = 300_000  # so far may the clock of an engine that has just started be ahead of ours

_JUST_STARTED_MS = 60_000  # over so long a count is spread whose start is ahead of our clock

_OLDER_LOOK_MS = 5_000  # a slow answer is dated when it was asked for, and may hold more than a look dated after it

_SILENT_MS = 600_000  # who was not heard for so long may be gone: then whoever answers is followed

_ONE_PROCESS_MS = 900_000  # two roads to one process date its start no further apart: loading a model takes minutes


class Told(NamedTuple):
    """What was told of a series: when, its cumulative counts and sum, and since when it counts."""

    at_ms: int
    counts: tuple[float, ...]
    total: float
    started_at_ms: int | None


class Stretch(NamedTuple):
    """What was added from `since_ms` to `observed_at_ms`; of a histogram, values at most each bound and in all."""

    since_ms: int
    observed_at_ms: int
    counts: tuple[float, ...]
    total: float


class Reset(NamedTuple):
    """A count began anew; `counts_before` are the last ones seen of the former."""

    observed_at_ms: int
    counts_before: tuple[float, ...]


@dataclass(slots=True)
class Series:
    """Where a series stands, and what is new of it since it was read from the store.

    `counts` are cumulative: the value of a counter, or of a histogram how many values were at most each bound and last
    how many there were; `total` is a histogram's sum of values. `quiet_since_ms` begins a stretch that ends at
    `observed_at_ms`, in which nothing was added and of which there is no row yet: an idle engine costs no rows.
    """

    counts: tuple[float, ...] = ()
    total: float = 0.0
    observed_at_ms: int | None = None  # None: never seen
    started_at_ms: int | None = None
    quiet_since_ms: int | None = None
    is_changed: bool = False
    added: list[Stretch] = field(default_factory=list)
    resets: list[Reset] = field(default_factory=list)

    def see(self, counts: tuple[float, ...], total: float, at_ms: int, started_at_ms: int | None) -> None:
        """Take in what a source holds at a moment."""
        last_ms = self.observed_at_ms
        if last_ms is None:
            is_young = started_at_ms is not None and -_CLOCK_AHEAD_MS <= at_ms - started_at_ms < NEW_SERIES_MS
            if is_young and started_at_ms is not None and (started_at_ms < at_ms or any(counts)):
                self._add(_begun(started_at_ms, at_ms), at_ms, counts, total)
            self.counts, self.total, self.started_at_ms = counts, total, started_at_ms
        elif at_ms <= last_ms:
            return
        else:
            look = self._look(counts, at_ms - last_ms, at_ms, last_ms, started_at_ms)
            if look is _Look.OLDER:
                return
            if look is _Look.GOES_ON:
                # Smaller by noise is as before: what was added once is not added again when it comes back.
                higher = tuple(map(max, counts, self.counts))
                increments = tuple(map(sub, higher, self.counts))
                if self._add(last_ms, at_ms, increments, total - self.total):
                    self.counts, self.total = higher, total
                if self.started_at_ms is None:
                    self.started_at_ms = started_at_ms
            else:
                self.close_quiet()
                if look is _Look.ANEW:
                    self.resets.append(Reset(at_ms, self.counts))
                    since_ms = last_ms if started_at_ms is None else max(last_ms, _begun(started_at_ms, at_ms))
                    self._add(since_ms, at_ms, counts, total)
                self.counts, self.total, self.started_at_ms = counts, total, started_at_ms
        self.observed_at_ms = at_ms
        self.is_changed = True

    def _look(
        self, counts: tuple[float, ...], since_last_ms: int, at_ms: int, last_ms: int, started_at_ms: int | None
    ) -> "_Look":
        """Whose value a newer one is, by its start and by whether it fell."""
        has_fallen = any(new < old - NOISE_RATIO * old for new, old in zip(counts, self.counts, strict=True))
        is_soon, is_silent = since_last_ms < _OLDER_LOOK_MS, since_last_ms >= _SILENT_MS
        if started_at_ms is None or self.started_at_ms is None:
            if not has_fallen:
                return _Look.GOES_ON
            is_older = is_soon and (started_at_ms is None or started_at_ms < last_ms)
            return _Look.OLDER if is_older else _Look.ANEW
        later_ms = started_at_ms - self.started_at_ms
        if abs(later_ms) <= SAME_START_MS:
            if not has_fallen:
                return _Look.GOES_ON
            return _Look.OTHER if is_silent else _Look.OLDER
        if later_ms > 0 and started_at_ms >= last_ms:
            return _Look.ANEW
        if is_silent and not has_fallen and abs(later_ms) <= _ONE_PROCESS_MS:
            return _Look.GOES_ON
        if later_ms < 0:
            return _Look.OTHER if is_silent else _Look.OLDER
        # It started after the process that is followed, and that one was seen since: an update that is being rolled
        # out, a second replica, another road that dates the start otherwise, or a clock that is behind ours.
        if has_fallen and is_soon:
            return _Look.OLDER
        is_behind = started_at_ms >= last_ms - _CLOCK_AHEAD_MS
        is_new = is_behind or (at_ms - started_at_ms < NEW_SERIES_MS and (has_fallen or later_ms > _ONE_PROCESS_MS))
        return _Look.ANEW if is_new else _Look.OTHER

    def _add(self, since_ms: int, at_ms: int, counts: tuple[float, ...], total: float) -> bool:
        if not any(counts):
            if self.quiet_since_ms is None:
                self.quiet_since_ms = since_ms
            return False
        self.close_quiet()
        self.added.append(Stretch(since_ms, at_ms, counts, total))
        return True

    def close_quiet(self) -> None:
        """Let a stretch without an addition end at the last reading: it becomes a row."""
        if self.quiet_since_ms is not None and self.observed_at_ms is not None:
            self.added.append(Stretch(self.quiet_since_ms, self.observed_at_ms, (0.0,) * len(self.counts), 0.0))
        self.quiet_since_ms = None


class _Look(Enum):
    """Whose value a newer one is."""

    GOES_ON = auto()  # the count that is followed
    ANEW = auto()  # a new one, all of which was counted since the last look or is young
    OLDER = auto()  # what the count was a moment before the last look, or a process that is not followed
    OTHER = auto()  # a process that counted before it was first seen: it is followed from here


def _begun(started_at_ms: int, at_ms: int) -> int:
    """When a count began; a start that our clock has not reached tells only that it was a short while ago."""
    return started_at_ms if started_at_ms < at_ms else at_ms - _JUST_STARTED_MS
