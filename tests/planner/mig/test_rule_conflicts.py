"""Rules that contradict each other or what stays are refused with both sides named; what a plan can solve is not."""

import json
from typing import Any

import pytest

from planner.errors import InvalidProblem
from planner.mig.problem_file import read_problem

BIG, SMALL = "3g.20gb", "1g.5gb"


def workload(name: str, profile: str = SMALL, **more: Any) -> dict[str, Any]:
    return {"id": name, "profile": profile, **more}


def gpu(name: str, *held: tuple[str, int, str | None], node: str = "n", **more: Any) -> dict[str, Any]:
    instances = [{"profile": profile, "start": start, "workload": who} for profile, start, who in held]
    return {"id": name, "node": node, "board": "A100-40GB", "instances": instances, **more}


def conflicts(gpus: list[dict[str, Any]], workloads: list[dict[str, Any]], **rules: Any) -> tuple[str, ...]:
    document = {"version": 1, "gpus": gpus, "workloads": workloads, "rules": rules}
    try:
        read_problem(json.dumps(document))
    except InvalidProblem as error:
        return error.mistakes
    return ()


TOGETHER = [gpu("g", (SMALL, 0, "a"), (SMALL, 1, "b"))]


@pytest.mark.parametrize("rule", [{"chat": "gpu"}, {"*": "gpu"}, {"chat": "node"}])
def test_pinned_replicas_on_one_gpu_contradict_their_spread(rule: dict[str, str]) -> None:
    replicas = [workload(name, service="chat", pinned=True) for name in "ab"]
    assert "'a' and 'b' of service 'chat' stay together on GPU 'g'" in conflicts(TOGETHER, replicas, spread=rule)[0]


def test_replicas_that_may_move_apart_are_no_conflict() -> None:
    replicas = [workload("a", service="chat", pinned=True), workload("b", service="chat")]
    assert conflicts(TOGETHER, replicas, spread={"chat": "node"}) == ()
    others = [workload("a", service="chat", pinned=True), workload("b", service="search", pinned=True)]
    assert conflicts(TOGETHER, others, spread={"*": "gpu"}) == ()


def test_pinned_replicas_on_two_gpus_of_a_node() -> None:
    gpus = [gpu("g", (SMALL, 0, "a")), gpu("h", (SMALL, 0, "b"))]
    replicas = [workload(name, service="chat", pinned=True) for name in "ab"]
    assert conflicts(gpus, replicas, spread={"chat": "gpu"}) == ()
    assert "on node 'n'" in conflicts(gpus, replicas, spread={"chat": "node"})[0]


def test_what_an_untouchable_gpu_holds_counts_as_pinned() -> None:
    replicas = [workload(name, service="chat") for name in "ab"]
    assert conflicts(TOGETHER, replicas, spread={"chat": "gpu"}) == ()
    assert conflicts(TOGETHER, replicas, spread={"chat": "gpu"}, untouchable_gpus=["g"])
    assert conflicts(TOGETHER, replicas, spread={"chat": "gpu"}, untouchable_nodes=["n"])


def test_pinned_tenants_on_one_gpu_contradict_their_isolation() -> None:
    tenants = [workload("a", tenant="red", pinned=True), workload("b", tenant="blue", pinned=True)]
    assert "('blue', 'red')" in conflicts(TOGETHER, tenants, isolated_tenants=["red"])[0]
    assert conflicts(TOGETHER, tenants, isolated_tenants="all")
    nobody = [workload("a", tenant="red", pinned=True), workload("b", pinned=True)]
    assert "none" in conflicts(TOGETHER, nobody, isolated_tenants=["red"])[0]
    free = [workload("a", tenant="red", pinned=True), workload("b", tenant="blue")]
    assert conflicts(TOGETHER, free, isolated_tenants="all") == ()
    both = [workload("a", tenant="red", pinned=True), workload("b", tenant="red", pinned=True)]
    assert conflicts(TOGETHER, both, isolated_tenants="all") == ()
    unconcerned = [*tenants, workload("c", tenant="green")]
    assert conflicts(TOGETHER, unconcerned, isolated_tenants=["green"]) == ()


def test_compute_instances_of_one_instance_cannot_be_parted() -> None:
    parts = [{"profile": "1c.3g.20gb", "workload": name} for name in "ab"]
    gpus = [gpu("g") | {"instances": [{"profile": BIG, "start": 0, "compute_instances": parts}]}]
    replicas = [workload(name, BIG, service="chat", tenant=name) for name in "ab"]
    assert "compute instances of one 3g.20gb" in conflicts(gpus, replicas, spread={"chat": "gpu"})[0]
    assert "compute instances of one 3g.20gb" in conflicts(gpus, replicas, isolated_tenants=["a"])[0]
    assert conflicts(gpus, replicas) == ()


def test_two_pinned_profiles_on_a_single_node() -> None:
    gpus = [gpu("g", (SMALL, 0, "a")), gpu("h", (BIG, 0, "b"))]
    pinned = [workload("a", pinned=True), workload("b", BIG, pinned=True)]
    assert "1g.5gb and 3g.20gb" in conflicts(gpus, pinned, single_nodes=["n"])[0]
    assert conflicts(gpus, pinned, single_nodes="all")
    assert conflicts(gpus, [workload("a", pinned=True), workload("b", BIG)], single_nodes=["n"]) == ()


def test_gpus_of_a_single_node_that_cannot_be_cut_like_the_others() -> None:
    pinned = [workload("a", pinned=True)]
    held = [gpu("g", (SMALL, 0, "a")), gpu("h", occupied_whole=True)]
    assert "'h' is held without MIG" in conflicts(held, pinned, single_nodes=["n"])[0]
    empty = [gpu("g", (SMALL, 0, "a")), gpu("h")]
    assert "'h' is untouchable and not cut" in conflicts(empty, pinned, single_nodes=["n"], untouchable_gpus=["h"])[0]
    assert conflicts(empty, pinned, single_nodes=["n"]) == ()
    elsewhere = [gpu("g", (SMALL, 0, "a")), gpu("h", node="m")]
    assert conflicts(elsewhere, pinned, single_nodes=["n"], untouchable_gpus=["h"]) == ()


@pytest.mark.parametrize(
    ("board", "profile", "to", "is_larger"),
    [
        ("A100-40GB", "3g.20gb", "4g.20gb", True),
        ("A100-40GB", "1g.10gb", "2g.10gb", True),
        ("A100-40GB", "2g.10gb", "1g.10gb", False),
        ("A100-40GB", "1g.5gb", "1g.5gb+me", True),
        ("A100-40GB", "1g.5gb+me", "1g.10gb", False),
        ("A100-40GB", "1g.5gb+me", "7g.40gb", True),
        ("RTX-PRO-6000-96GB", "1g.24gb+gfx", "2g.48gb", False),
        ("RTX-PRO-6000-96GB", "1g.24gb+gfx", "2g.48gb+gfx", True),
        ("RTX-PRO-6000-96GB", "1g.24gb", "1g.24gb-me", False),
        ("A30-24GB", "4g.24gb", "2g.12gb", False),
    ],
)
def test_what_counts_as_larger(board: str, profile: str, to: str, is_larger: bool) -> None:
    document = {
        "version": 1,
        "elastic": {"board": board},
        "workloads": [workload("w", profile)],
        "rules": {"upsize": [{"profile": profile, "to": [to]}]},
    }
    if is_larger:
        read_problem(json.dumps(document))
        return
    with pytest.raises(InvalidProblem, match="does not provide everything"):
        read_problem(json.dumps(document))
