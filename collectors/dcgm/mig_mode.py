"""Whether MIG mode is on: as the exporter says, or from what it gives and does not give.

DCGM has a field for it, DCGM_FI_DEV_MIG_MODE (number 67, of the whole GPU: 0 is disabled, 1 is enabled). No default
counter list of dcgm-exporter has it; `gpufleet agent` writes it. Source: DCGM 4.6.0, dcgmlib/dcgm_fields.h.

Without it the other fields tell. Under MIG NVML has no utilisation (nvmlDeviceGetUtilizationRates: not supported), so
DCGM has no GPU_UTIL. With MIG on and no GPU instance made, the exporter keeps clocks, power and temperature and gives
neither GPU_UTIL nor FB_*.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from planner.catalog import load_catalog
from planner.hardware import MigMode

MIG_MODE_FAMILY = "DCGM_FI_DEV_MIG_MODE"
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
    told_mode: MigMode | None = None  # by the field of that name


def told_mode(values: Iterable[float]) -> MigMode | None:
    """What the field says of one GPU, given its values on all lines of that GPU.

    None where it is not there, where its values differ, and where they are neither 0 nor 1 (DCGM's marks for no value).
    """
    told = set(values)
    if told == {1.0}:
        return MigMode.ENABLED
    return MigMode.DISABLED if told == {0.0} else None


def judge_mig_mode(gpu: GpuSigns, others: Iterable[GpuSigns]) -> MigMode | None:
    """The mode, or None where the signs do not tell; `others` are the other GPUs of the same exporter.

    GPU instances that are there count for more than the field, which may have been read at another time. Other fields
    that are missing only mean something when the exporter gives them for another GPU: else they are not in its list.
    """
    if gpu.has_instances:
        return MigMode.ENABLED
    if gpu.told_mode is not None:
        return gpu.told_mode
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
