"""The loss of any one node in large fleets: held as a reserve that is raised until every node can be missed.

The exact programme tells every node apart, which is slow beyond a few dozen GPUs. With W workloads on a profile and N
nodes, every plan holds at least W / (N - 1) instances of it free: the mean over the nodes of what each asks of the
others. A plan with that reserve is therefore a bound, and a plan with a larger one that passes the rule is an answer.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from planner.mig.plan import Level, Status, Target, TargetGpu
from planner.mig.problem import Problem, ProblemGpu, Reserve
from planner.mig_geometry import planning_obstacle

LARGE = 24
"""GPUs or requests from which on nodes are no longer told apart."""

_ROUNDS = 12


def is_large(problem: Problem) -> bool:
    """Whether the exact programme would take long."""
    elastic = len(problem.workloads) + len(problem.new) if problem.elastic else 0
    return problem.rules.survive_node_loss and len(problem.gpus) + elastic > LARGE


def plan_by_reserves(
    problem: Problem, places_new: bool, plan: Callable[[Problem], Target], ends_at: float
) -> Target | None:
    """The best target found whose reserves survive the loss of any node; None when none was found in time.

    `plan` plans a problem without the rule. Bounds are those of the smallest reserve that any plan needs.
    """
    needed = _least_reserves(problem, places_new)
    first: Target | None = None
    for _ in range(_ROUNDS):
        if time.monotonic() >= ends_at:
            return None
        target = plan(_with_reserves(problem, needed))
        if target.status is Status.INFEASIBLE and not target.unplaced:
            return None
        first = first or target
        target = replace(target, gpus=_one_per_node(target.gpus))
        missing = _missing(problem, target)
        if not missing:
            return _with_bounds(target, first)
        for profile, count in missing.items():
            needed[profile] = needed.get(profile, 0) + count
    return None


def _least_reserves(problem: Problem, places_new: bool) -> dict[str, int]:
    """Free instances that every plan needs, by profile: nothing where a request may end on another profile."""
    if problem.rules.upsizes:
        return {}
    requested = {workload.id: workload.profile for workload in (*problem.workloads, *problem.new)}
    running = problem.running_ids()
    work = Counter(i.profile for gpu in problem.gpus for i in gpu.instances if i.workloads)
    if places_new and problem.elastic is not None:
        work.update(profile for name, profile in requested.items() if name not in running)
    found = {}
    for profile, count in work.items():
        able = {gpu.node for gpu in problem.gpus if _has(gpu, profile)}
        others = len(able) - 1 if problem.elastic is None else 0
        found[profile] = math.ceil(count / others) if others > 0 else 1
    return found


def _has(gpu: ProblemGpu, profile: str) -> bool:
    is_able = planning_obstacle(gpu.board) is None and not gpu.occupied_whole
    return is_able and any(p.name == profile for p in gpu.board.profiles)


def _with_reserves(problem: Problem, needed: dict[str, int]) -> Problem:
    counts = dict(needed)
    for reserve in problem.rules.reserves:
        counts[reserve.profile] = max(reserve.count, counts.get(reserve.profile, 0))
    reserves = tuple(Reserve(profile=profile, count=count) for profile, count in sorted(counts.items()) if count)
    rules = replace(problem.rules, survive_node_loss=False, reserves=reserves)
    return replace(problem, rules=rules, evens_nodes=True)


def _one_per_node(gpus: Sequence[TargetGpu]) -> tuple[TargetGpu, ...]:
    """Elastic GPUs each in a node of its own: nothing is lost less easily."""
    numbers: Counter[str] = Counter()
    spread = []
    for gpu in gpus:
        if gpu.is_new:
            spread.append(replace(gpu, node=f"elastic-{gpu.board.name}-node-{numbers[gpu.board.name]}"))
            numbers[gpu.board.name] += 1
        else:
            spread.append(gpu)
    return tuple(spread)


def _missing(problem: Problem, target: Target) -> dict[str, int]:
    """How many more instances of each profile the loss of the worst node asks for."""
    frozen = {gpu.id for gpu in problem.gpus if problem.rules.is_untouchable(gpu) or gpu.occupied_whole}
    there: Counter[tuple[str, str]] = Counter()
    work: Counter[str] = Counter()
    for gpu in target.gpus:
        for instance in gpu.instances:
            work[instance.profile] += bool(instance.workloads)
            if instance.workloads or instance.is_reserve or gpu.id in frozen:
                there[instance.profile, gpu.node] += 1
    found = {}
    for profile, count in work.items():
        held = [amount for (name, _), amount in there.items() if name == profile]
        lacking = count - (sum(held) - max(held, default=0))
        if lacking > 0:
            found[profile] = lacking
    return found


def _with_bounds(target: Target, first: Target) -> Target:
    """The levels of the answer with the bounds of the first plan, as far as the levels before are equal."""
    bounds = {level.name: level for level in first.levels}
    levels: list[Level] = []
    are_equal = True
    for level in target.levels:
        bound = bounds[level.name].lower_bound if are_equal else 0.0
        bound = min(bound, level.value)
        levels.append(replace(level, lower_bound=bound, is_proven=bound >= level.value))
        are_equal = are_equal and level.value == bounds[level.name].value
    status = target.status if target.unplaced else _status(levels)
    moves = next((level.lower_bound for level in levels if level.name == "moves"), 0.0)
    return replace(
        target,
        levels=tuple(levels),
        status=status,
        gpus_lower_bound=min(target.gpus_used, first.gpus_lower_bound),
        moves_lower_bound=int(min(moves, target.moves)),
    )


def _status(levels: Iterable[Level]) -> Status:
    return Status.OPTIMAL if all(level.is_proven for level in levels) else Status.FEASIBLE
