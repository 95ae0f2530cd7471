"""The plan file: everything a plan says as JSON, the problem included, so that it can be exported and replayed alone.

docs/mig-planning.md explains every key. Reading one checks it as strictly as a problem: scripts are made from it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planner.errors import InvalidPlan
from planner.mig.file_shape import read_json
from planner.mig.order import natural_key
from planner.mig.plan import (
    Action,
    ChangePlan,
    Level,
    Mode,
    Remedy,
    Status,
    Step,
    Target,
    TargetGpu,
    TargetInstance,
    Unplaced,
)
from planner.mig.plan_checks import check_plan, new_boards
from planner.mig.plan_rows import LayoutRow, PlanRow, StepRow
from planner.mig.problem import Problem
from planner.mig.problem_file import problem_document
from planner.mig.problem_reading import problem_from_row

SIZE_LIMIT_BYTES = 256 * 2**20
"""Larger plan files are not read: a plan for 10,000 GPUs takes a tenth of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPlan:
    """A plan as its file holds it. Which workloads were interchangeable (`Target.groups`) is not kept."""

    problem: Problem
    change: ChangePlan
    seconds: Mapping[str, float]


def plan_document(problem: Problem, change: ChangePlan, *, seconds: Mapping[str, float]) -> dict[str, Any]:
    """The plan file for a problem and its change plan; `seconds` says how long each part took."""
    target = change.target
    return {
        "version": 1,
        "status": target.status.value,
        "mode": target.mode.value,
        "gpus_used": target.gpus_used,
        "gpus_lower_bound": target.gpus_lower_bound,
        "moves": target.moves,
        "moves_lower_bound": target.moves_lower_bound,
        "cost_usd_per_hour": target.cost_usd_per_hour,
        "levels": [_level_document(level) for level in target.levels],
        "placements": _placements(target.gpus),
        "unplaced": [
            {"workload": rest.workload, "reason": rest.reason, "limit": rest.limit} for rest in target.unplaced
        ],
        "steps": [_step_document(step) for step in change.steps],
        "rollback": [_step_document(step) for step in change.rollback],
        "max_down": change.max_down,
        "max_down_proven": change.max_down_is_proven,
        "down": list(change.down),
        "layouts": [_layout_document(gpu) for gpu in target.gpus],
        "assumed_gpus": sorted(target.assumed_gpus, key=natural_key),
        "remedies": [{"drop_rules": list(one.drop_rules), "add_gpus": dict(one.add_gpus)} for one in target.remedies],
        "notes": list(target.notes),
        "seconds": {part: round(value, 4) for part, value in seconds.items()},
        "problem": problem_document(problem),
    }


def read_plan(text: bytes | str) -> StoredPlan:
    """The plan that a file holds; raises InvalidPlan, or InvalidProblem for the problem inside."""
    if len(text) > SIZE_LIMIT_BYTES:
        raise InvalidPlan([f"it is larger than {SIZE_LIMIT_BYTES // 2**20} MiB."])
    row = read_json(PlanRow, text, InvalidPlan)
    problem = problem_from_row(row.problem)
    check_plan(row, problem)
    target = Target(
        mode=Mode(row.mode),
        status=Status(row.status),
        levels=tuple(
            Level(
                name=one.name,
                value=one.value,
                lower_bound=-math.inf if one.lower_bound is None else one.lower_bound,
                is_proven=one.proven,
            )
            for one in row.levels
        ),
        gpus=_target_gpus(row.layouts, problem),
        unplaced=tuple(Unplaced(workload=one.workload, reason=one.reason, limit=one.limit) for one in row.unplaced),
        gpus_used=row.gpus_used,
        gpus_lower_bound=row.gpus_lower_bound,
        moves=row.moves,
        moves_lower_bound=row.moves_lower_bound,
        groups={},
        assumed_gpus=frozenset(row.assumed_gpus),
        remedies=tuple(Remedy(drop_rules=tuple(one.drop_rules), add_gpus=dict(one.add_gpus)) for one in row.remedies),
        notes=tuple(row.notes),
        cost_usd_per_hour=row.cost_usd_per_hour,
    )
    change = ChangePlan(
        steps=_steps(row.steps),
        rollback=_steps(row.rollback),
        max_down=row.max_down,
        max_down_is_proven=row.max_down_proven,
        down=tuple(row.down),
        target=target,
    )
    return StoredPlan(problem=problem, change=change, seconds=dict(row.seconds))


