"""What a device has been measured to need over a window, and how far that can be known."""

from dataclasses import dataclass
from enum import StrEnum

from planner.catalog import find_profile
from planner.fleet import Device, DeviceState, Quantiles, Usage
from planner.hardware import Board, Profile
from planner.sentences import spelled_bytes

RESERVATION_OCCUPIED_RATIO = 0.8
"""From this share of the device on, steady occupancy looks like an engine's reservation (vLLM takes 0.9 by default)."""

RESERVATION_SPREAD_RATIO = 0.02
"""Occupancy that moves by less than this share of the device over the window is steady."""

SATURATED_RATIO = 0.95
"""SM activity from which a device is too small. Not lower: an SM counts as active while its warps wait for memory, so
a busy decoder shows a high share on any size of device."""


class MemoryBasis(StrEnum):
    """Where a memory need comes from."""

    HIGH_WATER = "high-water"  # most framebuffer occupied in the window
    RESERVATION = "reservation"  # an engine holds its share whatever it needs; the reservation stands for the need
    UNKNOWN = "unknown"


class ComputeBasis(StrEnum):
    """Where a compute need comes from."""

    SM_ACTIVE = "sm-active"
    GR_ENGINE = "gr-engine"  # share of time anything ran: an upper bound on the SMs in use
    GPU_BUSY = "gpu-busy"  # the same, for a whole GPU without profiling fields
    MINIMAL = "minimal"  # nothing ran: any compute slice will do
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdviceSettings:
    """How careful the advice is."""

    memory_headroom_ratio: float = 0.1  # on top of the memory high-water mark; a reservation needs none
    compute_headroom_ratio: float = 0.25  # on top of the 95th percentile of busy SMs and of memory bandwidth
    min_coverage_ratio: float = 0.5  # share of the window that must be measured before a device may change its profile
    solver_time_limit_s: float = 10.0  # per board


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Measured need of one device, before headroom; None is "cannot be known", and `reasons` says why."""

    memory_bytes: int | None
    memory_basis: MemoryBasis
    sm_count: float | None  # SMs kept busy at the 95th percentile
    compute_basis: ComputeBasis
    bandwidth_ratio: float | None  # share of the whole GPU's memory bandwidth at the 95th percentile
    is_saturated: bool  # the SMs the device has were used up
    reasons: tuple[str, ...]  # sentences of numbers, for people


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a device, a profile or a whole GPU provides; None is "no source states it"."""

    memory_bytes: float | None
    sm_count: float | None
    bandwidth_ratio: float | None  # share of the whole GPU's; a memory slice has its share of bandwidth and capacity


def measured_need(device: Device, settings: AdviceSettings | None = None) -> Need:
    """What the device needed over the window of its usage, from framebuffer, SM and memory-bandwidth readings."""
    settings = settings or AdviceSettings()
    board, usage = device.gpu.board, device.usage
    if board is None or (device.instance is not None and find_profile(board, device.instance.profile) is None):
        return _unknown("The catalogue does not know its board or profile.")
    if usage is None:
        return _unknown("Nothing was measured in the window.")
    if device.verdict.state is DeviceState.UNKNOWN:
        return _unknown(device.verdict.reason)
    if usage.coverage_ratio < settings.min_coverage_ratio:
        return _unknown(f"Only {usage.coverage_ratio:.0%} of the window was measured, too little to know its need.")
    capacity = present_capacity(device)
    memory_bytes, memory_basis, memory_reason = _memory(usage, capacity)
    sm_count, compute_basis, compute_reason = _compute(device, usage, capacity)
    bandwidth_ratio, bandwidth_reason = _bandwidth(usage, capacity) if sm_count else (None, None)
    sm_active = usage.metrics.get("sm_active_ratio")
    return Need(
        memory_bytes=memory_bytes,
        memory_basis=memory_basis,
        sm_count=sm_count,
        compute_basis=compute_basis,
        bandwidth_ratio=bandwidth_ratio,
        is_saturated=sm_active is not None and sm_active.p95 >= SATURATED_RATIO,
        reasons=tuple(reason for reason in (memory_reason, compute_reason, bandwidth_reason) if reason),
    )


