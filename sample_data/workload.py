"""What every simulated device does at a time: a pure function of the cluster's seed and the time, in base units.

Nothing is stepped and nothing remembered: any time can be asked for, in any order, and gives the same answer. Counters
are integrals of the week's tables from the moment the driver was loaded. One module per wire format reads these states.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from planner.units import MIB
from sample_data.boards import SimulatedBoard
from sample_data.cluster import EPOCH, SimulatedGpu, SimulatedInstance, SimulatedNode, SimulatedPod
from sample_data.deployments import Engine
from sample_data.identity import number
from sample_data.traffic import FULL_LEVEL, HOT_LEVEL, VARIANTS, WeekPattern, week_pattern

INTERVAL_S = 30.0
"""Default collection interval of dcgm-exporter: within it, a second scrape sees the same values."""

CLOCK_IDLE = 0x1
CLOCK_SW_POWER_CAP = 0x4
CLOCK_SW_THERMAL = 0x20
CLOCK_HW_THERMAL = 0x40
"""Bits of NVML's clocksEventReasons."""

_MAX_ACTIVE = 0.985  # share of multiprocessors that the heaviest load keeps active
_POWER_SHARE = 0.95  # of the span between idle and limit, drawn with all multiprocessors active
_CONTEXT_WATTS = 38.0  # a CUDA context keeps clocks and memory up, with or without work
_VLLM_BEYOND_RESERVE_MIB = 620  # CUDA context and graphs, allocated outside the reserved share
_NOISE = 0.06


@dataclass(frozen=True, slots=True)
class DeviceState:
    """A GPU without MIG, or one GPU instance."""

    instance: SimulatedInstance | None
    pod: SimulatedPod | None
    level: float  # demand on the pod relative to its peak, 0..1
    is_loaded: bool  # a process holds memory here
    memory_used_bytes: int
    memory_reserved_bytes: int
    memory_total_bytes: int
    gr_engine_active_ratio: float
    sm_active_ratio: float
    sm_occupancy_ratio: float
    tensor_active_ratio: float
    dram_active_ratio: float

    @property
    def memory_free_bytes(self) -> int:
        """What is left of the framebuffer."""
        return self.memory_total_bytes - self.memory_used_bytes - self.memory_reserved_bytes


@dataclass(frozen=True, slots=True)
class GpuState:
    """One physical GPU; `devices` is empty when MIG mode is on and no instance exists."""

    gpu: SimulatedGpu
    devices: tuple[DeviceState, ...]
    gpu_busy_ratio: float | None  # None under MIG: NVML has no such value
    memory_busy_ratio: float | None
    sm_clock_hertz: int
    memory_clock_hertz: int
    temperature_celsius: int
    memory_temperature_celsius: int | None
    power_watts: float
    energy_joules: float
    pcie_tx_bytes_per_s: int
    pcie_rx_bytes_per_s: int
    nvlink_bytes_per_s: int
    pcie_replays: int
    xid_code: int
    clock_event_reasons: int
    power_throttle_s: float
    thermal_throttle_s: float
    remapped_rows_uncorrectable: int


def node_state(
    node: SimulatedNode, at: datetime, *, interval_s: float = INTERVAL_S, counters_since: datetime | None = None
) -> tuple[GpuState, ...]:
    """All GPUs of a node as its exporter saw them last, at the start of the collection interval that `at` lies in.

    `counters_since` replaces the time the driver was loaded: counters start at 0 there and Xids before it are gone.
    """
    tick = math.floor(at.timestamp() / interval_s)
    now_s = tick * interval_s - EPOCH.timestamp()
    since_s = (counters_since or node.driver_loaded_at).timestamp() - EPOCH.timestamp()
    return tuple(_gpu_state(node, gpu, now_s, min(since_s, now_s), tick) for gpu in node.gpus)


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """What a pod does to one device; constant in time but for the pattern."""

    pattern: WeekPattern
    shift_s: int  # where this pod is in the week relative to its pattern
    active_ratio: float  # multiprocessors of the device that are active at full load
    power_weight: float  # of the whole GPU's span of power, at full load

    def integral_since(self, since_s: float, now_s: float) -> float:
        return self.pattern.level_integral_s(now_s + self.shift_s) - self.pattern.level_integral_s(
            since_s + self.shift_s
        )


