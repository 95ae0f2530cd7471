"""Large fleets that must survive the loss of any node: an answer that holds, a bound, and no claim beyond it."""

import random

import pytest

from planner.catalog import load_catalog
from planner.mig.node_loss import LARGE, is_large
from planner.mig.plan import Mode, Status
from planner.mig.planning import plan_target
from planner.mig.problem import (
    EVERY,
    Elastic,
    Problem,
    ProblemGpu,
    Reserve,
    Rules,
    RunningInstance,
    Spread,
    Workload,
)
from tests.planner.mig.validator import violations

A100 = load_catalog().board("A100-40GB")
PROFILES = ("1g.5gb", "2g.10gb", "3g.20gb")


def fleet(nodes: int, seed: int) -> Problem:
    """Eight GPUs a node, of which about two thirds hold one or two instances."""
    draw = random.Random(seed)
    gpus, workloads = [], []
    for number in range(nodes * 8):
        instances = []
        for start in (0, 4):
            if draw.random() < 0.4:
                profile = draw.choice(PROFILES)
                workloads.append(Workload(id=f"w{len(workloads)}", profile=profile))
                instances.append(RunningInstance(profile=profile, start=start, workloads=(workloads[-1].id,)))
        gpus.append(ProblemGpu(id=f"g{number}", node=f"n{number // 8}", board=A100, instances=tuple(instances)))
    return Problem(gpus=tuple(gpus), workloads=tuple(workloads), rules=Rules(survive_node_loss=True))


@pytest.mark.parametrize("nodes", [4, 25])
def test_any_node_of_a_running_fleet_can_be_lost(nodes: int) -> None:
    problem = fleet(nodes, seed=nodes)
    assert is_large(problem)
    target = plan_target(problem, Mode.RECONFIGURE, time_limit_s=10)
    assert violations(problem, Mode.RECONFIGURE, target) == []
    assert target.status in (Status.OPTIMAL, Status.FEASIBLE)
    assert target.gpus_lower_bound <= target.gpus_used


def test_elastic_requests_survive_the_loss_of_a_node() -> None:
    new = tuple(Workload(id=f"w{n}", profile=PROFILES[n % 3]) for n in range(10 * LARGE))
    problem = Problem(elastic=Elastic(boards=(A100,)), new=new, rules=Rules(survive_node_loss=True))
    target = plan_target(problem, Mode.INITIAL, time_limit_s=10)
    assert violations(problem, Mode.INITIAL, target) == []
    assert target.unplaced == ()
    assert target.gpus_lower_bound <= target.gpus_used <= target.gpus_lower_bound + 3


def test_the_bound_of_a_large_fleet_is_no_larger_than_the_exact_answer_of_a_small_one() -> None:
    """Six GPUs on three nodes, planned both ways."""
    problem = Problem(
        gpus=tuple(ProblemGpu(id=f"g{n}", node=f"n{n // 2}", board=A100) for n in range(6)),
        new=tuple(Workload(id=f"w{n}", profile="3g.20gb") for n in range(6)),
        rules=Rules(survive_node_loss=True),
    )
    exact = plan_target(problem, Mode.INITIAL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("planner.mig.node_loss.LARGE", 0)
        patch.setattr("planner.mig.planning.NAMED_NODES", -1)
        found = plan_target(problem, Mode.INITIAL)
    assert violations(problem, Mode.INITIAL, found) == []
    assert found.gpus_lower_bound <= exact.gpus_used <= found.gpus_used


def test_untouchable_work_can_be_taken_over_elsewhere() -> None:
    held = ProblemGpu(
        id="g0", node="n0", board=A100, instances=(RunningInstance(profile="3g.20gb", start=0, workloads=("w",)),)
    )
    problem = Problem(
        gpus=(held, ProblemGpu(id="g1", node="n1", board=A100)),
        workloads=(Workload(id="w", profile="3g.20gb"),),
        rules=Rules(survive_node_loss=True, untouchable_gpus=frozenset({"g0"})),
    )
    target = plan_target(problem, Mode.RECONFIGURE)
    assert (target.status, target.gpus_used) == (Status.OPTIMAL, 2)


def test_an_untouchable_gpu_sets_the_profile_of_its_single_node() -> None:
    held = ProblemGpu(
        id="g0", node="n0", board=A100, instances=(RunningInstance(profile="3g.20gb", start=0, workloads=("w",)),)
    )
    problem = Problem(
        gpus=(held, ProblemGpu(id="g1", node="n0", board=A100)),
        workloads=(Workload(id="w", profile="3g.20gb"),),
        rules=Rules(single_nodes=frozenset({"n0"}), untouchable_gpus=frozenset({"g0"})),
    )
    target = plan_target(problem, Mode.RECONFIGURE)
    assert violations(problem, Mode.RECONFIGURE, target) == []
    assert target.status is Status.OPTIMAL


def test_replicas_of_two_profiles_are_parted_on_elastic_gpus_beside_a_reserve() -> None:
    """The counts alone find room for both on one GPU: only telling GPUs apart shows that there is none."""
    problem = Problem(
        elastic=Elastic(boards=(A100,)),
        new=(Workload(id="a", profile="1g.5gb", service="s"), Workload(id="b", profile="3g.20gb", service="s")),
        rules=Rules(spread={EVERY: Spread.GPU}, reserves=(Reserve(profile="7g.40gb", count=1),)),
    )
    target = plan_target(problem, Mode.INITIAL)
    assert violations(problem, Mode.INITIAL, target) == []
    assert (target.status, target.gpus_used) == (Status.OPTIMAL, 3)
