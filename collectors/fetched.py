"""What a target is asked in one round, and what came of it; `collectors.transport` makes the one of the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from collectors.errors import CollectorError


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One answer beside the first: its text, or why there is none. `status` is None where nothing answered."""

    url: str
    status: int | None
    text: str | None = None
    error: CollectorError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One target: its first address, and what else to ask there once that has answered.

    `then` is given the status and the text of the first answer ("" for a failure that has a status), and runs in the
    network's thread, so it must be quick. `is_failing` marks a target that failed the last time: it is not begun when
    the run is late.
    """

    url: str
    then: Callable[[int, str], Sequence[str]] | None = None
    is_failing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """One answer or one error; times are in seconds, the start is counted from the call of `fetch_all`."""

    url: str
    started_after_s: float
    seconds: float
    status: int | None = None
    text: str | None = None
    error: CollectorError | None = None
    served_at: datetime | None = None  # the server's clock, to the second
    retry_after: timedelta | None = None  # from its start on, where a 429 or 503 asks to be left alone
    further: tuple[Page, ...] = ()

    def clock_skew_s(self, began_at: datetime) -> float | None:
        """How far the server's clock is ahead of ours, give or take a second; None where it does not tell its time.

        `began_at` is when `fetch_all` was called.
        """
        if self.served_at is None:
            return None
        half_a_second = timedelta(milliseconds=500)  # the header is cut to whole seconds
        return (self.served_at + half_a_second - began_at).total_seconds() - self.started_after_s - self.seconds