def _level_document(level: Level) -> dict[str, Any]:
    return {
        "name": level.name,
        "value": level.value,
        "lower_bound": level.lower_bound if math.isfinite(level.lower_bound) else None,
        "proven": level.is_proven,
        "gap_ratio": round(level.gap_ratio, 6) if math.isfinite(level.gap_ratio) else None,
    }


def _placements(gpus: Sequence[TargetGpu]) -> list[dict[str, Any]]:
    """Every workload that runs in the target, by its natural order."""
    placed = [
        {"workload": workload, "gpu": gpu.id, "node": gpu.node, "profile": one.profile, "start": one.start}
        for gpu in gpus
        for one in gpu.instances
        for workload in one.workloads
    ]
    return sorted(placed, key=lambda row: natural_key(str(row["workload"])))


def _layout_document(gpu: TargetGpu) -> dict[str, Any]:
    document: dict[str, Any] = {"gpu": gpu.id, "node": gpu.node, "board": gpu.board.name}
    if gpu.is_new:
        document["new"] = True
    document["instances"] = [_instance_document(one) for one in gpu.instances]
    return document


def _instance_document(one: TargetInstance) -> dict[str, Any]:
    document: dict[str, Any] = {"profile": one.profile, "start": one.start, "workloads": list(one.workloads)}
    if one.compute_instances:
        document["compute_instances"] = list(one.compute_instances)
    if one.is_reserve:
        document["reserve"] = True
    return document


def _step_document(step: Step) -> dict[str, Any]:
    """Keys that the step has no use for are left out: there are many steps."""
    document: dict[str, Any] = {"wave": step.wave, "node": step.node, "gpu": step.gpu, "action": step.action.value}
    if step.workload is not None:
        document["workload"] = step.workload
    if step.profile is not None:
        document["profile"] = step.profile
    if step.start is not None:
        document["start"] = step.start
    if step.compute_instances:
        document["compute_instances"] = list(step.compute_instances)
    if step.is_downtime:
        document["downtime"] = True
    if step.resets_gpu:
        document["resets_gpu"] = True
    if step.action is Action.CHECK:
        document["expected"] = [{"profile": profile, "start": start} for profile, start in step.expected]
    if step.note is not None:
        document["note"] = step.note
    return document


def _target_gpus(rows: Sequence[LayoutRow], problem: Problem) -> tuple[TargetGpu, ...]:
    boards = {gpu.id: gpu.board for gpu in problem.gpus}
    elastic = new_boards(problem)
    return tuple(
        TargetGpu(
            id=row.gpu,
            node=row.node,
            board=elastic[row.board] if row.new else boards[row.gpu],
            instances=tuple(
                TargetInstance(
                    profile=one.profile,
                    start=one.start,
                    workloads=tuple(one.workloads),
                    compute_instances=tuple(one.compute_instances),
                    is_reserve=one.reserve,
                )
                for one in row.instances
            ),
            is_new=row.new,
        )
        for row in rows
    )


def _steps(rows: Sequence[StepRow]) -> tuple[Step, ...]:
    return tuple(
        Step(
            wave=row.wave,
            node=row.node,
            gpu=row.gpu,
            action=Action(row.action),
            profile=row.profile,
            start=row.start,
            compute_instances=tuple(row.compute_instances),
            workload=row.workload,
            is_downtime=row.downtime,
            resets_gpu=row.resets_gpu,
            expected=tuple((one.profile, one.start) for one in row.expected),
            note=row.note,
        )
        for row in rows
    )
