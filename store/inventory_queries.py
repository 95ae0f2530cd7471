"""Which GPUs, GPU instances and pods there were at a moment, as rows by what they belong to."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, func, or_, select

from planner.fleet import Pod
from store.gpu_detail_tables import ComputeInstanceRecord
from store.tables import Cluster, DeviceKey, GpuRecord, InstanceRecord, PodRecord, table_of

_CLUSTERS = table_of(Cluster)
_DEVICES = table_of(DeviceKey)

DeviceName = tuple[int, str, int]
"""Cluster number, GPU UUID, GPU instance id (NO_INSTANCE for the whole GPU)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Rows valid at one moment, by what they belong to."""

    gpus: tuple[RowMapping, ...]
    first_seen: Mapping[tuple[int, str], datetime]
    instances: Mapping[tuple[int, str], tuple[RowMapping, ...]]
    born: Mapping[DeviceName, datetime]  # since when a GPU instance is what it is
    not_before: Mapping[DeviceName, datetime]  # when the GPU instance that had its id before it ended
    pods: Mapping[DeviceName, tuple[Pod, ...]]
    shared: frozenset[DeviceName]  # of which a source saw several pods
    mig_uuids: Mapping[DeviceName, tuple[str, ...]]
    clusters_with_pods: frozenset[int]


def cluster_names(connection: Connection, cluster: str | None) -> dict[int, str]:
    """Clusters by number: all of them, or the one of that name."""
    statement = select(_CLUSTERS.c.id, _CLUSTERS.c.name)
    if cluster is not None:
        statement = statement.where(_CLUSTERS.c.name == cluster)
    return {row.id: row.name for row in connection.execute(statement)}


def device_names(connection: Connection, clusters: Iterable[int]) -> dict[int, DeviceName]:
    """What the numbers that samples carry stand for."""
    columns = _DEVICES.c
    rows = connection.execute(
        select(columns.id, columns.cluster_id, columns.gpu_uuid, columns.gi_id).where(
            columns.cluster_id.in_(list(clusters))
        )
    )
    return {device_id: (cluster_id, uuid, gi_id) for device_id, cluster_id, uuid, gi_id in rows}


def inventory_at(connection: Connection, clusters: Iterable[int], start: datetime, now: datetime) -> Inventory:
    """What there was at `now`; of GPU instances, also since when, as far back as `start`."""
    gpus, instances, pods = table_of(GpuRecord), table_of(InstanceRecord), table_of(PodRecord)
    ids = list(clusters)
    first_seen = connection.execute(
        select(gpus.c.cluster_id, gpus.c.gpu_uuid, func.min(gpus.c.valid_from))
        .where(gpus.c.cluster_id.in_(ids))
        .group_by(gpus.c.cluster_id, gpus.c.gpu_uuid)
    )
    current, born, not_before = _instances(_valid(connection, instances, ids, start, now), now)
    pods_by_device: defaultdict[DeviceName, list[Pod]] = defaultdict(list)
    shared: set[DeviceName] = set()
    for row in _valid(connection, pods, ids, now, now):
        if row["shared"]:
            shared.add((row["cluster_id"], row["gpu_uuid"], row["gi_id"]))
        pods_by_device[row["cluster_id"], row["gpu_uuid"], row["gi_id"]].append(
            Pod(namespace=row["namespace"], name=row["name"], container=row["container"] or None, uid=row["uid"])
        )
    return Inventory(
        gpus=_valid(connection, gpus, ids, now, now),
        first_seen={(cluster_id, uuid): at for cluster_id, uuid, at in first_seen},
        instances=current,
        born=born,
        not_before=not_before,
        pods={name: tuple(sorted(found, key=_by_pod)) for name, found in pods_by_device.items()},
        shared=frozenset(shared),
        mig_uuids=_mig_uuids(connection, ids, now),
        clusters_with_pods=frozenset(
            one
            for one in ids
            if connection.execute(select(pods.c.id).where(pods.c.cluster_id == one).limit(1)).first() is not None
        ),
    )


def _instances(
    rows: Iterable[RowMapping], now: datetime
) -> tuple[dict[tuple[int, str], tuple[RowMapping, ...]], dict[DeviceName, datetime], dict[DeviceName, datetime]]:
    """GPU instances of now by GPU; since when each is what it is; and when the one before it ended."""
    current: defaultdict[tuple[int, str], list[RowMapping]] = defaultdict(list)
    born: dict[DeviceName, datetime] = {}
    not_before: dict[DeviceName, datetime] = {}
    previous: dict[DeviceName, RowMapping] = {}
    for row in rows:  # by time: the last row of a name is the one of now, if it has one
        name = (row["cluster_id"], row["gpu_uuid"], row["gi_id"])
        before = previous.get(name)
        if before is None or not _is_same_instance(before, row):
            born[name] = row["valid_from"]
            if before is not None:
                not_before[name] = before["valid_to"]
        previous[name] = row
        if row["valid_to"] is None or row["valid_to"] > now:
            current[row["cluster_id"], row["gpu_uuid"]].append(row)
    ordered = {key: tuple(sorted(found, key=_by_start)) for key, found in current.items()}
    return ordered, born, not_before


def _is_same_instance(before: RowMapping, row: RowMapping) -> bool:
    """Whether the later of two rows of one id goes on with the earlier: what was away meanwhile was made again."""
    is_elsewhere = None not in (before["start"], row["start"]) and before["start"] != row["start"]
    return before["profile"] == row["profile"] and before["valid_to"] == row["valid_from"] and not is_elsewhere


def _mig_uuids(connection: Connection, clusters: list[int], at: datetime) -> dict[DeviceName, tuple[str, ...]]:
    """UUIDs of the MIG devices on each GPU instance."""
    found: defaultdict[DeviceName, list[str]] = defaultdict(list)
    for row in _valid(connection, table_of(ComputeInstanceRecord), clusters, at, at):
        if row["mig_uuid"] is not None:
            found[row["cluster_id"], row["gpu_uuid"], row["gi_id"]].append(row["mig_uuid"])
    return {name: tuple(sorted(uuids)) for name, uuids in found.items()}


def _valid(
    connection: Connection, table: Table, clusters: list[int], start: datetime, end: datetime
) -> tuple[RowMapping, ...]:
    """Rows that were valid at some time from `start` to `end`, by time."""
    statement = (
        select(table)
        .where(
            table.c.cluster_id.in_(clusters),
            table.c.valid_from <= end,
            or_(table.c.valid_to.is_(None), table.c.valid_to > start),
        )
        .order_by(table.c.valid_from, table.c.id)
    )
    return tuple(connection.execute(statement).mappings())


def _by_start(row: RowMapping) -> tuple[Any, ...]:
    return row["start"] is None, row["start"] or 0, row["gi_id"]


def _by_pod(pod: Pod) -> tuple[str, str, str, str]:
    return pod.namespace, pod.name, pod.container or "", pod.uid or ""
