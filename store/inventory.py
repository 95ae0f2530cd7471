"""What GPU facts make of the inventory: rows of GPUs, GPU instances and pods with the time they were valid.

A fact is complete for its GPU, so it also ends what it does not name. Facts may come late (a backfill): a moment that
is already known stands as it is, a moment before, between or after what is known gets its own intervals, which end
where the known ones begin. Of two sources that contradict each other about one moment, the first one told stands.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select

from planner.readings import Batch, GpuFact
from store.gpu_detail_tables import ComputeInstanceRecord, ProcessRecord
from store.interval_rows import Children, IntervalTable, Key, load_intervals, save_intervals, take_in, timeline_of
from store.intervals import FLAP_GRACE, Timeline
from store.tables import NO_INSTANCE, GpuRecord, InstanceRecord, PodRecord

_IN_CHUNK = 500  # values in one IN list: well below SQLite's limit on variables, few plans to prepare

_GPU_VALUES = ("node", "gpu_index", "model_name", "pci_bus_id", "driver_version", "mig_mode")
_BOUND_TO_NODE = ("gpu_index", "pci_bus_id", "driver_version")  # not carried along when a GPU moves

_GPUS = IntervalTable(model=GpuRecord, scope="gpu_uuid", key=(), values=_GPU_VALUES, identity=frozenset(_GPU_VALUES))
_INSTANCES = IntervalTable(
    model=InstanceRecord,
    scope="gpu_uuid",
    key=("gi_id",),
    values=("profile", "start"),
    identity=frozenset({"profile", "start"}),
)
_PODS = IntervalTable(
    model=PodRecord,
    scope="gpu_uuid",
    key=("gi_id", "namespace", "name", "container"),
    values=("uid", "shared"),
    identity=frozenset({"uid"}),
)
_COMPUTE_INSTANCES = IntervalTable(
    model=ComputeInstanceRecord,
    scope="gpu_uuid",
    key=("gi_id", "ci_id"),
    values=("profile", "mig_uuid"),
    identity=frozenset({"profile", "mig_uuid"}),
)
_PROCESSES = IntervalTable(
    model=ProcessRecord,
    scope="gpu_uuid",
    key=("gi_id", "pid"),
    values=("kind", "name", "memory_bytes", "user", "pod_uid", "container_id"),
    identity=frozenset({"kind", "name", "user", "pod_uid", "container_id"}),
)
_BELONGING = (
    (_INSTANCES, "instances"),
    (_PODS, "pods"),
    (_COMPUTE_INSTANCES, "compute_instances"),
    (_PROCESSES, "processes"),
)
"""What belongs to a GPU, and where `_KnownGpu` keeps it."""


@dataclass(slots=True, kw_only=True)
class _KnownGpu:
    """What the store knows of one GPU around the time of a batch."""

    gpu: Timeline
    instances: dict[Key, Timeline] = field(default_factory=dict)
    pods: dict[Key, Timeline] = field(default_factory=dict)
    compute_instances: dict[Key, Timeline] = field(default_factory=dict)
    processes: dict[Key, Timeline] = field(default_factory=dict)


def write_inventory(connection: Connection, cluster_id: int, batch: Batch, fallback_time: datetime) -> None:
    """Take the facts of a batch into the inventory.

    `fallback_time` dates the absence of every GPU of a complete node of which the batch holds no fact.
    """
    facts = sorted(batch.facts, key=lambda fact: fact.observed_at)
    ends = _ends_of_complete_nodes(batch, fallback_time)
    present = {fact.gpu_uuid for fact in facts}
    known = {str(uuid): _KnownGpu(gpu=_GPUS.timeline()) for uuid in sorted(present)}
    gone: dict[str, datetime] = {}
    for uuid, node in _open_gpus(connection, cluster_id, sorted(ends)):
        if uuid not in known:
            known[uuid] = _KnownGpu(gpu=_GPUS.timeline())
            gone[uuid] = ends[node]
    if not known:
        return
    oldest = min([*(fact.observed_at for fact in facts), *gone.values()])
    _load(connection, cluster_id, known, oldest, has_processes=bool(gone) or any(fact.processes for fact in facts))
    for fact in facts:
        _take_in(known[fact.gpu_uuid], fact)
    for uuid, at in gone.items():
        _take_away(known[uuid], at)
    save_intervals(connection, _GPUS, cluster_id, ((uuid, (), one.gpu) for uuid, one in known.items()))
    for kind, name in _BELONGING:
        save_intervals(connection, kind, cluster_id, _each(known, name))


def _take_in(known: _KnownGpu, fact: GpuFact) -> None:
    instances: dict[Key, dict[str, Any]] = {
        (one.gi_id,): {"profile": one.profile, "start": one.start} for one in fact.instances
    }
    pods: dict[Key, dict[str, Any]] = {
        (_gi_key(pod.gi_id), pod.namespace, pod.name, pod.container or ""): {"uid": pod.uid, "shared": pod.shared}
        for pod in fact.pods
    }
    children = [
        Children(kind=_INSTANCES, timelines=known.instances, seen=instances),
        Children(kind=_PODS, timelines=known.pods, seen=pods),
    ]
    # Only some sources tell these, so that none of them says nothing.
    compute_instances: dict[Key, dict[str, Any]] = {
        (one.gi_id, NO_INSTANCE if ci.ci_id is None else ci.ci_id): {"profile": ci.profile, "mig_uuid": ci.mig_uuid}
        for one in fact.instances
        for ci in one.compute_instances
    }
    if compute_instances or not fact.instances:
        children.append(Children(kind=_COMPUTE_INSTANCES, timelines=known.compute_instances, seen=compute_instances))
    processes: dict[Key, dict[str, Any]] = {
        (_gi_key(one.gi_id), one.pid): {name: getattr(one, name) for name in _PROCESSES.values}
        for one in fact.processes
    }
    if processes:
        children.append(Children(kind=_PROCESSES, timelines=known.processes, seen=processes))
    take_in(known.gpu, fact.observed_at, _gpu_values(known.gpu, fact), children)
    _end_what_was_cut_away(known, fact.observed_at)


def _end_what_was_cut_away(known: _KnownGpu, at: datetime) -> None:
    """End compute instances with their GPU instance, also where nobody has told compute instances since."""
    for (gi_id, _), timeline in known.compute_instances.items():
        inside = timeline.covering(at)
        instance = known.instances.get((gi_id,))
        around = None if instance is None else instance.covering(at)
        if inside is None or at <= inside.last_seen:
            continue
        if around is None or inside.last_seen < around.valid_from:
            timeline.miss(at if around is None else around.valid_from)


def _gi_key(gi_id: int | None) -> int:
    return NO_INSTANCE if gi_id is None else gi_id


def _take_away(known: _KnownGpu, at: datetime) -> None:
    covering = known.gpu.covering(at)
    if covering is None or at <= covering.last_seen:
        return
    known.gpu.miss(at)
    for _, name in _BELONGING:
        for timeline in getattr(known, name).values():
            timeline.miss(at)


def _gpu_values(timeline: Timeline, fact: GpuFact) -> dict[str, Any]:
    """What the fact says; what it is silent about is as it was, as far as it can have moved along with the GPU."""
    values: dict[str, Any] = {
        "node": fact.node,
        "gpu_index": fact.index,
        "model_name": fact.model_name,
        "pci_bus_id": fact.pci_bus_id,
        "driver_version": fact.driver_version,
        "mig_mode": None if fact.mig_mode is None else fact.mig_mode.value,
    }
    before = timeline.covering(fact.observed_at) or timeline.latest_before(fact.observed_at)
    if before is None:
        return values
    moved = before.values["node"] != fact.node
    return {
        name: before.values[name] if value is None and not (moved and name in _BOUND_TO_NODE) else value
        for name, value in values.items()
    }


def _ends_of_complete_nodes(batch: Batch, fallback_time: datetime) -> dict[str, datetime]:
    ends: dict[str, datetime] = {}
    for fact in batch.facts:
        if fact.node in batch.nodes_complete:
            ends[fact.node] = max(ends.get(fact.node, fact.observed_at), fact.observed_at)
    return {node: ends.get(node, fallback_time) for node in batch.nodes_complete}


def _open_gpus(connection: Connection, cluster_id: int, nodes: Sequence[str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for chunk in _chunks(nodes):
        rows = connection.execute(_open_gpus_statement(), {"cluster_id": cluster_id, "nodes": chunk})
        found.extend((uuid, node) for uuid, node in rows)
    return found


def _load(
    connection: Connection, cluster_id: int, known: dict[str, _KnownGpu], oldest: datetime, *, has_processes: bool
) -> None:
    uuids = sorted(known)
    for uuid, _, interval in load_intervals(connection, _GPUS, cluster_id, among=uuids):
        known[uuid].gpu.intervals.append(interval)
    # Of the GPU itself all is read, because it keeps what it was told long ago. Of the rest, what ended longer
    # before than the grace can play no part any more.
    not_before = oldest - FLAP_GRACE
    for kind, name in _BELONGING:
        if kind is _PROCESSES and not has_processes:
            continue
        if kind is _COMPUTE_INSTANCES and not any(one.instances for one in known.values()):
            continue  # they live in instances, which are loaded by now
        for uuid, key, interval in load_intervals(connection, kind, cluster_id, among=uuids, not_before=not_before):
            timelines: dict[Key, Timeline] = getattr(known[uuid], name)
            timeline_of(timelines, key, kind).intervals.append(interval)


# Statements are made once: building one costs more than SQLite takes to answer it.


@cache
def _open_gpus_statement() -> Select[Any]:
    columns = _GPUS.table.c
    return select(columns.gpu_uuid, columns.node).where(
        columns.cluster_id == bindparam("cluster_id"),
        columns.valid_to.is_(None),
        columns.node.in_(bindparam("nodes", expanding=True)),
    )


def _each(known: dict[str, _KnownGpu], name: str) -> Iterator[tuple[str, Key, Timeline]]:
    for uuid, one in known.items():
        timelines: dict[Key, Timeline] = getattr(one, name)
        for key, timeline in timelines.items():
            yield uuid, key, timeline


def _chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), _IN_CHUNK):
        yield values[start : start + _IN_CHUNK]
