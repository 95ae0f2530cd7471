"""How many moves each number of GPUs costs: the whole trade-off, not only its end."""

import math
import time
from collections.abc import Callable, Mapping

from planner.errors import NoPlan, SolverFailed
from planner.mig.model import Model
from planner.mig.naming import attempt
from planner.mig.plan import FrontierPoint, Mode
from planner.mig.problem import Problem
from planner.mig.realise import realise
from planner.mig.separation import minimise_separated
from planner.mig.state import State
from planner.solve import Solution

MOST_POINTS = 200
"""A longer range of GPU counts is sampled evenly."""

_ROUNDING = 1e-6


def frontier(
    problem: Problem, *, time_limit_s: float = 60.0, stopping: Callable[[], bool] | None = None
) -> tuple[FrontierPoint, ...]:
    """For each number of GPUs from the fewest on, the fewest moves; ends where more GPUs save no further move.

    Points that another one beats in both are left out. Prices do not count here. When the time ends, the points found
    so far are returned. Raises NoPlan when the rules cannot be met with what runs, PlanningCancelled, and SolverFailed
    when not even the first point was found in time.
    """
    ends_at = time.monotonic() + time_limit_s
    return attempt(problem, Mode.RECONFIGURE, lambda model: _points(model, ends_at, stopping))


def _points(model: Model, ends_at: float, stopping: Callable[[], bool] | None) -> tuple[FrontierPoint, ...]:
    if model.impossible is not None:
        raise NoPlan(model.impossible)
    frozen = _frozen_used(model.state)
    gpus, moves = model.gpus(), model.moves()
    fewest = _solved(model, gpus, ends_at, stopping)
    if fewest is None:
        raise NoPlan("The rules cannot be met with everything that runs.")
    limit = model.programme.row(gpus)
    start = round(fewest.objective)
    least, most = _far_end(model, start, ends_at, stopping)
    step = max(1, math.ceil((most - start) / MOST_POINTS))
    found: list[FrontierPoint] = []
    for count in range(start, most + step, step):
        model.programme.limit(limit, at_most=count)
        try:
            solution = _solved(model, moves, ends_at, stopping)
        except SolverFailed:
            if not found:
                raise
            break
        if solution is None:
            continue
        point = FrontierPoint(
            gpus=_used(gpus, solution) + frozen,
            moves=round(solution.objective),
            moves_lower_bound=math.ceil(solution.lower_bound - _ROUNDING),
            is_proven=solution.is_proven,
        )
        if not found or point.moves < found[-1].moves:
            found.append(point)
        if point.moves <= least:
            break
    return tuple(found)


def _far_end(model: Model, fewest: int, ends_at: float, stopping: Callable[[], bool] | None) -> tuple[int, int]:
    """The fewest moves of all, and the fewest GPUs with so few."""
    gpus, moves = model.gpus(), model.moves()
    calmest = _solved(model, moves, ends_at, stopping)
    if calmest is None:
        raise NoPlan("The rules cannot be met with everything that runs.")
    least = round(calmest.objective)
    cap = model.programme.row(moves, at_most=least)
    try:
        smallest = _solved(model, gpus, ends_at, stopping)
        most = _used(gpus, calmest) if smallest is None else round(smallest.objective)
    except SolverFailed:
        most = _used(gpus, calmest)
    model.programme.limit(cap, at_most=math.inf)
    return least, max(most, fewest)


def _solved(
    model: Model, cost: Mapping[int, float], ends_at: float, stopping: Callable[[], bool] | None
) -> Solution | None:
    left = max(0.0, ends_at - time.monotonic())
    solution = minimise_separated(model, cost, is_whole=True, time_limit_s=left, stopping=stopping)
    if solution is not None and (model.state.spread or model.state.watched):
        realise(model, solution.values)  # the counts must have names, or more is told apart
    return solution


def _used(gpus: Mapping[int, float], solution: Solution) -> int:
    return sum(solution.values[variable] for variable in gpus)


def _frozen_used(state: State) -> int:
    return sum(present.is_frozen and present.is_used for present in state.gpus)
