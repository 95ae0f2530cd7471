"""The best layouts for a problem: objectives solved one after another, each with its bound, then given names."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from planner.errors import SolverFailed
from planner.mig.model import Model
from planner.mig.naming import attempt
from planner.mig.node_loss import is_large, plan_by_reserves
from planner.mig.outcome import present_target, solved_target
from planner.mig.plan import Level, Mode, Status, Target
from planner.mig.problem import Problem
from planner.mig.realise import realise
from planner.mig.remedies import Limits, remedies_of, unplaced_of
from planner.mig.separation import minimise_separated
from planner.solve import Solution

Stopping = Callable[[], bool]

_ROUNDING = 1e-6

_SHARE_OF_TIME = 0.6
"""How much of the time that is left one level may use, while another follows."""

NAMED_NODES = 120
"""GPUs up to which the programme that tells nodes apart is tried for a problem that already has an answer."""

_SHARE_OF_EASING = 0.2
_EASINGS = 10
"""How much of it one try at a level's bound may use, and how many there are before the levels are solved in turn."""


@dataclass(slots=True)
class _Run:
    """One planning under way: what is solved so far and how much time is left."""

    model: Model
    ends_at: float
    stopping: Stopping | None
    levels: list[Level] = field(default_factory=list)
    values: tuple[int, ...] | None = None

    def seconds_left(self) -> float:
        return max(0.1, self.ends_at - time.monotonic())

    def minimise(self, objective: "_Objective", share_of_time: float) -> Solution | None:
        return minimise_separated(
            self.model,
            objective.cost,
            is_whole=objective.is_whole,
            time_limit_s=self.seconds_left() * share_of_time,
            stopping=self.stopping,
        )


def plan_target(
    problem: Problem, mode: Mode, *, time_limit_s: float = 60.0, stopping: Stopping | None = None, explain: bool = True
) -> Target:
    """The best target: fewest left out, then least GPUs or cost, then fewest moves, then fewest upsized.

    The same problem gives the same target while the time limit does not strike. With `explain`, what is not placed
    comes with the smallest changes that would help, which costs further solves. Raises IllegalLayout when instances
    of unknown start cannot exist together, PlanningCancelled when `stopping` said so.
    """
    began = time.monotonic()
    ends_at = began + time_limit_s
    target = _by_reserves(problem, mode, ends_at, stopping) if is_large(problem) else None
    if target is None or (target.status is not Status.OPTIMAL and len(problem.gpus) <= NAMED_NODES):
        exact = attempt(problem, mode, lambda model: _planned(model, ends_at, stopping))
        target = exact if target is None or _is_better(exact, target) else target
    if explain and target.status is Status.INFEASIBLE and not target.is_cut_short:
        target = _explained(target, problem, mode, began + time_limit_s, stopping)
    return target


def _is_better(exact: Target, target: Target) -> bool:
    """Whether the exact programme got further in its time than the reserves did."""
    if exact.is_cut_short or (exact.status is Status.INFEASIBLE and not exact.unplaced):
        return not exact.is_cut_short and bool(target.unplaced)
    return [level.value for level in exact.levels] <= [level.value for level in target.levels]


def _by_reserves(problem: Problem, mode: Mode, ends_at: float, stopping: Stopping | None) -> Target | None:
    def plan(changed: Problem) -> Target:
        left = max(0.1, ends_at - time.monotonic())
        return plan_target(changed, mode, time_limit_s=left, stopping=stopping, explain=False)

    return plan_by_reserves(problem, mode.places_new, plan, ends_at)


def _planned(model: Model, ends_at: float, stopping: Stopping | None) -> Target:
    if model.impossible is not None:
        return present_target(model.state, model.impossible, "rules")
    run = _Run(model=model, ends_at=ends_at, stopping=stopping)
    try:
        is_solved = _solve_levels(run)
    except SolverFailed:
        return present_target(model.state, "The time limit struck before a plan was found; raise it.", "time")
    if not is_solved or run.values is None:
        has_work = any(present.units for present in model.state.gpus)
        what = "The rules cannot be met with everything that runs." if has_work else "The rules cannot be met."
        return present_target(model.state, what, "rules")
    realised = realise(model, run.values)
    if model.is_cut_short:
        _distrust_bounds(run)
    return solved_target(model, run.levels, realised, _gpus_bound(run))


