"""The integer programmes: against enumeration, with and without leaving columns out, and cut short."""

import itertools
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import solve
from planner.errors import PlanningCancelled, SolverFailed
from planner.solve import Programme

MOST = 3  # upper limit of every variable, so that all points can be enumerated

Row = tuple[tuple[int, ...], int]


@st.composite
def programmes(draw: st.DrawFn) -> tuple[list[int], list[Row]]:
    """Costs, and rows `coefficients * x >= demand`."""
    variables = draw(st.integers(1, 5))
    numbers = st.integers(-2, 4)
    costs = draw(st.lists(st.integers(0, 5), min_size=variables, max_size=variables))
    rows = draw(
        st.lists(
            st.tuples(st.tuples(*[numbers] * variables), st.integers(-3, 8)),
            min_size=1,
            max_size=4,
        )
    )
    return costs, rows


def enumerated(costs: Sequence[int], rows: Sequence[Row]) -> int | None:
    """The least cost over all points; None when no point keeps the rows."""
    points = itertools.product(range(MOST + 1), repeat=len(costs))
    kept = (
        sum(cost * value for cost, value in zip(costs, point, strict=True))
        for point in points
        if all(sum(c * v for c, v in zip(row, point, strict=True)) >= demand for row, demand in rows)
    )
    return min(kept, default=None)


def programme_of(costs: Sequence[int], rows: Sequence[Row]) -> Programme:
    programme = Programme()
    for _ in costs:
        programme.variable(MOST)
    for coefficients, demand in rows:
        programme.row({index: float(c) for index, c in enumerate(coefficients) if c}, at_least=demand)
    return programme


@pytest.mark.parametrize("small", [400, 0], ids=["whole", "cheap columns first"])
@given(case=programmes())
def test_the_least_cost_is_that_of_enumeration(case: tuple[list[int], list[Row]], small: int) -> None:
    costs, rows = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solve, "_SMALL", small)
        patch.setattr(solve, "_MOST", 1.0)
        programme = programme_of(costs, rows)
        solution = programme.minimise(dict(enumerate(map(float, costs))), is_whole=True, time_limit_s=10)
    expected = enumerated(costs, rows)
    if expected is None:
        assert solution is None
        return
    assert solution is not None
    assert solution.is_proven
    assert solution.objective == solution.lower_bound == expected
    for coefficients, demand in rows:
        assert sum(c * v for c, v in zip(coefficients, solution.values, strict=True)) >= demand


@given(case=programmes())
def test_the_relaxation_is_a_bound(case: tuple[list[int], list[Row]]) -> None:
    costs, rows = case
    relaxed = programme_of(costs, rows).relaxed_minimum(dict(enumerate(map(float, costs))), time_limit_s=10)
    expected = enumerated(costs, rows)
    if expected is not None:
        assert relaxed is not None
        assert relaxed <= expected + 1e-6


def test_a_second_objective_keeps_the_value_of_the_first() -> None:
    programme = Programme()
    first, second = programme.variable(5), programme.variable(5)
    programme.row({first: 1, second: 1}, at_least=4)
    cheapest = programme.minimise({first: 1, second: 1}, is_whole=True, time_limit_s=10)
    assert cheapest is not None
    programme.row({first: 1, second: 1}, at_most=cheapest.objective)
    calmest = programme.minimise({first: 1}, is_whole=True, time_limit_s=10)
    assert calmest is not None
    assert calmest.values == (0, 4)


def test_a_limit_can_be_tightened_and_lifted_again() -> None:
    programme = Programme()
    variable = programme.variable(9)
    demand = programme.row({variable: 1.0}, at_least=3)
    cap = programme.row({variable: 1.0})
    assert demand != cap
    programme.limit(cap, at_most=2)
    assert programme.minimise({variable: 1.0}, is_whole=True, time_limit_s=10) is None
    programme.limit(cap, at_most=5)
    found = programme.minimise({variable: 1.0}, is_whole=True, time_limit_s=10)
    assert found is not None
    assert found.values == (3,)


def test_without_variables_the_rows_alone_decide() -> None:
    assert Programme().minimise({}, is_whole=True, time_limit_s=1) is not None
    impossible = Programme()
    impossible.row({}, at_least=1)
    assert impossible.minimise({}, is_whole=True, time_limit_s=1) is None
    assert impossible.relaxed_minimum({}, time_limit_s=1) is None


def hard_programme() -> tuple[Programme, dict[int, float]]:
    """A market split: the relaxation is 0 at once, whole numbers take for ever."""
    programme = Programme()
    weights = [
        [(row * 7919 + column * 104_729 + row * column * 31) % 97 + 1 for column in range(40)] for row in range(6)
    ]
    columns = [programme.variable(1) for _ in range(40)]
    slacks = {}
    for row in weights:
        over, under = programme.variable(), programme.variable()
        slacks[over] = slacks[under] = 1.0
        half = float(sum(row) // 2)
        terms = {column: float(weight) for column, weight in zip(columns, row, strict=True)}
        programme.row({**terms, over: -1.0, under: 1.0}, at_least=half, at_most=half)
    return programme, slacks


def test_a_search_that_runs_out_of_time_says_what_it_knows() -> None:
    programme, cost = hard_programme()
    try:
        found = programme.minimise(cost, is_whole=True, time_limit_s=1.0)
    except SolverFailed as error:
        assert "time limit" in str(error)  # noqa: PT017
        return
    assert found is not None
    assert not found.is_proven
    assert found.lower_bound < found.objective


def test_no_time_at_all_is_an_error_with_advice() -> None:
    programme, cost = hard_programme()
    with pytest.raises(SolverFailed, match="raise the time limit"):
        programme.minimise(cost, is_whole=True, time_limit_s=0.0)


def test_whoever_no_longer_wants_the_answer_does_not_wait_for_it() -> None:
    programme, cost = hard_programme()
    began = time.monotonic()
    with pytest.raises(PlanningCancelled):
        programme.minimise(cost, is_whole=True, time_limit_s=120, stopping=lambda: time.monotonic() - began > 0.5)
    assert time.monotonic() - began < 60  # far below the limit: the search was really left
