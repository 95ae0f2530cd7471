"""What a snapshot of the fleet says to a planner: which GPUs can be planned, how they are cut, and who runs where.

DCGM names profiles and pods, and seldom where an instance lies: a start that no source told stays None. What is
measured is kept apart from what is asked for, so that a page can go from one demand to the other without the store.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from planner.catalog import find_profile
from planner.current_layout import current_layout
from planner.fleet import Device, DeviceState, Fleet, Gpu, Node, Pod
from planner.hardware import Board, MigMode
from planner.mig.order import natural_key
from planner.mig_exceptions import board_under, driver_numbers
from planner.mig_geometry import planning_obstacle
from planner.need import AdviceSettings
from planner.sentences import spelled_count
from planner.work import Work, board_work, devices_of, holds_anything

_RANDOM = "bcdfghjklmnpqrstvwxz2456789"
_REPLICA_SUFFIXES = (
    re.compile(rf"^(.+?)-[{_RANDOM}]{{6,10}}-[{_RANDOM}]{{5}}$"),  # Deployment: hash of the template, then random
    re.compile(rf"^(.+?)-[{_RANDOM}]{{5}}$"),  # ReplicaSet, DaemonSet, Job
    re.compile(r"^(.+?)-\d{1,5}$"),  # StatefulSet
)
"""Generated names leave out vowels and 0, 1, 3. Source: Kubernetes, k8s.io/apimachinery/pkg/util/rand/rand.go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredWorkload:
    """What holds one device. A profile of None is a whole GPU.

    `needed` is the smallest profile that provides what was measured; it equals `profile` where the need is not known
    or nothing smaller provides it; `planner.advice` tells the numbers behind it.
    """

    id: str
    profile: str | None
    needed: str | None
    service: str | None = None
    tenant: str | None = None
    is_too_small: bool = False  # it needs more than it has


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredInstance:
    """One GPU instance; `workload` is None where it is free, `start` where no source tells it."""

    profile: str
    start: int | None
    workload: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredGpu:
    """One GPU that can be planned, with the board as its driver allows it."""

    id: str  # node/index, or the UUID where no index is known
    node: str
    board: Board
    index: int | None = None  # on its node, as the driver counts
    driver_version: str | None = None  # None also for one that is no version
    mig_enabled: bool | None = None
    instances: tuple[MeasuredInstance, ...] = ()
    whole: str | None = None  # workload that holds it without MIG


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """GPUs that are in the fleet and not in the plan, and why."""

    gpus: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredFleet:
    """The plannable part of a snapshot, in natural order; `cautions` say what was taken for granted."""

    taken_at: datetime
    cluster: str | None  # None: all clusters of the snapshot
    gpus: tuple[MeasuredGpu, ...]
    workloads: tuple[MeasuredWorkload, ...]
    left_out: tuple[LeftOut, ...] = ()
    cautions: tuple[str, ...] = ()


def service_of(pod: Pod) -> str:
    """Namespace and owner of a pod: its name without what a controller appended for the replica."""
    for pattern in _REPLICA_SUFFIXES:
        found = pattern.match(pod.name)
        if found:
            return f"{pod.namespace}/{found.group(1)}"
    return f"{pod.namespace}/{pod.name}"


def measured_fleet(
    fleet: Fleet, *, cluster: str | None = None, settings: AdviceSettings | None = None
) -> MeasuredFleet:
    """What can be planned of the fleet, or of one of its clusters; the same fleet gives the same answer."""
    nodes = [node for node in fleet.nodes if cluster is None or node.cluster == cluster]
    named = sorted(_named(nodes), key=lambda item: (natural_key(item[1]), natural_key(item[0])))
    reading = _Reading(_work_of(nodes, settings or AdviceSettings()))
    left_out: defaultdict[str, list[str]] = defaultdict(list)
    gpus: list[MeasuredGpu] = []
    for name, node, gpu in named:
        reason = _why_left_out(gpu)
        if reason is None:
            gpus.append(reading.gpu(name, node, gpu))
        else:
            left_out[reason].append(name)
    return MeasuredFleet(
        taken_at=fleet.taken_at,
        cluster=cluster,
        gpus=tuple(gpus),
        workloads=tuple(reading.workloads),
        left_out=tuple(LeftOut(gpus=tuple(ids), reason=reason) for reason, ids in left_out.items()),
        cautions=tuple(reading.cautions()),
    )


def _named(nodes: Iterable[Node]) -> Iterator[tuple[str, str, Gpu]]:
    """A unique id and node name for every GPU: clusters may have nodes of one name, sources GPUs of one index."""
    nodes = list(nodes)
    names = Counter(str(node.name) for node in nodes)
    for node in nodes:
        name = str(node.name) if names[str(node.name)] == 1 else f"{node.cluster}:{node.name}"
        indices = Counter(gpu.index for gpu in node.gpus)
        for gpu in node.gpus:
            is_named = gpu.index is not None and indices[gpu.index] == 1
            yield f"{name}/{gpu.index}" if is_named else str(gpu.uuid), name, gpu


