"""How what was collected gets into the store: one transaction per attempt, and writing it again changes nothing."""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Engine, Insert, Select, and_, bindparam, case, select, update

from planner.metrics import BY_NAME
from planner.readings import Batch, Gap, Reading
from store.database import dialect_insert, upsert, writing
from store.inventory import write_inventory
from store.samples import from_ms, write_samples
from store.tables import (
    Cluster,
    CollectionAttempt,
    Source,
    SourceGap,
    Watermark,
    table_of,
)

_CLUSTERS = table_of(Cluster)
_SOURCES = table_of(Source)
_ATTEMPTS = table_of(CollectionAttempt)
_WATERMARKS = table_of(Watermark)
_GAPS = table_of(SourceGap)


def register_source(engine: Engine, *, cluster: str, name: str, kind: str, interval_s: float, now: datetime) -> int:
    """The number of a source, which is made known with its cluster if it was not; kind and interval follow."""
    with writing(engine) as connection:
        connection.execute(upsert(connection, _CLUSTERS).on_conflict_do_nothing(), {"name": cluster})
        cluster_id = connection.execute(select(_CLUSTERS.c.id).where(_CLUSTERS.c.name == cluster)).scalar_one()
        this_source = and_(_SOURCES.c.cluster_id == cluster_id, _SOURCES.c.name == name)
        connection.execute(
            upsert(connection, _SOURCES).on_conflict_do_nothing(),
            {"cluster_id": cluster_id, "name": name, "kind": kind, "interval_s": interval_s, "created_at": now},
        )
        connection.execute(update(_SOURCES).where(this_source).values(kind=kind, interval_s=interval_s))
        return int(connection.execute(select(_SOURCES.c.id).where(this_source)).scalar_one())


def write_batch(
    engine: Engine, *, source_id: int, target: str, started_at: datetime, seconds: float, batch: Batch
) -> None:
    """Store what one attempt yielded: all of it or, when this raises, nothing.

    A value told again for the same device and moment replaces the former one, a metric that is not told again stays.
    Attempts are told apart by source, target and `started_at`. Raises StoreReadOnly, StoreFull, StoreBusy,
    StoreCorrupt; ValueError for a metric that `planner.metrics` does not know.
    """
    _refuse_unknown_metrics(batch.readings)
    with writing(engine) as connection:
        cluster_id = connection.execute(_cluster_statement(), {"source_id": source_id}).scalar_one()
        newest_ms = write_samples(connection, cluster_id, batch.readings)
        write_inventory(connection, cluster_id, batch, fallback_time=started_at)
        _write_gaps(connection, source_id, target, started_at, batch.gaps)
        if batch.watermark is not None:
            _advance_watermark(connection, source_id, target, batch.watermark)
        _write_attempt(
            connection,
            source_id=source_id,
            target=target,
            started_at=started_at,
            seconds=seconds,
            ok=True,
            readings=len(batch.readings),
            facts=len(batch.facts),
            gaps=len(batch.gaps),
            last_observed_at=None if newest_ms is None else from_ms(newest_ms),
            error_kind=None,
            error=None,
            permanent=None,
        )


def write_failure(
    engine: Engine,
    *,
    source_id: int,
    target: str,
    started_at: datetime,
    seconds: float,
    error_kind: str,
    message: str,
    permanent: bool,
) -> None:
    """Store that an attempt failed, and why."""
    with writing(engine) as connection:
        _write_attempt(
            connection,
            source_id=source_id,
            target=target,
            started_at=started_at,
            seconds=seconds,
            ok=False,
            readings=0,
            facts=0,
            gaps=0,
            last_observed_at=None,
            error_kind=error_kind,
            error=message,
            permanent=permanent,
        )


def _refuse_unknown_metrics(readings: Sequence[Reading]) -> None:
    unknown = {reading.metric for reading in readings} - BY_NAME.keys()
    if unknown:
        raise ValueError(f"no column for {sorted(unknown)}: add the metric to planner/metrics.py and store/tables.py")


def _write_gaps(connection: Connection, source_id: int, target: str, at: datetime, gaps: Sequence[Gap]) -> None:
    if not gaps:
        return
    told = {(gap.subject, gap.metric or "", gap.reason) for gap in gaps}
    connection.execute(
        _gap_statement(connection.dialect.name),
        [
            {
                "source_id": source_id,
                "target": target,
                "subject": subject,
                "metric": metric,
                "reason": reason,
                "first_seen": at,
                "last_seen": at,
            }
            for subject, metric, reason in sorted(told)
        ],
    )


def _advance_watermark(connection: Connection, source_id: int, target: str, read_until: datetime) -> None:
    statement = upsert(connection, _WATERMARKS)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["source_id", "target"],
            set_={"read_until": statement.excluded.read_until},
            where=statement.excluded.read_until > _WATERMARKS.c.read_until,
        ),
        {"source_id": source_id, "target": target, "read_until": read_until},
    )


def _write_attempt(connection: Connection, **row: Any) -> None:
    connection.execute(_attempt_statement(connection.dialect.name), row)


# Statements are made once: building one costs more than SQLite takes to answer it.


@cache
def _cluster_statement() -> Select[Any]:
    return select(_SOURCES.c.cluster_id).where(_SOURCES.c.id == bindparam("source_id"))


@cache
def _gap_statement(dialect: str) -> Insert:
    statement = dialect_insert(dialect, _GAPS)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["source_id", "target", "subject", "metric", "reason"],
        set_={
            "first_seen": case((new.first_seen < _GAPS.c.first_seen, new.first_seen), else_=_GAPS.c.first_seen),
            "last_seen": case((new.last_seen > _GAPS.c.last_seen, new.last_seen), else_=_GAPS.c.last_seen),
        },
    )


@cache
def _attempt_statement(dialect: str) -> Insert:
    """Keyed by source, target and start: the same attempt written again is the same row."""
    key = ("source_id", "target", "started_at")
    statement = dialect_insert(dialect, _ATTEMPTS)
    names = [column.name for column in _ATTEMPTS.columns if column.name not in (*key, "id")]
    return statement.on_conflict_do_update(index_elements=key, set_={name: statement.excluded[name] for name in names})
