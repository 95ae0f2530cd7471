"""Which series and subjects there are, by the numbers that rows of readings carry."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, Table, literal, select

from planner.serving_readings import ServingSubject
from store.serving_tables import ServingKey
from store.tables import Cluster, table_of

_CLUSTERS = table_of(Cluster)
_KEYS = table_of(ServingKey)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series by its number."""

    id: int
    cluster: str
    subject: ServingSubject
    metric: str
    label: str


def named_series(
    connection: Connection,
    table: Table,
    metrics: Collection[str] | None,
    cluster: str | None,
    endpoints: Collection[str] | None,
) -> Iterator[Series]:
    """Series of `serving_series` or `histogram_series` (whose label is ""), by cluster, subject, metric and label."""
    has_label = "label" in table.c
    label = table.c.label if has_label else literal("")
    statement = (
        select(table.c.id, _CLUSTERS.c.name, _KEYS.c.endpoint, _KEYS.c.model, _KEYS.c.rank, table.c.metric, label)
        .join(_KEYS, _KEYS.c.id == table.c.serving_id)
        .join(_CLUSTERS, _CLUSTERS.c.id == _KEYS.c.cluster_id)
        .order_by(_CLUSTERS.c.name, _KEYS.c.endpoint, _KEYS.c.model, _KEYS.c.rank, table.c.metric)
    )
    if has_label:
        statement = statement.order_by(label)
    if cluster is not None:
        statement = statement.where(_CLUSTERS.c.name == cluster)
    if metrics is not None:
        statement = statement.where(table.c.metric.in_(list(metrics)))
    if endpoints is not None:
        statement = statement.where(_KEYS.c.endpoint.in_(list(endpoints)))
    for series_id, name, endpoint, model, rank, metric, found in connection.execute(statement):
        subject = ServingSubject(endpoint=endpoint, model=model, rank=rank)
        yield Series(id=series_id, cluster=name, subject=subject, metric=metric, label=found)


def named_subjects(connection: Connection, cluster: str | None) -> Iterator[tuple[int, tuple[str, ServingSubject]]]:
    """Numbers of subjects with their cluster, by cluster and subject."""
    statement = (
        select(_KEYS.c.id, _CLUSTERS.c.name, _KEYS.c.endpoint, _KEYS.c.model, _KEYS.c.rank)
        .join(_CLUSTERS, _CLUSTERS.c.id == _KEYS.c.cluster_id)
        .order_by(_CLUSTERS.c.name, _KEYS.c.endpoint, _KEYS.c.model, _KEYS.c.rank)
    )
    if cluster is not None:
        statement = statement.where(_CLUSTERS.c.name == cluster)
    for key, name, endpoint, model, rank in connection.execute(statement):
        yield key, (name, ServingSubject(endpoint=endpoint, model=model, rank=rank))
