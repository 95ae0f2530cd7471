"""How the work that was measured fits on the fewest GPUs of each board, and what stands in the way."""

from dataclasses import dataclass
from datetime import datetime

from planner.fleet import Pod
from planner.hardware import Board, Layout, Placement
from planner.need import Need
from planner.units import GpuUuid, NodeName


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
