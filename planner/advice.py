"""How the work that was measured fits on the fewest GPUs of each board, and what stands in the way."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime

from planner.advice_caveats import caveats
from planner.current_layout import current_layout
from planner.errors import SolverFailed
from planner.fleet import Fleet, Gpu, Pod
from planner.hardware import Board, Layout, Placement
from planner.mig_exceptions import board_under
from planner.mig_geometry import free_memory_slices, planning_obstacle
from planner.need import AdviceSettings, Need
from planner.packing import Packing, pack
from planner.units import GpuUuid, NodeName
from planner.work import BoardWork, Work, board_work, devices_of, holds_anything

__all__ = [
    "Advice",
    "AdviceSettings",
    "Assignment",
    "BoardAdvice",
    "CurrentGpu",
    "NotAdvised",
    "ProposedLayout",
    "Released",
    "Unplaced",
    "advise",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentGpu:
    """How one GPU is cut now. `layout` is None for a GPU without instances, and where no layout could be drawn.

    `assumed` says that at least one start is not measured: the layout is one consistent arrangement of many.
    """

    uuid: GpuUuid
    node: NodeName
    index: int | None
    in_use: bool  # holds anything: a device on it is not free
    layout: Layout | None
    assumed: bool
    note: str | None  # why there is no layout, or what is assumed


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedLayout:
    """One way to cut a GPU and the numbers (from 1) of the GPUs of the proposal cut like that."""

    layout: Layout  # empty for a whole GPU with MIG mode off
    is_whole: bool
    gpu_numbers: tuple[int, ...]
    free_units: int  # placement units of one such GPU that no proposed instance covers

    @property
    def gpus(self) -> int:
        """How many GPUs of the proposal are cut like that."""
        return len(self.gpu_numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Where the work of one device goes. A profile of None is a whole GPU with MIG mode off."""

    device: str  # `Device.name`: node/index, and the instance's profile and id
    uuid: GpuUuid
    gi_id: int | None
    pods: tuple[Pod, ...]
    from_profile: str | None
    to_profile: str | None
    gpu_number: int  # of the proposal, from 1
    placement: Placement | None  # on that GPU; None for a whole GPU
    need: Need
    is_pinned: bool  # keeps its present profile because its need is not known or may not change
    is_too_small_now: bool  # measured need is above what the device has today
    reasons: tuple[str, ...]  # why this profile, for people


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplaced:
    """A device whose work the proposal leaves where it is, on a GPU that is counted but not planned."""

    device: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A device that is allocated and has no process: the proposal does not place it."""

    device: str
    pods: tuple[Pod, ...]
    profile: str | None  # None for a whole GPU
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardAdvice:
    """The advice for all GPUs of one board in one cluster.

    `gpus_needed` is exact when `is_optimal`; no plan can go below `lower_bound`.
    """

    cluster: str
    board: Board
    gpus_total: int  # GPUs of that board in the fleet
    gpus_now: int  # of those, the ones that hold anything
    gpus_needed: int
    lower_bound: int
    is_optimal: bool
    layouts: tuple[ProposedLayout, ...]
    current: tuple[CurrentGpu, ...]
    assignments: tuple[Assignment, ...]
    unplaced: tuple[Unplaced, ...]
    released: tuple[Released, ...]
    caveats: tuple[str, ...]

    @property
    def gpus_freed(self) -> int:
        """GPUs that hold something now and would hold nothing; negative when the work needs more than it has."""
        return self.gpus_now - self.gpus_needed


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAdvised:
    """GPUs the advice says nothing about, and why."""

    cluster: str
    board: str  # catalogue id, or the source's own model name
    gpus: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What to cut how, board by board, from one fleet snapshot."""

    taken_at: datetime
    boards: tuple[BoardAdvice, ...]
    not_advised: tuple[NotAdvised, ...]


def advise(fleet: Fleet, settings: AdviceSettings | None = None) -> Advice:
    """For each board of each cluster, the fewest GPUs that hold the work measured on them, and their layouts.

    The same fleet gives the same advice, in whatever order its nodes and GPUs come.
    """
    settings = settings or AdviceSettings()
    boards: list[BoardAdvice] = []
    not_advised: list[NotAdvised] = []
    by_board: defaultdict[tuple[str, str, bool], list[Gpu]] = defaultdict(list)
    for node in fleet.nodes:
        for gpu in node.gpus:
            by_board[node.cluster, gpu.board_label or "unknown board", gpu.board is None].append(gpu)
    for (cluster, label, _), gpus in sorted(by_board.items()):
        board = _board_of(gpus)
        reason = f"The catalogue does not know {label}." if board is None else planning_obstacle(board)
        if board is not None and reason is None:
            try:
                boards.append(_advise_board(cluster, board, gpus, settings))
            except SolverFailed as error:
                reason = str(error)
        if reason is not None:
            not_advised.append(NotAdvised(cluster=cluster, board=label, gpus=len(gpus), reason=reason))
    return Advice(taken_at=fleet.taken_at, boards=tuple(boards), not_advised=tuple(not_advised))


