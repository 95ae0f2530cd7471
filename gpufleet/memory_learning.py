"""`gpufleet memory learn`: a start-up log beside the prediction for the run that it describes."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpufleet.errors import ShellError
from gpufleet.memory_documents import comparison_document, corrections_document
from gpufleet.memory_history import history_path, keep, read_history, row_of
from gpufleet.memory_request import device_for
from gpufleet.model_files import load_model
from planner.errors import PlannerError
from planner.memory.calibration import Calibration, compare, corrections_for
from planner.memory.engines import estimate_run
from planner.memory.estimate import Engine, Estimate, Run
from planner.memory.measured import Measured
from planner.memory.measured_run import run_as_measured
from planner.memory.start_log import parse_start_log

_SIZE_LIMIT_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class LogDescription:
    """What the user says about the run beside its log."""

    model: str | None = None
    gpu: str | None = None
    mig: str | None = None
    device_memory_bytes: int | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    tp: int | None = None


def learn(log: Path, described: LogDescription, calibration_file: Path | None) -> dict[str, Any]:
    """Read the log, compare, keep the run; the JSON of the command."""
    measured = _measured(log)
    engine = measured.engine
    if engine is None or not measured.has_memory:
        raise ShellError(
            f"{str(log)!r} holds no start of vLLM, llama.cpp or Ollama that says something about memory. Give the "
            "whole log from the start of the server on, at its usual level."
        )
    run, estimate, notes = _predicted(measured, described, engine)
    comparison = compare(run, estimate, measured, measured_at=_written_at(log)) if run and estimate else None
    if measured.is_scheduler_estimate:
        notes.append("These sizes are what Ollama's scheduler reckoned, not what was allocated: nothing is learnt.")
    told = _told(measured)
    is_new = None
    if comparison is not None and comparison.terms:
        is_new = keep(row_of(comparison, told), calibration_file)
        if not is_new:
            notes.append("This measurement was kept before.")
    return {
        "log": str(log),
        "engine": engine.value,
        "engine_version": measured.engine_version,
        "model": run.model.name if run else described.model or measured.model,
        "device": run.device.name if run else None,
        "measured": told,
        "failure": None if measured.failure is None else measured.failure.value,
        "failure_text": measured.failure_text,
        "predicted_verdict": estimate.verdict.value if estimate else None,
        "comparison": comparison_document(comparison) if comparison else None,
        "corrections": _corrections(comparison, calibration_file),
        "recorded": bool(is_new),
        "recorded_in": str(history_path(calibration_file)) if is_new is not None else None,
        "notes": notes,
    }


def _measured(log: Path) -> Measured:
    try:
        if log.stat().st_size > _SIZE_LIMIT_BYTES:
            raise ShellError(
                f"{str(log)!r} is larger than {_SIZE_LIMIT_BYTES >> 20} MiB; cut out the start, which is what counts."
            )
        text = log.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        raise ShellError(f"the log {str(log)!r} cannot be read: {error.strerror}.") from error
    return parse_start_log(text)


def _predicted(
    measured: Measured, described: LogDescription, engine: Engine
) -> tuple[Run | None, Estimate | None, list[str]]:
    """The prediction with the run's own settings; None and a note where the log and the user say too little."""
    name = described.model or measured.model
    if name is None:
        return None, None, ["The log does not name its model; give --model to compare with the prediction."]
    memory = described.device_memory_bytes or (measured.device_bytes if described.gpu is None else None)
    if described.gpu is None and memory is None:
        return None, None, ["The log does not tell the device; give --gpu BOARD to compare with the prediction."]
    try:
        model = load_model(name)
    except PlannerError as error:
        return None, None, [f"No prediction: {error}"]
    notes = []
    if described.gpu is None:
        notes.append("The device is known by its memory alone; give --gpu BOARD to learn for that board.")
    run = Run(
        model=model,
        device=device_for(described.gpu, described.mig, memory),
        engine=engine,
        tensor_parallel=described.tp or 1,
        quantization=described.quantization,
        kv_cache_dtype=described.kv_cache_dtype,
    )
    seen = run_as_measured(run, measured)
    try:
        return seen, estimate_run(seen), notes
    except PlannerError as error:
        return seen, None, [*notes, f"No prediction: {error}"]


def _corrections(comparison: Calibration | None, calibration_file: Path | None) -> list[dict[str, Any]]:
    """What this and earlier runs of the same key ask for from now on."""
    if comparison is None or not comparison.terms:
        return []
    history = [row.calibration() for row in read_history(calibration_file)]
    return corrections_document(corrections_for(comparison.key, history))


def _told(measured: Measured) -> dict[str, Any]:
    """Everything that the log printed, without what it did not."""
    values = {field.name: getattr(measured, field.name) for field in fields(measured)}
    plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}
    return {name: value for name, value in plain.items() if value is not None and value != {}}


def _written_at(log: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(log.stat().st_mtime, tz=UTC)
    except (OSError, OverflowError, ValueError):
        return None
