"""Planning that is cut short or called off: an honest partial answer, never a wrong one."""

import time

import pytest

from planner.catalog import load_catalog
from planner.errors import NoPlan, PlanningCancelled
from planner.mig.frontier import frontier
from planner.mig.plan import Mode, Status
from planner.mig.planning import plan_target
from planner.mig.problem import EVERY, Elastic, Problem, ProblemGpu, Rules, RunningInstance, Spread, Workload
from tests.planner.mig.validator import violations

A100 = load_catalog().board("A100-40GB")
PROFILES = ("1g.5gb", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb")


def requests(count: int) -> tuple[Workload, ...]:
    return tuple(
        Workload(id=f"w{n}", profile=PROFILES[n % 6], service=f"s{n // 3}", tenant=f"t{n % 5}") for n in range(count)
    )


def ragged(count: int) -> Problem:
    """A fleet in which every GPU keeps one small instance at another start."""
    return Problem(
        gpus=tuple(
            ProblemGpu(
                id=f"g{n}",
                node=f"n{n // 8}",
                board=A100,
                instances=(RunningInstance(profile="1g.5gb", start=n % 7, workloads=(f"w{n}",)),),
            )
            for n in range(count)
        ),
        workloads=tuple(Workload(id=f"w{n}", profile="1g.5gb") for n in range(count)),
    )


def test_no_time_leaves_everything_that_waits_unplaced_and_says_why() -> None:
    problem = Problem(elastic=Elastic(boards=(A100,)), new=requests(300), rules=Rules(survive_node_loss=True))
    target = plan_target(problem, Mode.INITIAL, time_limit_s=0.0)
    assert target.status is Status.INFEASIBLE
    assert {entry.limit for entry in target.unplaced} == {"time"}
    assert violations(problem, Mode.INITIAL, target) == []
    assert not next(level for level in target.levels if level.name == "unplaced").is_proven


def test_no_time_leaves_a_running_fleet_as_it_is() -> None:
    problem = ragged(500)
    target = plan_target(problem, Mode.RECONFIGURE, time_limit_s=0.0)
    assert violations(problem, Mode.RECONFIGURE, target) == []
    if target.status is Status.FEASIBLE and target.moves == 0:
        assert target.gpus_used == 500
        assert target.gpus_lower_bound < 500


def test_seven_small_instances_gather_on_each_gpu() -> None:
    target = plan_target(ragged(70), Mode.RECONFIGURE)
    assert (target.status, target.gpus_used, target.gpus_lower_bound) == (Status.OPTIMAL, 10, 10)
    assert target.moves == target.moves_lower_bound == 60


def test_a_cancelled_planning_ends() -> None:
    with pytest.raises(PlanningCancelled):
        plan_target(ragged(200), Mode.RECONFIGURE, stopping=lambda: True)
    with pytest.raises(PlanningCancelled):
        frontier(ragged(50), stopping=lambda: True)


def test_the_frontier_of_rules_that_cannot_be_met_is_an_error() -> None:
    problem = Problem(
        gpus=(
            ProblemGpu(
                id="g0",
                node="n0",
                board=A100,
                instances=(
                    RunningInstance(profile="3g.20gb", start=0, workloads=("a",)),
                    RunningInstance(profile="3g.20gb", start=4, workloads=("b",)),
                ),
            ),
        ),
        workloads=(Workload(id="a", profile="3g.20gb", tenant="t"), Workload(id="b", profile="3g.20gb", tenant="u")),
        rules=Rules(isolated_tenants=frozenset({EVERY})),
    )
    with pytest.raises(NoPlan):
        frontier(problem)


@pytest.mark.parametrize("spread", list(Spread))
def test_many_spread_services_cost_no_gpu_and_are_proven(spread: Spread) -> None:
    problem = Problem(elastic=Elastic(boards=(A100,)), new=requests(600), rules=Rules(spread={EVERY: spread}))
    free = plan_target(Problem(elastic=problem.elastic, new=problem.new), Mode.INITIAL)
    began = time.monotonic()
    target = plan_target(problem, Mode.INITIAL, time_limit_s=60)
    assert time.monotonic() - began < 60
    assert violations(problem, Mode.INITIAL, target) == []
    assert target.status is Status.OPTIMAL
    assert target.gpus_used == free.gpus_used


def test_running_work_stays_on_its_board_where_that_is_asked() -> None:
    h100 = load_catalog().board("H100-80GB-SXM")
    gpus = (
        ProblemGpu(
            id="a",
            node="n",
            board=A100,
            instances=(RunningInstance(profile="1g.10gb", start=0, workloads=("x",)),),
        ),
        ProblemGpu(
            id="h", node="n", board=h100, instances=(RunningInstance(profile="1g.10gb", start=0, workloads=("y",)),)
        ),
    )
    workloads = (Workload(id="x", profile="1g.10gb"), Workload(id="y", profile="1g.10gb"))
    free = plan_target(Problem(gpus=gpus, workloads=workloads), Mode.RECONFIGURE)
    assert (free.gpus_used, free.moves) == (1, 1)
    bound = Problem(gpus=gpus, workloads=workloads, rules=Rules(stay_on_board=True))
    kept = plan_target(bound, Mode.RECONFIGURE)
    assert (kept.status, kept.gpus_used, kept.moves) == (Status.OPTIMAL, 2, 0)