def _why_left_out(gpu: Gpu) -> str | None:
    if gpu.board is None:
        return f"The catalogue does not know the board {gpu.model_name or 'of this GPU'}."
    obstacle = planning_obstacle(gpu.board)
    if obstacle is not None:
        return obstacle
    now = current_layout(gpu)
    if gpu.instances and now.layout is None:
        return now.note or "Its instances contradict its board."
    return None


def _work_of(nodes: Iterable[Node], settings: AdviceSettings) -> dict[tuple[str, int | None], Work]:
    by_board: defaultdict[tuple[str, str], list[Gpu]] = defaultdict(list)
    boards: dict[str, Board] = {}
    for node in nodes:
        for gpu in node.gpus:
            if gpu.board is not None and planning_obstacle(gpu.board) is None:
                boards[gpu.board.name] = gpu.board
                by_board[node.cluster, gpu.board.name].append(gpu)
    found: dict[tuple[str, int | None], Work] = {}
    for (_, name), gpus in sorted(by_board.items()):
        for work in board_work(boards[name], gpus, settings).placed:
            device = work.device
            found[device.gpu.uuid, device.instance.gi_id if device.instance else None] = work
    return found


class _Reading:
    """Goes through the GPUs in order, naming what runs on them."""

    def __init__(self, work: dict[tuple[str, int | None], Work]) -> None:
        self.workloads: list[MeasuredWorkload] = []
        self._work = work
        self._ids: Counter[str] = Counter()
        self._shared = self._held = self._unnamed = self._unknown = 0

    def gpu(self, id: str, node: str, gpu: Gpu) -> MeasuredGpu:
        assert gpu.board is not None  # noqa: S101  # `_why_left_out` came first
        holders = {
            device.instance.gi_id if device.instance else None: self._holder(device) for device in devices_of(gpu)
        }
        instances = sorted(gpu.instances, key=lambda one: (one.start is None, one.start or 0, one.gi_id))
        enabled = {MigMode.ENABLED: True, MigMode.DISABLED: False}
        return MeasuredGpu(
            id=id,
            node=node,
            board=board_under(gpu.board, driver_version=gpu.driver_version),
            index=gpu.index if id == f"{node}/{gpu.index}" else None,
            driver_version=gpu.driver_version if driver_numbers(gpu.driver_version) else None,
            mig_enabled=True if gpu.instances else enabled.get(gpu.mig_mode) if gpu.mig_mode else None,
            instances=tuple(
                MeasuredInstance(
                    profile=_spelled(gpu.board, one.profile), start=one.start, workload=holders.get(one.gi_id)
                )
                for one in instances
            ),
            whole=holders.get(None) if not gpu.instances else None,
        )

    def _holder(self, device: Device) -> str | None:
        if not holds_anything(device):
            return None
        gpu, instance = device.gpu, device.instance
        assert gpu.board is not None  # noqa: S101
        profile = _spelled(gpu.board, instance.profile) if instance else None
        work = self._work.get((gpu.uuid, instance.gi_id if instance else None))
        pods = sorted({(pod.namespace, pod.name): pod for pod in device.pods}.items())
        self._shared += len(pods) > 1
        self._held += device.verdict.state is DeviceState.HELD
        is_unknown = device.verdict.state is DeviceState.UNKNOWN and not pods
        self._unknown += is_unknown
        self._unnamed += not pods and not is_unknown
        workload = MeasuredWorkload(
            id=self._unique(f"{pods[0][0][0]}/{pods[0][0][1]}" if pods else device.name),
            profile=profile,
            needed=profile if work is None else work.target.name if work.target else None,
            service=service_of(pods[0][1]) if pods else None,
            tenant=pods[0][0][0] if pods else None,
            is_too_small=work is not None and work.is_too_small_now,
        )
        self.workloads.append(workload)
        return workload.id

    def _unique(self, name: str) -> str:
        self._ids[name] += 1
        return name if self._ids[name] == 1 else self._unique(f"{name} #{self._ids[name]}")

    def cautions(self) -> Iterator[str]:
        if self._shared:
            yield f"Shared by several pods, each planned as one workload: {spelled_count(self._shared, 'device')}."
        if self._held:
            yield (
                f"Allocated to a pod without a process, kept as if they worked: {spelled_count(self._held, 'device')}."
            )
        if self._unknown:
            yield f"Not measurable and without a pod, taken as held: {spelled_count(self._unknown, 'device')}."
        if self._unnamed:
            yield f"Held by something that is no pod, named by its place: {spelled_count(self._unnamed, 'device')}."


def _spelled(board: Board, name: str) -> str:
    profile = find_profile(board, name)
    return name if profile is None else profile.name
