"""Plans to write, export and replay: made by the planner from problems that touch every kind of step."""

import json
from typing import Any

from planner.mig.change import change_plan
from planner.mig.plan import ChangePlan, Mode
from planner.mig.planning import plan_target
from planner.mig.problem import Problem
from planner.mig.problem_file import read_problem


def problem(**document: Any) -> Problem:
    return read_problem(json.dumps({"version": 1, **document}))


def planned(asked: Problem, mode: Mode) -> ChangePlan:
    return change_plan(asked, plan_target(asked, mode))


def gpu(
    name: str, node: str, *held: tuple[str, int | None, str | None], board: str = "A100-40GB", **more: Any
) -> dict[str, Any]:
    instances = [{"profile": profile, "start": start, "workload": who} for profile, start, who in held]
    return {"id": name, "node": node, "board": board, "instances": instances, **more}


def workloads_of(gpus: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"id": one["workload"], "profile": one["profile"]}
        for row in gpus
        for one in row["instances"]
        if one.get("workload")
    ]


def spread_out() -> Problem:
    """Three nodes whose work fits on one and a half; one start is not known."""
    gpus = [
        gpu("g0", "a", ("3g.20gb", 0, "w0"), ("1g.5gb", 4, "w1")),
        gpu("g1", "a", ("3g.20gb", 4, "w2"), ("1g.5gb", 0, "w3")),
        gpu("g2", "b", ("2g.10gb", None, "w4")),
        gpu("g3", "b", ("4g.20gb", 0, "w5"), ("1g.5gb", 6, None)),
        gpu("g4", "c", ("7g.40gb", 0, "w6")),
        gpu("g5", "c", occupied_whole=True),
    ]
    return problem(gpus=gpus, workloads=workloads_of(gpus))


def growing() -> Problem:
    """New requests, an empty GPU whose MIG mode is off, compute instances, and more GPUs to be had."""
    parts = [{"profile": "1c.3g.20gb", "workload": "p0"}, {"profile": "2c.3g.20gb", "workload": "p1"}]
    gpus = [
        gpu("g0", "a") | {"instances": [{"profile": "3g.20gb", "start": 4, "compute_instances": parts}]},
        gpu("g1", "a", mig_enabled=False),
        gpu("g2", "b", ("1g.5gb+me", 0, "w0"), ("1g.5gb", 5, "w1")),
    ]
    running = [{"id": "w0", "profile": "1g.5gb+me"}, {"id": "w1", "profile": "1g.5gb"}]
    running += [{"id": name, "profile": "3g.20gb"} for name in ("p0", "p1")]
    new = [
        {"id": f"n{number}", "profile": name}
        for number, name in enumerate(["4g.20gb", "7g.40gb", "7g.40gb", "2g.10gb"])
    ]
    return problem(gpus=gpus, workloads=running, new=new, elastic={"board": "A100-40GB", "gpus_per_node": 2})


def cramped() -> Problem:
    """Two full GPUs whose tenants must part: something has to stop, and no request could be added."""
    gpus = [
        gpu("g0", "a", ("4g.20gb", 0, "red-0"), ("2g.10gb", 4, "blue-0"), ("1g.5gb", 6, "blue-1")),
        gpu("g1", "b", ("4g.20gb", 0, "blue-2"), ("3g.20gb", 4, "red-1")),
    ]
    rows = [{**row, "tenant": row["id"][:-2], "pinned": row["profile"] == "4g.20gb"} for row in workloads_of(gpus)]
    new = [{"id": "big", "profile": "4g.20gb"}]
    return problem(gpus=gpus, workloads=rows, new=new, rules={"isolated_tenants": "all"})


def uncut() -> Problem:
    """Requests for GPUs that do not exist yet."""
    new = [{"id": f"n{number}", "profile": "3g.20gb"} for number in range(5)]
    return problem(elastic={"board": "H100-80GB-SXM"}, new=[{**one, "profile": "3g.40gb"} for one in new])


PLANS = {
    "spread out": (spread_out, Mode.RECONFIGURE),
    "compact": (spread_out, Mode.COMPACT),
    "growing": (growing, Mode.ADD),
    "cramped": (cramped, Mode.RECONFIGURE),
    "too much": (cramped, Mode.ADD_WITHOUT_MOVES),
    "uncut": (uncut, Mode.INITIAL),
}


def example(name: str) -> tuple[Problem, ChangePlan]:
    build, mode = PLANS[name]
    asked = build()
    return asked, planned(asked, mode)
