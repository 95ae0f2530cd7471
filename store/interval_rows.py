"""How intervals are read from their tables and written back: everything about rows that say from when to when."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Delete, Insert, Select, Table, Update, bindparam, delete, insert, or_, select, update
from sqlmodel import SQLModel

from store.intervals import Interval, Timeline
from store.tables import table_of

Key = tuple[Any, ...]

_IN_CHUNK = 500  # values in one IN list: well below SQLite's limit on variables, few plans to prepare


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalTable:
    """How one kind of thing is keyed (after cluster and `scope`) and which of its values make it another one.

    `scope` is the column by which rows are asked for: the GPU, the endpoint; None where a whole cluster is read at
    once. `is_complete` says that an absent value is told, not unknown.
    """

    model: type[SQLModel]
    scope: str | None
    key: tuple[str, ...]
    values: tuple[str, ...]
    identity: frozenset[str]
    is_complete: bool = False

    @property
    def table(self) -> Table:
        """The table of its rows."""
        return table_of(self.model)

    def timeline(self) -> Timeline:
        """An empty timeline of one key."""
        return Timeline(identity=self.identity, is_complete=self.is_complete)


@dataclass(frozen=True, slots=True, kw_only=True)
class Children:
    """What belongs to one thing and is told completely with it: known timelines by key, and what was seen now.

    `spared` are keys that the teller knows nothing of: that they were not seen does not end them.
    """

    kind: IntervalTable
    timelines: dict[Key, Timeline]
    seen: Mapping[Key, Mapping[str, Any]]
    spared: frozenset[Key] = frozenset()


def timeline_of(timelines: dict[Key, Timeline], key: Key, kind: IntervalTable) -> Timeline:
    """The timeline of a key, an empty one where there was none."""
    timeline = timelines.get(key)
    if timeline is None:
        timeline = timelines[key] = kind.timeline()
    return timeline


def take_in(parent: Timeline, at: datetime, values: Mapping[str, Any], children: Sequence[Children]) -> None:
    """Take in a complete fact of one moment: how the thing was, and everything that belonged to it.

    A moment that is known already is completed at most; otherwise children that are not named have ended.
    """
    is_known = parent.is_confirmed(at)
    covering = parent.covering(at)
    until = parent.next_start(at)
    if covering is not None and covering.valid_to is not None:
        until = covering.valid_to  # after its end the thing was known to be gone, or another
    parent.see(at, values, until)
    for one in children:
        for key, seen in one.seen.items():
            timeline = timeline_of(one.timelines, key, one.kind)
            if not is_known or timeline.is_confirmed(at):
                timeline.see(at, seen, until)
        if not is_known:
            for key, timeline in one.timelines.items():
                if key not in one.seen and key not in one.spared:
                    timeline.miss(at)


def load_intervals(
    connection: Connection,
    kind: IntervalTable,
    cluster_id: int,
    *,
    among: Sequence[str] = (),
    not_before: datetime | None = None,
) -> Iterator[tuple[str, Key, Interval]]:
    """Rows by time, each with its scope ("" where there is none) and key.

    `among` are the scopes that are asked for. What ended before `not_before` is left out.
    """
    parameters: dict[str, Any] = {"cluster_id": cluster_id, "not_before": not_before}
    statement = _load_statement(kind, not_before is not None)
    for chunk in _chunks(among) if kind.scope else ((),):
        yield from _intervals(connection, kind, statement, parameters | ({"among": chunk} if kind.scope else {}))


def save_intervals(
    connection: Connection, kind: IntervalTable, cluster_id: int, timelines: Iterable[tuple[str, Key, Timeline]]
) -> None:
    """Write what has changed of these timelines, each given with its scope and key."""
    added: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    removed: list[dict[str, Any]] = []
    for scope, key, timeline in timelines:
        removed.extend({"row_id": one.id} for one in timeline.removed if one.id is not None)
        for one in timeline.intervals:
            if not one.changed:
                continue
            row = {**one.values, "valid_to": one.valid_to, "last_seen": one.last_seen}
            if one.id is None:
                row.update(zip(kind.key, key, strict=True))
                if kind.scope:
                    row[kind.scope] = scope
                added.append(row | {"cluster_id": cluster_id, "valid_from": one.valid_from})
            else:
                changed.append(row | {"row_id": one.id})
    if removed:
        connection.execute(_remove_statement(kind), removed)
    if changed:
        connection.execute(_change_statement(kind), changed)
    if added:
        connection.execute(_add_statement(kind), added)


def _intervals(
    connection: Connection, kind: IntervalTable, statement: Select[Any], parameters: Mapping[str, Any]
) -> Iterator[tuple[str, Key, Interval]]:
    first_value = len(kind.key)
    for row_id, valid_from, valid_to, last_seen, *rest in connection.execute(statement, parameters):
        scope = rest.pop(0) if kind.scope else ""
        values = dict(zip(kind.values, rest[first_value:], strict=True))
        interval = Interval(values=values, valid_from=valid_from, valid_to=valid_to, last_seen=last_seen, id=row_id)
        yield scope, tuple(rest[:first_value]), interval


# Statements are made once: building one costs more than SQLite takes to answer it.


@cache
def _load_statement(kind: IntervalTable, is_recent: bool) -> Select[Any]:
    columns = kind.table.c
    names = (
        "id",
        "valid_from",
        "valid_to",
        "last_seen",
        *([kind.scope] if kind.scope else []),
        *kind.key,
        *kind.values,
    )
    statement = (
        select(*(columns[name] for name in names))
        .where(columns.cluster_id == bindparam("cluster_id"))
        .order_by(columns.valid_from)
    )
    if kind.scope:
        statement = statement.where(columns[kind.scope].in_(bindparam("among", expanding=True)))
    if is_recent:
        statement = statement.where(or_(columns.valid_to.is_(None), columns.valid_to >= bindparam("not_before")))
    return statement


@cache
def _change_statement(kind: IntervalTable) -> Update:
    columns = kind.table.c
    changed: dict[str, Any] = {name: bindparam(name) for name in ("valid_to", "last_seen", *kind.values)}
    return update(kind.table).where(columns.id == bindparam("row_id")).values(changed)


@cache
def _remove_statement(kind: IntervalTable) -> Delete:
    return delete(kind.table).where(kind.table.c.id == bindparam("row_id"))


@cache
def _add_statement(kind: IntervalTable) -> Insert:
    return insert(kind.table)


def _chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), _IN_CHUNK):
        yield values[start : start + _IN_CHUNK]
