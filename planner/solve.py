"""How many of each pattern cover a demand at the least cost: the one file that knows the solver (HiGHS)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import highspy
import numpy as np

from planner.errors import SolverFailed

SEED = 0
"""Fixed, with one thread, so that the same inputs give the same answer."""

_ROUNDING = 1e-6
"""What HiGHS may be off in a bound, relative to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Covering:
    """A solved covering programme: how often each pattern is used."""

    counts: tuple[int, ...]
    objective: int  # patterns used in all
    lower_bound: int  # no solution uses fewer
    is_optimal: bool
    gap_ratio: float  # (objective - lower_bound) / objective


def cover(patterns: Sequence[Sequence[int]], demand: Sequence[int], *, time_limit_s: float) -> Covering:
    """The fewest patterns whose sum is at least the demand in every component.

    minimise sum x_c  subject to  sum_c patterns[c][p] x_c >= demand[p],  x_c integer >= 0.
    Raises SolverFailed when no solution was found within the time limit.
    """
    if not any(demand):
        return Covering(counts=(0,) * len(patterns), objective=0, lower_bound=0, is_optimal=True, gap_ratio=0.0)
    solver = highspy.Highs()  # type: ignore[no-untyped-call]  # its stubs leave this one constructor untyped
    for option, value in (
        ("output_flag", False),
        ("threads", 1),
        ("random_seed", SEED),
        ("time_limit", time_limit_s),
        ("mip_rel_gap", 0.0),
    ):
        solver.setOptionValue(option, value)
    solver.passModel(_model(patterns, demand))
    solver.run()
    status = solver.getModelStatus()
    info = solver.getInfo()
    if info.primal_solution_status != highspy.kSolutionStatusFeasible:
        raise SolverFailed(
            f"The solver ended without a solution ({solver.modelStatusToString(status)}); raise solver_time_limit_s."
        )
    counts = tuple(round(value) for value in solver.getSolution().col_value)
    objective = sum(counts)
    bound = info.mip_dual_bound
    lower_bound = min(objective, math.ceil(bound - _ROUNDING)) if math.isfinite(bound) else 0
    is_optimal = status == highspy.HighsModelStatus.kOptimal
    if is_optimal:
        lower_bound = objective
    return Covering(
        counts=counts,
        objective=objective,
        lower_bound=lower_bound,
        is_optimal=is_optimal,
        gap_ratio=(objective - lower_bound) / objective,
    )


def _model(patterns: Sequence[Sequence[int]], demand: Sequence[int]) -> highspy.HighsLp:
    """The programme column by column, one row per component of the demand."""
    model = highspy.HighsLp()
    columns, rows = len(patterns), len(demand)
    model.num_col_, model.num_row_ = columns, rows
    model.col_cost_ = np.ones(columns)
    model.col_lower_ = np.zeros(columns)
    model.col_upper_ = np.full(columns, highspy.kHighsInf)
    model.integrality_ = [highspy.HighsVarType.kInteger] * columns
    model.row_lower_ = np.array(demand, dtype=float)
    model.row_upper_ = np.full(rows, highspy.kHighsInf)
    entries = [[(row, amount) for row, amount in enumerate(pattern) if amount] for pattern in patterns]
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_ = np.cumsum([0, *(len(column) for column in entries)])
    model.a_matrix_.index_ = np.array([row for column in entries for row, _ in column])
    model.a_matrix_.value_ = np.array([amount for column in entries for _, amount in column], dtype=float)
    return model
