"""How long the windows are that are asked about, and how many calls they take: learnt from those before."""

import math
from datetime import UTC, datetime, timedelta

from collectors.langfuse.call_budget import ALL
from collectors.langfuse.tally import DAY, HOUR


class Pace:
    """Between a day, which takes the fewest calls, and an hour, which asks for the least at once."""

    def __init__(self) -> None:
        self.longest = DAY
        self._since = datetime.min.replace(tzinfo=UTC)
        self._dearness = 1.0  # calls that a window took for each that was expected, as where answers came back full
        self._was_cut_short = False

    def begin(self, at: datetime) -> None:
        """A round begins: what was too much once may, a day later, not be any more."""
        if at >= self._since + DAY:
            self._set(2 * self.longest, at)

    def calls(self, expected: int) -> int:
        """How many calls a window will take that should take `expected`."""
        return math.ceil(expected * self._dearness)

    def calls_before_a_round(self, expected: int) -> int:
        """How many there have to be; all there can be where the last window was lost for want of them."""
        return ALL if self._was_cut_short else self.calls(expected)

    def was_read(self, *, expected: int, made: int) -> None:
        """A window was read whole."""
        self._dearness, self._was_cut_short = max(1.0, made / expected), False

    def was_too_much(self, half: timedelta, at: datetime) -> None:
        """The server wants less at once."""
        self._set(half, at)

    def ran_out(self, *, made: int, was_full: bool, at: datetime) -> None:
        """The calls ended; `was_full` when the window had all there can be at once, so that only a shorter one fits."""
        self._was_cut_short = made > 0
        if was_full:
            self._set(self.longest / 2, at)

    def _set(self, longest: timedelta, at: datetime) -> None:
        self.longest, self._since = min(max(longest // HOUR, 1) * HOUR, DAY), at
