"""What devices measured over time: buckets made in SQL, and silence left as silence."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, func, select

from planner.metrics import BY_NAME, Kind
from planner.readings import Subject
from planner.units import GpuUuid, NodeName
from store.database import reading
from store.samples import from_ms, gi_key, to_ms
from store.tables import NO_INSTANCE, Cluster, DeviceKey, GpuRecord, InstanceRecord, Sample, table_of

_CLUSTERS = table_of(Cluster)
_DEVICES = table_of(DeviceKey)
_GPUS = table_of(GpuRecord)
_INSTANCES = table_of(InstanceRecord)
_SAMPLES = table_of(Sample)

ACTIVITY_METRICS = ("sm_active_ratio", "gr_engine_active_ratio", "gpu_busy_ratio")
"""What says how busy a device is, best first: the later ones count a device as busy when one small kernel runs."""

_CODES = frozenset({"xid_code", "clock_event_reasons", "row_remap_failed", "row_remap_pending"})
"""Codes and flags: the mean of two codes is no code, so a bucket shows the largest one seen in it."""

_SPACING_SAMPLES = 50  # newest samples that tell how far apart a device's samples are
_SPACING_DEVICES = 8  # devices that tell it for a whole grid
_MINIMUM_STEP_MS = 1000
_ID_CHUNK = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One device over time in equal buckets; a bucket without a value is None, so that a line breaks there.

    Each bucket holds the mean of a gauge, the largest code of a code, and the largest reading of a counter: the rate
    is the caller's to make.
    """

    subject: Subject
    step_s: float
    times: tuple[datetime, ...]  # start of each bucket
    values: Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceActivity:
    """How busy one device was, bucket by bucket, by the best activity metric it has; None where nothing was said."""

    cluster: str
    node: NodeName
    gpu_index: int | None
    subject: Subject
    profile: str | None  # of a GPU instance
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityGrid:
    """Activity of many devices over the same buckets, by cluster, node, GPU index and GPU instance."""

    step_s: float
    times: tuple[datetime, ...]  # start of each bucket
    devices: tuple[DeviceActivity, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Buckets:
    """Equal stretches of time, aligned to multiples of their width so that a moving window does not shift them."""

    first_ms: int
    step_ms: int
    count: int

    @classmethod
    def over(cls, start: datetime, end: datetime, *, max_points: int, spacing_ms: int) -> "_Buckets":
        """At most `max_points` + 1 buckets, each wide enough for two samples, so that only true silence is empty."""
        wanted = math.ceil((to_ms(end) - to_ms(start)) / max(max_points, 1))
        step = math.ceil(max(wanted, 2 * spacing_ms, 1) / _MINIMUM_STEP_MS) * _MINIMUM_STEP_MS
        first = to_ms(start) // step * step
        return cls(first_ms=first, step_ms=step, count=max((to_ms(end) - first) // step + 1, 0))

    @property
    def times(self) -> tuple[datetime, ...]:
        return tuple(from_ms(self.first_ms + number * self.step_ms) for number in range(self.count))

    @property
    def column(self) -> ColumnElement[int]:
        """Number of the bucket in which a sample lies."""
        return ((_SAMPLES.c.observed_at_ms - self.first_ms) // self.step_ms).label("bucket")


def device_history(
    engine: Engine,
    subject: Subject,
    metrics: Sequence[str],
    start: datetime,
    end: datetime,
    *,
    max_points: int = 300,
    cluster: str | None = None,
) -> History:
    """What one device measured from `start` to `end`, in about `max_points` buckets at most.

    A bucket is never narrower than two samples of the device. An unknown device yields empty buckets; an unknown
    metric raises KeyError.
    """
    aggregates = [_in_bucket(name) for name in metrics]
    with reading(engine) as connection:
        ids = _device_ids(connection, subject, cluster)
        spacing_ms = _spacing_ms(connection, ids, end)
        buckets = _Buckets.over(start, end, max_points=max_points, spacing_ms=spacing_ms)
        values: dict[str, list[float | None]] = {name: [None] * buckets.count for name in metrics}
        if ids:
            statement = (
                select(buckets.column, *aggregates)
                .where(
                    _SAMPLES.c.device_id.in_(ids),
                    _SAMPLES.c.observed_at_ms.between(to_ms(start), to_ms(end)),
                )
                .group_by("bucket")
            )
            for number, *row in connection.execute(statement):
                for name, value in zip(metrics, row, strict=True):
                    values[name][number] = value
    return History(
        subject=subject,
        step_s=buckets.step_ms / 1000,
        times=buckets.times,
        values={name: tuple(row) for name, row in values.items()},
    )


def node_activity(
    engine: Engine,
    start: datetime,
    end: datetime,
    *,
    max_points: int = 60,
    cluster: str | None = None,
    nodes: Sequence[str] | None = None,
) -> ActivityGrid:
    """How busy every device was from `start` to `end`, for the heat map; `nodes` narrows it down.

    A cut GPU is shown by its GPU instances, a device that said nothing by empty buckets.
    """
    with reading(engine) as connection:
        devices = _placed_devices(connection, end, cluster, nodes)
        ids = [device.id for device in devices]
        buckets = _Buckets.over(
            start, end, max_points=max_points, spacing_ms=_spacing_ms(connection, ids[:_SPACING_DEVICES], end)
        )
        values: defaultdict[int, list[float | None]] = defaultdict(lambda: [None] * buckets.count)
        activity = func.coalesce(*(func.avg(_SAMPLES.c[name]) for name in ACTIVITY_METRICS))
        for chunk in _chunks(ids):
            statement = (
                select(_SAMPLES.c.device_id, buckets.column, activity)
                .where(
                    _SAMPLES.c.device_id.in_(chunk),
                    _SAMPLES.c.observed_at_ms.between(to_ms(start), to_ms(end)),
                )
                .group_by(_SAMPLES.c.device_id, "bucket")
            )
            for device_id, number, value in connection.execute(statement):
                if value is not None:
                    values[device_id][number] = value
        profiles = _profiles(connection, end)
    cut = {
        (device.cluster, device.gpu_uuid) for device in devices if device.gi_id != NO_INSTANCE and device.id in values
    }
    shown = tuple(
        DeviceActivity(
            cluster=device.cluster,
            node=NodeName(device.node),
            gpu_index=device.gpu_index,
            subject=_subject(device.gpu_uuid, device.gi_id),
            profile=profiles.get((device.cluster_id, device.gpu_uuid, device.gi_id)),
            values=tuple(values[device.id]),
        )
        for device in devices
        if device.id in values or (device.gi_id == NO_INSTANCE and (device.cluster, device.gpu_uuid) not in cut)
    )
    return ActivityGrid(step_s=buckets.step_ms / 1000, times=buckets.times, devices=shown)


def _in_bucket(name: str) -> ColumnElement[Any]:
    column = _SAMPLES.c[name]
    largest = BY_NAME[name].kind is Kind.COUNTER or name in _CODES
    return func.max(column) if largest else func.avg(column)


def _device_ids(connection: Connection, subject: Subject, cluster: str | None) -> list[int]:
    statement = (
        select(_DEVICES.c.id)
        .join(_CLUSTERS, _CLUSTERS.c.id == _DEVICES.c.cluster_id)
        .where(_DEVICES.c.gpu_uuid == subject.gpu_uuid, _DEVICES.c.gi_id == gi_key(subject))
    )
    if cluster is not None:
        statement = statement.where(_CLUSTERS.c.name == cluster)
    return list(connection.execute(statement).scalars())


def _spacing_ms(connection: Connection, ids: Sequence[int], end: datetime) -> int:
    """How far apart the newest samples before `end` are: the widest of the devices' medians, 0 when there are none."""
    medians = []
    for device_id in ids:
        statement = (
            select(_SAMPLES.c.observed_at_ms)
            .where(_SAMPLES.c.device_id == device_id, _SAMPLES.c.observed_at_ms <= to_ms(end))
            .order_by(_SAMPLES.c.observed_at_ms.desc())
            .limit(_SPACING_SAMPLES)
        )
        newest = list(connection.execute(statement).scalars())
        if len(newest) > 1:
            medians.append(median(later - earlier for later, earlier in pairwise(newest)))
    return math.ceil(max(medians, default=0))


def _placed_devices(
    connection: Connection, end: datetime, cluster: str | None, nodes: Sequence[str] | None
) -> list[Row[Any]]:
    """Every device with the node and index its GPU had last, by `end`."""
    later = _GPUS.alias("later")
    newest = (
        select(func.max(later.c.valid_from))
        .where(
            later.c.cluster_id == _DEVICES.c.cluster_id,
            later.c.gpu_uuid == _DEVICES.c.gpu_uuid,
            later.c.valid_from <= end,
        )
        .scalar_subquery()
    )
    statement = (
        select(
            _DEVICES.c.id,
            _DEVICES.c.cluster_id,
            _CLUSTERS.c.name.label("cluster"),
            _DEVICES.c.gpu_uuid,
            _DEVICES.c.gi_id,
            _GPUS.c.node,
            _GPUS.c.gpu_index,
        )
        .join(_CLUSTERS, _CLUSTERS.c.id == _DEVICES.c.cluster_id)
        .join(
            _GPUS,
            (_GPUS.c.cluster_id == _DEVICES.c.cluster_id)
            & (_GPUS.c.gpu_uuid == _DEVICES.c.gpu_uuid)
            & (_GPUS.c.valid_from == newest),
        )
        .order_by(_CLUSTERS.c.name, _GPUS.c.node, _GPUS.c.gpu_index, _DEVICES.c.gpu_uuid, _DEVICES.c.gi_id)
    )
    if cluster is not None:
        statement = statement.where(_CLUSTERS.c.name == cluster)
    if nodes is not None:
        statement = statement.where(_GPUS.c.node.in_(nodes))
    return list(connection.execute(statement))


def _profiles(connection: Connection, end: datetime) -> dict[tuple[int, str, int], str]:
    columns = _INSTANCES.c
    statement = (
        select(columns.cluster_id, columns.gpu_uuid, columns.gi_id, columns.profile)
        .where(columns.valid_from <= end)
        .order_by(columns.valid_from)
    )
    return {(cluster_id, uuid, gi_id): profile for cluster_id, uuid, gi_id, profile in connection.execute(statement)}


def _subject(uuid: str, gi_id: int) -> Subject:
    return Subject(gpu_uuid=GpuUuid(uuid), gi_id=None if gi_id == NO_INSTANCE else gi_id)


def _chunks(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), _ID_CHUNK):
        yield ids[start : start + _ID_CHUNK]
