"""What an operator reads when not everything fits: the tightest limit, and the smallest change that would help."""

import pytest

from planner.catalog import load_catalog
from planner.mig.plan import Mode, Remedy, Status, Target
from planner.mig.planning import plan_target
from planner.mig.problem import EVERY, Problem, ProblemGpu, Reserve, Rules, RunningInstance, Spread, Workload
from planner.mig.remedies import without_rules

A100 = load_catalog().board("A100-40GB")
H100 = load_catalog().board("H100-80GB-SXM")


def gpu(number: int, *instances: tuple[str, int, str], node: str = "n0") -> ProblemGpu:
    return ProblemGpu(
        id=f"g{number}",
        node=node,
        board=A100,
        instances=tuple(RunningInstance(profile=p, start=s, workloads=(w,)) for p, s, w in instances),
    )


def asked(name: str, profile: str = "1g.5gb", service: str | None = None, tenant: str | None = None) -> Workload:
    return Workload(id=name, profile=profile, service=service, tenant=tenant)


def limits(target: Target) -> dict[str, str]:
    return {entry.workload: entry.limit for entry in target.unplaced}


def test_a_full_fleet_says_how_many_gpus_are_missing() -> None:
    problem = Problem(
        gpus=(gpu(0, ("7g.40gb", 0, "a")), gpu(1)),
        workloads=(asked("a", "7g.40gb"),),
        new=(asked("x", "7g.40gb"), asked("y", "7g.40gb"), asked("z", "4g.20gb")),
    )
    target = plan_target(problem, Mode.ADD)
    assert target.status is Status.INFEASIBLE
    assert set(limits(target).values()) == {"gpus"}
    assert target.remedies == (Remedy(add_gpus={"A100-40GB": 2}),)
    assert all("2 more A100-40GB" in entry.reason for entry in target.unplaced)


def test_scattered_room_is_told_from_no_room() -> None:
    problem = Problem(
        gpus=(gpu(0, ("1g.5gb", 0, "a")), gpu(1, ("1g.5gb", 3, "b"))),
        workloads=(asked("a"), asked("b")),
        new=(asked("x", "7g.40gb"),),
    )
    target = plan_target(problem, Mode.ADD_WITHOUT_MOVES)
    assert limits(target) == {"x": "no moves"}
    assert plan_target(problem, Mode.ADD).status is Status.OPTIMAL


def test_a_profile_that_no_board_has_is_said_to_be_so() -> None:
    problem = Problem(gpus=(gpu(0),), new=(asked("x", H100.profiles[-1].name), asked("y")))
    target = plan_target(problem, Mode.INITIAL)
    assert limits(target) == {"x": "profile"}
    assert [placed for g in target.gpus for i in g.instances for placed in i.workloads] == ["y"]


@pytest.mark.parametrize(
    ("name", "rules", "new"),
    [
        ("isolated_tenants", Rules(isolated_tenants=frozenset({EVERY})), [asked(t, tenant=t) for t in "abc"]),
        ("spread", Rules(spread={EVERY: Spread.GPU}), [asked(w, service="s") for w in "abc"]),
        ("reserve", Rules(reserves=(Reserve(profile="7g.40gb", count=2),)), [asked("a")]),
        ("survive_node_loss", Rules(survive_node_loss=True), [asked("a")]),
        ("untouchable", Rules(untouchable_gpus=frozenset({"g0", "g1"})), [asked("a")]),
        ("single_nodes", Rules(single_nodes=frozenset({"n0"})), [asked("a", "7g.40gb"), asked("b")]),
    ],
)
def test_the_rule_in_the_way_is_named(name: str, rules: Rules, new: list[Workload]) -> None:
    problem = Problem(gpus=(gpu(0), gpu(1)), new=tuple(new), rules=rules)
    target = plan_target(problem, Mode.INITIAL)
    assert target.status is Status.INFEASIBLE
    assert Remedy(drop_rules=(name,)) in target.remedies
    assert plan_target(without_rules(problem, (name,)), Mode.INITIAL).status is Status.OPTIMAL
    assert set(limits(target).values()) <= {name, "rules", "profile"}


def test_two_rules_that_only_together_stand_in_the_way_are_named_together() -> None:
    rules = Rules(spread={EVERY: Spread.GPU}, isolated_tenants=frozenset({EVERY}))
    new = (
        asked("a", service="s", tenant="t"),
        asked("b", service="s", tenant="t"),
        asked("c", service="s", tenant="t"),
        asked("d", tenant="u"),
        asked("e", tenant="v"),
    )
    target = plan_target(Problem(gpus=(gpu(0), gpu(1)), new=new, rules=rules), Mode.INITIAL)
    assert {remedy.drop_rules for remedy in target.remedies if remedy.drop_rules} == {("spread", "isolated_tenants")}


def test_what_runs_against_a_rule_is_never_stopped_for_it() -> None:
    problem = Problem(
        gpus=(gpu(0, ("3g.20gb", 0, "a"), ("3g.20gb", 4, "b")),),
        workloads=(asked("a", "3g.20gb", tenant="t"), asked("b", "3g.20gb", tenant="u")),
        rules=Rules(isolated_tenants=frozenset({EVERY})),
    )
    target = plan_target(problem, Mode.RECONFIGURE)
    assert target.status is Status.INFEASIBLE
    assert {i.workloads for i in target.gpus[0].instances} == {("a",), ("b",)}
    assert list(target.remedies) == [Remedy(drop_rules=("isolated_tenants",)), Remedy(add_gpus={"A100-40GB": 1})]
