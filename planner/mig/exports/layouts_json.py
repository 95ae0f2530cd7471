"""The layouts of a plan as plain JSON: per node and GPU what is there and what shall be there, with driver ids."""

import json
from typing import Any

from planner.mig.exports.nodes import ExportGpu, export_nodes
from planner.mig.plan import ChangePlan
from planner.mig.problem import Problem

FILE_NAME = "layouts.json"


def export(problem: Problem, change: ChangePlan) -> dict[str, str]:
    """One file."""
    target = change.target
    document = {
        "version": 1,
        "status": target.status.value,
        "mode": target.mode.value,
        "nodes": [
            {"node": node.name, "gpus": [_gpu(gpu) for gpu in node.gpus]} for node in export_nodes(problem, change)
        ],
    }
    return {FILE_NAME: json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"}


def _gpu(gpu: ExportGpu) -> dict[str, Any]:
    before = gpu.before.instances if gpu.before else ()
    return {
        "id": gpu.after.id,
        "index": gpu.index,
        "index_known": gpu.index_is_known,
        "board": gpu.after.board.name,
        "new": gpu.after.is_new,
        "occupied_whole": gpu.is_held_whole,
        "mig_enabled": gpu.mig_enabled,
        "before": [
            _instance(gpu, one.profile, one.start, one.workloads, one.compute_instances, is_reserve=False)
            for one in before
        ],
        "after": [
            _instance(gpu, one.profile, one.start, one.workloads, one.compute_instances, is_reserve=one.is_reserve)
            for one in gpu.after.instances
        ],
    }


def _instance(
    gpu: ExportGpu,
    name: str,
    start: int | None,
    workloads: tuple[str, ...],
    compute_instances: tuple[str, ...],
    *,
    is_reserve: bool,
) -> dict[str, Any]:
    profile = next(profile for profile in gpu.after.board.profiles if profile.name == name)
    return {
        "profile": name,
        "profile_id": profile.profile_id,
        "start": start,
        "size": profile.memory_slices,
        "compute_instances": list(compute_instances),
        "workloads": list(workloads),
        "reserve": is_reserve,
    }
