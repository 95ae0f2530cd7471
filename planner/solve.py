"""Integer programmes over counts of patterns: the one file that knows the solver (HiGHS)."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import highspy
import numpy as np
from numpy.typing import NDArray

from planner.errors import PlanningCancelled, SolverFailed

SEED = 0
"""Fixed, with one thread, so that the same inputs give the same answer."""

_ROUNDING = 1e-6
"""What HiGHS may be off in a bound, relative to 1."""

_SMALL = 400
"""Programmes of no more variables are solved as a whole."""

_MOST = 0.8
"""With more than this share of the columns there is nothing to win by leaving the others out."""

_NO_SOLUTION = (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible)


@dataclass(frozen=True, slots=True, kw_only=True)
class Covering:
    """A solved covering programme: how often each pattern is used."""

    counts: tuple[int, ...]
    objective: int  # patterns used in all
    lower_bound: int  # no solution uses fewer
    is_optimal: bool
    gap_ratio: float  # (objective - lower_bound) / objective


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """Values of all variables for one objective, and the bound below which no solution can go."""

    values: tuple[int, ...]
    objective: float
    lower_bound: float
    is_proven: bool


class Programme:
    """An integer programme that is built once and solved for one objective after another.

    All variables are integers from 0 on. Rows may be added, and their upper limits changed, between two solves; the
    last solution is then where the next search starts, as far as it still holds.
    """

    def __init__(self) -> None:
        self._upper: list[float] = []
        self._rows: list[tuple[float, float, Mapping[int, float]]] = []
        self._solver: highspy.Highs | None = None
        self._passed = 0  # rows that the solver has
        self._last: tuple[int, ...] | None = None

    @property
    def variables(self) -> int:
        """How many variables there are."""
        return len(self._upper)

    def variable(self, upper: float = math.inf) -> int:
        """A new integer variable from 0 to `upper`; its number."""
        self._upper.append(upper)
        return len(self._upper) - 1

    def row(self, coefficients: Mapping[int, float], *, at_least: float = -math.inf, at_most: float = math.inf) -> int:
        """A new constraint on the sum of coefficient times variable; its number."""
        self._rows.append((at_least, at_most, coefficients))
        return len(self._rows) - 1

    def limit(self, row: int, *, at_most: float) -> None:
        """Give a constraint another upper limit."""
        at_least, _, coefficients = self._rows[row]
        self._rows[row] = (at_least, at_most, coefficients)
        if row < self._passed and self._solver is not None:
            self._solver.changeRowBounds(row, at_least, at_most)

    def minimise(
        self,
        cost: Mapping[int, float],
        *,
        is_whole: bool,
        time_limit_s: float,
        stopping: Callable[[], bool] | None = None,
    ) -> Solution | None:
        """The best solution found within the time; None when it is proven that there is none.

        `is_whole`: the objective takes whole numbers only. Large programmes are solved on the columns whose reduced
        cost in the relaxation is small, then again on all that can still lead to something better: nothing is lost,
        as a solution that uses a column costs at least the relaxation plus that column's reduced cost.
        Raises SolverFailed when the time ended without a solution, PlanningCancelled when `stopping` said so.
        """
        ends_at = time.monotonic() + time_limit_s
        if not self.variables:
            return self._empty()
        if self.variables <= _SMALL:
            return self._search(cost, None, is_whole, ends_at, stopping)
        relaxed = self._relaxation(cost, ends_at, stopping)
        if relaxed is None:
            return None
        bound = math.ceil(relaxed.value - _ROUNDING) if is_whole else relaxed.value
        found = self._among_cheap(cost, relaxed, is_whole, ends_at, stopping)
        if found is None:
            return self._search(cost, None, is_whole, ends_at, stopping)
        step = 1.0 if is_whole else 0.0
        if found.objective <= bound + _ROUNDING * max(1.0, abs(bound)):
            return replace(found, lower_bound=found.objective, is_proven=True)
        promising = relaxed.reduced_costs <= found.objective - step - relaxed.value + _ROUNDING
        try:
            better = self._search(cost, promising, is_whole, ends_at, stopping)
        except SolverFailed:
            return replace(found, lower_bound=bound, is_proven=False)
        if better is None or better.objective > found.objective:
            return replace(found, lower_bound=found.objective, is_proven=True)
        return replace(better, lower_bound=min(better.objective, max(bound, better.lower_bound)))

    def relaxed_minimum(
        self, cost: Mapping[int, float], *, time_limit_s: float, stopping: Callable[[], bool] | None = None
    ) -> float | None:
        """The least value when variables need not be whole, a bound for every solution; None when there is none.

        Raises SolverFailed when the time ended first.
        """
        if not self.variables:
            return None if self._empty() is None else 0.0
        relaxed = self._relaxation(cost, time.monotonic() + time_limit_s, stopping)
        return None if relaxed is None else relaxed.value

    def _empty(self) -> Solution | None:
        """The one solution without variables, if the rows allow it."""
        if any(at_least > 0 or at_most < 0 for at_least, at_most, _ in self._rows):
            return None
        return Solution(values=(), objective=0.0, lower_bound=0.0, is_proven=True)

    def _relaxation(
        self, cost: Mapping[int, float], ends_at: float, stopping: Callable[[], bool] | None
    ) -> "_Relaxed | None":
        solver = self._ready(cost)
        numbers = np.arange(self.variables, dtype=np.int32)
        continuous = np.full(self.variables, highspy.HighsVarType.kContinuous)
        solver.changeColsIntegrality(self.variables, numbers, continuous)
        try:
            status = self._run(solver, ends_at, stopping, is_whole=False)
            if status in _NO_SOLUTION:
                return None
            if status != highspy.HighsModelStatus.kOptimal:
                raise SolverFailed("The relaxation was not solved in time; raise the time limit.")
            duals = np.array(solver.getSolution().col_dual)
            return _Relaxed(solver.getInfo().objective_function_value, duals)
        finally:
            whole = np.full(self.variables, highspy.HighsVarType.kInteger)
            solver.changeColsIntegrality(self.variables, numbers, whole)

    def _among_cheap(
        self,
        cost: Mapping[int, float],
        relaxed: "_Relaxed",
        is_whole: bool,
        ends_at: float,
        stopping: Callable[[], bool] | None,
    ) -> Solution | None:
        """The best solution of few columns, of more where those have none; None where only all would do."""
        order = np.sort(relaxed.reduced_costs)
        count = max(_SMALL, 2 * len(self._rows))
        while count < self.variables:
            cheap = relaxed.reduced_costs <= max(order[count - 1], _ROUNDING)
            count = max(3 * count, 2 * int(cheap.sum()))
            if cheap.mean() > _MOST:
                return None
            try:
                found = self._search(cost, cheap, is_whole, ends_at, stopping)
            except SolverFailed:
                return None
            if found is not None:
                return found
        return None

    def _search(
        self,
        cost: Mapping[int, float],
        among: NDArray[np.bool_] | None,
        is_whole: bool,
        ends_at: float,
        stopping: Callable[[], bool] | None,
    ) -> Solution | None:
        """Branch and bound on the columns of `among`, all others being 0."""
        solver = self._ready(cost)
        solver.setOptionValue("mip_abs_gap", 1 - 1e-4 if is_whole else 1e-6)
        upper = np.array(self._upper, dtype=float)
        numbers = np.arange(self.variables, dtype=np.int32)
        zeros = np.zeros(self.variables)
        if among is not None:
            solver.changeColsBounds(self.variables, numbers, zeros, np.where(among, upper, 0.0))
        try:
            if self._last is not None:
                start = highspy.HighsSolution()
                start.col_value = [float(value) for value in self._last]
                solver.setSolution(start)
            status = self._run(solver, ends_at, stopping, is_whole=True)
            if status in _NO_SOLUTION and among is None:  # said to people, so it is looked at twice: presolve has erred
                solver.setOptionValue("presolve", "off")
                status = self._run(solver, ends_at, stopping, is_whole=True)
            if status in _NO_SOLUTION:
                return None
            return self._solution(solver, cost, status)
        finally:
            solver.setOptionValue("presolve", "choose")
            if among is not None:
                solver.changeColsBounds(self.variables, numbers, zeros, upper)

    def _solution(self, solver: highspy.Highs, cost: Mapping[int, float], status: highspy.HighsModelStatus) -> Solution:
        info = solver.getInfo()
        if info.primal_solution_status != highspy.kSolutionStatusFeasible:
            raise SolverFailed(
                f"The solver ended without a solution ({solver.modelStatusToString(status)}); raise the time limit."
            )
        values = tuple(round(value) for value in solver.getSolution().col_value)
        self._last = values
        objective = sum(value * values[index] for index, value in cost.items())
        is_proven = status == highspy.HighsModelStatus.kOptimal
        bound = info.mip_dual_bound
        lower_bound = objective if is_proven else min(objective, bound) if math.isfinite(bound) else 0.0
        return Solution(values=values, objective=objective, lower_bound=lower_bound, is_proven=is_proven)

    def _run(
        self, solver: highspy.Highs, ends_at: float, stopping: Callable[[], bool] | None, *, is_whole: bool
    ) -> highspy.HighsModelStatus:
        """Solve as it stands; the status."""
        left = ends_at - time.monotonic()
        if left <= 0:
            raise SolverFailed("The time ended before the solver; raise the time limit.")
        # HiGHS counts the time of all its runs against the limit of a linear programme, but not of an integer one.
        solver.setOptionValue("time_limit", left if is_whole else left + solver.getRunTime())
        for callback in (solver.cbMipInterrupt, solver.cbSimplexInterrupt):
            callback.callbacks.clear()
            if stopping is not None:
                callback.subscribe(_asking(stopping))
        solver.run()
        if stopping is not None and stopping():
            raise PlanningCancelled("The planning was cancelled.")
        return solver.getModelStatus()

    def _ready(self, cost: Mapping[int, float]) -> highspy.Highs:
        """The solver with every row that was added so far, and this objective."""
        if self._solver is None:
            self._solver = _new_solver()
            self._solver.passModel(self._model())
            self._passed = len(self._rows)
        for at_least, at_most, coefficients in self._rows[self._passed :]:
            self._solver.addRow(
                at_least,
                at_most,
                len(coefficients),
                np.fromiter(coefficients.keys(), dtype=np.int32, count=len(coefficients)),
                np.fromiter(coefficients.values(), dtype=float, count=len(coefficients)),
            )
        self._passed = len(self._rows)
        costs = np.zeros(self.variables)
        for index, value in cost.items():
            costs[index] = value
        self._solver.changeColsCost(self.variables, np.arange(self.variables, dtype=np.int32), costs)
        return self._solver

    def _model(self) -> highspy.HighsLp:
        model = highspy.HighsLp()
        columns, rows = len(self._upper), len(self._rows)
        model.num_col_, model.num_row_ = columns, rows
        model.col_cost_ = np.zeros(columns)
        model.col_lower_ = np.zeros(columns)
        model.col_upper_ = np.array(self._upper, dtype=float)
        model.integrality_ = [highspy.HighsVarType.kInteger] * columns
        model.row_lower_ = np.array([row[0] for row in self._rows], dtype=float)
        model.row_upper_ = np.array([row[1] for row in self._rows], dtype=float)
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_ = np.cumsum([0, *(len(row[2]) for row in self._rows)])
        model.a_matrix_.index_ = np.array([index for row in self._rows for index in row[2]], dtype=np.int32)
        model.a_matrix_.value_ = np.array([value for row in self._rows for value in row[2].values()], dtype=float)
        return model


@dataclass(frozen=True, slots=True)
class _Relaxed:
    """The relaxation's value, and what one more of each column would cost at least."""

    value: float
    reduced_costs: NDArray[np.float64]


