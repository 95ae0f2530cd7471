"""How much of the fleet is allocated, active and effective, and who holds the rest."""

from dataclasses import dataclass

from planner.fleet import DeviceState, Pod
from planner.units import GpuUuid, NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Funnel:
    """From what there is to what really computes, in GPUs; a GPU instance counts by its compute slices.

    allocated: a pod holds it, or work was seen on it; active: it is serving; effective: active x mean
    `sm_active_ratio`.
    `effective_gpus` is None when nothing active reports SM activity; `effective_unmeasured_gpus` of the active ones
    do not and are in no part of it. `unknown_gpus` are not measurable and lie outside active.
    """

    total_gpus: float
    allocated_gpus: float
    active_gpus: float
    effective_gpus: float | None
    effective_unmeasured_gpus: float
    unknown_gpus: float


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
