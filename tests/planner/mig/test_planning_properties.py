"""What must hold of every plan whatever the problem: more room and fewer rules never hurt, order never counts."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from planner.errors import NoPlan
from planner.mig.change import change_plan
from planner.mig.driver import Driver
from planner.mig.frontier import frontier
from planner.mig.plan import Mode, Status, Target
from planner.mig.planning import plan_target
from planner.mig.problem import Problem, ProblemGpu, Rules
from tests.planner.mig.brute_force import fewest_moves
from tests.planner.mig.problems import Shape, problems
from tests.planner.mig.validator import broken, violations

REMOVALS: dict[str, Callable[[Rules], Rules]] = {
    "single": lambda rules: replace(rules, single_nodes=frozenset()),
    "spread": lambda rules: replace(rules, spread={}),
    "tenants": lambda rules: replace(rules, isolated_tenants=frozenset()),
    "reserve": lambda rules: replace(rules, reserves=()),
    "one reserve": lambda rules: replace(rules, reserves=rules.reserves[1:]),
    "loss": lambda rules: replace(rules, survive_node_loss=False),
    "moves": lambda rules: replace(rules, max_moves=None),
    "board": lambda rules: replace(rules, stay_on_board=False),
    "untouchable": lambda rules: replace(rules, untouchable_gpus=frozenset(), untouchable_nodes=frozenset()),
}
NAMED = Shape(elastic=False, unknown_starts=False, prices=False)


def planned(problem: Problem, mode: Mode) -> Target:
    return plan_target(problem, mode, explain=False)


def values(problem: Problem, mode: Mode) -> tuple[float, ...]:
    """The levels as they compare; a fleet that cannot keep the rules comes after all others."""
    target = planned(problem, mode)
    if target.status is Status.INFEASIBLE and broken(problem, mode, target):
        return (float("inf"),)
    found = {level.name: level.value for level in target.levels}
    return (len(target.unplaced), found["cost" if problem.prices else "gpus"], target.moves, found.get("upsized", 0))


@pytest.mark.parametrize("mode", list(Mode))
@settings(max_examples=80)
@given(problem=problems())
def test_a_larger_fleet_never_places_less(mode: Mode, problem: Problem) -> None:
    assume(problem.gpus)
    one_more = ProblemGpu(id="one-more", node="another-node", board=problem.gpus[0].board)
    larger = replace(problem, gpus=(*problem.gpus, one_more))
    before, after = values(problem, mode), values(larger, mode)
    assert after[0] <= before[0]
    if problem.elastic is None or not problem.prices:
        assert mode.places_new or after <= before


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("rule", REMOVALS)
@settings(max_examples=30)
@given(data=st.data())
def test_removing_a_rule_never_makes_it_worse(rule: str, mode: Mode, data: st.DataObject) -> None:
    kind = rule.split()[-1]
    others = ("spread", "tenants", "moves", "untouchable", "single", "reserve", "loss", "upsize", "board")
    if kind == "untouchable":  # its free instances stand ready without a GPU that counts for them
        others = ("spread", "tenants", "moves", "untouchable", "single", "upsize")
    problem = data.draw(problems(Shape(rules=others, needed_rules=(kind,))))
    freed = replace(problem, rules=REMOVALS[rule](problem.rules))
    assert values(freed, mode) <= values(problem, mode)


@pytest.mark.parametrize("mode", list(Mode))
@settings(max_examples=100)
@given(problem=problems(), random=st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_count(mode: Mode, problem: Problem, random: Random) -> None:
    def mixed(items: Iterable[Any]) -> tuple[Any, ...]:
        items = list(items)
        random.shuffle(items)
        return tuple(items)

    rules = problem.rules
    shuffled = replace(
        problem,
        gpus=mixed(replace(gpu, instances=mixed(gpu.instances)) for gpu in problem.gpus),
        workloads=mixed(problem.workloads),
        new=mixed(problem.new),
        rules=replace(
            rules,
            reserves=mixed(rules.reserves),
            upsizes=mixed(rules.upsizes),
            spread=dict(mixed(rules.spread.items())),
        ),
        prices=dict(mixed(problem.prices.items())),
    )
    first, second = (replace(planned(one, mode), seconds={}) for one in (problem, shuffled))
    assert sorted(first.gpus, key=lambda gpu: gpu.id) == sorted(second.gpus, key=lambda gpu: gpu.id)
    assert first == second


@pytest.mark.parametrize("mode", list(Mode))
@settings(max_examples=100)
@given(problem=problems())
def test_the_steps_end_in_the_target_and_their_rollback_where_it_began(mode: Mode, problem: Problem) -> None:
    target = planned(problem, mode)
    plan = change_plan(problem, target)
    assert violations(problem, mode, plan.target) == []
    boards = {gpu.id: gpu.board for gpu in plan.target.gpus}
    driver = Driver(problem, plan.steps, new_boards=boards)
    beginning = driver.states()
    there = driver.run(plan.steps)
    for gpu in plan.target.gpus:
        reached = there.final[gpu.id].instances if gpu.id in there.final else ()
        assert [seen(one) for one in reached] == [seen(one) for one in gpu.instances]
    assert not there.ended
    assert (there.max_down, set(there.interrupted)) == (plan.max_down, set(plan.down))
    driver.run(plan.rollback)
    assert driver.states() == beginning


def seen(one: object) -> tuple[object, ...]:
    return tuple(getattr(one, name) for name in ("profile", "start", "compute_instances", "workloads"))


@settings(max_examples=250)
@given(
    problem=problems(
        replace(NAMED, rules=("single", "spread", "tenants", "reserve", "loss", "untouchable", "moves"), most_running=6)
    )
)
def test_the_frontier_is_the_one_that_brute_force_finds(problem: Problem) -> None:
    expected = fewest_moves(problem, Mode.RECONFIGURE)
    if not expected:
        with pytest.raises(NoPlan):
            frontier(problem)
        return
    points = frontier(problem)
    assert {point.gpus: point.moves for point in points} == expected
    assert [point.gpus for point in points] == sorted(expected)
    assert all(point.is_proven and point.moves_lower_bound == point.moves for point in points)
    best = planned(problem, Mode.RECONFIGURE)
    assert (points[0].gpus, points[0].moves) == (best.gpus_used, best.moves)


@settings(max_examples=60)
@given(problem=problems(replace(NAMED, most_running=6, rules=())))
def test_without_rules_the_frontier_ends_where_nothing_moves(problem: Problem) -> None:
    points = frontier(problem)
    assert points[-1].moves == 0
    in_use = [gpu for gpu in problem.gpus if gpu.occupied_whole or any(one.workloads for one in gpu.instances)]
    assert points[-1].gpus == len(in_use)


@settings(max_examples=60)
@given(problem=problems(replace(NAMED, most_running=6, rules=())))
def test_a_cap_on_moves_walks_along_the_frontier(problem: Problem) -> None:
    for point in frontier(problem):
        target = planned(replace(problem, rules=Rules(max_moves=point.moves)), Mode.RECONFIGURE)
        assert (target.gpus_used, target.moves) == (point.gpus, point.moves)