def _asking(stopping: Callable[[], bool]) -> Callable[[highspy.HighsCallbackEvent], None]:
    def ask(event: highspy.HighsCallbackEvent) -> None:
        if stopping():
            event.interrupt()

    return ask


def cover(patterns: Sequence[Sequence[int]], demand: Sequence[int], *, time_limit_s: float) -> Covering:
    """The fewest patterns whose sum is at least the demand in every component.

    minimise sum x_c  subject to  sum_c patterns[c][p] x_c >= demand[p],  x_c integer >= 0.
    Raises SolverFailed when no solution was found within the time limit, or there is none.
    """
    if not any(demand):
        return Covering(counts=(0,) * len(patterns), objective=0, lower_bound=0, is_optimal=True, gap_ratio=0.0)
    programme = Programme()
    columns = [programme.variable() for _ in patterns]
    for row, wanted in enumerate(demand):
        amounts = {column: float(pattern[row]) for column, pattern in zip(columns, patterns, strict=True)}
        programme.row({column: amount for column, amount in amounts.items() if amount}, at_least=wanted)
    solution = programme.minimise(dict.fromkeys(columns, 1.0), is_whole=True, time_limit_s=time_limit_s)
    if solution is None:
        raise SolverFailed("No pattern holds one of the requests, so no number of them covers the demand.")
    objective = round(solution.objective)
    lower_bound = min(objective, math.ceil(solution.lower_bound - _ROUNDING))
    return Covering(
        counts=solution.values,
        objective=objective,
        lower_bound=lower_bound,
        is_optimal=solution.is_proven,
        gap_ratio=(objective - lower_bound) / objective,
    )


def _new_solver() -> highspy.Highs:
    solver = highspy.Highs()  # type: ignore[no-untyped-call]  # its stubs leave this one constructor untyped
    for option, value in (
        ("output_flag", False),
        ("threads", 1),
        ("random_seed", SEED),
        ("mip_rel_gap", 0.0),
    ):
        solver.setOptionValue(option, value)
    return solver
