"""What the MIG planner answers: the layouts to reach, who goes where, what is not placed, and how sure that is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from planner.hardware import Board


class Mode(StrEnum):
    """What may be done to reach the plan."""

    INITIAL = "initial"  # place what no instance names, `new` included; what runs stays
    COMPACT = "compact"  # fewest GPUs; a GPU that stays in use keeps all it runs where it runs
    RECONFIGURE = "reconfigure"  # fewest GPUs; any workload may move
    ADD = "add"  # place what waits beside what runs; any workload may move
    ADD_WITHOUT_MOVES = "add-without-moves"  # place what waits; nothing moves

    @property
    def places_new(self) -> bool:
        """Whether waiting and new workloads are placed."""
        return self in (Mode.INITIAL, Mode.ADD, Mode.ADD_WITHOUT_MOVES)


class Status(StrEnum):
    """How good the answer is."""

    OPTIMAL = "optimal"  # every level is proven
    FEASIBLE = "feasible"  # everything is placed; at least one level is not proven, its gap is stated
    INFEASIBLE = "infeasible"  # not everything can be placed (or was, within the time limit): `unplaced` names it


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One objective of the lexicographic order, and the bound below which no plan with equal earlier levels can go."""

    name: str  # "unplaced", "cost", "gpus", "moves", "upsized"
    value: float
    lower_bound: float
    is_proven: bool

    @property
    def gap_ratio(self) -> float:
        """(value - bound) / value; 0 when proven."""
        return 0.0 if self.is_proven or self.value <= 0 else max(0.0, (self.value - self.lower_bound) / self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetInstance:
    """One GPU instance of the target. Without workloads it is free, or held for a reserve.

    `compute_instances` as in `RunningInstance`; they come along when their instance moves.
    """

    profile: str
    start: int
    workloads: tuple[str, ...] = ()
    compute_instances: tuple[str, ...] = ()
    is_reserve: bool = False  # cut free on purpose: a rule asks for it


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetGpu:
    """One GPU as the plan leaves it: instances by start. GPUs that stay as they are keep their free instances too."""

    id: str
    node: str
    board: Board
    instances: tuple[TargetInstance, ...]
    is_new: bool = False  # an elastic GPU, which does not exist yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplaced:
    """A workload that could not be placed, why, and the tightest limit that stopped it."""

    workload: str
    reason: str
    limit: str  # short and stable: "gpus", "profile", "tenants", "spread", "reserve", "time", ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """A smallest change with which everything fits: rules to drop, or GPUs to add by board."""

    drop_rules: tuple[str, ...] = ()
    add_gpus: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The planner's answer. `gpus` holds every GPU of the problem in its order, then the elastic ones in use.

    `groups`: workloads of one group are interchangeable; swapping where they go changes neither rules nor levels.
    Running workloads that stay are in no group. `assumed_gpus`: GPUs of which a start was assumed.
    """

    mode: Mode
    status: Status
    levels: tuple[Level, ...]
    gpus: tuple[TargetGpu, ...]
    unplaced: tuple[Unplaced, ...]
    gpus_used: int
    gpus_lower_bound: int
    moves: int
    moves_lower_bound: int
    groups: Mapping[str, int]
    assumed_gpus: frozenset[str]
    remedies: tuple[Remedy, ...] = ()
    notes: tuple[str, ...] = ()  # what the plan leans on: missing evidence, assumed starts, what a mode left out
    is_cut_short: bool = False  # the time limit struck before it was known whether everything can be placed
    cost_usd_per_hour: float | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


class Action(StrEnum):
    """What a step does."""

    CHECK = "check"  # read the real placements of the GPU and compare; stop if they differ
    ENABLE_MIG = "enable-mig"
    DISABLE_MIG = "disable-mig"
    CREATE = "create"  # GPU instance at an explicit start, with its compute instances
    DESTROY = "destroy"  # compute instances, then the GPU instance
    START = "start"  # a workload begins to run on the instance
    STOP = "stop"  # it ends there; a downtime unless it already runs elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step. Steps of one wave may run at the same time on different nodes; on one GPU they run in this order."""

    wave: int  # from 1
    node: str
    gpu: str
    action: Action
    profile: str | None = None
    start: int | None = None
    compute_instances: tuple[str, ...] = ()
    workload: str | None = None
    is_downtime: bool = False  # on STOP: the workload runs nowhere from here to its START; on START: it ends that
    resets_gpu: bool = False  # on ENABLE_MIG and DISABLE_MIG of Ampere boards
    expected: tuple[tuple[str, int], ...] = ()  # on CHECK: (profile, start) of every instance that must be there
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePlan:
    """The ordered way from the present layouts to the target, and back."""

    steps: tuple[Step, ...]
    rollback: tuple[Step, ...]
    max_down: int  # most workloads that run nowhere at one moment
    max_down_is_proven: bool  # no order of these moves has fewer
    down: tuple[str, ...]  # workloads that are interrupted at all
    target: Target  # with workloads of one group exchanged where that avoids downtime


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPoint:
    """Fewest moves with which so many GPUs are enough."""

    gpus: int
    moves: int
    moves_lower_bound: int
    is_proven: bool