def _distrust_bounds(run: _Run) -> None:
    """With fewer elastic GPUs than a plan might use, only bounds that ignore the rules that name them hold."""
    problem = run.model.state.problem
    rules = replace(problem.rules, survive_node_loss=False, spread={})
    left = run.seconds_left()
    eased = plan_target(
        replace(problem, rules=rules), run.model.state.mode, time_limit_s=left, stopping=run.stopping, explain=False
    )
    bounds = {level.name: level.lower_bound for level in eased.levels if level.name in ("unplaced", "gpus", "cost")}
    frozen = sum(present.is_frozen and present.is_used for present in run.model.state.gpus)
    levels = []
    for level in run.levels:
        bound = min(level.value, max(0.0, bounds.get(level.name, 0.0) - frozen))
        levels.append(replace(level, lower_bound=bound, is_proven=bound >= level.value))
    run.levels = levels


def _gpus_bound(run: _Run) -> int:
    """GPUs below which no plan can go that leaves as few out: proven by the level itself, else by its relaxation."""
    gpus = next((level for level in run.levels if level.name == "gpus"), None)
    if gpus is not None and not any(upsize.price for upsize in run.model.state.problem.rules.upsizes):
        return round(gpus.lower_bound)
    if run.model.is_cut_short:
        return 0
    try:
        relaxed = run.model.programme.relaxed_minimum(
            run.model.gpus(), time_limit_s=run.seconds_left(), stopping=run.stopping
        )
    except SolverFailed:
        return 0
    return math.ceil((relaxed or 0.0) - _ROUNDING)


@dataclass(frozen=True, slots=True)
class _Objective:
    name: str
    cost: Mapping[int, float]
    is_whole: bool  # takes whole numbers only


def _solve_levels(run: _Run) -> bool:
    """All objectives in turn; whether there is any solution."""
    objectives = _objectives(run.model)
    at_stake = [objective for objective in objectives if objective.cost] or objectives[:1]
    if not (_solve_at_bounds(run, at_stake) or _solve_in_turn(run, at_stake)):
        return False
    solved = {level.name: level for level in run.levels}
    nothing = Level(name="", value=0.0, lower_bound=0.0, is_proven=True)
    run.levels = [solved.get(o.name) or replace(nothing, name=o.name) for o in objectives]
    return True


def _objectives(model: Model) -> list[_Objective]:
    rules = model.state.problem.rules
    has_prices = bool(model.state.problem.prices)
    found = [_Objective("unplaced", dict.fromkeys(model.unplaced.values(), 1.0), True)]
    is_whole = not has_prices and not any(upsize.price % 1 for upsize in rules.upsizes)
    found.append(_Objective("cost" if has_prices else "gpus", model.cost(), is_whole))
    found.append(_Objective("moves", model.moves(), True))
    if rules.upsizes:
        found.append(_Objective("upsized", model.upsized(), True))
    return found


def _solve_at_bounds(run: _Run, objectives: Sequence[_Objective]) -> bool:
    """Demand the relaxation's bound of every level but the last, and solve only that; False where this does not hold.

    The bound is nearly always reached, and a solution that reaches it is proof enough: one search instead of several.
    Where it is not reached, the last of these levels (the GPUs) is eased step by step: what was proven to be too little
    raises its bound, what was not found in time widens its gap.
    """
    *earlier, last = objectives
    rules = run.model.state.problem.rules
    is_weak = bool(rules.single_nodes) or rules.survive_node_loss  # of such programmes the relaxation says little
    if not earlier or is_weak or not all(objective.is_whole for objective in earlier):
        return False
    rows: list[int] = []
    levels: list[Level] = []
    solution = None
    try:
        for objective in earlier:
            bound = run.model.programme.relaxed_minimum(
                objective.cost, time_limit_s=run.seconds_left() * _SHARE_OF_TIME, stopping=run.stopping
            )
            if bound is None:
                break
            value = max(0, math.ceil(bound - _ROUNDING))
            rows.append(run.model.programme.row(objective.cost, at_most=value))
            levels.append(Level(name=objective.name, value=value, lower_bound=value, is_proven=True))
        else:
            solution, levels[-1] = _eased(run, last, rows[-1], levels[-1])
    except SolverFailed:
        pass
    if solution is None:
        for row in rows:
            run.model.programme.limit(row, at_most=math.inf)
        return False
    run.values = solution.values
    run.levels = [*levels, _level(last, solution)]
    return True


