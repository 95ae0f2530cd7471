"""What the simulated cluster has: nodes, GPUs, layouts and pods, fixed by the number of nodes and the seed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from sample_data.boards import SimulatedBoard, SimulatedProfile
from sample_data.deployments import DEPLOYMENTS, Deployment
from sample_data.identity import fraction, gpu_uuid, number, pod_uid, suffix
from sample_data.node_kinds import NODE_KINDS, GpuPlan, NodeKind

EPOCH = datetime(2025, 1, 6, tzinfo=UTC)
"""A Monday: where the simulation's weeks begin. No driver was loaded before it, so no counter counts before it."""

_DRIVER_LOADS_WITHIN = timedelta(days=21)
_XID_AT = EPOCH + timedelta(days=56, hours=9, minutes=41)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedPod:
    """A pod that holds one or several devices of one node."""

    namespace: str
    name: str
    container: str
    uid: str
    deployment: Deployment


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedInstance:
    """A GPU instance: where it lies (`start`, logical, in memory slices) and its id, which does not tell where."""

    gi_id: int
    profile: str
    start: int
    hardware: SimulatedProfile
    pod: SimulatedPod | None
    key: int  # of its noise and of its place in the week


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedGpu:
    """One physical GPU; `instances` is None with MIG mode off and empty when it is on without any instance."""

    uuid: str
    index: int
    board: SimulatedBoard
    pci_bus_id: str
    instances: tuple[SimulatedInstance, ...] | None
    pod: SimulatedPod | None  # of the whole GPU
    key: int
    xid: int | None = None
    xid_at: datetime = _XID_AT
    is_badly_cooled: bool = False

    @property
    def mig_enabled(self) -> bool:
        """Whether MIG mode is on."""
        return self.instances is not None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedNode:
    """One machine; `kind` says how its exporter speaks."""

    name: str
    index: int
    seed: int
    kind: NodeKind
    gpus: tuple[SimulatedGpu, ...]
    exporter_pod: str
    driver_loaded_at: datetime  # counters count from here


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedCluster:
    """All nodes, in the order of their numbers."""

    seed: int
    nodes: tuple[SimulatedNode, ...]
    by_name: Mapping[str, SimulatedNode] = field(repr=False)

    def node(self, name: str) -> SimulatedNode:
        """The node of that name; KeyError when there is none."""
        return self.by_name[name]


def simulated_cluster(nodes: int = 6, seed: int = 1) -> SimulatedCluster:
    """The inventory: `nodes` nodes of six kinds, round robin; the same arguments always give the same cluster."""
    if nodes < 1:
        raise ValueError(f"A cluster needs at least one node, not {nodes}.")
    return _cluster(nodes, seed)


@lru_cache(maxsize=4)
def _cluster(nodes: int, seed: int) -> SimulatedCluster:
    ordinals: dict[str, int] = {}  # replicas of each StatefulSet so far
    built = tuple(_node(index, seed, ordinals) for index in range(nodes))
    return SimulatedCluster(seed=seed, nodes=built, by_name={node.name: node for node in built})


def _node(index: int, seed: int, ordinals: dict[str, int]) -> SimulatedNode:
    block, position = divmod(index, len(NODE_KINDS))
    kind = NODE_KINDS[position]
    family = [other for other in NODE_KINDS if other.family == kind.family]
    name = f"{kind.family}-{block * len(family) + family.index(kind) + 1:02d}"
    pods = iter(_pods(kind, name, seed, ordinals))
    gpus = tuple(
        _gpu(kind, gpu_index, plan, name=name, seed=seed, pods=pods, with_faults=block == 0)
        for gpu_index, plan in enumerate(kind.gpus)
    )
    return SimulatedNode(
        name=name,
        index=index,
        seed=seed,
        kind=kind,
        gpus=gpus,
        exporter_pod=f"nvidia-dcgm-exporter-{suffix(5, seed, name, 'exporter')}",
        driver_loaded_at=EPOCH + fraction(seed, name, "driver") * _DRIVER_LOADS_WITHIN,
    )


def _gpu(
    kind: NodeKind,
    index: int,
    plan: GpuPlan,
    *,
    name: str,
    seed: int,
    pods: Iterator[SimulatedPod],
    with_faults: bool,
) -> SimulatedGpu:
    key = number(seed, name, index)
    instances = None
    if plan.slots is not None:
        # Ids are physical and the driver's placements logical: on Hopper the two can be rotated by half a GPU.
        rotation = 4 * (key % 2) if kind.board.name.startswith("H") else 0
        instances = tuple(
            SimulatedInstance(
                gi_id=_gi_id(kind.board.profiles[profile].size, start, rotation),
                profile=profile,
                start=start,
                hardware=kind.board.profiles[profile],
                pod=next(pods) if deployment is not None else None,
                key=number(seed, name, index, profile, start),
            )
            for profile, start, deployment in plan.slots
        )
    return SimulatedGpu(
        uuid=gpu_uuid(seed, name, index),
        index=index,
        board=kind.board,
        pci_bus_id=f"00000000:{kind.pci_buses[index]}:00.0",
        instances=instances,
        pod=next(pods) if plan.deployment is not None else None,
        key=key,
        xid=plan.xid if with_faults else None,
        is_badly_cooled=plan.is_badly_cooled and with_faults,
    )


def _gi_id(size: int, start: int, rotation: int) -> int:
    """0 is the full GPU, 1-2 its halves, 3-6 its quarters, 7-14 its eighths, by physical place.

    Source: open-gpu-kernel-modules, kmigmgrMemSizeFlagToSwizzIdRange_GA100.
    """
    first = {8: 0, 4: 1, 2: 3, 1: 7}[size]
    return first + ((start + rotation) % 8) // size if size < 8 else first


def _pods(kind: NodeKind, node: str, seed: int, ordinals: dict[str, int]) -> Iterator[SimulatedPod]:
    """The pod of each held device in the order of the plan; one pod holds `Deployment.gpus` devices in a row."""
    held = [
        name
        for plan in kind.gpus
        for name in ([slot[2] for slot in plan.slots] if plan.slots is not None else [plan.deployment])
        if name is not None
    ]
    position = 0
    while position < len(held):
        deployment = DEPLOYMENTS[held[position]]
        pod = _pod(deployment, node, position, seed, ordinals)
        for _ in range(deployment.gpus):
            yield pod
        position += deployment.gpus


def _pod(deployment: Deployment, node: str, position: int, seed: int, ordinals: dict[str, int]) -> SimulatedPod:
    if deployment.is_stateful_set:
        ordinal = ordinals.get(deployment.name, 0)
        ordinals[deployment.name] = ordinal + 1
        name = f"{deployment.name}-{ordinal}"
    else:
        replica_set = suffix(10, seed, deployment.namespace, deployment.name)
        name = f"{deployment.name}-{replica_set}-{suffix(5, seed, node, position)}"
    return SimulatedPod(
        namespace=deployment.namespace,
        name=name,
        container=deployment.container,
        uid=pod_uid(seed, node, position),
        deployment=deployment,
    )
