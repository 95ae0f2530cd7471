"""How readings become wide rows of samples, and rows become readings again."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import Connection, Engine, Select, bindparam, select

from planner.metrics import METRICS
from planner.readings import Reading, Subject
from planner.units import GpuUuid
from store.database import reading, upsert
from store.tables import NO_INSTANCE, Cluster, DeviceKey, Sample, table_of
from store.wide_rows import wide_upsert

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_IN_CHUNK = 500  # values in one IN list: well below SQLite's limit on variables

_DEVICES = table_of(DeviceKey)
_SAMPLES = table_of(Sample)


def to_ms(at: datetime) -> int:
    """Milliseconds since the epoch, as sample times are stored; finer parts are cut off."""
    return (at - EPOCH) // _MILLISECOND


def from_ms(ms: int) -> datetime:
    """The time of a stored sample, aware UTC."""
    return EPOCH + ms * _MILLISECOND


def stored_readings(
    engine: Engine, *, start: datetime | None = None, end: datetime | None = None, cluster: str | None = None
) -> Iterator[Reading]:
    """Every stored value from `start` up to, not including, `end`, by device and time: for checks and exports."""
    clusters = table_of(Cluster)
    names = tuple(metric.name for metric in METRICS)
    statement = (
        select(_DEVICES.c.gpu_uuid, _DEVICES.c.gi_id, _SAMPLES.c.observed_at_ms, *(_SAMPLES.c[name] for name in names))
        .join(_SAMPLES, _SAMPLES.c.device_id == _DEVICES.c.id)
        .join(clusters, clusters.c.id == _DEVICES.c.cluster_id)
        .order_by(clusters.c.name, _DEVICES.c.gpu_uuid, _DEVICES.c.gi_id, _SAMPLES.c.observed_at_ms)
    )
    if start is not None:
        statement = statement.where(_SAMPLES.c.observed_at_ms >= to_ms(start))
    if end is not None:
        statement = statement.where(_SAMPLES.c.observed_at_ms < to_ms(end))
    if cluster is not None:
        statement = statement.where(clusters.c.name == cluster)
    with reading(engine) as connection:
        for uuid, gi_id, ms, *values in connection.execute(statement):
            subject = Subject(gpu_uuid=GpuUuid(uuid), gi_id=None if gi_id == NO_INSTANCE else gi_id)
            observed_at = from_ms(ms)
            for name, value in zip(names, values, strict=True):
                if value is not None:
                    yield Reading(subject=subject, metric=name, value=value, observed_at=observed_at)


def write_samples(connection: Connection, cluster_id: int, readings: Sequence[Reading]) -> int | None:
    """Store the readings, one row per device and moment, and return the newest time among them."""
    if not readings:
        return None
    rows: dict[tuple[Subject, int], dict[str, float]] = {}
    times: dict[datetime, int] = {}
    for one in readings:
        at = one.observed_at
        ms = times.get(at)
        if ms is None:
            ms = times[at] = to_ms(at)
        rows.setdefault((one.subject, ms), {})[one.metric] = one.value
    device_ids = _device_ids(connection, cluster_id, {subject for subject, _ in rows})
    # Rows with the same metrics share a statement of just these columns: most devices lack half of all metrics.
    by_metrics: dict[tuple[str, ...], list[tuple[int, int, dict[str, float]]]] = {}
    for (subject, ms), values in rows.items():
        by_metrics.setdefault(tuple(values), []).append((device_ids[subject], ms, values))
    for names, group in by_metrics.items():
        statement, columns = wide_upsert(connection.dialect.name, _SAMPLES, "device_id", names)
        connection.exec_driver_sql(
            statement, [(device_id, ms, *[values[name] for name in columns]) for device_id, ms, values in group]
        )
    return max(times.values())


def _device_ids(connection: Connection, cluster_id: int, subjects: set[Subject]) -> dict[Subject, int]:
    """Numbers of devices, new ones where needed. Looked up per batch: one query, and never wrong after a rollback."""
    found = _known_devices(connection, cluster_id, subjects)
    missing = sorted(subjects - found.keys(), key=str)
    if missing:
        connection.execute(
            upsert(connection, _DEVICES).on_conflict_do_nothing(),
            [{"cluster_id": cluster_id, "gpu_uuid": one.gpu_uuid, "gi_id": gi_key(one)} for one in missing],
        )
        found = _known_devices(connection, cluster_id, subjects)
    return found


def _known_devices(connection: Connection, cluster_id: int, subjects: set[Subject]) -> dict[Subject, int]:
    uuids = sorted({subject.gpu_uuid for subject in subjects})
    by_name = {(subject.gpu_uuid, gi_key(subject)): subject for subject in subjects}
    found: dict[Subject, int] = {}
    for start in range(0, len(uuids), _IN_CHUNK):
        parameters = {"cluster_id": cluster_id, "uuids": uuids[start : start + _IN_CHUNK]}
        for device_id, uuid, gi_id in connection.execute(_devices_statement(), parameters):
            subject = by_name.get((uuid, gi_id))
            if subject is not None:
                found[subject] = device_id
    return found


@cache
def _devices_statement() -> Select[Any]:
    columns = _DEVICES.c
    return select(columns.id, columns.gpu_uuid, columns.gi_id).where(
        columns.cluster_id == bindparam("cluster_id"), columns.gpu_uuid.in_(bindparam("uuids", expanding=True))
    )


def gi_key(subject: Subject) -> int:
    return NO_INSTANCE if subject.gi_id is None else subject.gi_id
