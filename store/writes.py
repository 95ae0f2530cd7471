"""How what was collected gets into the store: one transaction per attempt, and writing it again changes nothing."""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Engine, Insert, Select, and_, bindparam, case, select, update

from planner.metrics import BY_NAME
from planner.readings import Batch, Gap
from store.cluster_objects import write_cluster_state
from store.database import dialect_insert, upsert, writing
from store.gpu_detail_tables import SourceFound
from store.inventory import write_inventory
from store.samples import from_ms, to_ms, write_samples
from store.servers import write_servers
from store.serving import unknown_serving_metrics, write_serving
from store.tables import (
    Cluster,
    CollectionAttempt,
    Source,
    SourceGap,
    Watermark,
    table_of,
)
from store.token_usage import write_spend, write_usage

_CLUSTERS = table_of(Cluster)
_SOURCES = table_of(Source)
_ATTEMPTS = table_of(CollectionAttempt)
_WATERMARKS = table_of(Watermark)
_GAPS = table_of(SourceGap)
_FOUND = table_of(SourceFound)


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
    engine: Engine,
    *,
    source_id: int,
    target: str,
    started_at: datetime,
    seconds: float,
    batch: Batch,
    interval_s: float | None = None,
) -> None:
    """Store what one attempt yielded: all of it or, when this raises, nothing.

    A value told again for the same device and moment replaces the former one, a metric that is not told again stays.
    Counters and histograms are stored as what they added since they were last seen. Attempts are told apart by source,
    target and `started_at`; `interval_s` is how often this target is read where its source is read more often.
    Raises StoreReadOnly, StoreFull, StoreBusy, StoreCorrupt; ValueError for a metric that `planner.metrics` or
    `planner.serving_metrics` does not know.
    """
    _refuse_unknown_metrics(batch)
    with writing(engine) as connection:
        cluster_id = connection.execute(_cluster_statement(), {"source_id": source_id}).scalar_one()
        write_samples(connection, cluster_id, batch.readings)
        write_inventory(connection, cluster_id, batch, fallback_time=started_at)
        write_serving(connection, cluster_id, batch, now=started_at)
        write_servers(connection, cluster_id, batch.servers)
        if batch.cluster_state is not None:
            write_cluster_state(connection, cluster_id, batch.cluster_state)
        write_usage(connection, source_id, batch.usage, batch.usage_spans, told_at=started_at)
        write_spend(connection, cluster_id, batch.spend)
        _write_found(connection, source_id, target, started_at, batch.found)
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
            readings=batch.reading_count,
            facts=batch.fact_count,
            gaps=len(batch.gaps),
            last_observed_at=_newest(batch, started_at),
            error_kind=None,
            error=None,
            permanent=None,
            interval_s=interval_s,
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
    interval_s: float | None = None,
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
            interval_s=interval_s,
        )


def _refuse_unknown_metrics(batch: Batch) -> None:
    unknown = {reading.metric for reading in batch.readings} - BY_NAME.keys()
    if unknown:
        raise ValueError(f"no column for {sorted(unknown)}: add the metric to planner/metrics.py and store/tables.py")
    unknown = unknown_serving_metrics(batch)
    if unknown:
        raise ValueError(f"{sorted(unknown)} are not metrics of that kind: add them to planner/serving_metrics.py")


def _newest(batch: Batch, started_at: datetime) -> datetime | None:
    """When the newest of all numbers was observed, to the millisecond; a total counts up to the end of its span."""
    moments = {
        one.observed_at
        for told in (batch.readings, batch.gauges, batch.counters, batch.histograms, batch.spend)
        for one in told
    }
    moments |= {min(one.end, started_at) for told in (batch.usage, batch.usage_spans) for one in told}
    if batch.cluster_state is not None:
        moments.add(batch.cluster_state.observed_at)
    return from_ms(to_ms(max(moments))) if moments else None


def _write_found(
    connection: Connection, source_id: int, target: str, at: datetime, found: Sequence[tuple[str, str]]
) -> None:
    if not found:
        return
    connection.execute(
        _found_statement(connection.dialect.name),
        [
            {"source_id": source_id, "target": target, "name": name, "value": value, "last_seen": at}
            for name, value in dict(found).items()
        ],
    )


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
def _found_statement(dialect: str) -> Insert:
    statement = dialect_insert(dialect, _FOUND)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["source_id", "target", "name"],
        set_={"value": new.value, "last_seen": new.last_seen},
        where=new.last_seen >= _FOUND.c.last_seen,
    )


@cache
def _attempt_statement(dialect: str) -> Insert:
    """Keyed by source, target and start: the same attempt written again is the same row."""
    key = ("source_id", "target", "started_at")
    statement = dialect_insert(dialect, _ATTEMPTS)
    names = [column.name for column in _ATTEMPTS.columns if column.name not in (*key, "id")]
    return statement.on_conflict_do_update(index_elements=key, set_={name: statement.excluded[name] for name in names})
