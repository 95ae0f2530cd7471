"""How demand runs over a week: five-minute levels with their exact integrals, the same for one seed on every machine.

All activity and every counter of the simulated cluster derives from these tables, so that the value at any time costs
a look-up and a counter equals the integral of the gauge it belongs to.
"""

import random
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import accumulate

SLOT_S = 300
WEEK_S = 7 * 86_400
_SLOTS = WEEK_S // SLOT_S
_DAY_SLOTS = 86_400 // SLOT_S
_HOUR_SLOTS = 3_600 // SLOT_S

VARIANTS = 6
"""Tables per kind of traffic; deployments share them, shifted against each other."""

KEEP_ALIVE_SLOTS = 6
"""Half an hour: how long an engine that unloads keeps a model after the last request."""

HOT_LEVEL = 0.45
"""Above this level a badly cooled GPU reaches its thermal limit."""

FULL_LEVEL = 0.985
"""From this level on a board works at its power limit."""


class Traffic(StrEnum):
    """How demand for a deployment runs over the week, in its users' local time."""

    OFFICE = "office"  # working hours, little at the weekend
    EVENING = "evening"  # people at home, more at the weekend
    NIGHTLY = "nightly"  # batch work by night
    SPARSE = "sparse"  # short bursts in working hours, long silences
    SATURATED = "saturated"
    NONE = "none"


_SILENT_BELOW = 0.07  # the last few users have gone home: no trickle of requests through the night

# Relative demand by hour of the day, on a working day and at the weekend. Shapes as in published traces of language
# model services (alibaba/ServeGen): a broad plateau by day, a dip at noon, a deep trough at night.
_OFFICE_DAY = (
    *(0.06, 0.05, 0.04, 0.04, 0.05, 0.09, 0.22, 0.48, 0.78, 0.93, 0.97, 0.88),
    *(0.72, 0.86, 0.96, 1.00, 0.92, 0.74, 0.48, 0.33, 0.25, 0.18, 0.12, 0.08),
)
_EVENING_DAY = (
    *(0.40, 0.25, 0.14, 0.09, 0.07, 0.08, 0.15, 0.24, 0.30, 0.33, 0.36, 0.42),
    *(0.50, 0.48, 0.46, 0.50, 0.58, 0.68, 0.80, 0.93, 1.00, 0.97, 0.82, 0.60),
)
_NIGHTLY_DAY = (
    *(0.97, 0.98, 0.96, 0.94, 0.92, 0.80, 0.46, 0.20, 0.18, 0.20, 0.22, 0.24),
    *(0.26, 0.24, 0.22, 0.24, 0.26, 0.30, 0.38, 0.50, 0.66, 0.82, 0.92, 0.95),
)
_SHAPES: dict[Traffic, tuple[tuple[float, ...], float]] = {
    Traffic.OFFICE: (_OFFICE_DAY, 0.45),
    Traffic.EVENING: (_EVENING_DAY, 1.15),
    Traffic.NIGHTLY: (_NIGHTLY_DAY, 0.8),
    Traffic.SPARSE: (_OFFICE_DAY, 0.45),
}


@dataclass(frozen=True, slots=True, eq=False)
class WeekPattern:
    """Demand of one week in slots of five minutes, 0..1, and running integrals of it in seconds."""

    levels: tuple[float, ...]
    level_s: tuple[float, ...]  # integral of the level up to the start of each slot; one more than slots
    hot_s: tuple[float, ...]  # time above HOT_LEVEL
    full_s: tuple[float, ...]  # time at or above FULL_LEVEL
    loaded: tuple[bool, ...]  # whether an engine that unloads when idle holds its model in the slot

    def level(self, seconds: float) -> float:
        """Demand at a time in seconds since a Monday, 00:00 UTC."""
        return self.levels[int(seconds // SLOT_S) % _SLOTS]

    def is_loaded(self, seconds: float) -> bool:
        """Whether there was a request within the keep-alive time."""
        return self.loaded[int(seconds // SLOT_S) % _SLOTS]

    def level_integral_s(self, seconds: float) -> float:
        """Integral of `level` from 0 to `seconds`."""
        return _integral(self.level_s, self.levels[int(seconds // SLOT_S) % _SLOTS], seconds)

    def hot_integral_s(self, seconds: float) -> float:
        """Time above HOT_LEVEL from 0 to `seconds`."""
        return _integral(self.hot_s, float(self.level(seconds) > HOT_LEVEL), seconds)

    def full_integral_s(self, seconds: float) -> float:
        """Time at or above FULL_LEVEL from 0 to `seconds`."""
        return _integral(self.full_s, float(self.level(seconds) >= FULL_LEVEL), seconds)


def _integral(running_s: tuple[float, ...], rate: float, seconds: float) -> float:
    weeks, within = divmod(seconds, WEEK_S)
    slot, rest = divmod(within, SLOT_S)
    return weeks * running_s[-1] + running_s[int(slot)] + rate * rest


@cache
def week_pattern(seed: int, traffic: Traffic, variant: int) -> WeekPattern:
    """The table of one kind of traffic; there are `VARIANTS` of each."""
    levels = _levels(random.Random(f"{seed}/{traffic}/{variant}"), traffic)
    return WeekPattern(
        levels=levels,
        level_s=_running(levels),
        hot_s=_running(tuple(float(level > HOT_LEVEL) for level in levels)),
        full_s=_running(tuple(float(level >= FULL_LEVEL) for level in levels)),
        loaded=tuple(any(levels[slot - back] > 0 for back in range(KEEP_ALIVE_SLOTS + 1)) for slot in range(_SLOTS)),
    )


def _running(rates: tuple[float, ...]) -> tuple[float, ...]:
    return (0.0, *accumulate(rate * SLOT_S for rate in rates))


def _levels(rng: random.Random, traffic: Traffic) -> tuple[float, ...]:
    if traffic is Traffic.NONE:
        return (0.0,) * _SLOTS
    if traffic is Traffic.SATURATED:
        return tuple(round(0.97 + 0.03 * rng.random(), 6) for _ in range(_SLOTS))
    shape, weekend = _SHAPES[traffic]
    levels = []
    drift = 0.0
    for slot in range(_SLOTS):
        day, slot_of_day = divmod(slot, _DAY_SLOTS)
        hour, within = divmod(slot_of_day, _HOUR_SLOTS)
        here, there = shape[hour], shape[(hour + 1) % 24]
        expected = (here + (there - here) * within / _HOUR_SLOTS) * (weekend if day >= 5 else 1.0)
        drift = 0.8 * drift + 0.2 * (2 * rng.random() - 1)  # demand wanders for half an hour at a time
        chance, size = rng.random(), rng.random()
        if traffic is Traffic.SPARSE:
            level = 0.25 + 0.65 * size if chance < 0.06 + 0.5 * expected else 0.0
        else:
            level = expected * (1 + 0.35 * drift) * (0.9 + 0.2 * size)
            level = level if level >= _SILENT_BELOW else 0.0
        levels.append(min(level, 1.0))
    return tuple(round(level, 6) for level in levels)
