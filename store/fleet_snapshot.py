"""From rows to the planner's fleet: the one bridge between the store and the domain."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, Table, func, or_, select

from planner.catalog import find_profile, load_catalog
from planner.device_state import judge, judge_gpu
from planner.fleet import Fleet, Gpu, GpuInstance, Node, Pod, Usage
from planner.hardware import Board, MigMode
from planner.metrics import METRICS, Level
from planner.units import GpuUuid, NodeName
from store.database import reading
from store.samples import to_ms
from store.tables import NO_INSTANCE, Cluster, DeviceKey, GpuRecord, InstanceRecord, PodRecord, table_of
from store.usage import NOTHING, Measured, measured_devices

DEFAULT_WINDOW = timedelta(hours=1)

ABSENT_WHEN_CUT = frozenset(
    metric.name
    for metric in METRICS
    if (metric.level is Level.DEVICE and metric.name != "xid_code") or metric.name.endswith("_busy_ratio")
)
"""What says nothing about a GPU that is cut: its instances have their own, and busy ratios do not exist under MIG.
Values of these are from before it was cut."""

_CLUSTERS = table_of(Cluster)
_DEVICES = table_of(DeviceKey)

DeviceName = tuple[int, str, int]
"""Cluster number, GPU UUID, GPU instance id (NO_INSTANCE for the whole GPU)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inventory:
    """Rows valid at one moment, by what they belong to."""

    gpus: tuple[RowMapping, ...]
    first_seen: Mapping[tuple[int, str], datetime]
    instances: Mapping[tuple[int, str], tuple[RowMapping, ...]]
    born: Mapping[DeviceName, datetime]  # since when a GPU instance is what it is
    not_before: Mapping[DeviceName, datetime]  # when another GPU instance of the same id ended
    pods: Mapping[DeviceName, tuple[Pod, ...]]
    clusters_with_pods: frozenset[int]


def take_snapshot(
    engine: Engine, now: datetime, *, cluster: str | None = None, window: timedelta = DEFAULT_WINDOW
) -> Fleet:
    """The fleet as the store knew it at `now`, with usage and verdicts from the `window` before.

    GPUs that were not seen for long are still in it, with the ages of what they said last. That a device without a
    pod is free is only concluded in a cluster of which some source ever reported a pod.
    """
    start = now - window
    with reading(engine) as connection:
        clusters = _clusters(connection, cluster)
        inventory = _inventory(connection, clusters, start, now)
        names = _device_names(connection, clusters)
        measured = measured_devices(
            connection,
            sorted(names),
            start=start,
            end=now,
            not_before_ms={
                device_id: to_ms(inventory.not_before[name])
                for device_id, name in names.items()
                if name in inventory.not_before
            },
        )
    by_name = {names[device_id]: one for device_id, one in measured.items()}
    nodes: defaultdict[tuple[str, str], list[Gpu]] = defaultdict(list)
    for row in inventory.gpus:
        nodes[clusters[row["cluster_id"]], row["node"]].append(_gpu(row, inventory, by_name, now))
    return Fleet(
        taken_at=now,
        nodes=tuple(
            Node(name=NodeName(name), cluster=cluster_name, gpus=tuple(sorted(gpus, key=_by_index)))
            for (cluster_name, name), gpus in sorted(nodes.items(), key=lambda item: item[0])
        ),
    )


def _gpu(row: RowMapping, inventory: _Inventory, measured: Mapping[DeviceName, Measured], now: datetime) -> Gpu:
    key = (row["cluster_id"], row["gpu_uuid"])
    rows = inventory.instances.get(key, ())
    whole = measured.get((*key, NO_INSTANCE), NOTHING)
    if rows:
        whole = _without(whole, ABSENT_WHEN_CUT)
    total = whole.observations.get("memory_total_bytes")
    total_bytes = None if total is None else total.value
    board = load_catalog().board_for(row["model_name"], total_bytes)
    pods_reported = row["cluster_id"] in inventory.clusters_with_pods
    instances = tuple(_instance(one, board, pods_reported, inventory, measured, now) for one in rows)
    mig_mode = None if row["mig_mode"] is None else MigMode(row["mig_mode"])
    pods = inventory.pods.get((*key, NO_INSTANCE), ())
    last_seen = _latest(row["last_seen"], whole.newest, *(one.last_seen for one in instances))
    if instances:
        verdict = judge_gpu(one.verdict for one in instances)
    else:
        if total_bytes is None and board is not None:
            total_bytes = board.memory_total_bytes
        verdict = judge(
            usage=whole.usage,
            pods=pods,
            pods_reported=pods_reported,
            instance_of_mig=False,
            memory_total_bytes=total_bytes,
            last_seen=last_seen,
            now=now,
            cut_into_nothing=mig_mode is MigMode.ENABLED,
        )
    return Gpu(
        uuid=GpuUuid(row["gpu_uuid"]),
        index=row["gpu_index"],
        node=NodeName(row["node"]),
        model_name=row["model_name"],
        board=board,
        pci_bus_id=row["pci_bus_id"],
        driver_version=row["driver_version"],
        mig_mode=mig_mode,
        metrics=whole.observations,
        pods=pods,
        instances=instances,
        usage=whole.usage,
        verdict=verdict,
        first_seen=inventory.first_seen[key],
        last_seen=last_seen,
    )


