"""When a target that failed is tried again: later after each failure, at random, and never later than stated; and not
before it says, where it says so.

The pause is drawn anew each time between nothing and a bound that doubles ("full jitter"), so that many collectors do
not come back at once to a server that has just recovered. Source: AWS Architecture Blog, "Exponential Backoff And
Jitter" (2015).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

LONGEST_S = 300.0
"""No target waits longer than this, whatever failed and however often: recovery needs no restart. Only what the target
itself asks for (`http_answers.retry_after`, which has a bound of its own) may be longer."""


@dataclass(slots=True)
class _Failing:
    """A target whose last try failed."""

    failures: int
    tried_at: datetime
    not_before: datetime


class Backoff:
    """Which targets of one source are due; the first failure is followed by the next interval's try."""

    def __init__(self, *, interval_s: float, longest_s: float = LONGEST_S, rng: random.Random | None = None) -> None:
        self._interval_s = interval_s
        self._longest_s = max(longest_s, interval_s)
        self._rng = rng or random.Random()
        self._failing: dict[str, _Failing] = {}

    def due(self, targets: Sequence[str], now: datetime) -> list[str]:
        """The targets to try now: first those that work, then the failing whose pause is over, longest untried first.

        A target that is not named any more is forgotten.
        """
        known = set(targets)
        self._failing = {target: state for target, state in self._failing.items() if target in known}
        working = [target for target in targets if target not in self._failing]
        waiting = [
            target for target in targets if target in self._failing and self._is_over(self._failing[target], now)
        ]
        return working + sorted(waiting, key=lambda target: self._failing[target].tried_at)

    def succeeded(self, target: str) -> None:
        """The target answered: it is due at every interval again."""
        self._failing.pop(target, None)

    def failed(self, target: str, at: datetime, *, retry_after: timedelta | None = None) -> None:
        """The target failed at this moment; `retry_after` is how long it wants to be left alone, if it says so."""
        failures = self._failing[target].failures + 1 if target in self._failing else 1
        # 2^40 intervals are beyond any bound; without the limit the power would outgrow a float
        bound_s = 0.0 if failures == 1 else min(self._interval_s * 2.0 ** min(failures - 1, 40), self._longest_s)
        pause = max(timedelta(seconds=self._rng.uniform(0, bound_s)), retry_after or timedelta(0))
        self._failing[target] = _Failing(failures=failures, tried_at=at, not_before=at + pause)

    @staticmethod
    def _is_over(state: _Failing, now: datetime) -> bool:
        return state.not_before <= now or now < state.tried_at  # a clock that was set back makes no pause longer

    def failures(self, target: str) -> int:
        """How many tries in a row have failed; 0 for a target that works or was never tried."""
        state = self._failing.get(target)
        return 0 if state is None else state.failures
