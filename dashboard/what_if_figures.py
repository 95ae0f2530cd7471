"""What the what-if page says of an answer: each GPU before and after, headline numbers, moves and steps."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from dashboard.what_if_plan import Answer
from planner.catalog import find_profile
from planner.hardware import Board, PlacedInstance, Placement
from planner.mig.order import natural_key
from planner.mig.plan import Action, Remedy, Status, Step, TargetGpu
from planner.mig.problem import ProblemGpu
from planner.mig.state import with_starts
from planner.mig_geometry import stranded_memory_slices


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """One GPU instance as it is drawn. `workloads` is empty where nothing is on it."""

    profile: str
    start: int
    workloads: tuple[str, ...] = ()
    is_reserve: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuChange:
    """One GPU before and after. `before` is None for a GPU that does not exist yet."""

    id: str
    node: str
    board: Board
    before: tuple[Spot, ...] | None
    after: tuple[Spot, ...]
    whole: str | None  # what holds it without MIG
    was_whole: str | None  # what holds it without MIG now and is placed on an instance by the plan
    is_assumed: bool  # a start of `before` is not known

    @property
    def is_changed(self) -> bool:
        """Whether the plan does anything here."""
        return self.was_whole is not None or self.before is None or set(self.before) != set(self.after)

    @property
    def was_used(self) -> bool:
        """Whether anything works on it now."""
        return self.whole is not None or self.was_whole is not None or any(s.workloads for s in self.before or ())

    @property
    def is_used(self) -> bool:
        """Whether the plan uses it."""
        return self.whole is not None or any(spot.workloads or spot.is_reserve for spot in self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One workload that does not stay where it is."""

    workload: str
    service: str | None
    before: str | None  # "node/0 3g.40gb at 4"; None when it runs nowhere
    after: str
    is_down: bool
    is_upsized: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The numbers above everything else."""

    status: str
    status_tone: str  # "good", "warn"
    gpus_before: int
    gpus_after: int
    gpus_bound: int
    gpus_total: int
    is_proven: bool
    gap: str | None
    moves: int
    moves_bound: int
    moves_are_least: bool  # for so few GPUs
    down: int
    max_down: int
    max_down_is_proven: bool
    unplaced: int
    placed: int
    stranded_before: int
    stranded_after: int
    cost_before: float | None
    cost_after: float | None
    upsized: int
    reserved: int
    resets: int
    seconds: float


def gpu_changes(answer: Answer) -> tuple[GpuChange, ...]:
    """Every GPU of the plan before and after: those that change first, then used ones, each in natural order."""
    known = {gpu.id: gpu for gpu in answer.problem.gpus}
    fleet = answer.scenario.fleet
    whole = {gpu.id: gpu.whole for gpu in fleet.gpus if gpu.whole} if fleet else {}
    changes = [_change(gpu, known.get(gpu.id), whole.get(gpu.id)) for gpu in answer.target.gpus]
    return tuple(
        sorted(changes, key=lambda c: (not c.is_changed, not c.is_used, natural_key(c.node), natural_key(c.id)))
    )


def _change(gpu: TargetGpu, present: ProblemGpu | None, whole: str | None) -> GpuChange:
    before = None
    if present is not None:
        before = tuple(Spot(profile=i.profile, start=i.start, workloads=i.workloads) for i in with_starts(present))
    occupied = present is not None and present.occupied_whole
    return GpuChange(
        id=gpu.id,
        node=gpu.node,
        board=gpu.board,
        before=before,
        after=tuple(
            Spot(profile=i.profile, start=i.start, workloads=i.workloads, is_reserve=i.is_reserve)
            for i in gpu.instances
        ),
        whole=(whole or "a workload") if occupied else None,
        was_whole=None if occupied else whole,
        is_assumed=present is not None and any(i.start is None for i in present.instances),
    )


def headline(answer: Answer, changes: Iterable[GpuChange]) -> Headline:
    """The numbers of the whole plan."""
    target, problem = answer.target, answer.problem
    changes = tuple(changes)
    in_demand = demanded(answer)
    waiting = (
        len(problem.workloads) + len(problem.new) if answer.scenario.mode.places_new else len(problem.running_ids())
    )
    first = next((level for level in target.levels if level.name in ("cost", "gpus")), None)
    prices = problem.prices
    profiles = {workload.id: workload.profile for workload in (*problem.workloads, *problem.new)}
    gap = None
    if first is not None and not first.is_proven:
        gap = f"{first.gap_ratio:.1%} above the bound at most"
    return Headline(
        status=_STATUS[target.status],
        status_tone="good" if target.status is Status.OPTIMAL else "warn",
        gpus_before=sum(change.was_used for change in changes),
        gpus_after=target.gpus_used,
        gpus_bound=target.gpus_lower_bound,
        gpus_total=sum(change.before is not None for change in changes),
        is_proven=target.gpus_used <= target.gpus_lower_bound,
        gap=gap,
        moves=target.moves,
        moves_bound=target.moves_lower_bound,
        moves_are_least=any(level.name == "moves" and level.is_proven for level in target.levels),
        down=len(answer.change.down),
        max_down=answer.change.max_down,
        max_down_is_proven=answer.change.max_down_is_proven,
        unplaced=len(target.unplaced),
        placed=waiting - len(target.unplaced),
        stranded_before=sum(
            stranded(c.board, c.before, in_demand) for c in changes if c.was_used and c.before and c.was_whole is None
        ),
        stranded_after=sum(stranded(c.board, c.after, in_demand) for c in changes if c.is_used and c.whole is None),
        cost_before=sum(prices.get(c.board.name, 0.0) for c in changes if c.was_used) if prices else None,
        cost_after=target.cost_usd_per_hour,
        upsized=sum(
            1
            for c in changes
            for spot in c.after
            for name in spot.workloads
            if profiles.get(name, spot.profile) != spot.profile
        ),
        reserved=sum(spot.is_reserve for c in changes for spot in c.after),
        resets=len({step.gpu for step in answer.change.steps if step.resets_gpu}),
        seconds=answer.seconds,
    )


_STATUS = {
    Status.OPTIMAL: "Proven optimal",
    Status.FEASIBLE: "Good, not proven optimal",
    Status.INFEASIBLE: "Not everything can be placed",
}


def demanded(answer: Answer) -> frozenset[str]:
    """Profiles that anything of the problem asks for."""
    return frozenset(workload.profile for workload in (*answer.problem.workloads, *answer.problem.new))


def stranded(board: Board, spots: Iterable[Spot], in_demand: frozenset[str]) -> int:
    """Memory slices that nothing holds and no profile in demand could use; free instances count as room."""
    return len(_stranded(board, _layout(board, (s for s in spots if s.workloads or s.is_reserve)), in_demand))


def stranded_units(board: Board, spots: Iterable[Spot], in_demand: frozenset[str]) -> frozenset[int]:
    """Placement units that no instance covers and no profile in demand could cover."""
    return frozenset(_stranded(board, _layout(board, spots), in_demand))


def _layout(board: Board, spots: Iterable[Spot]) -> tuple[PlacedInstance, ...]:
    return tuple(PlacedInstance(spot.profile, placement_of(board, spot)) for spot in spots)


@lru_cache(maxsize=8192)
def _stranded(board: Board, layout: tuple[PlacedInstance, ...], in_demand: frozenset[str]) -> tuple[int, ...]:
    names = [profile.name for profile in board.profiles if profile.name in in_demand]
    return stranded_memory_slices(board, layout, names or None)


def placement_of(board: Board, spot: Spot) -> Placement:
    """Where the instance lies; its profile is one of the board's."""
    profile = find_profile(board, spot.profile)
    return Placement(spot.start, (profile.memory_slices if profile else None) or 1)