def capacity_of(board: Board, profile: Profile | None) -> Capacity:
    """What the catalogue states of a profile, or of the whole GPU without MIG."""
    if profile is None:
        return Capacity(memory_bytes=board.memory_total_bytes, sm_count=board.sm_count, bandwidth_ratio=1.0)
    slices = profile.memory_slices
    return Capacity(
        memory_bytes=profile.memory_bytes,
        sm_count=profile.sm_count,
        bandwidth_ratio=None if slices is None else slices / board.placement_grid,
    )


def present_capacity(device: Device) -> Capacity:
    """What the device provides: its memory as measured, where it is, and the rest from the catalogue."""
    board = device.gpu.board
    profile = find_profile(board, device.instance.profile) if board and device.instance else None
    if board is None or (device.instance is not None and profile is None):
        return Capacity(memory_bytes=None, sm_count=None, bandwidth_ratio=None)
    stated = capacity_of(board, profile)
    measured = device.metrics.get("memory_total_bytes")
    return Capacity(
        memory_bytes=stated.memory_bytes if measured is None else measured.value,
        sm_count=stated.sm_count,
        bandwidth_ratio=stated.bandwidth_ratio,
    )


def _unknown(reason: str) -> Need:
    return Need(
        memory_bytes=None,
        memory_basis=MemoryBasis.UNKNOWN,
        sm_count=None,
        compute_basis=ComputeBasis.UNKNOWN,
        bandwidth_ratio=None,
        is_saturated=False,
        reasons=(reason,),
    )


def _seen(usage: Usage, metric: str) -> Quantiles | None:
    quantiles = usage.metrics.get(metric)
    return quantiles if quantiles is not None and quantiles.samples else None


def _memory(usage: Usage, capacity: Capacity) -> tuple[int | None, MemoryBasis, str]:
    used = _seen(usage, "memory_used_bytes")
    if used is None:
        return None, MemoryBasis.UNKNOWN, "Memory in use is not reported for this device."
    high_water = f"At most {spelled_bytes(used.maximum)} of memory were occupied"
    total = capacity.memory_bytes
    if not total:
        return int(used.maximum), MemoryBasis.HIGH_WATER, f"{high_water}."
    high_water += f", {used.maximum / total:.0%} of what it has"
    is_steady = used.maximum - used.minimum < RESERVATION_SPREAD_RATIO * total
    if is_steady and used.maximum >= RESERVATION_OCCUPIED_RATIO * total:
        reason = (
            f"{high_water}, without change: an engine such as vLLM reserves its share whatever it needs, so the "
            "reservation stands for the need."
        )
        return int(used.maximum), MemoryBasis.RESERVATION, reason
    return int(used.maximum), MemoryBasis.HIGH_WATER, f"{high_water}."


def _compute(device: Device, usage: Usage, capacity: Capacity) -> tuple[float | None, ComputeBasis, str]:
    if device.verdict.state is DeviceState.LOADED_IDLE:
        return 0.0, ComputeBasis.MINIMAL, "Nothing ran on it, so any compute slice will do."
    if capacity.sm_count is None:
        return None, ComputeBasis.UNKNOWN, "No source states how many SMs it has."
    sm_active = _seen(usage, "sm_active_ratio")
    if sm_active is not None:
        sm_count = sm_active.p95 * capacity.sm_count
        share = f"{sm_active.p95:.0%} of its {capacity.sm_count:.0f} SMs were active at the 95th percentile"
        return sm_count, ComputeBasis.SM_ACTIVE, f"{share}, {sm_count:.1f} SMs."
    bounds = [("gr_engine_active_ratio", ComputeBasis.GR_ENGINE, "its engine was active")]
    if device.instance is None:
        bounds.append(("gpu_busy_ratio", ComputeBasis.GPU_BUSY, "kernels ran"))
    for metric, basis, what in bounds:
        busy = _seen(usage, metric)
        if busy is not None:
            share = f"{what} {busy.p95:.0%} of the time at the 95th percentile"
            reason = f"SM activity is not reported; {share}, an upper bound on the SMs in use."
            return busy.p95 * capacity.sm_count, basis, reason
    return None, ComputeBasis.UNKNOWN, "Neither SM nor engine activity is reported for this device."


def _bandwidth(usage: Usage, capacity: Capacity) -> tuple[float | None, str | None]:
    dram = _seen(usage, "dram_active_ratio")
    if dram is None or capacity.bandwidth_ratio is None:
        return None, None
    ratio = dram.p95 * capacity.bandwidth_ratio
    return ratio, f"Its memory was busy {dram.p95:.0%} of cycles, {ratio:.0%} of the whole GPU's bandwidth."
