"""How much of the fleet is allocated, active and effective, and who holds the rest."""

from collections.abc import Iterator
from dataclasses import dataclass

from planner.catalog import find_profile
from planner.fleet import Device, DeviceState, Fleet, Gpu, Pod, Quantiles
from planner.sentences import spelled_window
from planner.units import GpuUuid, NodeName

_HELD_BY_SOMEBODY = frozenset({DeviceState.SERVING, DeviceState.LOADED_IDLE, DeviceState.HELD})
_BUSY_METRICS = ("sm_active_ratio", "gr_engine_active_ratio", "gpu_busy_ratio")
_TIME_METRICS = ("gr_engine_active_ratio", "gpu_busy_ratio", "sm_active_ratio")  # shares of time first


@dataclass(frozen=True, slots=True, kw_only=True)
class Funnel:
    """From what there is to what really computes, in GPUs; a GPU instance counts by its compute slices.

    allocated: a pod holds it, or work was seen on it; active: it is serving; effective: active x mean
    `sm_active_ratio`.
    `active_gpus` is None when no device can be judged: what is not measured is not idle.
    `effective_gpus` is None when nothing active reports SM activity; `effective_unmeasured_gpus` of the active ones
    do not and are in no part of it. `unknown_gpus` are not measurable and lie outside active. `uncut_gpus` are the
    compute slices of cut GPUs that are in no GPU instance: nothing can be allocated on them.
    """

    total_gpus: float
    allocated_gpus: float
    active_gpus: float | None
    effective_gpus: float | None
    effective_unmeasured_gpus: float
    unknown_gpus: float
    uncut_gpus: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StateCount:
    """How many devices are in one state, and how many GPUs they make up."""

    state: DeviceState
    devices: int
    gpus: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BusyDevice:
    """One device and how much of the window it worked."""

    name: str  # `Device.name`
    uuid: GpuUuid
    gi_id: int | None
    node: NodeName
    board: str | None
    profile: str | None  # None for a whole GPU
    pods: tuple[Pod, ...]
    state: DeviceState
    metric: str  # which of `planner.metrics` the two ratios are
    mean_ratio: float
    p95_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WastefulDevice:
    """One device that somebody holds and that did not work; ranked by `idle_gpu_s`."""

    name: str
    uuid: GpuUuid
    gi_id: int | None
    node: NodeName
    board: str | None
    profile: str | None
    pods: tuple[Pod, ...]
    state: DeviceState
    idle_gpus: float  # GPUs held x share of the window without work
    idle_gpu_s: float  # the same x measured seconds
    reason: str


def funnel(fleet: Fleet) -> Funnel:
    """How many GPUs there are, are allocated, active and effective."""
    total = float(sum(1 for _ in fleet.gpus()))
    devices = [part for gpu in fleet.gpus() for part in _parts(gpu)]
    active = [(device, share) for device, share in devices if device.verdict.state is DeviceState.SERVING]
    measured = [
        (share, seen.mean) for device, share in active if (seen := _seen(device, "sm_active_ratio")) is not None
    ]
    is_judged = any(device.verdict.state is not DeviceState.UNKNOWN for device, _ in devices)
    return Funnel(
        total_gpus=total,
        allocated_gpus=sum(share for device, share in devices if _is_allocated(device)),
        active_gpus=sum(share for _, share in active) if is_judged or not devices else None,
        effective_gpus=sum(share * mean for share, mean in measured) if measured else None,
        effective_unmeasured_gpus=sum(share for _, share in active) - sum(share for share, _ in measured),
        unknown_gpus=sum(share for device, share in devices if device.verdict.state is DeviceState.UNKNOWN),
        uncut_gpus=max(0.0, total - sum(share for _, share in devices)),
    )


