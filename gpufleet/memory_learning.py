"""`gpufleet memory learn`: a start-up log beside the prediction for the run that it describes, kept in the store."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpufleet.errors import ShellError
from gpufleet.memory_device import device_for
from gpufleet.memory_documents import comparison_document, corrections_document
from gpufleet.memory_store import known_experience, store_place, writable_store
from gpufleet.model_sources import ModelSources
from planner.errors import PlannerError
from planner.memory.calibration import corrections_for
from planner.memory.experience import NO_EXPERIENCE, Experience
from planner.memory.learning import Learnt, LogDescription, read_start_log, told
from planner.memory.learning import learn as learn_from
from planner.memory.measured import Measured

_SIZE_LIMIT_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the user says about the run beside its log."""

    model: str | None = None
    gpu: str | None = None
    mig: str | None = None
    device_memory_bytes: int | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    tp: int | None = None


def learn(
    log: Path, said: Said, store: str | None, config: Path | None, sources: ModelSources | None = None
) -> dict[str, Any]:
    """Read the log, compare, keep the run; the JSON of the command."""
    measured = read_start_log(_text(log), repr(str(log)))
    learnt, notes = _learnt(log, measured, said, sources or ModelSources())
    head = {"log": str(log), "model": said.model or measured.model}
    return kept_document(head, measured, learnt, notes, store, config)


def kept_document(
    head: dict[str, Any],
    measured: Measured,
    learnt: Learnt | None,
    noted: Iterable[str],
    store: str | None,
    config: Path | None,
) -> dict[str, Any]:
    """Keep the run where it can be; the JSON of the command. `head` says what was read, and its model."""
    notes = list(noted)
    recorded, place = None, None
    after: Experience = NO_EXPERIENCE
    if learnt is not None:
        notes.extend(learnt.notes)
        if learnt.refusal is not None:
            notes.append(f"Not kept. {learnt.refusal}")
        if learnt.can_be_kept:
            recorded, place = _kept(learnt, store, config)
            after = known_experience(place, None)
            if not recorded:
                notes.append("This measurement was kept before.")
    calibration = learnt.calibration if learnt is not None else None
    corrections = corrections_for(calibration.key, after.calibrations) if calibration is not None else ()
    estimate = learnt.estimate if learnt is not None else None
    return {
        **head,
        "engine": measured.engine.value if measured.engine else None,
        "engine_version": measured.engine_version,
        "model": learnt.run.model.name if learnt else head["model"],
        "device": learnt.run.device.name if learnt else None,
        "measured": told(measured),
        "failure": None if measured.failure is None else measured.failure.value,
        "failure_text": measured.failure_text,
        "predicted_verdict": estimate.verdict.value if estimate else None,
        "comparison": comparison_document(calibration) if calibration else None,
        "corrections": corrections_document(corrections),
        "recorded": bool(recorded),
        "recorded_in": _shown(place) if place is not None else None,
        "notes": notes,
    }


def _text(log: Path) -> str:
    try:
        if log.stat().st_size > _SIZE_LIMIT_BYTES:
            raise ShellError(
                f"{str(log)!r} is larger than {_SIZE_LIMIT_BYTES >> 20} MiB; cut out the start, which is what counts."
            )
        return log.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        raise ShellError(f"the log {str(log)!r} cannot be read: {error.strerror}.") from error


def _learnt(log: Path, measured: Measured, said: Said, sources: ModelSources) -> tuple[Learnt | None, list[str]]:
    """The run beside its prediction; None and a note where the log and the user say too little."""
    name = said.model or measured.model
    if name is None:
        return None, ["The log does not name its model; give --model to compare with the prediction."]
    memory = said.device_memory_bytes or (measured.device_bytes if said.gpu is None else None)
    if said.gpu is None and memory is None:
        return None, ["The log does not tell the device; give --gpu BOARD to compare with the prediction."]
    try:
        model = sources.facts(name)
    except PlannerError as error:
        return None, [f"No prediction: {error}"]
    notes = []
    if said.gpu is None:
        notes.append("The device is known by its memory alone; give --gpu BOARD to learn for that board.")
    described = LogDescription(
        model=model,
        device=device_for(said.gpu, said.mig, memory),
        tensor_parallel=said.tp,
        quantization=said.quantization,
        kv_cache_dtype=said.kv_cache_dtype,
    )
    return learn_from(measured, described, measured_at=_written_at(log)), notes


def _kept(learnt: Learnt, store: str | None, config: Path | None) -> tuple[bool, str]:
    """Whether the run is new in the store, and the store's URL."""
    from store.memory_runs import keep_run

    place = store_place(store, config)
    with writable_store(place, None) as engine:
        return keep_run(engine, learnt, now=datetime.now(UTC)), place


def _shown(place: str) -> str:
    from sqlalchemy.engine import make_url

    return make_url(place).render_as_string(hide_password=True)


def _written_at(log: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(log.stat().st_mtime, tz=UTC)
    except (OSError, OverflowError, ValueError):
        return None
