"""From rows to the planner's fleet: the one bridge between the store and the domain."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine, RowMapping

from planner.attribution import DeviceWork, attribute
from planner.catalog import find_profile, load_catalog
from planner.cost_attribution import attribute_costs
from planner.device_state import judge, judge_gpu
from planner.fleet import DeviceEngine, Fleet, Gpu, GpuInstance, Node, Pod, Usage, Verdict
from planner.hardware import Board, MigMode
from planner.metrics import METRICS, Level
from planner.readings import Subject
from planner.units import GpuUuid, NodeName
from planner.unseen_allocations import UnseenAllocation, unseen_allocations, with_unseen_allocation
from store.database import reading
from store.inventory_queries import DeviceName, Inventory, cluster_names, device_names, inventory_at
from store.join import DEFAULT_DIMENSION, JoinedCluster, devices_of, join_facts, pods_of
from store.samples import to_ms
from store.tables import NO_INSTANCE
from store.usage import NOTHING, Measured, measured_devices

DEFAULT_WINDOW = timedelta(hours=1)

ABSENT_WHEN_CUT = frozenset(
    metric.name
    for metric in METRICS
    if (metric.level is Level.DEVICE and metric.name != "xid_code") or metric.name.endswith("_busy_ratio")
)
"""What says nothing about a GPU that is cut: its instances have their own, and busy ratios do not exist under MIG.
Values of these are from before it was cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedFleet:
    """The fleet and the join it was made with, by cluster."""

    fleet: Fleet
    clusters: tuple[JoinedCluster, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """All that a GPU is made of."""

    inventory: Inventory
    measured: Mapping[DeviceName, Measured]
    work: Mapping[DeviceName, DeviceWork]
    unseen: Mapping[DeviceName, UnseenAllocation]
    claimed: frozenset[int]  # clusters in which resource claims tell what is allocated
    now: datetime
    window: timedelta

    def pods_reported(self, cluster_id: int) -> bool:
        """Whether some source says who holds a device, so that nobody means unallocated."""
        return cluster_id in self.inventory.clusters_with_pods or cluster_id in self.claimed


def take_snapshot(
    engine: Engine, now: datetime, *, cluster: str | None = None, window: timedelta = DEFAULT_WINDOW
) -> Fleet:
    """The fleet as the store knew it at `now`, with usage, engines and verdicts from the `window` before.

    GPUs that were not seen for long are still in it, with the ages of what they said last. That a device without a
    pod is free is only concluded in a cluster of which some source ever reported a pod.
    """
    return take_joined(engine, now, cluster=cluster, window=window, dimension=None).fleet


def take_joined(
    engine: Engine,
    now: datetime,
    *,
    cluster: str | None = None,
    window: timedelta = DEFAULT_WINDOW,
    dimension: str | None = DEFAULT_DIMENSION,
    aliases: Mapping[str, str] | None = None,
) -> JoinedFleet:
    """The same with every link of the join, its conflicts, and what could not be put down to a device.

    `dimension` names the owners whose money is joined ("team", "user"), None leaves money out. `aliases` maps a
    gateway's names of models to those of servers.
    """
    start = now - window
    with reading(engine) as connection:
        clusters = cluster_names(connection, cluster)
        inventory = inventory_at(connection, clusters, start, now)
        names = device_names(connection, clusters)
        by_id = measured_devices(
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
        measured = {names[device_id]: one for device_id, one in by_id.items()}
        devices = devices_of(inventory, measured)
        told = {
            cluster_id: join_facts(
                connection,
                devices.get(cluster_id, ()),
                cluster=name,
                start=start,
                end=now,
                dimension=dimension,
                aliases=aliases,
            )
            for cluster_id, name in clusters.items()
        }
    works = {cluster_id: attribute(facts) for cluster_id, facts in told.items()}
    known = _Known(
        inventory=inventory,
        measured=measured,
        work={
            _device_name(cluster_id, subject): one
            for cluster_id, work in works.items()
            for subject, one in work.devices.items()
        },
        unseen={
            _device_name(cluster_id, subject): one
            for cluster_id, facts in told.items()
            for subject, one in unseen_allocations(facts, works[cluster_id].devices).items()
        },
        claimed=frozenset(cluster_id for cluster_id, facts in told.items() if facts.claims),
        now=now,
        window=window,
    )
    nodes: defaultdict[tuple[str, str], list[Gpu]] = defaultdict(list)
    for row in inventory.gpus:
        nodes[clusters[row["cluster_id"]], row["node"]].append(_gpu(row, known))
    return JoinedFleet(
        fleet=Fleet(
            taken_at=now,
            nodes=tuple(
                Node(name=NodeName(name), cluster=cluster_name, gpus=tuple(sorted(gpus, key=_by_index)))
                for (cluster_name, name), gpus in sorted(nodes.items(), key=lambda item: item[0])
            ),
        ),
        clusters=tuple(
            JoinedCluster(
                cluster=clusters[cluster_id],
                work=work,
                costs=None if dimension is None else attribute_costs(told[cluster_id], work),
            )
            for cluster_id, work in works.items()
        ),
    )


def _gpu(row: RowMapping, known: _Known) -> Gpu:
    key = (row["cluster_id"], row["gpu_uuid"])
    name = (*key, NO_INSTANCE)
    rows = known.inventory.instances.get(key, ())
    whole = known.measured.get(name, NOTHING)
    if rows:
        whole = _without(whole, ABSENT_WHEN_CUT)
    total = whole.observations.get("memory_total_bytes")
    total_bytes = None if total is None else total.value
    board = load_catalog().board_for(row["model_name"], total_bytes)
    instances = tuple(_instance(one, board, known) for one in rows)
    mig_mode = None if row["mig_mode"] is None else MigMode(row["mig_mode"])
    pods = pods_of(known.inventory.pods.get(name, ()), known.work.get(name))
    last_seen = _latest(row["last_seen"], whole.newest, *(one.last_seen for one in instances))
    if instances:
        verdict = judge_gpu(one.verdict for one in instances)
    else:
        if total_bytes is None and board is not None:
            total_bytes = board.memory_total_bytes
        verdict = _verdict(
            name, whole.usage, pods, total_bytes, last_seen, known, cut_into_nothing=mig_mode is MigMode.ENABLED
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
        first_seen=known.inventory.first_seen[key],
        last_seen=last_seen,
        engines=_engines(name, known),
        not_attributable=_not_attributable(name, known),
    )


def _instance(row: RowMapping, board: Board | None, known: _Known) -> GpuInstance:
    name = (row["cluster_id"], row["gpu_uuid"], row["gi_id"])
    own = known.measured.get(name, NOTHING)
    profile = None if board is None else find_profile(board, row["profile"])
    total = own.observations.get("memory_total_bytes")
    total_bytes: float | None = None
    if total is not None:
        total_bytes = total.value
    elif profile is not None:
        total_bytes = profile.memory_bytes
    pods = pods_of(known.inventory.pods.get(name, ()), known.work.get(name))
    last_seen = _latest(row["last_seen"], own.newest)
    return GpuInstance(
        gi_id=row["gi_id"],
        profile=row["profile"],
        start=row["start"],
        metrics=own.observations,
        pods=pods,
        usage=own.usage,
        verdict=_verdict(name, own.usage, pods, total_bytes, last_seen, known),
        first_seen=known.inventory.born[name],
        last_seen=last_seen,
        engines=_engines(name, known),
        not_attributable=_not_attributable(name, known),
    )


def _verdict(
    name: DeviceName,
    usage: Usage | None,
    pods: tuple[Pod, ...],
    total_bytes: float | None,
    last_seen: datetime,
    known: _Known,
    *,
    cut_into_nothing: bool = False,
) -> Verdict:
    verdict = judge(
        usage=usage,
        pods=pods,
        pods_reported=known.pods_reported(name[0]),
        instance_of_mig=name[2] != NO_INSTANCE,
        memory_total_bytes=total_bytes,
        last_seen=last_seen,
        now=known.now,
        cut_into_nothing=cut_into_nothing,
        engines=_engines(name, known),
        window=known.window,
    )
    return verdict if cut_into_nothing else with_unseen_allocation(verdict, known.unseen.get(name), usage)


def _engines(name: DeviceName, known: _Known) -> tuple[DeviceEngine, ...]:
    work = known.work.get(name)
    return () if work is None else work.engines


def _not_attributable(name: DeviceName, known: _Known) -> str | None:
    work = known.work.get(name)
    return None if work is None else work.not_attributable


def _device_name(cluster_id: int, subject: Subject) -> DeviceName:
    return cluster_id, subject.gpu_uuid, NO_INSTANCE if subject.gi_id is None else subject.gi_id


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
