"""What earlier runs measured, as the planner takes it: comparisons with predictions, and the memory of devices."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from planner.memory.calibration import Calibration, CalibrationKey, corrections_for, key_of
from planner.memory.devices import MeasuredMemory
from planner.memory.estimate import Engine, Run
from planner.memory.vllm_versions import NEWEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """Measured runs, the oldest first, and what CUDA saw of each device; `notes` say what could not be read."""

    calibrations: tuple[Calibration, ...] = ()
    devices: tuple[MeasuredMemory, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def memory(self) -> Mapping[str, MeasuredMemory]:
        """By name of the device, as `planner.memory.devices` takes it."""
        return {one.device: one for one in self.devices}


NO_EXPERIENCE = Experience()


def corrected_run(run: Run, experience: Experience) -> Run:
    """The run with the corrections that measured runs of its model, engine, version and device ask for."""
    return replace(run, corrections=corrections_for(question_key(run), experience.calibrations))


def question_key(run: Run) -> CalibrationKey:
    """The key that a question falls under: without a version of vLLM that of the newest, which is then assumed.

    A *log* without a version is kept under none: it must not speak for the newest.
    """
    if run.engine is Engine.VLLM and run.engine_version is None:
        run = replace(run, engine_version=".".join(str(part) for part in NEWEST))
    return key_of(run)
