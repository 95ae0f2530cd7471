"""Gauges of serving engines: their newest values, and what a window of them says."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import Connection, Engine, select

from planner.fleet import Observation, Quantiles
from planner.serving_readings import ServingSubject
from store.database import reading
from store.samples import from_ms, to_ms
from store.serving_names import named_series, named_subjects
from store.serving_series import chunked
from store.serving_tables import ServingLabelSample, ServingSample, ServingSeries
from store.tables import table_of
from store.usage import Values, newest_of, quantiles_of

RECENT = timedelta(minutes=15)
"""How far back the newest value of a gauge is looked for: an older one says nothing about now."""

GAUGES = tuple(column.name for column in table_of(ServingSample).columns if not column.primary_key)

_SERIES = table_of(ServingSeries)
_SAMPLES = table_of(ServingSample)
_LABELLED = table_of(ServingLabelSample)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """Newest values of one subject; `labelled` by metric and label."""

    cluster: str
    subject: ServingSubject
    values: Mapping[str, Observation]
    labelled: Mapping[tuple[str, str], Observation]


@dataclass(frozen=True, slots=True, kw_only=True)
class GaugeUsage:
    """What a window of samples of one subject says; a gauge without a sample is not in `metrics`."""

    cluster: str
    subject: ServingSubject
    metrics: Mapping[str, Quantiles]


def latest_gauges(
    engine: Engine, now: datetime, *, within: timedelta = RECENT, cluster: str | None = None
) -> tuple[Gauges, ...]:
    """The newest value of every gauge as of `now`, by cluster and subject."""
    with reading(engine) as connection:
        return latest_gauges_at(connection, now, within=within, cluster=cluster)


def latest_gauges_at(
    connection: Connection, now: datetime, *, within: timedelta = RECENT, cluster: str | None = None
) -> tuple[Gauges, ...]:
    """The same in a view of the store that is open already."""
    keys = dict(named_subjects(connection, cluster))
    values = {
        serving_id: newest_of(table, GAUGES)
        for serving_id, table in _sample_tables(connection, keys, now - within, now)
    }
    labelled = _latest_labelled(connection, now - within, now, cluster)
    return tuple(
        Gauges(cluster=name, subject=subject, values=values.get(key, {}), labelled=labelled.get((name, subject), {}))
        for key, (name, subject) in keys.items()
        if key in values or (name, subject) in labelled
    )


def gauge_usage(
    engine: Engine, start: datetime, end: datetime, *, cluster: str | None = None
) -> tuple[GaugeUsage, ...]:
    """Mean, extremes and quantiles of the samples of every gauge from `start` to `end`."""
    with reading(engine) as connection:
        keys = dict(named_subjects(connection, cluster))
        return tuple(
            GaugeUsage(cluster=keys[key][0], subject=keys[key][1], metrics=quantiles_of(table, GAUGES))
            for key, table in _sample_tables(connection, keys, start, end)
        )


def _sample_tables(
    connection: Connection, keys: Collection[int], start: datetime, end: datetime
) -> Iterator[tuple[int, Values]]:
    """Per subject with samples, by time: a column of milliseconds, then one per gauge, NaN where absent."""
    columns = _SAMPLES.c
    for chunk in chunked(keys):
        statement = (
            select(columns.serving_id, columns.observed_at_ms, *(columns[name] for name in GAUGES))
            .where(
                columns.serving_id.in_(chunk),
                columns.observed_at_ms > to_ms(start),
                columns.observed_at_ms <= to_ms(end),
            )
            .order_by(columns.serving_id, columns.observed_at_ms)
        )
        rows = connection.execute(statement).all()
        if not rows:
            continue
        table = np.array([tuple(row) for row in rows], dtype=np.float64)
        for part in np.split(table, np.flatnonzero(np.diff(table[:, 0])) + 1):
            yield int(part[0, 0]), part[:, 1:]


def _latest_labelled(
    connection: Connection, start: datetime, end: datetime, cluster: str | None
) -> dict[tuple[str, ServingSubject], dict[tuple[str, str], Observation]]:
    series = {one.id: one for one in named_series(connection, _SERIES, None, cluster, None)}
    found: dict[tuple[str, ServingSubject], dict[tuple[str, str], Observation]] = {}
    columns = _LABELLED.c
    for chunk in chunked(series):
        statement = (
            select(columns.series_id, columns.observed_at_ms, columns.value)
            .where(
                columns.series_id.in_(chunk),
                columns.observed_at_ms > to_ms(start),
                columns.observed_at_ms <= to_ms(end),
            )
            .order_by(columns.series_id, columns.observed_at_ms)
        )
        for series_id, observed_ms, value in connection.execute(statement):
            one = series[series_id]
            by_label = found.setdefault((one.cluster, one.subject), {})
            by_label[one.metric, one.label] = Observation(value=value, observed_at=from_ms(observed_ms))
    return found
