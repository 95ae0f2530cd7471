"""How cumulative values become increments: what was added between two readings, and when a count began anew.

A reading that is not newer than the last one adds nothing and loses nothing, since later values hold all that came
before. A count began anew where it is smaller than before or says that it started later; then all of it is new. The
first sight of a series adds nothing, as nobody knows over which time it was counted, unless it says that it began a
short while ago.
"""

from dataclasses import dataclass, field
from operator import sub
from typing import NamedTuple

NEW_SERIES_MS = 3_600_000
"""A series that began less than an hour before its first reading is counted from its beginning."""

NOISE_RATIO = 1e-9
"""Less than this share below the last value is no reset: sums over processes lose last digits in changing order."""

_SAME_START_MS = 1_000  # the same start is told in whole seconds by some

_CLOCK_AHEAD_MS = 300_000  # so far may the clock of an engine that has just started be ahead of ours


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
            if started_at_ms is not None and -_CLOCK_AHEAD_MS <= at_ms - started_at_ms < NEW_SERIES_MS:
                self._add(min(started_at_ms, at_ms - 1), at_ms, counts, total)
            self.counts, self.total, self.started_at_ms = counts, total, started_at_ms
        elif at_ms <= last_ms:
            return
        elif self._began_anew(counts, started_at_ms):
            self.resets.append(Reset(at_ms, self.counts))
            self._close_quiet(len(counts))
            since_ms = last_ms if started_at_ms is None else max(last_ms, started_at_ms)
            self._add(min(since_ms, at_ms - 1), at_ms, counts, total)
            self.counts, self.total, self.started_at_ms = counts, total, started_at_ms
        else:
            # Smaller by noise is as before: what was added once is not added again when it comes back.
            higher = tuple(map(max, counts, self.counts))
            increments = tuple(map(sub, higher, self.counts))
            if self._add(last_ms, at_ms, increments, total - self.total):
                self.counts, self.total = higher, total
            if self.started_at_ms is None:
                self.started_at_ms = started_at_ms
        self.observed_at_ms = at_ms
        self.is_changed = True

    def _began_anew(self, counts: tuple[float, ...], started_at_ms: int | None) -> bool:
        # A start that is told earlier is no new one: two roads to one engine may date it differently.
        known_start_ms = started_at_ms if self.started_at_ms is None else self.started_at_ms
        if started_at_ms is not None and known_start_ms is not None and started_at_ms > known_start_ms + _SAME_START_MS:
            return True
        return any(new < old - NOISE_RATIO * old for new, old in zip(counts, self.counts, strict=True))

    def _add(self, since_ms: int, at_ms: int, counts: tuple[float, ...], total: float) -> bool:
        if not any(counts):
            if self.quiet_since_ms is None:
                self.quiet_since_ms = since_ms
            return False
        self._close_quiet(len(counts))
        self.added.append(Stretch(since_ms, at_ms, counts, total))
        return True

    def _close_quiet(self, width: int) -> None:
        if self.quiet_since_ms is not None and self.observed_at_ms is not None:
            self.added.append(Stretch(self.quiet_since_ms, self.observed_at_ms, (0.0,) * width, 0.0))
        self.quiet_since_ms = None
