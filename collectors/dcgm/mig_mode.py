"""Whether MIG mode is on, from what an exporter says and does not say; DCGM has no field for it.

Under MIG NVML has no utilisation (nvmlDeviceGetUtilizationRates: not supported), so DCGM has no GPU_UTIL. With MIG on
and no GPU instance made, the exporter keeps clocks, power and temperature and gives neither GPU_UTIL nor FB_*.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from planner.catalog import load_catalog
from planner.hardware import MigMode

NOT_UNDER_MIG = ("gpu_busy_ratio", "memory_busy_ratio", "encoder_busy_ratio", "decoder_busy_ratio")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSigns:
    """What an exporter gives for one GPU."""

    has_instances: bool
    has_utilisation: bool
    has_framebuffer: bool  # of the whole GPU
    has_instance_framebuffer: bool
    is_alive: bool  # power and temperature are read: a GPU that fell off the bus gives nothing either
    model_name: str | None


def judge_mig_mode(gpu: GpuSigns, others: Iterable[GpuSigns]) -> MigMode | None:
    """The mode, or None where the signs do not tell; `others` are the other GPUs of the same exporter.

    A missing field only means something when the exporter gives it for another GPU: else it is not in its counter list.
    """
    if gpu.has_instances:
        return MigMode.ENABLED
    if gpu.has_utilisation:
        return MigMode.DISABLED
    rest = tuple(others)
    if gpu.has_framebuffer:
        is_utilisation_listed = any(other.has_utilisation for other in rest)
        return None if is_utilisation_listed else MigMode.DISABLED
    is_framebuffer_listed = any(other.has_framebuffer or other.has_instance_framebuffer for other in rest)
    if is_framebuffer_listed and gpu.is_alive and _is_mig_capable(gpu.model_name):
        return MigMode.ENABLED
    return None


def _is_mig_capable(model_name: str | None) -> bool:
    board = load_catalog().board_for(model_name)
    return board is not None and board.is_mig_capable