def moves(answer: Answer, changes: Iterable[GpuChange]) -> tuple[Move, ...]:
    """Every workload that moves or begins, moves first, those that are interrupted before the others."""
    changes = tuple(changes)
    asked = {workload.id: workload for workload in (*answer.problem.workloads, *answer.problem.new)}
    before: dict[str, tuple[str, Spot]] = {}
    after: dict[str, tuple[str, Spot]] = {}
    for change in changes:
        before |= {name: (change.id, spot) for spot in change.before or () for name in spot.workloads}
        after |= {name: (change.id, spot) for spot in change.after for name in spot.workloads}
    whole = {change.was_whole: change.id for change in changes if change.was_whole}
    down = set(answer.change.down)
    found = []
    for name, (gpu, spot) in after.items():
        was = before.get(name)
        if was is not None and was[0] == gpu and was[1].start == spot.start:
            continue
        came_from = _place(*was) if was else f"{whole[name]} whole GPU" if name in whole else None
        found.append(
            Move(
                workload=name,
                service=asked[name].service if name in asked else None,
                before=came_from,
                after=_place(gpu, spot),
                is_down=name in down,
                is_upsized=name in asked and asked[name].profile != spot.profile,
            )
        )
    return tuple(sorted(found, key=lambda m: (m.before is None, not m.is_down, natural_key(m.workload))))


def _place(gpu: str, spot: Spot) -> str:
    return f"{gpu} {spot.profile} at {spot.start}"


_ACTIONS: Mapping[Action, str] = {
    Action.CHECK: "compare the real placements with the expected ones; stop if they differ",
    Action.ENABLE_MIG: "enable MIG mode",
    Action.DISABLE_MIG: "disable MIG mode",
    Action.CREATE: "create",
    Action.DESTROY: "destroy",
    Action.START: "start",
    Action.STOP: "stop",
}


def step_text(step: Step) -> str:
    """One step as a line."""
    words = [_ACTIONS[step.action]]
    if step.workload is not None:
        words.append(step.workload)
    if step.profile is not None:
        words.append(f"{'on ' if step.workload is not None else ''}{step.profile}")
    if step.start is not None:
        words.append(f"at {step.start}")
    if step.resets_gpu:
        words.append("(resets the GPU)")
    return " ".join(words)


def remedy_text(remedy: Remedy) -> str:
    """A smallest change that helps, as a sentence."""
    parts = []
    if remedy.add_gpus:
        parts.append("add " + " and ".join(f"{count} × {board}" for board, count in sorted(remedy.add_gpus.items())))
    if remedy.drop_rules:
        parts.append("give up the rule " + " and ".join(remedy.drop_rules))
    return "; ".join(parts) or "no smaller change is known"
