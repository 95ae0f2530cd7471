"""What GPU facts make of the inventory: rows of GPUs, GPU instances and pods with the time they were valid.

A fact is complete for its GPU, so it also ends what it does not name. Facts may come late (a backfill): a moment that
is already known stands as it is, a moment before, between or after what is known gets its own intervals, which end
where the known ones begin. Of two sources that contradict each other about one moment, the first one told stands.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Delete, Insert, Select, Table, Update, bindparam, delete, insert, or_, select, update
from sqlmodel import SQLModel

from planner.readings import Batch, GpuFact
from store.intervals import FLAP_GRACE, Interval, Timeline
from store.tables import NO_INSTANCE, GpuRecord, InstanceRecord, PodRecord, table_of

Key = tuple[Any, ...]

_IN_CHUNK = 500  # values in one IN list: well below SQLite's limit on variables, few plans to prepare


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """How one kind of inventory is keyed (after cluster and GPU) and which of its values make it another one."""

    model: type[SQLModel]
    key: tuple[str, ...]
    values: tuple[str, ...]
    identity: frozenset[str]

    @property
    def table(self) -> Table:
        return table_of(self.model)


_GPU_VALUES = ("node", "gpu_index", "model_name", "pci_bus_id", "driver_version", "mig_mode")
_BOUND_TO_NODE = ("gpu_index", "pci_bus_id", "driver_version")  # not carried along when a GPU moves

_GPUS = _Kind(model=GpuRecord, key=(), values=_GPU_VALUES, identity=frozenset(_GPU_VALUES))
_INSTANCES = _Kind(
    model=InstanceRecord, key=("gi_id",), values=("profile", "start"), identity=frozenset({"profile", "start"})
)
_PODS = _Kind(
    model=PodRecord,
    key=("gi_id", "namespace", "name", "container"),
    values=("uid", "shared"),
    identity=frozenset({"uid"}),
)


@dataclass(slots=True, kw_only=True)
class _KnownGpu:
    """What the store knows of one GPU around the time of a batch."""

    gpu: Timeline
    instances: dict[Key, Timeline] = field(default_factory=dict)
    pods: dict[Key, Timeline] = field(default_factory=dict)


def write_inventory(connection: Connection, cluster_id: int, batch: Batch, fallback_time: datetime) -> None:
    """Take the facts of a batch into the inventory.

    `fallback_time` dates the absence of every GPU of a complete node of which the batch holds no fact.
    """
    facts = sorted(batch.facts, key=lambda fact: fact.observed_at)
    ends = _ends_of_complete_nodes(batch, fallback_time)
    present = {fact.gpu_uuid for fact in facts}
    known = {str(uuid): _KnownGpu(gpu=Timeline(identity=_GPUS.identity)) for uuid in sorted(present)}
    gone: dict[str, datetime] = {}
    for uuid, node in _open_gpus(connection, cluster_id, sorted(ends)):
        if uuid not in known:
            known[uuid] = _KnownGpu(gpu=Timeline(identity=_GPUS.identity))
            gone[uuid] = ends[node]
    if not known:
        return
    _load(connection, cluster_id, known, min([*(fact.observed_at for fact in facts), *gone.values()]))
    for fact in facts:
        _take_in(known[fact.gpu_uuid], fact)
    for uuid, at in gone.items():
        _take_away(known[uuid], at)
    for kind, timelines in (
        (_GPUS, ((uuid, (), one.gpu) for uuid, one in known.items())),
        (_INSTANCES, _each(known, "instances")),
        (_PODS, _each(known, "pods")),
    ):
        _save(connection, kind, cluster_id, timelines)


def _take_in(known: _KnownGpu, fact: GpuFact) -> None:
    at = fact.observed_at
    is_known = known.gpu.is_confirmed(at)
    covering = known.gpu.covering(at)
    until = known.gpu.next_start(at)
    if covering is not None and covering.valid_to is not None:
        until = covering.valid_to  # after its end the GPU was known to be gone, or another
    known.gpu.see(at, _gpu_values(known.gpu, fact), until)
    seen_instances: dict[Key, dict[str, Any]] = {
        (one.gi_id,): {"profile": one.profile, "start": one.start} for one in fact.instances
    }
    seen_pods: dict[Key, dict[str, Any]] = {
        (NO_INSTANCE if pod.gi_id is None else pod.gi_id, pod.namespace, pod.name, pod.container or ""): {
            "uid": pod.uid,
            "shared": pod.shared,
        }
        for pod in fact.pods
    }
    for kind, timelines, seen in (
        (_INSTANCES, known.instances, seen_instances),
        (_PODS, known.pods, seen_pods),
    ):
        for key, values in seen.items():
            timeline = _timeline(timelines, key, kind)
            if not is_known or timeline.is_confirmed(at):
                timeline.see(at, values, until)
        if not is_known:
            for key, timeline in timelines.items():
                if key not in seen:
                    timeline.miss(at)


def _take_away(known: _KnownGpu, at: datetime) -> None:
    covering = known.gpu.covering(at)
    if covering is None or at <= covering.last_seen:
        return
    for timeline in (known.gpu, *known.instances.values(), *known.pods.values()):
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


def _load(connection: Connection, cluster_id: int, known: dict[str, _KnownGpu], oldest: datetime) -> None:
    for chunk in _chunks(sorted(known)):
        # Of the GPU itself all is read, because it keeps what it was told long ago. Of the rest, what ended longer
        # before than the grace can play no part any more.
        parameters = {"cluster_id": cluster_id, "uuids": chunk, "not_before": oldest - FLAP_GRACE}
        for uuid, _, interval in _rows(connection, _GPUS, parameters):
            known[uuid].gpu.intervals.append(interval)
        for uuid, key, interval in _rows(connection, _INSTANCES, parameters):
            _timeline(known[uuid].instances, key, _INSTANCES).intervals.append(interval)
        for uuid, key, interval in _rows(connection, _PODS, parameters):
            _timeline(known[uuid].pods, key, _PODS).intervals.append(interval)


def _timeline(timelines: dict[Key, Timeline], key: Key, kind: _Kind) -> Timeline:
    timeline = timelines.get(key)
    if timeline is None:
        timeline = timelines[key] = Timeline(identity=kind.identity)
    return timeline


def _rows(connection: Connection, kind: _Kind, parameters: Mapping[str, Any]) -> Iterator[tuple[str, Key, Interval]]:
    first_value = len(kind.key)
    for uuid, row_id, valid_from, valid_to, last_seen, *rest in connection.execute(_load_statement(kind), parameters):
        values = dict(zip(kind.values, rest[first_value:], strict=True))
        interval = Interval(values=values, valid_from=valid_from, valid_to=valid_to, last_seen=last_seen, id=row_id)
        yield uuid, tuple(rest[:first_value]), interval


# Statements are made once: building one costs more than SQLite takes to answer it.


@cache
def _open_gpus_statement() -> Select[Any]:
    columns = _GPUS.table.c
    return select(columns.gpu_uuid, columns.node).where(
        columns.cluster_id == bindparam("cluster_id"),
        columns.valid_to.is_(None),
        columns.node.in_(bindparam("nodes", expanding=True)),
    )


@cache
def _load_statement(kind: _Kind) -> Select[Any]:
    columns = kind.table.c
    names = ("gpu_uuid", "id", "valid_from", "valid_to", "last_seen", *kind.key, *kind.values)
    statement = (
        select(*(columns[name] for name in names))
        .where(
            columns.cluster_id == bindparam("cluster_id"),
            columns.gpu_uuid.in_(bindparam("uuids", expanding=True)),
        )
        .order_by(columns.valid_from)
    )
    if kind is _GPUS:
        return statement
    return statement.where(or_(columns.valid_to.is_(None), columns.valid_to >= bindparam("not_before")))


@cache
def _change_statement(kind: _Kind) -> Update:
    columns = kind.table.c
    changed: dict[str, Any] = {name: bindparam(name) for name in ("valid_to", "last_seen", *kind.values)}
    return update(kind.table).where(columns.id == bindparam("row_id")).values(changed)


@cache
def _remove_statement(kind: _Kind) -> Delete:
    return delete(kind.table).where(kind.table.c.id == bindparam("row_id"))


@cache
def _add_statement(kind: _Kind) -> Insert:
    return insert(kind.table)


def _save(connection: Connection, kind: _Kind, cluster_id: int, timelines: Iterable[tuple[str, Key, Timeline]]) -> None:
    added: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    removed: list[dict[str, Any]] = []
    for uuid, key, timeline in timelines:
        removed.extend({"row_id": one.id} for one in timeline.removed if one.id is not None)
        for one in timeline.intervals:
            if not one.changed:
                continue
            row = {**one.values, "valid_to": one.valid_to, "last_seen": one.last_seen}
            if one.id is None:
                row.update(zip(kind.key, key, strict=True))
                added.append(row | {"cluster_id": cluster_id, "gpu_uuid": uuid, "valid_from": one.valid_from})
            else:
                changed.append(row | {"row_id": one.id})
    if removed:
        connection.execute(_remove_statement(kind), removed)
    if changed:
        connection.execute(_change_statement(kind), changed)
    if added:
        connection.execute(_add_statement(kind), added)


def _each(known: dict[str, _KnownGpu], name: str) -> Iterator[tuple[str, Key, Timeline]]:
    for uuid, one in known.items():
        timelines: dict[Key, Timeline] = getattr(one, name)
        for key, timeline in timelines.items():
            yield uuid, key, timeline


def _chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), _IN_CHUNK):
        yield values[start : start + _IN_CHUNK]
