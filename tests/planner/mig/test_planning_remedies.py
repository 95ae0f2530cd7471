"""An infeasible answer is true and useful: what it advises makes everything fit, and nothing smaller does."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, reject, settings

from planner.mig.plan import Mode, Status
from planner.mig.planning import plan_target
from planner.mig.problem import Problem, ProblemGpu, Workload
from tests.planner.mig.brute_force import TooManyStates, best
from tests.planner.mig.problems import Shape, problems

SHAPE = Shape(most_gpus=2, most_waiting=3, unknown_starts=False, elastic=False)


def unpinned(workloads: tuple[Workload, ...]) -> tuple[Workload, ...]:
    return tuple(replace(one, pinned=False) for one in workloads)


def with_rules(**changes: object) -> Callable[[Problem], Problem]:
    return lambda problem: replace(problem, rules=replace(problem.rules, **changes))


DROPS: dict[str, Callable[[Problem], Problem]] = {
    "single_nodes": with_rules(single_nodes=frozenset()),
    "spread": with_rules(spread={}),
    "isolated_tenants": with_rules(isolated_tenants=frozenset()),
    "reserve": with_rules(reserves=()),
    "survive_node_loss": with_rules(survive_node_loss=False),
    "untouchable": with_rules(untouchable_gpus=frozenset(), untouchable_nodes=frozenset()),
    "max_moves": with_rules(max_moves=None),
    "pinned": lambda problem: replace(problem, workloads=unpinned(problem.workloads), new=unpinned(problem.new)),
}


def fits(problem: Problem, mode: Mode) -> bool:
    try:
        found = best(problem, mode)
    except TooManyStates:
        reject()
    return found is not None and found.unplaced == 0


def without(problem: Problem, names: Iterable[str]) -> Problem:
    for name in names:
        problem = DROPS[name](problem)
    return problem


def with_gpus(problem: Problem, board_name: str, count: int) -> Problem:
    board = next(gpu.board for gpu in problem.gpus if gpu.board.name == board_name)
    more = tuple(ProblemGpu(id=f"more-{number}", node="more", board=board) for number in range(count))
    return replace(problem, gpus=(*problem.gpus, *more))


@pytest.mark.parametrize("mode", list(Mode))
@settings(max_examples=80)
@given(problem=problems(SHAPE))
def test_what_is_advised_helps_and_nothing_smaller_does(mode: Mode, problem: Problem) -> None:
    target = plan_target(problem, mode)
    assert (target.status is Status.INFEASIBLE) == (not fits(problem, mode))
    if target.status is not Status.INFEASIBLE:
        assert target.remedies == ()
        return
    in_force = [name for name in DROPS if without(problem, [name]) != problem]
    expected: set[frozenset[str]] = set()
    for size in range(1, len(in_force) + 1):
        tried = (frozenset(names) for names in combinations(in_force, size))
        expected = {names for names in tried if fits(without(problem, names), mode)}
        if expected:
            break
    assert {frozenset(one.drop_rules) for one in target.remedies if one.drop_rules} == expected
    for remedy in target.remedies:
        assert bool(remedy.drop_rules) != bool(remedy.add_gpus)
        for board, count in remedy.add_gpus.items():
            assert count >= 1
            assert fits(with_gpus(problem, board, count), mode)
            assert count == 1 or not fits(with_gpus(problem, board, count - 1), mode)
