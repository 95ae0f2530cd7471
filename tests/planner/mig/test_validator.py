"""The validator can fail: it passes a right plan and objects to every way in which it can be wrong."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import pytest

from planner.mig.plan import Level, Mode, Status, Target, TargetGpu, TargetInstance, Unplaced
from planner.mig.problem import (
    Elastic,
    Problem,
    ProblemGpu,
    Reserve,
    Rules,
    RunningInstance,
    Spread,
    Upsize,
    Workload,
)
from tests.planner.mig.answers import answer, present_gpu
from tests.planner.mig.problems import A30, A100, A100_80, A100_OLD, H100, RTX
from tests.planner.mig.validator import swap_violations, violations

X = Workload(id="x", profile="3g.20gb", service="chat", tenant="red")
Y = Workload(id="y", profile="1g.5gb", service="chat", tenant="red")
Z = Workload(id="z", profile="2g.10gb", service="search", tenant="blue")
V = Workload(id="v", profile="1g.5gb")
W = Workload(id="w", profile="1g.5gb")
PAIR = (Workload(id="p", profile="3g.20gb"), Workload(id="q", profile="3g.20gb"))


def runs(profile: str, start: int | None, *names: str, parts: tuple[str, ...] = ()) -> RunningInstance:
    return RunningInstance(profile=profile, start=start, workloads=names, compute_instances=parts)


def has(profile: str, start: int, *names: str, parts: tuple[str, ...] = (), reserve: bool = False) -> TargetInstance:
    return TargetInstance(profile=profile, start=start, workloads=names, compute_instances=parts, is_reserve=reserve)


FLEET = Problem(
    gpus=(
        ProblemGpu(id="a", node="n1", board=A100, instances=(runs("3g.20gb", 0, "x"), runs("1g.5gb", 4, "y"))),
        ProblemGpu(id="b", node="n1", board=A100, instances=(runs("2g.10gb", 0, "z"),)),
        ProblemGpu(id="c", node="n2", board=A100, instances=(runs("1g.5gb", 0),)),
    ),
    elastic=Elastic(boards=(A100,), gpus_per_node=2),
    workloads=(X, Y, Z, V),
    new=(W,),
)
GOOD: dict[str, tuple[TargetInstance, ...]] = {
    "a": (has("3g.20gb", 0, "x"), has("1g.5gb", 4, "y"), has("1g.5gb", 5, "v"), has("1g.5gb", 6, "w")),
    "b": (has("2g.10gb", 0, "z"),),
    "c": (has("1g.5gb", 0),),
}


def gpu_of(problem: Problem, name: str, instances: Iterable[TargetInstance]) -> TargetGpu:
    found = next((gpu for gpu in problem.gpus if gpu.id == name), None)
    if found is None:
        return TargetGpu(id=name, node="new-1", board=A100, instances=tuple(instances), is_new=True)
    return TargetGpu(id=name, node=found.node, board=found.board, instances=tuple(instances))


def planned(problem: Problem, mode: Mode, layouts: dict[str, tuple[TargetInstance, ...]]) -> Target:
    return answer(problem, mode, [gpu_of(problem, name, instances) for name, instances in layouts.items()])


@dataclass(frozen=True)
class Wrong:
    """One way to be wrong: the rules that make it so, layouts that differ from the good ones, what is to be said."""

    said: str
    layouts: dict[str, tuple[TargetInstance, ...]] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules)
    mode: Mode = Mode.ADD
    problem: Problem = FLEET

    def target(self) -> tuple[Problem, Target]:
        problem = replace(self.problem, rules=self.rules)
        return problem, planned(problem, self.mode, {**GOOD, **self.layouts})


LONELY = {"a": GOOD["a"][:2], "c": (has("1g.5gb", 0, "v"), has("1g.5gb", 1, "w"))}
RULES_BROKEN = {
    "overlap": Wrong("is covered 2 times", {"a": (*GOOD["a"][:3], has("2g.10gb", 4, "w"))}),
    "no such placement": Wrong("has no 3g.20gb at 2", {"a": GOOD["a"][1:], "c": (has("3g.20gb", 2, "x"),)}),
    "outside the grid": Wrong("has no 1g.5gb at 7", {"a": (*GOOD["a"][:3], has("1g.5gb", 7, "w"))}),
    "lost": Wrong("x runs and has 0 places", {"a": GOOD["a"][1:]}),
    "twice": Wrong("z runs and has 2 places", {"c": (has("2g.10gb", 0, "z"),)}),
    "waiting twice": Wrong("v has 2 places", {"c": (has("1g.5gb", 0, "v"),)}),
    "nobody's": Wrong("ghost is no workload", {"c": (has("1g.5gb", 0, "ghost"),)}),
    "profile": Wrong("cannot serve w", {"a": GOOD["a"][:3], "c": (has("2g.10gb", 0, "w"),)}),
    "two on one instance": Wrong("did not live together", {"a": GOOD["a"][:2], "c": (has("1g.5gb", 0, "v", "w"),)}),
    "elastic not used": Wrong("is not in use", {"e": ()}),
    "without moves": Wrong("something moved", {"b": (has("2g.10gb", 2, "z"),)}, mode=Mode.ADD_WITHOUT_MOVES),
    "initial moves": Wrong("something moved", {"b": (has("2g.10gb", 2, "z"),)}, mode=Mode.INITIAL),
    "compact moves within": Wrong(
        "does not keep all it runs", {"a": (GOOD["a"][0],), "b": (*GOOD["b"], has("1g.5gb", 2, "y"))}, mode=Mode.COMPACT
    ),
    "compact refills": Wrong(
        "does not keep all it runs",
        {"a": (has("2g.10gb", 0, "z"),), "b": (), "c": (has("3g.20gb", 0, "x"), has("1g.5gb", 4, "y"))},
        mode=Mode.COMPACT,
    ),
    "compact places": Wrong("compact leaves it out", mode=Mode.COMPACT),
    "pinned": Wrong(
        "a pinned workload of ['z'] moved",
        {"b": (has("2g.10gb", 2, "z"),)},
        problem=replace(FLEET, workloads=(X, Y, replace(Z, pinned=True), V)),
    ),
    "untouchable gpu": Wrong("must stay as it is", {}, Rules(untouchable_gpus=frozenset({"a"}))),
    "untouchable node": Wrong("must stay as it is", {"c": ()}, Rules(untouchable_nodes=frozenset({"n2"}))),
    "occupied": Wrong(
        "must stay as it is",
        LONELY,
        problem=replace(FLEET, gpus=(*FLEET.gpus[:2], replace(FLEET.gpus[2], instances=(), occupied_whole=True))),
    ),
    "too many moves": Wrong("1 moves are more than 0", {"b": (has("2g.10gb", 2, "z"),)}, Rules(max_moves=0)),
    "spread over GPUs": Wrong("a holds 2 replicas of chat", {}, Rules(spread={"chat": Spread.GPU})),
    "spread over nodes": Wrong(
        "node n1 holds 2 replicas of chat",
        {"a": GOOD["a"][1:], "b": (*GOOD["b"], has("3g.20gb", 4, "x"))},
        Rules(spread={"*": Spread.NODE}),
    ),
    "tenants": Wrong("tenant red is not alone", {}, Rules(isolated_tenants=frozenset({"red"}))),
    "tenants, all of them": Wrong("tenant red is not alone", {}, Rules(isolated_tenants=frozenset({"*"}))),
    "single profile": Wrong("node n1 has the profiles", {}, Rules(single_nodes=frozenset({"n1"}))),
    "single and bare": Wrong(
        "b has no instance",
        {"a": (has("2g.10gb", 0, "z"),), "b": (), "c": (has("3g.20gb", 0, "x"), has("1g.5gb", 4, "y"))},
        Rules(single_nodes=frozenset({"n1"})),
    ),
    "reserve": Wrong("1 free 1g.5gb, 2 are to be kept", {}, Rules(reserves=(Reserve(profile="1g.5gb", count=2),))),
    "loss of a node": Wrong("without node n1, 0 2g.10gb for 1", {}, Rules(survive_node_loss=True)),
    "reserve that works": Wrong(
        "is a reserve and has workloads",
        {"b": (has("2g.10gb", 0, "z", reserve=True),)},
        Rules(reserves=(Reserve(profile="1g.5gb", count=1),)),
    ),
    "reserve for nothing": Wrong("no rule asks for the reserve", {"c": (has("1g.5gb", 0, reserve=True),)}),
    "compute instances of nobody": Wrong("for nobody", {"c": (has("3g.20gb", 0, parts=("1c.3g.20gb",)),)}),
}


def test_a_right_plan_passes() -> None:
    for mode in (Mode.INITIAL, Mode.ADD, Mode.ADD_WITHOUT_MOVES):
        assert violations(FLEET, mode, planned(FLEET, mode, GOOD)) == []
    for mode in (Mode.COMPACT, Mode.RECONFIGURE):
        same = [present_gpu(gpu) for gpu in FLEET.gpus]
        assert violations(FLEET, mode, answer(FLEET, mode, same)) == []


@pytest.mark.parametrize("wrong", RULES_BROKEN.values(), ids=RULES_BROKEN)
def test_a_broken_plan_is_refused(wrong: Wrong) -> None:
    problem, target = wrong.target()
    found = violations(problem, wrong.mode, target)
    assert any(wrong.said in one for one in found), found


@pytest.mark.parametrize(
    ("rules", "layouts"),
    [
        (
            Rules(spread={"chat": Spread.GPU}),
            {
                "a": (GOOD["a"][0],),
                "b": (*GOOD["b"], has("1g.5gb", 2, "y"), has("1g.5gb", 3, "v"), has("1g.5gb", 4, "w")),
            },
        ),
        (
            Rules(spread={"chat": Spread.NODE}),
            {"a": (*GOOD["a"][1:],), "c": (has("3g.20gb", 0, "x"),)},
        ),
        (Rules(isolated_tenants=frozenset({"red"})), LONELY),
        (Rules(untouchable_gpus=frozenset({"a", "b"}), max_moves=0), LONELY),
        (
            Rules(single_nodes=frozenset({"n2"})),
            {"c": (has("1g.5gb", 0), has("1g.5gb", 1))},
        ),
        (
            Rules(reserves=(Reserve(profile="1g.5gb", count=2),)),
            {"b": (*GOOD["b"], has("1g.5gb", 2, reserve=True))},
        ),
        (
            Rules(survive_node_loss=True),
            {
                "b": (*GOOD["b"], has("1g.5gb", 6, reserve=True)),
                "c": (
                    has("2g.10gb", 0, reserve=True),
                    *(has("1g.5gb", start, reserve=True) for start in (2, 3)),
                    has("3g.20gb", 4, reserve=True),
                ),
                "e": (has("1g.5gb", 0, reserve=True),),
            },
        ),
    ],
    ids=["gpus", "nodes", "tenants", "untouchable", "single", "reserve", "loss"],
)
def test_a_plan_that_keeps_the_rule_passes(rules: Rules, layouts: dict[str, tuple[TargetInstance, ...]]) -> None:
    problem = replace(FLEET, rules=rules)
    assert violations(problem, Mode.ADD, planned(problem, Mode.ADD, {**GOOD, **layouts})) == []


def level(target: Target, name: str, **changes: object) -> Target:
    return replace(target, levels=tuple(replace(one, **changes) if one.name == name else one for one in target.levels))


def as_gpus(change: Callable[[list[TargetGpu]], list[TargetGpu]]) -> Callable[[Target], Target]:
    return lambda target: replace(target, gpus=tuple(change(list(target.gpus))))


FIGURES = {
    "gpu missing": ("GPU c is missing", as_gpus(lambda gpus: gpus[:2])),
    "gpu twice": ("is there 2 times", as_gpus(lambda gpus: [*gpus, gpus[0]])),
    "gpu unknown": ("GPU d does not exist", as_gpus(lambda gpus: [*gpus, replace(gpus[2], id="d")])),
    "node changed": ("changed its node", as_gpus(lambda gpus: [*gpus[:2], replace(gpus[2], node="n1")])),
    "elastic board": (
        "cannot be had",
        as_gpus(lambda gpus: [*gpus, replace(gpus[1], id="e", node="e", is_new=True, board=A30)]),
    ),
    "elastic node": (
        "which exists",
        as_gpus(lambda gpus: [*gpus, replace(gpus[1], id="e", is_new=True)]),
    ),
    "elastic node too full": (
        "elastic node e has 3 GPUs",
        as_gpus(lambda gpus: [*gpus, *(replace(gpus[1], id=f"e{i}", node="e", is_new=True) for i in range(3))]),
    ),
    "elastic first": (
        "stands before",
        as_gpus(lambda gpus: [replace(gpus[1], id="e", node="e", is_new=True), *gpus]),
    ),
    "order of instances": (
        "not in the order",
        as_gpus(lambda gpus: [replace(gpus[0], instances=gpus[0].instances[::-1]), *gpus[1:]]),
    ),
    "gpus used": ("1 GPUs are said to be used", lambda target: replace(target, gpus_used=1, gpus_lower_bound=1)),
    "moves": ("1 moves are said", lambda target: replace(target, moves=1)),
    "gpus bound": ("above the value", lambda target: replace(target, gpus_lower_bound=3)),
    "moves bound": ("above the value", lambda target: replace(target, moves_lower_bound=1)),
    "cost": ("5.0 USD per hour are said", lambda target: replace(target, cost_usd_per_hour=5.0)),
    "mode": ("was not asked for", lambda target: replace(target, mode=Mode.INITIAL)),
    "level value": ("level gpus says 9", lambda target: level(target, "gpus", value=9, lower_bound=9)),
    "level bound": ("bound 3 above", lambda target: level(target, "gpus", lower_bound=3)),
    "level proof": ("is called proven", lambda target: level(target, "gpus", lower_bound=1)),
    "level missing": ("the levels are", lambda target: replace(target, levels=target.levels[:1])),
    "level order": ("the levels are", lambda target: replace(target, levels=target.levels[::-1])),
    "level unknown": (
        "the levels are",
        lambda target: replace(
            target, levels=(*target.levels, Level(name="upsized", value=0, lower_bound=0, is_proven=True))
        ),
    ),
    "optimal without proof": ("not proven", lambda target: level(target, "moves", is_proven=False)),
    "feasible with proof": ("only feasible", lambda target: replace(target, status=Status.FEASIBLE)),
    "infeasible without cause": ("leaves nothing out", lambda target: replace(target, status=Status.INFEASIBLE)),
    "placed and unplaced": (
        "v has 1 places in the plan, 1 times unplaced",
        lambda target: replace(target, unplaced=(Unplaced(workload="v", reason="No room.", limit="gpus"),)),
    ),
    "runs and unplaced": (
        "z runs and has 1 places in the plan, 1 times",
        lambda target: replace(target, unplaced=(Unplaced(workload="z", reason="No room.", limit="gpus"),)),
    ),
    "optimal and unplaced": (
        "leaves out 1",
        lambda target: replace(target, unplaced=(Unplaced(workload="v", reason="No room.", limit="gpus"),)),
    ),
    "no reason": (
        "nothing says why",
        lambda target: replace(target, unplaced=(Unplaced(workload="v", reason="", limit="gpus"),)),
    ),
    "assumed": ("starts are said to be assumed", lambda target: replace(target, assumed_gpus=frozenset({"a"}))),
    "group of one that stays": ("x stays and is in a group", lambda target: replace(target, groups={"x": 0})),
    "group of nobody": ("ghost is in a group", lambda target: replace(target, groups={"ghost": 0})),
}


@pytest.mark.parametrize(("said", "change"), FIGURES.values(), ids=FIGURES)
def test_wrong_figures_are_refused(said: str, change: Callable[[Target], Target]) -> None:
    found = violations(FLEET, Mode.ADD, change(planned(FLEET, Mode.ADD, GOOD)))
    assert any(said in one for one in found), found


def test_the_price_of_the_plan_is_counted() -> None:
    problem = replace(
        FLEET, prices={"A100-40GB": 1.5}, rules=Rules(upsizes=(Upsize(profile="1g.5gb", to=("1g.10gb",), price=0.25),))
    )
    layouts = {**GOOD, "a": (*GOOD["a"][:3], has("1g.10gb", 6, "w"))}
    right = planned(problem, Mode.ADD, layouts)
    assert [(one.name, one.value) for one in right.levels] == [
        ("unplaced", 0),
        ("cost", 3.25),
        ("moves", 0),
        ("upsized", 1),
    ]
    assert violations(problem, Mode.ADD, right) == []
    assert violations(problem, Mode.ADD, replace(right, cost_usd_per_hour=3.25))
    assert violations(problem, Mode.ADD, level(right, "cost", value=3.0, lower_bound=3.0))
    assert violations(problem, Mode.ADD, level(right, "upsized", value=0, lower_bound=0))


def test_work_stays_on_its_board_where_that_is_asked() -> None:
    problem = Problem(
        gpus=(
            ProblemGpu(id="a", node="n", board=A100_80, instances=(runs("3g.40gb", 0, "p"),)),
            ProblemGpu(id="b", node="n", board=H100),
        ),
        workloads=(Workload(id="p", profile="3g.40gb"),),
    )
    moved = planned(problem, Mode.RECONFIGURE, {"a": (), "b": (has("3g.40gb", 0, "p"),)})
    assert violations(problem, Mode.RECONFIGURE, moved) == []
    bound = replace(problem, rules=Rules(stay_on_board=True))
    assert any("changes to H100" in one for one in violations(bound, Mode.RECONFIGURE, moved))


def test_media_engines_and_old_drivers_are_known() -> None:
    board_and_names = [
        (RTX, ("1g.24gb+me.all", "1g.24gb")),
        (RTX, ("1g.24gb+me.all", "1g.24gb+gfx")),
        (A30, ("1g.6gb+me", "2g.12gb+me")),
        (A100_OLD, ("4g.20gb", "3g.20gb")),
    ]
    starts = {"1g.24gb": 3, "1g.24gb+gfx": 3, "2g.12gb+me": 2, "3g.20gb": 4}
    for board, names in board_and_names:
        new = tuple(Workload(id=name, profile=name) for name in names)
        problem = Problem(gpus=(ProblemGpu(id="a", node="n", board=board),), new=new)
        target = planned(problem, Mode.INITIAL, {"a": tuple(has(name, starts.get(name, 0), name) for name in names)})
        assert violations(problem, Mode.INITIAL, target), names


def test_units_stay_together() -> None:
    parts = ("1c.3g.20gb", "2c.3g.20gb")
    problem = Problem(
        gpus=(
            ProblemGpu(id="a", node="n", board=A100, instances=(runs("3g.20gb", 0, "p", "q", parts=parts),)),
            ProblemGpu(id="b", node="n", board=A100),
        ),
        workloads=PAIR,
    )
    moved = {"a": (), "b": (has("3g.20gb", 4, "p", "q", parts=parts),)}
    target = planned(problem, Mode.RECONFIGURE, moved)
    assert target.moves == 2
    assert violations(problem, Mode.RECONFIGURE, target) == []
    torn = {"a": (has("3g.20gb", 0, "p"),), "b": (has("3g.20gb", 0, "q"),)}
    bare = {"a": (has("3g.20gb", 0, "p", "q"),), "b": ()}
    for layouts in (torn, bare):
        found = violations(problem, Mode.RECONFIGURE, planned(problem, Mode.RECONFIGURE, layouts))
        assert any("did not live together" in one for one in found)


def test_any_consistent_arrangement_counts_and_no_other() -> None:
    unknown = ProblemGpu(
        id="a", node="n", board=A100, instances=(runs("3g.20gb", None, "x"), runs("1g.5gb", None, "y"))
    )
    problem = Problem(gpus=(unknown,), workloads=(X, Y), rules=Rules(untouchable_gpus=frozenset({"a"})))

    def told(layout: tuple[TargetInstance, ...], moves: int) -> list[str]:
        target = planned(problem, Mode.RECONFIGURE, {"a": layout})
        moved = replace(level(target, "moves", value=moves, lower_bound=moves), moves=moves, moves_lower_bound=moves)
        return violations(problem, Mode.RECONFIGURE, moved)

    assert told((has("3g.20gb", 0, "x"), has("1g.5gb", 6, "y")), 0) == []
    assert told((has("1g.5gb", 3, "y"), has("3g.20gb", 4, "x")), 0) == []
    assert told((has("3g.20gb", 0, "x"), has("1g.5gb", 3, "y")), 0)
    assert told((has("3g.20gb", 0, "x"),), 0)


def test_an_infeasible_answer_may_leave_a_broken_rule_as_it_is_and_change_nothing() -> None:
    problem = replace(FLEET, rules=Rules(spread={"chat": Spread.NODE}), workloads=(X, Y, Z), new=(), elastic=None)
    present = answer(problem, Mode.RECONFIGURE, [present_gpu(gpu) for gpu in problem.gpus], status=Status.INFEASIBLE)
    assert violations(problem, Mode.RECONFIGURE, present) == []
    assert violations(problem, Mode.RECONFIGURE, replace(present, status=Status.OPTIMAL))
    changed = as_gpus(lambda gpus: [gpus[0], replace(gpus[1], instances=(has("2g.10gb", 2, "z"),)), gpus[2]])(present)
    assert violations(problem, Mode.RECONFIGURE, changed)


def test_members_of_a_group_can_be_exchanged() -> None:
    spread = replace(FLEET, new=(replace(W, service="chat"),), rules=Rules(spread={"chat": Spread.GPU}))
    layouts = {**GOOD, "a": (GOOD["a"][0], GOOD["a"][2]), "b": (*GOOD["b"], has("1g.5gb", 2, "y")), "c": GOOD["c"]}
    layouts["c"] = (has("1g.5gb", 0, "w"),)
    right = replace(planned(spread, Mode.ADD, layouts), groups={"v": 0, "w": 1})
    assert violations(spread, Mode.ADD, right) == []
    assert swap_violations(spread, Mode.ADD, right) == []
    assert swap_violations(spread, Mode.ADD, replace(right, groups={"v": 0, "w": 0}))