def pod_traffic(seed: int, pod: SimulatedPod) -> tuple[WeekPattern, int]:
    """The pod's week of demand and its shift in seconds: demand at `t` since EPOCH is `level(t + shift)`.

    Ranks of one pod share its place in the week; replicas of one deployment differ by minutes.
    """
    deployment = pod.deployment
    pattern_of = pod.uid if deployment.engine is Engine.OLLAMA else deployment.name
    pattern = week_pattern(seed, deployment.traffic, number(seed, "pattern", pattern_of) % VARIANTS)
    return pattern, 3600 * deployment.utc_offset_h + 60 * (number(seed, "shift", pod.uid) % 10)


@lru_cache(maxsize=65_536)
def _job(seed: int, board: SimulatedBoard, instance: SimulatedInstance | None, pod: SimulatedPod) -> _Job:
    deployment = pod.deployment
    pattern, shift_s = pod_traffic(seed, pod)
    sm_count = board.sm_count if instance is None else instance.hardware.sm_count
    active_ratio = min(deployment.peak_sms / sm_count, _MAX_ACTIVE)
    return _Job(
        pattern=pattern,
        shift_s=shift_s,
        active_ratio=active_ratio,
        power_weight=_POWER_SHARE * active_ratio * sm_count / board.sm_count,
    )


def _gpu_state(node: SimulatedNode, gpu: SimulatedGpu, now_s: float, since_s: float, tick: int) -> GpuState:
    board = gpu.board
    holders: tuple[tuple[SimulatedInstance | None, SimulatedPod | None], ...] = (
        ((None, gpu.pod),) if gpu.instances is None else tuple((each, each.pod) for each in gpu.instances)
    )
    devices = []
    load = integral = 0.0  # weighted by power
    has_context = has_lasting_context = False
    hot_s = full_s = 0.0
    is_hot = is_full = False
    for instance, pod in holders:
        job = None if pod is None else _job(node.seed, board, instance, pod)
        device = _device_state(gpu, instance, pod, job, now_s, tick)
        devices.append(device)
        if pod is None or job is None:
            continue
        load += job.power_weight * device.level
        integral += job.power_weight * job.integral_since(since_s, now_s)
        has_context = has_context or device.is_loaded
        has_lasting_context = has_lasting_context or pod.deployment.engine in (Engine.VLLM, Engine.TEI)
        if instance is None and job.active_ratio > 0.9:
            at_s, from_s = now_s + job.shift_s, since_s + job.shift_s
            if gpu.is_badly_cooled:
                is_hot = device.level > HOT_LEVEL
                hot_s = job.pattern.hot_integral_s(at_s) - job.pattern.hot_integral_s(from_s)
            is_full = device.level >= FULL_LEVEL
            full_s = job.pattern.full_integral_s(at_s) - job.pattern.full_integral_s(from_s)

    wobble = noise(gpu.key, tick)
    base_watts = board.idle_watts + (_CONTEXT_WATTS if has_lasting_context else 0.0)
    span_watts = board.limit_watts - board.idle_watts - _CONTEXT_WATTS
    power = base_watts + span_watts * load * (1 + 0.02 * wobble)
    temperature = round(31 + 42 * load + (16 * min(load, 0.8) + 5 if gpu.is_badly_cooled else 0) + wobble)
    whole = devices[0] if gpu.instances is None else None
    xid_is_on = gpu.xid is not None and since_s < (gpu.xid_at - EPOCH).total_seconds() <= now_s
    return GpuState(
        gpu=gpu,
        devices=tuple(devices),
        gpu_busy_ratio=None if whole is None else whole.gr_engine_active_ratio,
        memory_busy_ratio=None if whole is None else whole.dram_active_ratio,
        sm_clock_hertz=1_000_000 * _sm_clock_mhz(board, has_context, load, is_hot, wobble),
        memory_clock_hertz=1_000_000 * board.memory_mhz,
        temperature_celsius=temperature,
        memory_temperature_celsius=temperature + 6 if board.has_memory_sensor else None,
        power_watts=power,
        energy_joules=base_watts * (now_s - since_s) + span_watts * integral,
        pcie_tx_bytes_per_s=int(110_000 + 26e6 * load * (1 + 0.3 * wobble)),
        pcie_rx_bytes_per_s=int(160_000 + 61e6 * load * (1 + 0.3 * wobble)),
        nvlink_bytes_per_s=int(90e9 * load) if gpu.pod is not None and gpu.pod.deployment.gpus > 1 else 0,
        pcie_replays=int((now_s - since_s) / 400_000) if gpu.key % 7 == 0 else 0,
        xid_code=gpu.xid if xid_is_on and gpu.xid is not None else 0,
        clock_event_reasons=_clock_event_reasons(load, is_hot, is_full),
        power_throttle_s=full_s,
        thermal_throttle_s=hot_s,
        # remapped rows are kept by the board: unlike the Xid they survive a driver reload
        remapped_rows_uncorrectable=int(gpu.xid == 94 and now_s >= (gpu.xid_at - EPOCH).total_seconds()),
    )


