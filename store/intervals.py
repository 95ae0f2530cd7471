"""From when to when something was so: the timeline of one key, kept free of overlaps whatever order news comes in.

An interval is confirmed from `valid_from` to `last_seen`; from there to `valid_to` it is what was last known. News
from inside a confirmed stretch changes nothing but fills in what was unknown; news from anywhere else slots in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

FLAP_GRACE = timedelta(minutes=5)
"""What goes and returns, or changes and changes back, within this time never went: no row per scrape for a source
that blinks. Ten scrapes of 30 s; shorter than any reconfiguration worth a line in a history."""


@dataclass(slots=True, kw_only=True)
class Interval:
    """One row to be: `valid_to` is None while it lasts, `id` is None until it is stored."""

    values: dict[str, Any]
    valid_from: datetime
    valid_to: datetime | None
    last_seen: datetime
    id: int | None = None
    changed: bool = False

    def covers(self, at: datetime) -> bool:
        """Whether `at` lies in [valid_from, valid_to)."""
        return self.valid_from <= at and (self.valid_to is None or at < self.valid_to)


@dataclass(slots=True, kw_only=True)
class Timeline:
    """All intervals of one key, by time; `identity` names the values whose change makes another interval.

    The other values are kept as last told. A value of None is unknown: it agrees with everything and replaces nothing;
    with `is_complete` it is a value like others, as for a list that names all there is to know.
    """

    identity: frozenset[str]
    is_complete: bool = False
    intervals: list[Interval] = field(default_factory=list)
    removed: list[Interval] = field(default_factory=list)

    def covering(self, at: datetime) -> Interval | None:
        """The interval in which `at` lies."""
        for interval in reversed(self.intervals):
            if interval.covers(at):
                return interval
            if interval.valid_from <= at:
                return None
        return None

    def is_confirmed(self, at: datetime) -> bool:
        """Whether `at` lies in a stretch that is already known."""
        interval = self.covering(at)
        return interval is not None and at <= interval.last_seen

    def next_start(self, at: datetime) -> datetime | None:
        """When the first interval after `at` begins."""
        return min((interval.valid_from for interval in self.intervals if interval.valid_from > at), default=None)

    def latest_before(self, at: datetime) -> Interval | None:
        """The last interval that began before `at`."""
        return next((interval for interval in reversed(self.intervals) if interval.valid_from < at), None)

    def see(self, at: datetime, values: Mapping[str, Any], until: datetime | None) -> None:
        """Take in that it was so at `at`; nothing is claimed from `until` on."""
        current = self.covering(at)
        if current is None:
            self._begin(at, values, _earlier(until, self.next_start(at)))
        elif self._agree(current.values, values):
            self._confirm(current, at, values)
        elif at > current.last_seen:
            self._change(current, at, values)

    def miss(self, at: datetime) -> None:
        """Take in that it was not there at `at`."""
        current = self.covering(at)
        if current is not None and at > current.last_seen:
            current.valid_to = at
            current.changed = True

    def _begin(self, at: datetime, values: Mapping[str, Any], until: datetime | None) -> None:
        before = self.latest_before(at)
        if (
            before is not None
            and before.valid_to is not None
            and at - before.valid_to <= FLAP_GRACE
            and self._agree(before.values, values)
        ):
            before.valid_to = until
            before.changed = True
            self._confirm(before, at, values)
            return
        self._insert(Interval(values=dict(values), valid_from=at, valid_to=until, last_seen=at))

    def _change(self, current: Interval, at: datetime, values: Mapping[str, Any]) -> None:
        before = self.latest_before(current.valid_from)
        if (
            before is not None
            and before.valid_to == current.valid_from
            and at - current.valid_from <= FLAP_GRACE
            and self._agree(before.values, values)
        ):
            before.valid_to = current.valid_to
            before.changed = True
            self.intervals.remove(current)
            self.removed.append(current)
            self._confirm(before, at, values)
            return
        self._insert(Interval(values=dict(values), valid_from=at, valid_to=current.valid_to, last_seen=at))
        current.valid_to = at
        current.changed = True

    def _confirm(self, interval: Interval, at: datetime, values: Mapping[str, Any]) -> None:
        newest = at > interval.last_seen
        if newest:
            interval.last_seen = at
            interval.changed = True
        for name, value in values.items():
            known = interval.values[name]
            if value == known or (value is None and not self.is_complete):
                continue
            if (known is None and not self.is_complete) or (newest and name not in self.identity):
                interval.values[name] = value
                interval.changed = True

    def _insert(self, interval: Interval) -> None:
        interval.changed = True
        self.intervals.append(interval)
        self.intervals.sort(key=lambda one: one.valid_from)

    def _agree(self, known: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
        if self.is_complete:
            return all(known[name] == told[name] for name in self.identity)
        return all(known[name] is None or told[name] is None or known[name] == told[name] for name in self.identity)


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)
