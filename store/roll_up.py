"""How old increments take less room: those of one step become one row, and sums over whole steps stay what they were.

A stretch that crosses the end of a step is cut there by time, as every question about a window would cut it. So sums,
rates and percentiles over windows that begin and end on steps are the same before and after.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Engine, Select, Table, bindparam, delete, exists, select

from store.count_rows import spelled_number
from store.database import reading, upsert, writing
from store.serving_tables import CounterIncrement, HistogramIncrement, HistogramSeries, RolledUp, ServingSeries
from store.tables import table_of

STEP_MS = 600_000
"""Ten minutes: twenty scrapes of 30 s become one row."""

KEEP_RAW_MS = 2 * 86_400_000
"""For two days increments stay as they were read."""

_DONE = table_of(RolledUp)
_COUNTERS = (table_of(CounterIncrement), table_of(ServingSeries), ("increment",))
_HISTOGRAMS = (table_of(HistogramIncrement), table_of(HistogramSeries), ("buckets", "total"))


@dataclass(slots=True)
class _Merged:
    """One row to be: what was added from `since_ms` to `observed_at_ms`, in parts with their shares."""

    since_ms: int
    observed_at_ms: int
    parts: list[tuple[Sequence[Any], float]] = field(default_factory=list)


def roll_up(engine: Engine, newest_ms: int) -> int:
    """Merge what is older than `KEEP_RAW_MS` before that moment; returns how many rows fewer there are.

    One transaction per series and run, so that collectors wait some hundredths of a second at most. What was written
    behind the mark of the last run has put it back, and is merged too.
    """
    until_ms = (newest_ms - KEEP_RAW_MS) // STEP_MS * STEP_MS
    saved = 0
    for table, owners, columns in (_COUNTERS, _HISTOGRAMS):
        with reading(engine) as connection:
            done = connection.execute(select(_DONE.c.until_ms).where(_DONE.c.name == table.name)).scalar()
            since_ms = -(2**62) if done is None else int(done)
            if since_ms >= until_ms:
                continue
            is_old = exists().where(
                table.c.series_id == owners.c.id,
                table.c.observed_at_ms > since_ms,
                table.c.observed_at_ms <= until_ms,
            )
            ids = list(connection.execute(select(owners.c.id).where(is_old).order_by(owners.c.id)).scalars())
        for series_id in ids:
            with writing(engine) as connection:
                saved += _roll_up_series(connection, table, columns, series_id, since_ms, until_ms)
        with writing(engine) as connection:
            statement = upsert(connection, _DONE)
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["name"], set_={"until_ms": statement.excluded.until_ms}
                ),
                {"name": table.name, "until_ms": until_ms},
            )
    return saved


def _roll_up_series(
    connection: Connection, table: Table, columns: tuple[str, ...], series_id: int, since_ms: int, until_ms: int
) -> int:
    parameters = {"series_id": series_id, "since_ms": since_ms, "until_ms": until_ms}
    rows = list(connection.execute(_rows_statement(table, columns), parameters))
    merged = list(_merged(rows))
    if len(merged) >= len(rows):
        return 0  # nothing to gain; a series that speaks seldom stays as it is
    connection.execute(
        delete(table).where(
            table.c.series_id == series_id, table.c.observed_at_ms > since_ms, table.c.observed_at_ms <= until_ms
        )
    )
    values = _histogram_values if table is _HISTOGRAMS[0] else _counter_values
    connection.execute(
        table.insert(),
        [
            {"series_id": series_id, "observed_at_ms": one.observed_at_ms, "since_ms": one.since_ms} | values(one.parts)
            for one in merged
        ],
    )
    return len(rows) - len(merged)


def _merged(rows: Iterable[Any]) -> Iterator[_Merged]:
    """Stretches that follow each other without a gap, one per step; those longer than a step stay as they are."""
    current: _Merged | None = None
    for since_ms, observed_ms, *values in rows:
        for begin, end in _pieces(since_ms, observed_ms):
            share = (end - begin) / (observed_ms - since_ms)
            if current is not None and current.observed_at_ms == begin and current.since_ms >= _step(end) * STEP_MS:
                current.observed_at_ms = end
            else:
                if current is not None:
                    yield current
                current = _Merged(begin, end)
            current.parts.append((values, share))
    if current is not None:
        yield current


def _step(observed_ms: int) -> int:
    """The step in which a stretch ends; one that ends where a step begins belongs to the step before."""
    return (observed_ms - 1) // STEP_MS


def _pieces(since_ms: int, observed_ms: int) -> Iterator[tuple[int, int]]:
    edge = _step(observed_ms) * STEP_MS
    if since_ms < edge and observed_ms - since_ms <= STEP_MS:
        yield since_ms, edge
        yield edge, observed_ms
    else:
        yield since_ms, observed_ms


def _counter_values(parts: Sequence[tuple[Sequence[Any], float]]) -> dict[str, Any]:
    return {"increment": sum(values[0] * share for values, share in parts)}


def _histogram_values(parts: Sequence[tuple[Sequence[Any], float]]) -> dict[str, Any]:
    counts: npt.NDArray[np.float64] = np.zeros(0)
    whole = ",".join(values[0] for values, share in parts if share == 1 and values[0])
    texts = [(whole, 1.0)] if whole else []
    texts += [(values[0], share) for values, share in parts if share != 1 and values[0]]
    for text, share in texts:
        pairs = np.fromstring(text, sep=",").reshape(-1, 2)
        more = np.bincount(pairs[:, 0].astype(np.int64), weights=pairs[:, 1]) * share
        width = max(len(counts), len(more))
        counts = np.pad(counts, (0, width - len(counts))) + np.pad(more, (0, width - len(more)))
    buckets = ",".join(f"{at},{spelled_number(count)}" for at, count in enumerate(counts.tolist()) if count)
    return {"buckets": buckets, "total": sum(values[1] * share for values, share in parts)}


@cache
def _rows_statement(table: Table, columns: tuple[str, ...]) -> Select[Any]:
    return (
        select(table.c.since_ms, table.c.observed_at_ms, *(table.c[name] for name in columns))
        .where(
            table.c.series_id == bindparam("series_id"),
            table.c.observed_at_ms > bindparam("since_ms"),
            table.c.observed_at_ms <= bindparam("until_ms"),
        )
        .order_by(table.c.observed_at_ms)
    )
