"""Which spans of time are asked about, and in which order: pure functions of what was read before."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from collectors.langfuse.tally import DAY, HOUR

RESOLUTION = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """[start, end), full hours of UTC; the last one may end a little after now, and is read again later."""

    start: datetime
    end: datetime

    @property
    def hours(self) -> int:
        """How many hours it has."""
        return (self.end - self.start) // HOUR

    def halves(self) -> tuple["Window", "Window"] | None:
        """Two windows of full hours; None when it is a single hour."""
        if self.hours < 2:
            return None
        middle = self.start + HOUR * (self.hours // 2)
        return Window(self.start, middle), Window(middle, self.end)


def floor_hour(at: datetime) -> datetime:
    """The full hour at or before a moment."""
    return at.replace(minute=0, second=0, microsecond=0)


def floor_day(at: datetime) -> datetime:
    """The midnight (UTC) at or before a moment."""
    return floor_hour(at).replace(hour=0)


def is_midnight(at: datetime) -> bool:
    """Whether a moment is a midnight (UTC)."""
    return at == floor_day(at)


def ceil_day(at: datetime) -> datetime:
    """The midnight (UTC) at or after a moment."""
    floor = floor_day(at)
    return floor if floor == at else floor + DAY


def plan(
    now: datetime,
    watermark: datetime | None,
    *,
    overlap: timedelta,
    reread_days: int,
    backfill_days: int,
    longest: timedelta,
    whole_days: bool,
    from_midnight: bool = False,
) -> list[Window]:
    """The windows of one round.

    First what is new with its overlap, oldest first; the first window reaches beyond the watermark, so that every round
    gets ahead. Then, in the first round of a day (the watermark lies in another), the days before, newest first: traces
    of them may still have come. They begin at midnights, so that hours replace what was told of a day by the day.
    `whole_days` is for an endpoint that tells days, `from_midnight` for one that tells hours where days may have been
    told before: then the hours of the whole day replace it.

    A watermark at a midnight has no overlap: it is where a window of the first reading ended, or what was told by the
    day until then must not be told by the hour beside it.
    """
    until = floor_hour(now) + HOUR
    told = None if watermark is None else min(watermark, now)
    if told is None:
        since = floor_day(now - DAY * backfill_days)
    else:
        since = told if is_midnight(told) else floor_hour(told - overlap)
    if whole_days or from_midnight:
        since = floor_day(since)
    beyond = since if told is None else max(since, floor_hour(told))
    windows = _cut(since, until, longest, first=beyond + longest - since)
    if told is not None and floor_day(told - RESOLUTION) < floor_day(now):
        again = floor_day(now - DAY * reread_days)
        windows += reversed(_cut(again, since, longest, first=longest)) if again < since else []
    return windows


def _cut(since: datetime, until: datetime, longest: timedelta, *, first: timedelta) -> list[Window]:
    windows: list[Window] = []
    while since < until:
        length = max(longest if windows else first, HOUR)
        end = min(since + length, until)
        windows.append(Window(since, end))
        since = end
    return windows