def state_counts(fleet: Fleet) -> tuple[StateCount, ...]:
    """Devices and GPUs in each of the five states, all five, in the order of `DeviceState`."""
    devices = [part for gpu in fleet.gpus() for part in _parts(gpu)]
    counts = []
    for state in DeviceState:
        shares = [share for device, share in devices if device.verdict.state is state]
        counts.append(StateCount(state=state, devices=len(shares), gpus=sum(shares)))
    return tuple(counts)


def busiest(fleet: Fleet, n: int) -> tuple[BusyDevice, ...]:
    """The n devices that worked most on average, by SM activity where it is reported, else by share of time."""
    found = []
    for device in fleet.devices():
        metric = next((name for name in _BUSY_METRICS if _seen(device, name) is not None), None)
        seen = _seen(device, metric) if metric else None
        if metric is None or seen is None or seen.mean <= 0:
            continue
        found.append(
            BusyDevice(
                name=device.name,
                uuid=device.gpu.uuid,
                gi_id=device.instance.gi_id if device.instance else None,
                node=device.gpu.node,
                board=device.gpu.board_label,
                profile=device.instance.profile if device.instance else None,
                pods=device.pods,
                state=device.verdict.state,
                metric=metric,
                mean_ratio=seen.mean,
                p95_ratio=seen.p95,
            )
        )
    return tuple(sorted(found, key=lambda item: (-item.mean_ratio, item.name, item.uuid))[:n])


def most_wasteful(fleet: Fleet, n: int) -> tuple[WastefulDevice, ...]:
    """The n devices that somebody holds and that idled most, in GPUs x time; free and unknown ones are not held."""
    found = []
    for gpu in fleet.gpus():
        for device, share in _parts(gpu):
            usage = device.usage
            if device.verdict.state not in _HELD_BY_SOMEBODY or usage is None:
                continue
            seen = next((seen for name in _TIME_METRICS if (seen := _seen(device, name)) is not None), None)
            if seen is None:
                continue
            idle_gpus = share * (1 - min(seen.mean, 1.0))
            measured_s = (usage.end - usage.start).total_seconds() * usage.coverage_ratio
            reason = device.verdict.reason
            if device.verdict.state is DeviceState.SERVING:
                reason = f"Worked {seen.mean:.1%} of {spelled_window(usage.start, usage.end)}."
            found.append(
                WastefulDevice(
                    name=device.name,
                    uuid=gpu.uuid,
                    gi_id=device.instance.gi_id if device.instance else None,
                    node=gpu.node,
                    board=gpu.board_label,
                    profile=device.instance.profile if device.instance else None,
                    pods=device.pods,
                    state=device.verdict.state,
                    idle_gpus=idle_gpus,
                    idle_gpu_s=idle_gpus * measured_s,
                    reason=reason,
                )
            )
    return tuple(sorted(found, key=lambda item: (-item.idle_gpu_s, item.name, item.uuid))[:n])


def _parts(gpu: Gpu) -> Iterator[tuple[Device, float]]:
    """The GPU's devices and the share of the GPU that each makes up, by compute slices.

    Instances of a profile that the catalogue does not know share evenly what the others leave.
    """
    if not gpu.instances:
        yield Device(gpu=gpu, instance=None), 1.0
        return
    shares: list[float | None] = []
    for instance in gpu.instances:
        profile = find_profile(gpu.board, instance.profile) if gpu.board else None
        shares.append(profile.compute_slices / gpu.board.compute_slices if gpu.board and profile else None)
    left = max(0.0, 1.0 - sum(share for share in shares if share is not None))
    for instance, share in zip(gpu.instances, shares, strict=True):
        yield Device(gpu=gpu, instance=instance), left / shares.count(None) if share is None else share


def _is_allocated(device: Device) -> bool:
    return bool(device.pods) or device.verdict.state in _HELD_BY_SOMEBODY


def _seen(device: Device, metric: str) -> Quantiles | None:
    seen = device.usage.metrics.get(metric) if device.usage else None
    return seen if seen is not None and seen.samples else None
