"""How often Langfuse may be asked: a day's calls spread over the day, and silence where the server wants it.

A bucket holds a quarter of the day's calls and is filled with three quarters of them over a day, so that no 24 hours
see more than the day's calls, whenever they begin. What was spent is forgotten when the program ends.
"""

from datetime import datetime, timedelta

DAY_S = 86_400.0
BURST_SHARE = 0.25
ALL = 1 << 62
"""As a number of calls: as many as there can ever be at once."""


class BudgetSpent(Exception):
    """No call is left for now; `until` is when there is one again."""

    def __init__(self, until: datetime) -> None:
        super().__init__(f"no call is left before {until:%H:%M} UTC")
        self.until = until


class CallBudget:
    """Counts the calls of one source; `per_day` None means no bound."""

    def __init__(self, per_day: int | None) -> None:
        self._per_day = per_day
        self._capacity = 0.0 if per_day is None else max(per_day * BURST_SHARE, 1.0)
        self._per_s = 0.0 if per_day is None else (per_day - self._capacity) / DAY_S
        self._left = self._capacity
        self._filled_at: datetime | None = None
        self._silent_until: datetime | None = None

    def can_ever_afford(self, calls: int) -> bool:
        """Whether so many calls fit into a full bucket."""
        return self._per_day is None or calls <= self._capacity

    def affords(self, calls: int, at: datetime) -> bool:
        """Whether so many calls can be made now; more than the bucket holds wait for a full one."""
        return self.ready_at(calls, at) <= at

    def ready_at(self, calls: int, at: datetime) -> datetime:
        """When so many calls can be made, `at` if they can be made then."""
        silent_until = at if self._silent_until is None else max(self._silent_until, at)
        if self._per_day is None:
            return silent_until
        self._fill(at)
        missing = max(min(float(calls), self._capacity) - self._left, 0.0)
        return max(silent_until, at + timedelta(seconds=missing / self._per_s))

    def take(self, at: datetime) -> None:
        """One call is made; raises BudgetSpent when there is none left."""
        if self._per_day is None:
            return
        ready_at = self.ready_at(1, at)
        if ready_at > at:
            raise BudgetSpent(ready_at)
        self._left -= 1.0

    def be_silent(self, until: datetime) -> None:
        """The server asked to be left alone."""
        self._silent_until = until

    def _fill(self, at: datetime) -> None:
        if self._filled_at is not None and at > self._filled_at:
            gained = (at - self._filled_at).total_seconds() * self._per_s
            self._left = min(self._left + gained, self._capacity)
        self._filled_at = at
