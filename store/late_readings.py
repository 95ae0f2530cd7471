"""Readings that are older than the last one: those from before the first sight, and a clock of ours that was ahead.

A second road that reads what was stored earlier tells of the time before a series was first seen. Such readings are
followed as a stretch of their own up to the first sight, and further ones divide what lies between. What is older
than the last reading and lies elsewhere adds nothing: later values hold it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from operator import ge
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, delete, select, update

from store.count_rows import CountTables, json_list
from store.database import dialect_insert
from store.increments import NEW_SERIES_MS, SAME_START_MS, Series, Told
from store.serving_series import chunked

_TOLERATED_MS = 300_000


def begin(connection: Connection, tables: CountTables, first: Mapping[int, Told]) -> None:
    """Remember the first sight of series."""
    if first:
        rows = [
            {"series_id": series_id, "until_ms": one.at_ms, "first": _text(one), "head": None, "until": None}
            for series_id, one in first.items()
        ]
        _keep(connection, tables, rows)


def follow_late(
    connection: Connection, tables: CountTables, late: Mapping[int, Sequence[Told]], known: Mapping[int, Series]
) -> None:
    """Store what readings in order of time, all older than the last of their series, say of the time before it."""
    for chunk in chunked(late):
        oldest_ms = min(one.at_ms for series_id in chunk for one in late[series_id])
        rows = connection.execute(_beginnings_statement(tables), {"ids": chunk, "oldest_ms": oldest_ms}).all()
        for series_id, first, head, until in rows:
            ends = _read(first), None if head is None else _read(head), None if until is None else _read(until)
            _follow_one(connection, tables, series_id, late[series_id], known[series_id], *ends)


def _follow_one(
    connection: Connection,
    tables: CountTables,
    series_id: int,
    late: Sequence[Told],
    known: Series,
    first: Told,
    head: Told | None,
    until: Told | None,
) -> None:
    earlier = [one for one in late if one.at_ms < first.at_ms]
    if earlier:
        before, until, former, first = Series(), first, _bridge(Series(), first), earlier[0]
        if not _is_taken_back(connection, tables, series_id, former, until, known):
            return
    elif head is not None and until is not None:
        earlier = [one for one in late if head.at_ms < one.at_ms < until.at_ms]
        former = _bridge(_at(head), until)
        before = _at(head)
        if not earlier or not _is_removed(connection, tables, series_id, former):
            return
    else:
        return
    for one in earlier:
        _see(before, one)
    head = Told(before.observed_at_ms or earlier[-1].at_ms, before.counts, before.total, before.started_at_ms)
    before.close_quiet()
    _see(before, until)
    before.close_quiet()
    tables.add(connection, [(series_id, before)])
    row = {"series_id": series_id, "until_ms": until.at_ms, "first": _text(first)}
    _keep(connection, tables, [row | {"head": _text(head), "until": _text(until)}])


def _is_taken_back(
    connection: Connection, tables: CountTables, series_id: int, former: Series, until: Told, known: Series
) -> bool:
    """Take back the stretch that ends at the first sight of a young series; whether it was still there."""
    if not former.added:
        return True
    if any(former.added[-1].counts):
        return _is_removed(connection, tables, series_id, former)
    # A stretch without an addition goes on beyond the first sight: it is made to begin there.
    rows, at = tables.increments, until.at_ms
    connection.execute(delete(rows).where(rows.c.series_id == series_id, rows.c.observed_at_ms == at))
    connection.execute(
        update(rows)
        .where(rows.c.series_id == series_id, rows.c.since_ms < at, rows.c.observed_at_ms > at)
        .values(since_ms=at)
    )
    if known.quiet_since_ms is not None and known.quiet_since_ms < at:
        known.quiet_since_ms = at if known.observed_at_ms is not None and known.observed_at_ms > at else None
        known.is_changed = True
    return True


def _is_removed(connection: Connection, tables: CountTables, series_id: int, former: Series) -> bool:
    """Remove the stretch that is to be divided; False where it was merged with others since, and stays."""
    for table, found in ((tables.increments, former.added), (tables.resets, former.resets)):
        for one in found:
            is_it = and_(table.c.series_id == series_id, table.c.observed_at_ms == one.observed_at_ms)
            if table is tables.increments:
                is_it = and_(is_it, table.c.since_ms == former.added[-1].since_ms)
            if connection.execute(delete(table).where(is_it)).rowcount == 0 and table is tables.increments:
                return False
    return True


def return_from_ahead(
    connection: Connection,
    tables: CountTables,
    told: Mapping[int, Sequence[Told]],
    known: Mapping[int, Series],
    now_ms: int,
) -> None:
    """Where our clock was far ahead when a series was last seen, let what was added then end at what is told now.

    It was ahead where a count that is told now is not below the one that was seen later, or began after it.
    """
    for series_id, series in known.items():
        last_ms, newest = series.observed_at_ms, told[series_id][-1]
        at = newest.at_ms
        if last_ms is None or last_ms <= now_ms + NEW_SERIES_MS or at > now_ms + _TOLERATED_MS:
            continue
        if not (all(map(ge, newest.counts, series.counts)) or _began_later(newest, series)):
            continue
        rows, resets, beginnings = tables.increments, tables.resets, tables.beginnings
        is_ahead = and_(rows.c.series_id == series_id, rows.c.observed_at_ms >= at)
        ahead = connection.execute(select(rows).where(is_ahead).order_by(rows.c.observed_at_ms)).mappings().all()
        connection.execute(delete(rows).where(is_ahead))
        if ahead:
            since_ms = min(ahead[0]["since_ms"], at - 1)
            row = {"series_id": series_id, "observed_at_ms": at, "since_ms": since_ms}
            if tables.is_histogram:
                row |= {"buckets": ",".join(one["buckets"] for one in ahead if one["buckets"])}
                row |= {"total": sum(one["total"] for one in ahead)}
            else:
                row |= {"increment": sum(one["increment"] for one in ahead)}
            connection.execute(rows.insert(), row)
        connection.execute(delete(resets).where(resets.c.series_id == series_id, resets.c.observed_at_ms > at))
        connection.execute(delete(beginnings).where(beginnings.c.series_id == series_id, beginnings.c.until_ms > at))
        series.observed_at_ms, series.is_changed = at, True
        if series.quiet_since_ms is not None and series.quiet_since_ms >= at:
            series.quiet_since_ms = None


def _began_later(one: Told, series: Series) -> bool:
    starts = one.started_at_ms, series.started_at_ms
    return starts[0] is not None and starts[1] is not None and starts[0] > starts[1] + SAME_START_MS


def _bridge(series: Series, until: Told) -> Series:
    """What a series adds up to a reading, all of it in rows."""
    _see(series, until)
    series.close_quiet()
    return series


def _see(series: Series, one: Told) -> None:
    series.see(one.counts, one.total, one.at_ms, one.started_at_ms)


def _at(one: Told) -> Series:
    return Series(counts=one.counts, total=one.total, observed_at_ms=one.at_ms, started_at_ms=one.started_at_ms)


def _text(one: Told) -> str:
    started = "null" if one.started_at_ms is None else str(one.started_at_ms)
    return f"[{one.at_ms},{json_list(one.counts)},{json_list([one.total])[1:-1]},{started}]"


def _read(text: str) -> Told:
    at_ms, counts, total, started_at_ms = json.loads(text)
    return Told(at_ms, tuple(counts), total, started_at_ms)


def _keep(connection: Connection, tables: CountTables, rows: Iterable[dict[str, Any]]) -> None:
    statement = dialect_insert(connection.dialect.name, tables.beginnings)
    names = ("until_ms", "first", "head", "until")
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["series_id"], set_={name: statement.excluded[name] for name in names}
        ),
        list(rows),
    )


@cache
def _beginnings_statement(tables: CountTables) -> Select[Any]:
    columns = tables.beginnings.c
    return select(columns.series_id, columns.first, columns.head, columns.until).where(
        columns.series_id.in_(bindparam("ids", expanding=True)), columns.until_ms > bindparam("oldest_ms")
    )
