"""How counters and histograms of engines lie in their tables: stretches, resets and the last cumulative value as rows.

Bucket increments are written as differences of what the engine told, also where a scrape was torn and one of them is
negative: sums over any window are exact, and a sum is looked at, not a row.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from operator import sub
from typing import Any

from sqlalchemy import BindParameter, Connection, Insert, Select, Table, Update, bindparam, select, update

from store.database import dialect_insert
from store.increments import Reset, Series, Stretch
from store.serving_tables import (
    CounterBeginning,
    CounterIncrement,
    CounterReset,
    CounterState,
    HistogramBeginning,
    HistogramIncrement,
    HistogramReset,
    HistogramState,
    RolledUp,
)
from store.tables import table_of

_DONE = table_of(RolledUp)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountTables:
    """The tables of counters, or those of histograms."""

    states: Table
    increments: Table
    resets: Table
    beginnings: Table
    is_histogram: bool

    def known(self, connection: Connection, series_ids: Sequence[int]) -> Iterator[tuple[int, Series]]:
        """Where series stand; those never seen are left out."""
        for series_id, counts, total, observed, started, quiet in connection.execute(
            _states_statement(self), {"ids": series_ids}
        ):
            yield (
                series_id,
                Series(
                    counts=tuple(json.loads(counts)) if self.is_histogram else (counts,),
                    total=total or 0.0,
                    observed_at_ms=observed,
                    started_at_ms=started,
                    quiet_since_ms=quiet,
                ),
            )

    def keep(self, connection: Connection, seen: Iterable[tuple[int, Series]]) -> None:
        """Store where series stand now."""
        rows = [
            self._value(series)
            | {
                "series_id": series_id,
                "observed_at_ms": series.observed_at_ms,
                "started_at_ms": series.started_at_ms,
                "quiet_since_ms": series.quiet_since_ms,
            }
            for series_id, series in seen
        ]
        if rows:
            connection.execute(_keep_statement(connection.dialect.name, self.states), rows)

    def add(self, connection: Connection, seen: Sequence[tuple[int, Series]]) -> None:
        """Store what is new of series: stretches and resets."""
        stretches = [self._stretch(series_id, one) for series_id, series in seen for one in series.added]
        if stretches:
            connection.execute(_insert_statement(self.increments), stretches)
            oldest_ms = min(row["observed_at_ms"] for row in stretches)
            # What comes in behind the mark of the roll-up is merged by its next run.
            connection.execute(_behind_statement(), {"table": self.increments.name, "mark_ms": oldest_ms - 1})
        resets = [self._reset(series_id, one) for series_id, series in seen for one in series.resets]
        if resets:
            connection.execute(_insert_statement(self.resets), resets)

    def _value(self, series: Series) -> dict[str, Any]:
        if self.is_histogram:
            return {"counts": json_list(series.counts), "total": series.total}
        return {"value": series.counts[0]}

    def _stretch(self, series_id: int, one: Stretch) -> dict[str, Any]:
        row = {"series_id": series_id, "observed_at_ms": one.observed_at_ms, "since_ms": one.since_ms}
        if self.is_histogram:
            return row | {"buckets": _buckets(one), "total": one.total}
        return row | {"increment": one.counts[0]}

    def _reset(self, series_id: int, one: Reset) -> dict[str, Any]:
        name = "count_before" if self.is_histogram else "value_before"
        return {"series_id": series_id, "observed_at_ms": one.observed_at_ms, name: one.counts_before[-1]}


COUNTERS = CountTables(
    states=table_of(CounterState),
    increments=table_of(CounterIncrement),
    resets=table_of(CounterReset),
    beginnings=table_of(CounterBeginning),
    is_histogram=False,
)
HISTOGRAMS = CountTables(
    states=table_of(HistogramState),
    increments=table_of(HistogramIncrement),
    resets=table_of(HistogramReset),
    beginnings=table_of(HistogramBeginning),
    is_histogram=True,
)


def json_list(values: Iterable[float]) -> str:
    """Numbers as a JSON list that reads back as they were; whole ones without a fraction, which most are."""
    return json.dumps([_short(value) for value in values], separators=(",", ":"), allow_nan=False)


def spelled_number(value: float) -> str:
    """A number that reads back as it was; a whole one without a fraction."""
    return repr(_short(value))


def _short(value: float) -> float | int:
    return int(value) if value == int(value) and abs(value) < 2**53 else value


def _buckets(one: Stretch) -> str:
    """The buckets in which values fell: the counts at most each bound are summed up, a bucket is their difference."""
    inside = map(sub, one.counts, (0.0, *one.counts[:-1]))
    return ",".join(f"{at},{spelled_number(count)}" for at, count in enumerate(inside) if count)


# Statements are made once: building one costs more than SQLite takes to answer it.


@cache
def _states_statement(tables: CountTables) -> Select[Any]:
    columns = tables.states.c
    value = (columns.counts, columns.total) if tables.is_histogram else (columns.value, bindparam("none", None))
    return select(
        columns.series_id, *value, columns.observed_at_ms, columns.started_at_ms, columns.quiet_since_ms
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


@cache
def _behind_statement() -> Update:
    mark: BindParameter[int] = bindparam("mark_ms")
    return update(_DONE).where(_DONE.c.name == bindparam("table"), _DONE.c.until_ms > mark).values(until_ms=mark)
