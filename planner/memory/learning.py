"""What one start of an engine teaches: its log beside the prediction for the run that the log describes."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from planner.catalog import find_profile, load_catalog
from planner.errors import PlannerError
from planner.memory.calibration import Calibration, compare
from planner.memory.devices import is_plausible
from planner.memory.engines import estimate_run
from planner.memory.errors import UnreadableLog
from planner.memory.estimate import Device, Engine, Estimate, Run
from planner.memory.facts import ModelFacts
from planner.memory.measured import Measured
from planner.memory.measured_run import run_as_measured
from planner.memory.start_log import parse_start_log
from planner.sentences import spelled_bytes

_NOT_MEASURED: Final = frozenset({"is_scheduler_estimate", "failure_text"})
_MADE_AT_START: Final = frozenset({"fp8", "bitsandbytes"})
_PRINTS_TOTAL: Final = frozenset({Engine.VLLM, Engine.LLAMA_CPP})
"""Engines that print CUDA's total to 0.01 GiB or a MiB. Ollama rounds it to a tenth, maybe to more than there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogDescription:
    """What somebody says about a run beside its log. None: the log says it, or the engine's default held."""

    model: ModelFacts
    device: Device
    tensor_parallel: int | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """A measured run. `calibration` is None where nothing can be compared; `refusal` says why it must not be kept.

    `device_bytes` is what CUDA saw, where the engine printed it.
    """

    run: Run
    measured: Measured
    estimate: Estimate | None
    calibration: Calibration | None
    device_bytes: int | None
    refusal: str | None
    notes: tuple[str, ...]

    @property
    def can_be_kept(self) -> bool:
        """Whether later estimates may rest on it."""
        return self.calibration is not None and self.refusal is None


def read_start_log(text: str, name: str) -> Measured:
    """What the last start in the log measured; raises UnreadableLog where it says nothing about memory."""
    measured = parse_start_log(text)
    if measured.engine is None or not measured.has_memory:
        raise UnreadableLog(
            f"{name} holds no start of vLLM, llama.cpp or Ollama that says something about memory. Give the whole log "
            "from the start of the server on, at its usual level."
        )
    return measured


def learn(measured: Measured, described: LogDescription, *, measured_at: datetime | None = None) -> Learnt:
    """Predict the run with the settings in its log, without corrections, and compare."""
    run = Run(
        model=described.model,
        device=described.device,
        engine=measured.engine or Engine.VLLM,
        tensor_parallel=described.tensor_parallel or 1,
        quantization=described.quantization or _made_at_start(described.model, measured),
        kv_cache_dtype=described.kv_cache_dtype,
    )
    seen = run_as_measured(run, measured)
    notes: list[str] = []
    estimate: Estimate | None = None
    try:
        estimate = estimate_run(seen)
    except PlannerError as error:
        notes.append(f"No prediction: {error}")
    if measured.is_scheduler_estimate:
        notes.append("These sizes are what Ollama's scheduler reckoned, not what was allocated: nothing is learnt.")
    calibration = compare(seen, estimate, measured, measured_at=measured_at) if estimate is not None else None
    return Learnt(
        run=seen,
        measured=measured,
        estimate=estimate,
        calibration=calibration if calibration is not None and calibration.terms else None,
        device_bytes=measured.device_bytes if measured.engine in _PRINTS_TOTAL else None,
        refusal=_refusal(described.device, measured),
        notes=tuple(notes),
    )


def profile_of(device: Device) -> str | None:
    """The MIG profile in the name of a device of the catalogue."""
    return device.name.removeprefix(f"{device.board} ") if device.is_mig and device.board else None


def told(measured: Measured) -> dict[str, Any]:
    """Everything that the log printed, without what it did not."""
    values = {field.name: getattr(measured, field.name) for field in fields(measured)}
    plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}
    return {name: value for name, value in plain.items() if value is not None and value != {}}


def kept_of(measured: Measured) -> dict[str, Any]:
    """What of it is kept: measurements and settings, no line of a log as it stood there."""
    return {name: value for name, value in told(measured).items() if name not in _NOT_MEASURED}


def _made_at_start(model: ModelFacts, measured: Measured) -> str | None:
    """vLLM prints the same word for a checkpoint that is stored so, which its facts say, and for --quantization."""
    is_asked = measured.engine is Engine.VLLM and model.quantisation is None
    return measured.quantization if is_asked and measured.quantization in _MADE_AT_START else None


def _refusal(device: Device, measured: Measured) -> str | None:
    """A log of another device than the one that is named would mislead every later answer for that one."""
    if not device.board or measured.device_bytes is None:
        return None
    board = load_catalog().board(device.board)
    name = profile_of(device)
    profile = None if name is None else find_profile(board, name)
    if is_plausible(board, profile, measured.device_bytes):
        return None
    return (
        f"The engine saw a device of {spelled_bytes(measured.device_bytes)}, and {device.name} has "
        f"{spelled_bytes(device.memory_bytes)}: this is the log of another device. Name it, a MIG device by its "
        "profile too."
    )