def _device_state(
    gpu: SimulatedGpu,
    instance: SimulatedInstance | None,
    pod: SimulatedPod | None,
    job: _Job | None,
    now_s: float,
    tick: int,
) -> DeviceState:
    board = gpu.board
    total_mib, reserved_mib, idle_mib = (
        (board.memory_total_mib, board.memory_reserved_mib, 0)
        if instance is None
        else (instance.hardware.memory_mib, 0, round(8.7 * instance.hardware.compute_slices))
    )
    level = 0.0
    used_mib = idle_mib
    is_loaded = False
    gr_engine = sm_active = tensor = dram = 0.0
    if pod is not None and job is not None:
        engine = pod.deployment.engine
        at_s = now_s + job.shift_s
        level = job.pattern.level(at_s)
        is_loaded = engine is not Engine.NOTEBOOK and (engine is not Engine.OLLAMA or job.pattern.is_loaded(at_s))
        if is_loaded:
            used_mib = _memory_used_mib(pod, level, total_mib - reserved_mib)
        if level > 0:
            key = gpu.key if instance is None else instance.key
            now = min(level * (1 + _NOISE * (1 - 0.8 * level) * noise(key, tick)), 1.0)
            sm_active = job.active_ratio * now
            # a kernel is nearly always running, however few multiprocessors it fills
            gr_engine = min(max((0.6 if engine is Engine.TEI else 0.93) * now, 1.02 * sm_active), 0.999)
            tensor = sm_active * (0.42 if engine is Engine.VLLM else 0.24)
            dram = gr_engine * (0.58 if engine is Engine.VLLM else 0.37) * (0.35 + 0.65 * job.active_ratio)
    return DeviceState(
        instance,
        pod,
        level,
        is_loaded,
        used_mib * MIB,
        reserved_mib * MIB,
        total_mib * MIB,
        gr_engine,
        sm_active,
        0.31 * sm_active,
        tensor,
        dram,
    )


def _memory_used_mib(pod: SimulatedPod, level: float, usable_mib: int) -> int:
    deployment = pod.deployment
    if deployment.reserve_ratio is not None:
        return round(deployment.reserve_ratio * usable_mib) + _VLLM_BEYOND_RESERVE_MIB
    growth = 0.09 if deployment.engine is Engine.TEI else 0.05  # batches and contexts grow with demand
    return round(deployment.memory_mib * (1 + growth * level))


def _sm_clock_mhz(board: SimulatedBoard, has_context: bool, load: float, is_hot: bool, wobble: float) -> int:
    if not has_context:
        return board.idle_sm_mhz
    if is_hot:
        return round(board.boost_sm_mhz * (0.56 + 0.02 * wobble) / 15) * 15
    if load > 0.85:  # at the power limit the boost clock cannot be held
        return round(board.boost_sm_mhz * (0.86 + 0.02 * wobble) / 15) * 15
    return board.boost_sm_mhz


def _clock_event_reasons(load: float, is_hot: bool, is_full: bool) -> int:
    if is_hot:
        return CLOCK_SW_THERMAL | CLOCK_HW_THERMAL
    if is_full:
        return CLOCK_SW_POWER_CAP
    return 0 if load > 0 else CLOCK_IDLE


def noise(key: int, tick: int) -> float:
    """White noise in -1..1 by key and collection interval (the finaliser of splitmix64)."""
    mixed = (key + tick * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return ((mixed ^ (mixed >> 31)) >> 11) / 2**52 - 1.0
