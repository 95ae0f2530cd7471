"""The JSON that other tools read: stable shapes, documented key by key in docs/json.md; what is unknown is null."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from planner.fleet import Device
from planner.metrics import METRICS, Level
from planner.token_rates import why_no_rate

if TYPE_CHECKING:  # the types alone would load the tables and the solver
    from collectors.runner import Outcome
    from planner.advice import Advice, Assignment, BoardAdvice, ProposedLayout
    from planner.fleet import DeviceEngine, Fleet, Gpu, GpuInstance, Observation, Pod


def print_json(document: Any) -> None:
    """The document on stdout, as every `--json` prints it."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def timestamp(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with a `Z`."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def fleet_document(fleet: Fleet) -> dict[str, Any]:
    """`gpufleet fleet --json`."""
    return {
        "taken_at": timestamp(fleet.taken_at),
        "nodes": [
            {"name": node.name, "cluster": node.cluster, "gpus": [_gpu(gpu) for gpu in node.gpus]}
            for node in fleet.nodes
        ],
    }


def collect_document(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """`gpufleet collect --json`: one object per source and target; windows of one target are added up."""
    by_target: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        by_target.setdefault((outcome.source, outcome.target), []).append(outcome)
    return [_target(source, target, tries) for (source, target), tries in by_target.items()]


def advise_document(advice: Advice) -> dict[str, Any]:
    """`gpufleet advise --json`."""
    return {
        "taken_at": timestamp(advice.taken_at),
        "boards": [_board(board) for board in advice.boards],
        "not_advised": [
            {"cluster": rest.cluster, "board": rest.board, "gpus": rest.gpus, "reason": rest.reason}
            for rest in advice.not_advised
        ],
    }


def _board(advice: BoardAdvice) -> dict[str, Any]:
    return {
        "cluster": advice.cluster,
        "board": advice.board.name,
        "gpus_total": advice.gpus_total,
        "gpus_now": advice.gpus_now,
        "gpus_needed": advice.gpus_needed,
        "lower_bound": advice.lower_bound,
        "optimal": advice.is_optimal,
        "layouts": [_layout(layout) for layout in advice.layouts],
        "assignments": [_assignment(assignment) for assignment in advice.assignments],
        "unplaced": [{"device": rest.device, "reason": rest.reason} for rest in advice.unplaced],
        "released": [
            {
                "device": held.device,
                "profile": held.profile,
                "pods": [_pod(pod) for pod in held.pods],
                "reason": held.reason,
            }
            for held in advice.released
        ],
        "caveats": list(advice.caveats),
    }


def _layout(proposed: ProposedLayout) -> dict[str, Any]:
    return {
        "mig_enabled": not proposed.is_whole,
        "gpus": proposed.gpus,
        "gpu_numbers": list(proposed.gpu_numbers),
        "instances": [
            {"profile": placed.profile, "start": placed.placement.start, "size": placed.placement.size}
            for placed in proposed.layout
        ],
        "free_units": proposed.free_units,
    }


def _assignment(assignment: Assignment) -> dict[str, Any]:
    return {
        "device": assignment.device,
        "gpu_uuid": assignment.uuid,
        "gi_id": assignment.gi_id,
        "pods": [_pod(pod) for pod in assignment.pods],
        "from_profile": assignment.from_profile,
        "to_profile": assignment.to_profile,
        "gpu_number": assignment.gpu_number,
        "start": assignment.placement.start if assignment.placement else None,
        "need": {
            "memory_bytes": assignment.need.memory_bytes,
            "memory_basis": assignment.need.memory_basis.value,
            "sm_count": assignment.need.sm_count,
            "compute_basis": assignment.need.compute_basis.value,
        },
        "pinned": assignment.is_pinned,
        "too_small_now": assignment.is_too_small_now,
        "reasons": list(assignment.reasons),
    }


def _target(source: str, target: str, outcomes: list[Outcome]) -> dict[str, Any]:
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    gaps = {gap: None for outcome in outcomes for gap in outcome.gaps}  # ordered, each once
    return {
        "source": source,
        "target": target,
        "ok": not errors,
        "readings": sum(outcome.readings for outcome in outcomes),
        "facts": sum(outcome.facts for outcome in outcomes),
        "gaps": [{"subject": gap.subject, "metric": gap.metric, "reason": gap.reason} for gap in gaps],
        "seconds": round(sum(outcome.seconds for outcome in outcomes), 3),
        "error": str(errors[-1]) if errors else None,
    }


def _gpu(gpu: Gpu) -> dict[str, Any]:
    return {
        "uuid": gpu.uuid,
        "index": gpu.index,
        "board": gpu.board_label,
        "memory_total_bytes": gpu.memory_total_bytes,
        "mig_mode": gpu.mig_mode.value if gpu.mig_mode else None,
        "state": gpu.verdict.state.value,
        "state_reason": gpu.verdict.reason,
        "metrics": _metrics(gpu.metrics, {Level.GPU, Level.DEVICE}),
        "observed_at": _newest(gpu.metrics),
        "pods": [_pod(pod) for pod in gpu.pods],
        **_work(Device(gpu=gpu, instance=None)),
        "instances": [_instance(instance, gpu) for instance in gpu.instances],
    }


def _instance(instance: GpuInstance, gpu: Gpu) -> dict[str, Any]:
    used = instance.metrics.get("memory_used_bytes")
    return {
        "gi_id": instance.gi_id,
        "profile": instance.profile,
        "start": instance.start,
        "state": instance.verdict.state.value,
        "state_reason": instance.verdict.reason,
        "memory_used_bytes": None if used is None else used.value,
        "metrics": _metrics(instance.metrics, {Level.DEVICE}),
        "observed_at": _newest(instance.metrics),
        "pods": [_pod(pod) for pod in instance.pods],
        **_work(Device(gpu=gpu, instance=instance)),
    }


def _work(device: Device) -> dict[str, Any]:
    """Whose work is on the device; of a GPU that is cut, what is on the whole of it."""
    return {
        "tokens_per_s": device.tokens_per_s,
        "engines": [_engine(engine) for engine in device.engines],
        "not_attributable": device.not_attributable,
    }


def _engine(engine: DeviceEngine) -> dict[str, Any]:
    return {
        "endpoint": engine.endpoint,
        "engine": engine.engine.value,
        "model": engine.models[0] if len(engine.models) == 1 else None,
        "models": list(engine.models),
        "model_loaded": engine.is_loaded,
        "pod": engine.pod,
        "tokens_per_s": engine.device_tokens_per_s,
        "tokens_reason": why_no_rate(engine) or engine.split,
        "certainty": engine.certainty.value,
        "reason": " ".join(engine.links),
    }


def _metrics(measured: Mapping[str, Observation], levels: set[Level]) -> dict[str, float | None]:
    return {
        metric.name: measured[metric.name].value if metric.name in measured else None
        for metric in METRICS
        if metric.level in levels
    }


def _newest(measured: Mapping[str, Observation]) -> str | None:
    return timestamp(max((observation.observed_at for observation in measured.values()), default=None))


def _pod(pod: Pod) -> dict[str, Any]:
    return {"namespace": pod.namespace, "name": pod.name, "container": pod.container, "uid": pod.uid}
