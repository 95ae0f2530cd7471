"""The problem file: JSON to a checked `Problem`, and back. docs/mig-planning.md explains every key.

Whatever the file says is checked here: shape, names against the catalogue, present layouts against the geometry, and
what refers to what; `planner/mig/rule_conflicts.py` then looks for rules that contradict each other or what runs.
"""

from collections.abc import Iterator
from typing import Any

from planner.errors import InvalidProblem
from planner.mig.file_shape import read_json
from planner.mig.problem import EVERY, Problem, ProblemGpu, Rules, RunningInstance, Workload
from planner.mig.problem_reading import problem_from_row
from planner.mig.problem_rows import ProblemRow

SIZE_LIMIT_BYTES = 32 * 2**20
"""Larger problem files are not read: 10,000 GPUs with all their instances and workloads take a third of it."""


def read_problem(text: bytes | str) -> Problem:
    """The problem that the file states; raises InvalidProblem with its mistakes and where they are."""
    if len(text) > SIZE_LIMIT_BYTES:
        raise InvalidProblem([f"it is larger than {SIZE_LIMIT_BYTES // 2**20} MiB; state a part of the fleet."])
    return problem_from_row(read_json(ProblemRow, text, InvalidProblem))


def problem_document(problem: Problem) -> dict[str, Any]:
    """The file that states the problem: `read_problem` of it is the problem again."""
    document: dict[str, Any] = {"version": 1, "gpus": [_gpu_document(gpu) for gpu in problem.gpus]}
    if problem.elastic is not None:
        elastic: dict[str, Any] = {"boards": [board.name for board in problem.elastic.boards]}
        if len(problem.elastic.boards) == 1:
            elastic = {"board": problem.elastic.boards[0].name}
        elastic["gpus_per_node"] = problem.elastic.gpus_per_node
        document["elastic"] = elastic | _given(driver=problem.elastic.driver)
    document["workloads"] = [_workload_document(workload) for workload in problem.workloads]
    if problem.new:
        document["new"] = [_workload_document(workload) for workload in problem.new]
    rules = _rules_document(problem.rules)
    if rules:
        document["rules"] = rules
    if problem.prices:
        document["prices"] = dict(problem.prices)
    return document


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value is not False}


def _gpu_document(gpu: ProblemGpu) -> dict[str, Any]:
    document: dict[str, Any] = {"id": gpu.id, "node": gpu.node, "board": gpu.board.name}
    document["instances"] = [_instance_document(instance) for instance in gpu.instances]
    if gpu.mig_enabled is not None:
        document["mig_enabled"] = gpu.mig_enabled
    return document | _given(occupied_whole=gpu.occupied_whole, driver=gpu.driver, product=gpu.product, index=gpu.index)


def _instance_document(instance: RunningInstance) -> dict[str, Any]:
    document: dict[str, Any] = {"profile": instance.profile, "start": instance.start}
    if not instance.compute_instances:
        return document | {"workload": instance.workloads[0] if instance.workloads else None}
    held: Iterator[str | None] = iter((*instance.workloads, *(None for _ in instance.compute_instances)))
    rows = [{"profile": name, "workload": next(held)} for name in instance.compute_instances]
    return document | {"compute_instances": rows}


def _workload_document(workload: Workload) -> dict[str, Any]:
    return {"id": workload.id, "profile": workload.profile} | _given(
        service=workload.service, tenant=workload.tenant, pinned=workload.pinned
    )


def _rules_document(rules: Rules) -> dict[str, Any]:
    def names(listed: frozenset[str]) -> str | list[str]:
        return "all" if listed == {EVERY} else sorted(listed)

    document = {
        "single_nodes": names(rules.single_nodes),
        "spread": {service: spread.value for service, spread in rules.spread.items()},
        "isolated_tenants": names(rules.isolated_tenants),
        "reserve": [{"profile": one.profile, "count": one.count} for one in rules.reserves],
        "survive_node_loss": rules.survive_node_loss,
        "upsize": [{"profile": one.profile, "to": list(one.to), "price": one.price} for one in rules.upsizes],
        "untouchable_gpus": sorted(rules.untouchable_gpus),
        "untouchable_nodes": sorted(rules.untouchable_nodes),
        "stay_on_board": rules.stay_on_board,
    }
    kept: dict[str, Any] = {key: value for key, value in document.items() if value}
    return kept if rules.max_moves is None else kept | {"max_moves": rules.max_moves}