def _board_of(gpus: list[Gpu]) -> Board | None:
    """The board as the strictest of the GPUs' drivers allows it: any of them may get any of the layouts."""
    boards = [board_under(gpu.board, driver_version=gpu.driver_version) for gpu in gpus if gpu.board is not None]
    return max(boards, key=lambda board: len(board.exclusions), default=None)


def _advise_board(cluster: str, board: Board, gpus: list[Gpu], settings: AdviceSettings) -> BoardAdvice:
    work = board_work(board, gpus, settings)
    targets = [item.target for item in work.placed]
    packing = pack(
        board,
        Counter(target.name for target in targets if target is not None),
        whole_gpus=targets.count(None),
        time_limit_s=settings.solver_time_limit_s,
    )
    gpus_needed = packing.gpus + work.gpus_left
    return BoardAdvice(
        cluster=cluster,
        board=board,
        gpus_total=len(gpus),
        gpus_now=work.gpus_in_use,
        gpus_needed=gpus_needed,
        lower_bound=packing.lower_bound + work.gpus_left,
        is_optimal=packing.is_optimal,
        layouts=_proposed_layouts(board, packing),
        current=tuple(_current(gpu) for gpu in sorted(gpus, key=_position)),
        assignments=_assignments(packing, work),
        unplaced=tuple(Unplaced(device=device.name, reason=reason) for device, reason in work.left),
        released=tuple(
            Released(
                device=device.name,
                pods=device.pods,
                profile=device.instance.profile if device.instance else None,
                reason=device.verdict.reason,
            )
            for device in work.held
        ),
        caveats=caveats(board, work, packing),
    )


def _position(gpu: Gpu) -> tuple[str, int, str]:
    return gpu.node, -1 if gpu.index is None else gpu.index, gpu.uuid


def _current(gpu: Gpu) -> CurrentGpu:
    now = current_layout(gpu)
    return CurrentGpu(
        uuid=gpu.uuid,
        node=gpu.node,
        index=gpu.index,
        in_use=any(holds_anything(device) for device in devices_of(gpu)),
        layout=now.layout,
        assumed=now.is_assumed,
        note=now.note,
    )


def _proposed_layouts(board: Board, packing: Packing) -> tuple[ProposedLayout, ...]:
    """Equal layouts together, in the order in which they first appear; whole GPUs come last."""
    numbers: dict[Layout, list[int]] = {}
    for number, layout in enumerate(packing.layouts, start=1):
        numbers.setdefault(layout, []).append(number)
    proposed = [
        ProposedLayout(
            layout=layout,
            is_whole=False,
            gpu_numbers=tuple(gpu_numbers),
            free_units=len(free_memory_slices(board, layout)),
        )
        for layout, gpu_numbers in numbers.items()
    ]
    if packing.whole_gpus:
        whole = tuple(range(len(packing.layouts) + 1, packing.gpus + 1))
        proposed.append(ProposedLayout(layout=(), is_whole=True, gpu_numbers=whole, free_units=0))
    return tuple(proposed)


def _assignments(packing: Packing, work: BoardWork) -> tuple[Assignment, ...]:
    """Devices to instances of the proposal, both in their order, profile by profile."""
    places: defaultdict[str | None, list[tuple[int, Placement | None]]] = defaultdict(list)
    for number, layout in enumerate(packing.layouts, start=1):
        for instance in layout:
            places[instance.profile].append((number, instance.placement))
    places[None] = [(number, None) for number in range(len(packing.layouts) + 1, packing.gpus + 1)]
    remaining = {profile: iter(found) for profile, found in places.items()}
    return tuple(_assignment(item, *next(remaining[item.target.name if item.target else None])) for item in work.placed)


def _assignment(work: Work, gpu_number: int, placement: Placement | None) -> Assignment:
    device = work.device
    return Assignment(
        device=device.name,
        uuid=device.gpu.uuid,
        gi_id=device.instance.gi_id if device.instance else None,
        pods=device.pods,
        from_profile=work.present.name if work.present else None,
        to_profile=work.target.name if work.target else None,
        gpu_number=gpu_number,
        placement=placement,
        need=work.need,
        is_pinned=work.is_pinned,
        is_too_small_now=work.is_too_small_now,
        reasons=work.reasons,
    )
