"""Whether one process answers at an address or several: behind a load balancer every scrape may meet another one.

What several processes counted cannot be told apart once it is mixed, so their counts are left out while that is so.
An answer that started earlier than the one before comes from another process. Where no start is told, a count that
falls and is back at its former height in the next scrapes is no restart, if it does so twice within `LOOKS` scrapes.
"""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from collectors.serving.gaps import GapBook
from collectors.serving.scrape import Understood
from planner.serving_readings import CounterReading, HistogramReading

LOOKS = 10
"""After so many scrapes without a sign of a second process, counts are believed again."""

REASON = (
    "several processes answer at this address, one after another, and their counts cannot be told apart: counters and "
    "histograms are left out. Name each replica by its own address, or let Kubernetes discovery find the pods."
)

_SAME_START = timedelta(seconds=2)  # some round it, and clocks are set now and then

_Counts = tuple[list[CounterReading], list[HistogramReading]]


@dataclass(slots=True)
class Processes:
    """What is remembered of the processes that answered at one address."""

    last_start: datetime | None = None
    heights: deque[float] = field(default_factory=lambda: deque(maxlen=LOOKS))
    looks_since_sign: int = LOOKS
    held: _Counts | None = None

    def look(self, understood: Understood, gaps: GapBook) -> None:
        """Take a scrape in; where several processes answer, its counts go and a gap says so.

        Counts that fell without a start are held until the next scrape and handed over before it, unless it is back at
        the former height: then another process had answered in between.
        """
        if not understood.counters and not understood.histograms:
            return
        self.looks_since_sign = 0 if self._is_another(understood) else self.looks_since_sign + 1
        held, self.held = self.held, None
        if self.looks_since_sign < LOOKS:
            _take(understood)
            gaps.note(None, REASON)
        elif self._has_just_fallen(understood):
            self.held = _take(understood)
        elif held is not None and not self._is_back():
            understood.counters[:0], understood.histograms[:0] = held

    def _is_another(self, understood: Understood) -> bool:
        start, last = understood.started_at, self.last_start
        if start is not None:
            self.last_start = start
            return last is not None and start < last - _SAME_START
        counts = [one.value for one in understood.counters if one.metric == "generation_tokens"]
        self.heights.append(sum(counts or [one.value for one in understood.counters]))
        return _returns(list(self.heights)) >= 2

    def _has_just_fallen(self, understood: Understood) -> bool:
        """Nothing is lost by waiting for the next scrape: after a restart, its counts hold these."""
        if understood.started_at is not None or len(self.heights) < 2:
            return False
        *former, before, now = self.heights
        return now < before and not (former and before < former[-1])

    def _is_back(self) -> bool:
        *_, before, _, now = self.heights
        return now >= before


def _take(understood: Understood) -> _Counts:
    counts = (list(understood.counters), list(understood.histograms))
    understood.counters.clear()
    understood.histograms.clear()
    return counts


def _returns(heights: list[float]) -> int:
    """How often a count fell and was later at least as high as before."""
    found, peak, has_fallen = 0, heights[0], False
    for height in heights[1:]:
        if height < peak:
            has_fallen = True
        else:
            found += has_fallen
            peak, has_fallen = height, False
    return found
