"""The plan file: the keys of the format, everything in it read back, and nothing of a tampered one believed."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from planner.errors import InvalidPlan, InvalidProblem
from planner.mig.change import change_plan
from planner.mig.exports import Format, export
from planner.mig.plan import ChangePlan, Level, Mode, Remedy
from planner.mig.plan_file import plan_document, read_plan
from planner.mig.planning import plan_target
from planner.mig.problem import Problem
from planner.mig.rule_conflicts import rule_conflicts
from tests.planner.mig.exports.mig_parted_format import read_mig_parted
from tests.planner.mig.plans import PLANS, example
from tests.planner.mig.problems import problems

SECONDS = {"read": 0.1, "plan": 0.25, "change": 0.0, "total": 0.35}


def document(name: str) -> dict[str, Any]:
    return plan_document(*example(name), seconds=SECONDS)


def kept(change: ChangePlan) -> ChangePlan:
    """What a file keeps of a change plan."""
    return replace(change, target=replace(change.target, groups={}, seconds={}))


@pytest.mark.parametrize("name", PLANS)
def test_what_is_written_reads_as_the_same_plan(name: str) -> None:
    problem, change = example(name)
    stored = read_plan(json.dumps(document(name)))
    assert stored.problem == problem
    assert stored.change == kept(change)
    assert stored.seconds == SECONDS


@settings(max_examples=25, deadline=None)
@given(drawn=problems(), mode=st.sampled_from(Mode))
def test_any_plan_reads_as_the_same_plan_and_can_be_exported(drawn: Problem, mode: Mode) -> None:
    assume(not any(rule_conflicts(drawn)))
    assume(drawn.gpus or drawn.elastic)
    assume(not any(gpu.board.exclusions for gpu in drawn.gpus))  # their driver is not drawn
    assume(drawn.elastic is None or not any(board.exclusions for board in drawn.elastic.boards))
    change = change_plan(drawn, plan_target(drawn, mode, time_limit_s=5.0, explain=False))
    stored = read_plan(json.dumps(plan_document(drawn, change, seconds={}), allow_nan=False))
    assert stored.problem == Problem(**{field.name: getattr(drawn, field.name) for field in fields(Problem)})
    assert stored.change == kept(change)
    for to in Format:
        assert dict(export(to, stored.problem, stored.change)) == dict(export(to, drawn, change))
    read_mig_parted(export(Format.MIG_PARTED, drawn, change)["mig-parted.yaml"])


def test_parts_that_the_examples_lack_are_kept_too() -> None:
    problem, change = example("too much")
    target = replace(
        change.target,
        levels=(Level(name="gpus", value=2.0, lower_bound=float("-inf"), is_proven=False),),
        remedies=(Remedy(drop_rules=("isolated_tenants",), add_gpus={"A100-40GB": 1}),),
        cost_usd_per_hour=3.5,
        notes=("one", "two"),
    )
    changed = kept(replace(change, target=target, down=("red-0",), max_down=1))
    text = json.dumps(plan_document(problem, changed, seconds={}), allow_nan=False)
    assert read_plan(text).change == changed


def test_the_keys_that_every_reader_may_rely_on() -> None:
    plan = document("cramped")
    assert plan["status"] == "optimal"
    assert {"gpus_used", "gpus_lower_bound", "moves", "moves_lower_bound", "unplaced", "rollback"} <= set(plan)
    assert plan["max_down"] == 1
    assert set(plan["seconds"]) == {"read", "plan", "change", "total"}
    assert {key for row in plan["placements"] for key in row} >= {"workload", "gpu", "profile", "start"}
    assert [row["workload"] for row in plan["placements"]] == ["blue-0", "blue-1", "blue-2", "red-0", "red-1"]
    downtime = [step for step in plan["steps"] if step.get("downtime")]
    assert {step["action"] for step in downtime} == {"stop", "start"}
    unplaced = document("too much")["unplaced"]
    assert [set(row) for row in unplaced] == [{"workload", "reason", "limit"}]


Tamper = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (lambda plan: plan.pop("steps"), "steps: is missing"),
        (lambda plan: plan.update(stpes=[]), "Nearest: 'steps'"),
        (lambda plan: plan["steps"][0].update(action="reboot"), "steps[0].action"),
        (lambda plan: plan["steps"][0].update(gpu="g9"), "steps[0]: the plan has no GPU 'g9'"),
        (lambda plan: plan["steps"][0].update(node="b"), "steps[0]: the plan has no GPU"),
        (lambda plan: plan["steps"][-1].update(wave=1), "comes after wave"),
        (lambda plan: plan["steps"][0].update(wave=0), "steps[0].wave"),
        (lambda plan: _first(plan, "create").update(start=1), "no profile '2g.10gb' that starts at 1"),
        (lambda plan: _first(plan, "create").update(profile="3g.20gb; reboot"), "has no profile"),
        (lambda plan: _first(plan, "create").pop("start"), "needs start"),
        (lambda plan: _first(plan, "create").update(compute_instances=["9c.3g.20gb"]), "no compute instance"),
        (lambda plan: _first(plan, "start").pop("workload"), "needs workload"),
        (lambda plan: _first(plan, "start").update(workload="stranger"), "no workload 'stranger'"),
        (lambda plan: _first(plan, "check").update(expected=[{"profile": "1g.5gb", "start": 7}]), "starts at 7"),
        (lambda plan: plan["layouts"].pop(), "layouts: GPU 'g1' of the problem has none"),
        (lambda plan: plan["layouts"].append(plan["layouts"][0]), "has a layout already"),
        (lambda plan: plan["layouts"][0].update(node="z"), "no such GPU"),
        (lambda plan: plan["layouts"][0].update(new=True, gpu="more"), "no such GPU 'more'"),
        (lambda plan: plan["layouts"][0]["instances"][0].update(start=1), "cannot lie"),
        (lambda plan: plan["layouts"][0]["instances"][0].update(workloads=["a", "b"]), "more workloads"),
        (lambda plan: plan["layouts"][0]["instances"][0].update(workloads=["stranger"]), "no workload 'stranger'"),
        (lambda plan: plan["layouts"][0]["instances"][0].update(workloads=["blue-2"]), "on two instances"),
        (lambda plan: plan["placements"].pop(), "they are not those of `layouts`"),
        (lambda plan: plan.update(max_down=-1), "max_down"),
        (lambda plan: plan.update(version=2), "version: must be 1"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(tamper: Tamper, said: str) -> None:
    plan = document("cramped")
    tamper(plan)
    with pytest.raises(InvalidPlan) as caught:
        read_plan(json.dumps(plan))
    assert said in str(caught.value)


def _lose(plan: dict[str, Any], name: str) -> None:
    """Take a workload out of everything that names it."""
    for layout in plan["layouts"]:
        for one in layout["instances"]:
            one["workloads"] = [workload for workload in one["workloads"] if workload != name]
    for key in ("placements", "steps", "rollback", "unplaced"):
        plan[key] = [row for row in plan[key] if row.get("workload") != name]


@pytest.mark.parametrize(
    ("name", "tamper", "said"),
    [
        ("cramped", lambda plan: _lose(plan, "blue-0"), "layouts: workload 'blue-0' runs, and is on no instance"),
        ("too much", lambda plan: _lose(plan, "big"), "workload 'big' is neither on an instance nor in `unplaced`"),
        ("growing", lambda plan: _lose(plan, "n3"), "workload 'n3' is neither on an instance nor"),
        ("growing", lambda plan: plan["unplaced"].append(_unplaced("n3")), "'n3' is both on an instance and in"),
        ("cramped", lambda plan: plan["unplaced"].append(_unplaced("big")), "mode reconfigure places nothing new"),
        ("cramped", lambda plan: plan["unplaced"].append(_unplaced("red-0")), "'red-0' runs, and is on no instance or"),
        ("too much", lambda plan: plan["unplaced"].append(_unplaced("big")), "unplaced[1].workload: 'big' is listed"),
        ("too much", lambda plan: plan["unplaced"].append(_unplaced("stranger")), "no workload 'stranger'"),
        ("cramped", lambda plan: plan.update(gpus_used=77), "gpus_used: is 77, and the layouts use 2"),
        ("spread out", lambda plan: plan.update(gpus_lower_bound=9), "below its lower bound of 9"),
        ("cramped", lambda plan: plan.update(moves=0, moves_lower_bound=0), "moves: is 0, and the layouts take"),
        ("cramped", lambda plan: plan.update(moves_lower_bound=99), "below its lower bound of 99"),
        (
            "cramped",
            lambda plan: plan["levels"][1].update(lower_bound=7),
            "levels[1]: its value 2 is below its bound 7",
        ),
        ("cramped", lambda plan: plan["levels"][0].update(value=5), "levels[0]: its value is 5, and the plan has 0"),
        ("too much", lambda plan: plan.update(status="optimal"), "status: is optimal, and `unplaced` is not empty"),
        ("cramped", lambda plan: plan["problem"]["rules"].update(max_moves=1), "more than the 1 of `max_moves`"),
        ("cramped", lambda plan: plan.update(mode="add-without-moves"), "mode add-without-moves moves nothing"),
        ("spread out", lambda plan: plan["problem"].update(rules={"untouchable_gpus": ["g0"]}), "'g0' is to stay as"),
        (
            "spread out",
            lambda plan: plan["problem"]["workloads"][0].update(pinned=True),
            "'w0' is pinned to GPU 'g0' at 0",
        ),
        (
            "spread out",
            lambda plan: _first(plan, "check").update(gpu="g5", node="c", action="enable-mig"),
            "'g5' is to",
        ),
        ("cramped", lambda plan: plan.update(version=1.0), "version: must be 1, not 1.0"),
    ],
)
def test_a_plan_that_leaves_something_out_or_counts_wrongly_is_refused(name: str, tamper: Tamper, said: str) -> None:
    plan = document(name)
    tamper(plan)
    with pytest.raises(InvalidPlan) as caught:
        read_plan(json.dumps(plan))
    assert said in str(caught.value)


def test_a_key_that_comes_twice_is_named_with_its_place() -> None:
    text = json.dumps(document("cramped"))
    with pytest.raises(InvalidPlan, match=r"moves: is given twice; keep one\."):
        read_plan(text.replace('"moves": ', '"moves": 0, "moves": ', 1))
    with pytest.raises(InvalidPlan, match=r"problem\.gpus\[0\]\.id: is given twice"):
        read_plan(text.replace('"gpus": [{"id"', '"gpus": [{"id": "x", "id"', 1))


def test_the_problem_inside_is_checked_like_any() -> None:
    plan = document("cramped")
    plan["problem"]["gpus"][0]["board"] = "A100"
    with pytest.raises(InvalidProblem):
        read_plan(json.dumps(plan))
    plan["problem"] = {"version": 1, "gpu": []}
    with pytest.raises(InvalidPlan, match=r"problem\.gpu: is no key"):
        read_plan(json.dumps(plan))


@pytest.mark.parametrize("text", [b"", b"{}", b"[" * 10_000, b"nonsense", b'{"steps": [' + b"{}," * 10_000 + b"{}]}"])
def test_hostile_text_is_refused_with_a_sentence(text: bytes) -> None:
    with pytest.raises(InvalidPlan) as caught:
        read_plan(text)
    assert len(str(caught.value)) < 10_000


def _first(plan: dict[str, Any], action: str) -> dict[str, Any]:
    found: dict[str, Any] = next(step for step in plan["steps"] if step["action"] == action)
    return found


def _unplaced(workload: str) -> dict[str, str]:
    return {"workload": workload, "reason": "There is no room.", "limit": "gpus"}
