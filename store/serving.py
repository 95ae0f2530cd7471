"""How what serving engines said gets into the store: gauges as rows per subject and moment, counts as increments."""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Insert, Select, bindparam, select

from planner.readings import Batch
from planner.serving_metrics import SERVING_METRICS_BY_NAME, ServingKind
from planner.serving_readings import CounterReading, GaugeReading, HistogramReading, ServingSubject
from store.database import dialect_insert, upsert
from store.samples import to_ms
from store.serving_counts import write_counters, write_histograms
from store.serving_series import SeriesName, chunked, series_ids
from store.serving_tables import ServingKey, ServingLabelSample, ServingSample
from store.tables import table_of
from store.wide_rows import wide_upsert

WIDE_GAUGES = frozenset(
    name for name, metric in SERVING_METRICS_BY_NAME.items() if metric.kind is ServingKind.GAUGE and not metric.split_by
)
"""Gauges with a column of their own; a value of one of them that has a label all the same is kept by its label."""

_KEYS = table_of(ServingKey)
_SAMPLES = table_of(ServingSample)
_LABELLED = table_of(ServingLabelSample)


def unknown_serving_metrics(batch: Batch) -> set[str]:
    """Names that `planner.serving_metrics` does not have as a metric of that kind."""
    readings: tuple[tuple[ServingKind, Sequence[GaugeReading | CounterReading | HistogramReading]], ...] = (
        (ServingKind.GAUGE, batch.gauges),
        (ServingKind.COUNTER, batch.counters),
        (ServingKind.HISTOGRAM, batch.histograms),
    )
    unknown: set[str] = set()
    for kind, told in readings:
        known = {name for name, metric in SERVING_METRICS_BY_NAME.items() if metric.kind is kind}
        unknown |= {one.metric for one in told} - known
    return unknown


def write_serving(connection: Connection, cluster_id: int, batch: Batch, *, now: datetime | None = None) -> None:
    """Store the gauges, and what counters and histograms added since they were last seen; `now` is our clock."""
    subjects = {one.subject for told in (batch.gauges, batch.counters, batch.histograms) for one in told}
    if not subjects:
        return
    ids = _serving_ids(connection, cluster_id, subjects)
    _write_gauges(connection, ids, batch.gauges)
    write_counters(connection, ids, batch.counters, now=now)
    write_histograms(connection, ids, batch.histograms, now=now)


def _write_gauges(connection: Connection, ids: dict[ServingSubject, int], gauges: Sequence[GaugeReading]) -> None:
    rows: dict[tuple[int, int], dict[str, float]] = {}
    labelled: dict[tuple[SeriesName, int], float] = {}
    for one in gauges:
        ms = to_ms(one.observed_at)
        if one.metric in WIDE_GAUGES and not one.label:
            rows.setdefault((ids[one.subject], ms), {})[one.metric] = one.value
        else:
            labelled[(ids[one.subject], one.metric, one.label), ms] = one.value
    by_metrics: dict[tuple[str, ...], list[tuple[int, int, dict[str, float]]]] = {}
    for (serving_id, ms), values in rows.items():
        by_metrics.setdefault(tuple(values), []).append((serving_id, ms, values))
    for names, group in by_metrics.items():
        statement, columns = wide_upsert(connection.dialect.name, _SAMPLES, "serving_id", names)
        connection.exec_driver_sql(
            statement, [(serving_id, ms, *[values[name] for name in columns]) for serving_id, ms, values in group]
        )
    if labelled:
        series = series_ids(connection, {name for name, _ in labelled})
        connection.execute(
            _labelled_statement(connection.dialect.name),
            [
                {"series_id": series[name], "observed_at_ms": ms, "value": value}
                for (name, ms), value in labelled.items()
            ],
        )


def _serving_ids(connection: Connection, cluster_id: int, subjects: set[ServingSubject]) -> dict[ServingSubject, int]:
    """Numbers of subjects, new ones where needed."""
    found = _known(connection, cluster_id, subjects)
    missing = sorted(subjects - found.keys())
    if missing:
        connection.execute(
            upsert(connection, _KEYS).on_conflict_do_nothing(),
            [
                {"cluster_id": cluster_id, "endpoint": one.endpoint, "model": one.model, "rank": one.rank}
                for one in missing
            ],
        )
        found = _known(connection, cluster_id, subjects)
    return found


def _known(connection: Connection, cluster_id: int, subjects: set[ServingSubject]) -> dict[ServingSubject, int]:
    by_name = {(one.endpoint, one.model, one.rank): one for one in subjects}
    found: dict[ServingSubject, int] = {}
    for chunk in chunked({one.endpoint for one in subjects}):
        parameters = {"cluster_id": cluster_id, "endpoints": chunk}
        for serving_id, *name in connection.execute(_keys_statement(), parameters):
            subject = by_name.get((name[0], name[1], name[2]))
            if subject is not None:
                found[subject] = serving_id
    return found


# Statements are made once: building one costs more than SQLite takes to answer it.


@cache
def _keys_statement() -> Select[Any]:
    """Locks the rows where the database can: two writers must not make increments from the same last value."""
    columns = _KEYS.c
    return (
        select(columns.id, columns.endpoint, columns.model, columns.rank)
        .where(
            columns.cluster_id == bindparam("cluster_id"),
            columns.endpoint.in_(bindparam("endpoints", expanding=True)),
        )
        .order_by(columns.id)
        .with_for_update()
    )


@cache
def _labelled_statement(dialect: str) -> Insert:
    statement = dialect_insert(dialect, _LABELLED)
    return statement.on_conflict_do_update(
        index_elements=["series_id", "observed_at_ms"], set_={"value": statement.excluded.value}
    )
