"""How counters and histograms of engines are stored: each by its last cumulative value, as what it added since.

Bucket increments are written as differences of what the engine told, also where a scrape was torn and one of them is
negative: sums over any window are exact, and a sum is looked at, not a row.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from operator import sub
from typing import Any

from sqlalchemy import Connection, Insert, Select, Table, bindparam, select

from planner.serving_readings import CounterReading, HistogramReading, ServingSubject
from store.database import dialect_insert
from store.increments import Series, Stretch
from store.samples import to_ms
from store.serving_series import HistogramName, SeriesName, bounds_ids, chunked, histogram_ids, series_ids
from store.serving_tables import (
    CounterIncrement,
    CounterReset,
    CounterState,
    HistogramIncrement,
    HistogramReset,
    HistogramState,
)
from store.tables import table_of

_COUNTERS = table_of(CounterState)
_COUNTER_INCREMENTS = table_of(CounterIncrement)
_COUNTER_RESETS = table_of(CounterReset)
_HISTOGRAMS = table_of(HistogramState)
_HISTOGRAM_INCREMENTS = table_of(HistogramIncrement)
_HISTOGRAM_RESETS = table_of(HistogramReset)

Told = tuple[int, tuple[float, ...], float, int | None]
"""What was told of a series: when, its cumulative counts and sum, and since when it counts."""


def write_counters(
    connection: Connection, ids: Mapping[ServingSubject, int], readings: Sequence[CounterReading]
) -> None:
    """Store what counters added since they were last seen."""
    told: defaultdict[SeriesName, list[Told]] = defaultdict(list)
    for one in readings:
        name = (ids[one.subject], one.metric, one.label)
        told[name].append((to_ms(one.observed_at), (one.value,), 0.0, _started_ms(one.started_at)))
    if not told:
        return
    numbers = series_ids(connection, set(told))
    known: dict[int, Series] = {}
    for chunk in chunked(numbers.values()):
        for series_id, value, observed, started, quiet in connection.execute(_counters_statement(), {"ids": chunk}):
            known[series_id] = Series(
                counts=(value,), observed_at_ms=observed, started_at_ms=started, quiet_since_ms=quiet
            )
    seen = _follow({numbers[name]: one for name, one in told.items()}, known)
    _insert(
        connection,
        _COUNTER_INCREMENTS,
        [
            {
                "series_id": at,
                "observed_at_ms": one.observed_at_ms,
                "since_ms": one.since_ms,
                "increment": one.counts[0],
            }
            for at, series in seen
            for one in series.added
        ],
    )
    _insert(
        connection,
        _COUNTER_RESETS,
        [
            {"series_id": at, "observed_at_ms": one.observed_at_ms, "value_before": one.counts_before[0]}
            for at, series in seen
            for one in series.resets
        ],
    )
    _keep(connection, _COUNTERS, [{"value": series.counts[0]} | _state(at, series) for at, series in seen])


def write_histograms(
    connection: Connection, ids: Mapping[ServingSubject, int], readings: Sequence[HistogramReading]
) -> None:
    """Store what histograms added since they were last seen; other bounds than before are another series."""
    if not readings:
        return
    texts = {one.bounds: json_list(one.bounds) for one in readings}
    bounds = bounds_ids(connection, set(texts.values()))
    told: defaultdict[HistogramName, list[Told]] = defaultdict(list)
    for one in readings:
        name = (ids[one.subject], one.metric, bounds[texts[one.bounds]])
        counts = (*one.counts, one.count)
        told[name].append((to_ms(one.observed_at), counts, one.total, _started_ms(one.started_at)))
    numbers = histogram_ids(connection, set(told))
    known: dict[int, Series] = {}
    for chunk in chunked(numbers.values()):
        rows = connection.execute(_histograms_statement(), {"ids": chunk})
        for series_id, counts_text, total, observed, started, quiet in rows:
            known[series_id] = Series(
                counts=tuple(json.loads(counts_text)),
                total=total,
                observed_at_ms=observed,
                started_at_ms=started,
                quiet_since_ms=quiet,
            )
    seen = _follow({numbers[name]: one for name, one in told.items()}, known)
    _insert(
        connection,
        _HISTOGRAM_INCREMENTS,
        [
            {
                "series_id": at,
                "observed_at_ms": one.observed_at_ms,
                "since_ms": one.since_ms,
                "buckets": _buckets(one),
                "total": one.total,
            }
            for at, series in seen
            for one in series.added
        ],
    )
    _insert(
        connection,
        _HISTOGRAM_RESETS,
        [
            {"series_id": at, "observed_at_ms": one.observed_at_ms, "count_before": one.counts_before[-1]}
            for at, series in seen
            for one in series.resets
        ],
    )
    _keep(
        connection,
        _HISTOGRAMS,
        [{"counts": json_list(series.counts), "total": series.total} | _state(at, series) for at, series in seen],
    )


def json_list(values: Iterable[float]) -> str:
    """Numbers as a JSON list that reads back as they were; whole ones without a fraction, which most are."""
    return json.dumps([_short(value) for value in values], separators=(",", ":"), allow_nan=False)


def _short(value: float) -> float | int:
    return int(value) if value == int(value) and abs(value) < 2**53 else value


def _buckets(one: Stretch) -> str:
    """The buckets in which values fell: the counts at most each bound are summed up, a bucket is their difference."""
    inside = map(sub, one.counts, (0.0, *one.counts[:-1]))
    return ",".join(f"{at},{spelled_number(count)}" for at, count in enumerate(inside) if count)


def spelled_number(value: float) -> str:
    """A number that reads back as it was; a whole one without a fraction."""
    return repr(_short(value))


def _follow(told: Mapping[int, list[Told]], known: Mapping[int, Series]) -> list[tuple[int, Series]]:
    """The series of which something new was told, with what is new of them."""
    seen: list[tuple[int, Series]] = []
    for series_id, values in told.items():
        series = known.get(series_id) or Series()
        for at_ms, counts, total, started_ms in sorted(values) if len(values) > 1 else values:
            series.see(counts, total, at_ms, started_ms)
        if series.is_changed:
            seen.append((series_id, series))
    return seen


def _state(series_id: int, series: Series) -> dict[str, Any]:
    return {
        "series_id": series_id,
        "observed_at_ms": series.observed_at_ms,
        "started_at_ms": series.started_at_ms,
        "quiet_since_ms": series.quiet_since_ms,
    }


def _started_ms(at: datetime | None) -> int | None:
    return None if at is None else to_ms(at)


def _insert(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(_insert_statement(table), rows)


def _keep(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(_keep_statement(connection.dialect.name, table), rows)


# Statements are made once: building one costs more than SQLite takes to answer it.


@cache
def _counters_statement() -> Select[Any]:
    columns = _COUNTERS.c
    return select(
        columns.series_id, columns.value, columns.observed_at_ms, columns.started_at_ms, columns.quiet_since_ms
    ).where(columns.series_id.in_(bindparam("ids", expanding=True)))


@cache
def _histograms_statement() -> Select[Any]:
    columns = _HISTOGRAMS.c
    return select(
        columns.series_id,
        columns.counts,
        columns.total,
        columns.observed_at_ms,
        columns.started_at_ms,
        columns.quiet_since_ms,
    ).where(columns.series_id.in_(bindparam("ids", expanding=True)))


@cache
def _insert_statement(table: Table) -> Insert:
    return table.insert()


@cache
def _keep_statement(dialect: str, table: Table) -> Insert:
    statement = dialect_insert(dialect, table)
    names = [column.name for column in table.columns if not column.primary_key]
    return statement.on_conflict_do_update(
        index_elements=["series_id"], set_={name: statement.excluded[name] for name in names}
    )