def _eased(run: _Run, last: "_Objective", row: int, level: Level) -> tuple[Solution | None, Level]:
    """The last objective's solution for the smallest allowance that was found, and the level that goes with it.

    From the bound on the allowance doubles until there is a solution, then the range between is halved while time is
    left. None when there was no solution within the tries.
    """
    bound = low = level.value  # no plan needs less than `bound`; with `low` nothing was found
    found: tuple[Solution, float] | None = None
    for tries in range(_EASINGS):
        allowance = bound if tries == 0 else (low + found[1]) // 2 if found else low + max(1, low - level.value)
        if found and found[1] - low <= 1:
            break
        run.model.programme.limit(row, at_most=allowance)
        try:
            solution = run.minimise(last, _SHARE_OF_EASING)
        except SolverFailed:
            low = max(low, allowance)
            continue
        if solution is not None:
            found = solution, allowance
            if allowance <= bound:
                break
        else:  # proven to be too little
            low = max(low, allowance)
            bound = max(bound, allowance + 1)
    if found is None:
        return None, level
    solution, allowance = found
    return solution, replace(level, value=allowance, lower_bound=bound, is_proven=bound >= allowance)


def _solve_in_turn(run: _Run, objectives: Sequence[_Objective]) -> bool:
    """One objective after the other, each kept at its value from then on; False when there is no solution at all."""
    for objective in objectives:
        is_last = objective is objectives[-1]
        solution = None
        try:
            share = 1.0 if is_last else _SHARE_OF_TIME
            solution = run.minimise(objective, share)
        except SolverFailed:
            if run.values is None:
                raise
        if solution is None:
            if run.values is None:
                return False
            solution = _as_it_is(run.values, objective.cost)
        run.values = solution.values
        run.levels.append(_level(objective, solution))
        if not is_last:
            slack = 0.0 if objective.is_whole else _ROUNDING * max(1.0, abs(solution.objective))
            run.model.programme.row(objective.cost, at_most=solution.objective + slack)
    return True


def _level(objective: _Objective, solution: Solution) -> Level:
    bound = math.ceil(solution.lower_bound - _ROUNDING) if objective.is_whole else solution.lower_bound
    bound = solution.objective if solution.is_proven else min(bound, solution.objective)
    is_proven = solution.is_proven or (objective.is_whole and bound >= solution.objective)
    return Level(name=objective.name, value=solution.objective, lower_bound=bound, is_proven=is_proven)


def _as_it_is(values: tuple[int, ...], cost: Mapping[int, float]) -> Solution:
    """The solution at hand for an objective that the time left did not suffice for: nothing is known of its bound."""
    objective = sum(value * values[index] for index, value in cost.items())
    return Solution(values=values, objective=objective, lower_bound=0.0, is_proven=objective <= 0)


def _explained(target: Target, problem: Problem, mode: Mode, ends_at: float, stopping: Stopping | None) -> Target:
    """The same target with reasons for what is left out, and the smallest changes that would help."""

    def solve_again(changed: Problem, mode: Mode) -> Target:
        left = max(0.1, ends_at - time.monotonic())
        return plan_target(changed, mode, time_limit_s=left, stopping=stopping, explain=False)

    limits = Limits(problem=problem, mode=mode, solve=solve_again, ends_at=ends_at)
    return unplaced_of(remedies_of(target, limits), limits)
