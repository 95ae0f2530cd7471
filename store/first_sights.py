"""A label that a known engine tells for the first time: since when it counts.

Engines tell a label only once they have counted something for it. Where it tells a start of its own, it is counted
from there, if the engine was known by then. Else it was still 0 when the other labels of the metric were looked at
last. As a road that drops labels may have hidden it until now, what is far more than the others counted in the
meantime is not taken for new.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, bindparam, select

from store.increments import NEW_SERIES_MS, SAME_START_MS, Series, Told
from store.serving_series import SeriesName, chunked
from store.serving_tables import CounterBeginning, CounterState, ServingSeries
from store.tables import table_of

_SERIES, _STATES, _BEGINNINGS = table_of(ServingSeries), table_of(CounterState), table_of(CounterBeginning)
_AT_MOST = 10  # times what the other labels counted meanwhile, and so many besides


class _Sibling(NamedTuple):
    """Another label of the same subject and metric, as it stood before."""

    series_id: int
    last_ms: int
    started_at_ms: int | None
    first_ms: int


@dataclass(frozen=True, slots=True)
class FirstSights:
    """Judges labels that are new, by the others of their subject and metric."""

    told: Mapping[int, Sequence[Told]]
    names: Mapping[int, SeriesName]
    known: Mapping[tuple[int, str], Sequence[_Sibling]]
    together: Mapping[tuple[int, str], Sequence[int]]

    @classmethod
    def of(
        cls, connection: Connection, told: Mapping[int, Sequence[Told]], numbers: Mapping[SeriesName, int]
    ) -> "FirstSights":
        """To be asked for before anything is written."""
        names = {series_id: name for name, series_id in numbers.items()}
        together: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
        for series_id in told:
            together[names[series_id][:2]].append(series_id)
        known: defaultdict[tuple[int, str], list[_Sibling]] = defaultdict(list)
        for chunk in chunked({name[0] for name in numbers}):
            for serving_id, metric, series_id, last_ms, started_ms, first in connection.execute(
                _siblings_statement(), {"ids": chunk}
            ):
                first_ms = last_ms if first is None else json.loads(first)[0]
                known[serving_id, metric].append(_Sibling(series_id, last_ms, started_ms, first_ms))
        return cls(told, names, known, together)

    def zero(self, series_id: int, seen: Mapping[int, Series]) -> Told | None:
        """When the count of a new label was still 0; None: nobody knows.

        `seen` are the series that were told of before it or are known, with what is new of them.
        """
        first = self.told[series_id][0]
        group = self.names[series_id][:2]
        before = {one.series_id: one for one in self.known.get(group, ())}
        looks: list[int] = [one.last_ms for one in before.values() if one.last_ms < first.at_ms]
        first_looks = [one.first_ms for one in before.values()]
        starts = [one.started_at_ms for one in before.values()]
        added, is_reset = 0.0, False
        for other in self.together[group]:
            if other == series_id or other not in seen:
                continue
            earlier = [one for one in self.told[other] if one.at_ms <= first.at_ms]
            looks += [one.at_ms for one in earlier if one.at_ms < first.at_ms]
            first_looks += [one.at_ms for one in earlier[:1] if one.at_ms < first.at_ms]
            starts += [one.started_at_ms for one in earlier]
            added += sum(one.counts[0] for one in seen[other].added if one.observed_at_ms == first.at_ms)
            is_reset = is_reset or any(one.observed_at_ms == first.at_ms for one in seen[other].resets)
        if not first_looks:
            return None
        since_ms = self._since(first, looks, first_looks, starts)
        if since_ms is None:
            is_much = first.counts[0] > _AT_MOST * (added + 1)
            if is_reset or is_much or not looks or first.at_ms - max(looks) > NEW_SERIES_MS:
                return None
            if any(one.last_ms >= first.at_ms for one in before.values()):
                return None  # a late reading
            since_ms = max(looks)
        return Told(since_ms, (0.0,), 0.0, first.started_at_ms) if since_ms < first.at_ms else None

    @staticmethod
    def _since(
        first: Told, looks: Sequence[int], first_looks: Sequence[int], starts: Sequence[int | None]
    ) -> int | None:
        """The start that a label tells of itself, if the engine was known by then."""
        started_ms = first.started_at_ms
        if started_ms is None:
            return None
        is_own = not any(one is not None and abs(one - started_ms) <= SAME_START_MS for one in starts)
        is_after_last = bool(looks) and started_ms >= max(looks)
        return started_ms if is_after_last or (is_own and started_ms >= min(first_looks)) else None


@cache
def _siblings_statement() -> Select[Any]:
    return (
        select(
            _SERIES.c.serving_id,
            _SERIES.c.metric,
            _SERIES.c.id,
            _STATES.c.observed_at_ms,
            _STATES.c.started_at_ms,
            _BEGINNINGS.c.first,
        )
        .join(_STATES, _STATES.c.series_id == _SERIES.c.id)
        .outerjoin(_BEGINNINGS, _BEGINNINGS.c.series_id == _SERIES.c.id)
        .where(_SERIES.c.serving_id.in_(bindparam("ids", expanding=True)))
    )
