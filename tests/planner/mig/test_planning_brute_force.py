"""The planner is exact: on every problem that brute force can answer it finds the same values, rules included."""

from fractions import Fraction

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from planner.mig.plan import Mode, Status
from planner.mig.planning import plan_target
from planner.mig.problem import EVERY, Problem, ProblemGpu, Rules, RunningInstance, Spread, Workload
from tests.planner.mig.brute_force import Best, TooManyStates, best, with_known_starts
from tests.planner.mig.problems import A100, Shape, problems
from tests.planner.mig.validator import broken, swap_violations, violations


def check_against_brute_force(problem: Problem, mode: Mode) -> None:
    """The plan breaks nothing, every level is proven, and its values are those of the best plan there is.

    Where starts are unknown the planner assumes one arrangement; its plan must be the best for one that is possible.
    """
    target = plan_target(problem, mode)
    assert violations(problem, mode, target) == []
    assert swap_violations(problem, mode, target) == []
    try:
        expected = [best(known, mode) for known in with_known_starts(problem)]
    except TooManyStates:
        reject()
    if None in expected and target.status is Status.INFEASIBLE and broken(problem, mode, target):
        return
    found = {level.name: level.value for level in target.levels}
    planned = Best(
        unplaced=int(found.get("unplaced", 0)),
        spent=Fraction(found["cost" if problem.prices else "gpus"]).limit_denominator(1000),
        moves=int(found["moves"]),
        upsized=int(found.get("upsized", 0)),
    )
    assert planned in expected
    assert all(level.is_proven for level in target.levels)
    assert target.status is (Status.INFEASIBLE if planned.unplaced else Status.OPTIMAL)


@pytest.mark.parametrize("mode", list(Mode))
@settings(max_examples=60)
@given(problem=problems(Shape(rules=())))
def test_without_rules(mode: Mode, problem: Problem) -> None:
    check_against_brute_force(problem, mode)


@pytest.mark.parametrize("rule", Shape().rules)
@pytest.mark.parametrize("mode", list(Mode))
@settings(max_examples=20)
@given(data=st.data())
def test_with_each_rule_alone(mode: Mode, rule: str, data: st.DataObject) -> None:
    check_against_brute_force(data.draw(problems(Shape(rules=(), needed_rules=(rule,)))), mode)


@pytest.mark.parametrize("mode", list(Mode))
@settings(max_examples=60)
@given(problem=problems())
def test_with_rules_together(mode: Mode, problem: Problem) -> None:
    check_against_brute_force(problem, mode)


@pytest.mark.parametrize("mode", list(Mode))
@settings(max_examples=20)
@given(problem=problems(Shape(rules=("single", "reserve", "loss"), needed_rules=("single",))))
def test_with_nodes_of_one_profile_and_room_to_spare(mode: Mode, problem: Problem) -> None:
    check_against_brute_force(problem, mode)


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(Mode))
@settings(max_examples=2000)
@given(problem=problems())
def test_with_rules_together_for_longer(mode: Mode, problem: Problem) -> None:
    check_against_brute_force(problem, mode)


@pytest.mark.parametrize(
    ("one", "other", "rules"),
    [
        ({"tenant": "red"}, {}, Rules(isolated_tenants=frozenset({"red"}))),
        ({"tenant": "red"}, {"tenant": "blue"}, Rules(isolated_tenants=frozenset({EVERY}))),
        ({"service": "chat"}, {"service": "chat"}, Rules(spread={"chat": Spread.GPU})),
        ({"service": "chat"}, {"service": "chat"}, Rules(spread={EVERY: Spread.NODE})),
    ],
    ids=["tenant and nobody", "two tenants", "replicas on a GPU", "replicas in a node"],
)
def test_a_shared_instance_that_breaks_a_rule_breaks_it_wherever_it_goes(
    one: dict[str, str], other: dict[str, str], rules: Rules
) -> None:
    shared = RunningInstance(
        profile="3g.20gb", start=0, workloads=("a", "b"), compute_instances=("1c.3g.20gb", "1c.3g.20gb")
    )
    problem = Problem(
        gpus=(
            ProblemGpu(id="g", node="n", board=A100, instances=(shared,)),
            ProblemGpu(id="h", node="m", board=A100),
        ),
        workloads=(
            Workload(id="a", profile="3g.20gb", **one),
            Workload(id="b", profile="3g.20gb", **other),
            Workload(id="c", profile="1g.5gb"),
        ),
        rules=rules,
    )
    for mode in Mode:
        check_against_brute_force(problem, mode)