def _instance(
    row: RowMapping,
    board: Board | None,
    pods_reported: bool,
    inventory: _Inventory,
    measured: Mapping[DeviceName, Measured],
    now: datetime,
) -> GpuInstance:
    name = (row["cluster_id"], row["gpu_uuid"], row["gi_id"])
    own = measured.get(name, NOTHING)
    profile = None if board is None else find_profile(board, row["profile"])
    total = own.observations.get("memory_total_bytes")
    total_bytes: float | None = None
    if total is not None:
        total_bytes = total.value
    elif profile is not None:
        total_bytes = profile.memory_bytes
    pods = inventory.pods.get(name, ())
    last_seen = _latest(row["last_seen"], own.newest)
    return GpuInstance(
        gi_id=row["gi_id"],
        profile=row["profile"],
        start=row["start"],
        metrics=own.observations,
        pods=pods,
        usage=own.usage,
        verdict=judge(
            usage=own.usage,
            pods=pods,
            pods_reported=pods_reported,
            instance_of_mig=True,
            memory_total_bytes=total_bytes,
            last_seen=last_seen,
            now=now,
        ),
        first_seen=inventory.born[name],
        last_seen=last_seen,
    )


def _clusters(connection: Connection, cluster: str | None) -> dict[int, str]:
    statement = select(_CLUSTERS.c.id, _CLUSTERS.c.name)
    if cluster is not None:
        statement = statement.where(_CLUSTERS.c.name == cluster)
    return {row.id: row.name for row in connection.execute(statement)}


def _device_names(connection: Connection, clusters: Iterable[int]) -> dict[int, DeviceName]:
    columns = _DEVICES.c
    rows = connection.execute(
        select(columns.id, columns.cluster_id, columns.gpu_uuid, columns.gi_id).where(
            columns.cluster_id.in_(list(clusters))
        )
    )
    return {device_id: (cluster_id, uuid, gi_id) for device_id, cluster_id, uuid, gi_id in rows}


def _inventory(connection: Connection, clusters: Iterable[int], start: datetime, now: datetime) -> _Inventory:
    gpus, instances, pods = table_of(GpuRecord), table_of(InstanceRecord), table_of(PodRecord)
    ids = list(clusters)
    first_seen = connection.execute(
        select(gpus.c.cluster_id, gpus.c.gpu_uuid, func.min(gpus.c.valid_from))
        .where(gpus.c.cluster_id.in_(ids))
        .group_by(gpus.c.cluster_id, gpus.c.gpu_uuid)
    )
    current, born, not_before = _instances(_valid(connection, instances, ids, start, now), now)
    pods_by_device: defaultdict[DeviceName, list[Pod]] = defaultdict(list)
    for row in _valid(connection, pods, ids, now, now):
        pods_by_device[row["cluster_id"], row["gpu_uuid"], row["gi_id"]].append(
            Pod(namespace=row["namespace"], name=row["name"], container=row["container"] or None, uid=row["uid"])
        )
    return _Inventory(
        gpus=_valid(connection, gpus, ids, now, now),
        first_seen={(cluster_id, uuid): at for cluster_id, uuid, at in first_seen},
        instances=current,
        born=born,
        not_before=not_before,
        pods={name: tuple(sorted(found, key=_by_pod)) for name, found in pods_by_device.items()},
        clusters_with_pods=frozenset(
            one
            for one in ids
            if connection.execute(select(pods.c.id).where(pods.c.cluster_id == one).limit(1)).first() is not None
        ),
    )


def _instances(
    rows: Iterable[RowMapping], now: datetime
) -> tuple[dict[tuple[int, str], tuple[RowMapping, ...]], dict[DeviceName, datetime], dict[DeviceName, datetime]]:
    """GPU instances of now by GPU; since when each is what it is; and when another one with its id ended."""
    current: defaultdict[tuple[int, str], list[RowMapping]] = defaultdict(list)
    born: dict[DeviceName, datetime] = {}
    not_before: dict[DeviceName, datetime] = {}
    previous: dict[DeviceName, RowMapping] = {}
    for row in rows:  # by time: the last row of a name is the one of now, if it has one
        name = (row["cluster_id"], row["gpu_uuid"], row["gi_id"])
        before = previous.get(name)
        if before is None or before["profile"] != row["profile"] or before["valid_to"] != row["valid_from"]:
            born[name] = row["valid_from"]
        if before is not None and before["profile"] != row["profile"]:
            not_before[name] = before["valid_to"]
        previous[name] = row
        if row["valid_to"] is None or row["valid_to"] > now:
            current[row["cluster_id"], row["gpu_uuid"]].append(row)
    ordered = {key: tuple(sorted(found, key=_by_start)) for key, found in current.items()}
    return ordered, born, not_before


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


def _without(measured: Measured, metrics: frozenset[str]) -> Measured:
    usage = measured.usage
    return Measured(
        observations={name: one for name, one in measured.observations.items() if name not in metrics},
        usage=None
        if usage is None
        else Usage(
            start=usage.start,
            end=usage.end,
            coverage_ratio=usage.coverage_ratio,
            metrics={name: one for name, one in usage.metrics.items() if name not in metrics},
        ),
        newest=measured.newest,
    )


def _latest(first: datetime, *others: datetime | None) -> datetime:
    return max([first, *(at for at in others if at is not None)])


def _by_index(gpu: Gpu) -> tuple[bool, int, str]:
    return gpu.index is None, gpu.index or 0, gpu.uuid


def _by_start(row: RowMapping) -> tuple[Any, ...]:
    return row["start"] is None, row["start"] or 0, row["gi_id"]


def _by_pod(pod: Pod) -> tuple[str, str, str, str]:
    return pod.namespace, pod.name, pod.container or "", pod.uid or ""
