"""The numbers of the GPU page: one row per GPU for the table, and all there is to say about one GPU."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from dashboard import gpu_tokens
from dashboard.formatting import served_text
from dashboard.mig_drawing import LayoutDrawing, draw_gpu, pods_text
from planner.current_layout import current_layout
from planner.fleet import Device, DeviceState, Fleet, Gpu, Observation
from planner.metrics import METRICS, Level

ACTIVITY_METRICS = ("sm_active_ratio", "gr_engine_active_ratio", "gpu_busy_ratio")
"""What stands for activity, the most telling first: SMs in use, then the engine, then any kernel at all."""

ACTIVITY_NAMES = {
    "sm_active_ratio": "SM activity",
    "gr_engine_active_ratio": "Graphics engine activity",
    "gpu_busy_ratio": "Time with any kernel",
}

VALUE_IS_OLD_AFTER_S = 300.0
"""Ten scrapes of 30 s: a current value older than that is marked, it is no longer about now."""

NOT_REPORTED = "no source reported it"

_DEVICE_COUNT = re.compile(r" \(\d+ devices\)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """How busy a device is now and which of `planner.metrics` says so."""

    ratio: float
    metric: str
    observed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRow:
    """One GPU in the table."""

    cluster: str
    node: str
    index: int | None
    uuid: str
    board: str | None
    state: DeviceState
    activity: Activity | None
    memory_used_bytes: float | None
    memory_total_bytes: float | None
    power_watts: float | None
    temperature_celsius: float | None
    pods: str
    instances: int
    observed_at: datetime | None
    xid_code: float | None
    models: str  # with the mark of how sure it is that they are on it; "" where no engine is known
    tokens_per_s: float | None
    no_rate: str | None  # why there are no tokens per second although an engine is on it


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueCard:
    """One current value with what it means and how old it is."""

    metric: str
    value: float
    observed_at: datetime
    help: str
    of_whole_gpu: bool
    is_old: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDetail:
    """One device of the GPU: its state and why, its pods, its values, and what it does not report."""

    name: str
    title: str
    gi_id: int | None
    state: DeviceState
    reason: str
    pods: str
    activity: Activity | None
    memory_used_bytes: float | None
    observed_at: datetime | None
    values: tuple[ValueCard, ...]
    absent: tuple[tuple[str, str], ...]  # metric, reason

    @property
    def absent_by_reason(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Each reason once with the metrics it keeps away; those without a reason come last."""
        by_reason: dict[str, list[str]] = defaultdict(list)
        for metric, reason in sorted(self.absent, key=lambda item: item[1] == NOT_REPORTED):
            by_reason[reason].append(metric)
        return tuple((reason, tuple(metrics)) for reason, metrics in by_reason.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuDetail:
    """Everything known of one GPU."""

    gpu: Gpu
    cluster: str
    row: GpuRow
    drawing: LayoutDrawing
    devices: tuple[DeviceDetail, ...]  # the whole GPU first, then its GPU instances
    board_evidence: str | None  # how well the catalogue knows this board


def activity(metrics: Mapping[str, Observation]) -> Activity | None:
    """The most telling activity metric that was reported."""
    for metric in ACTIVITY_METRICS:
        seen = metrics.get(metric)
        if seen is not None:
            return Activity(ratio=seen.value, metric=metric, observed_at=seen.observed_at)
    return None


def gpu_activity(gpu: Gpu) -> Activity | None:
    """Activity of a whole GPU; of a cut one, the sum over its instances by compute slices.

    Compute slices that no instance has cannot work and count as not working. None when any instance is unmeasured or
    instances report different metrics: such a sum would mean nothing.
    """
    if not gpu.instances:
        return activity(gpu.metrics)
    if gpu.board is None or not gpu.board.compute_slices:
        return None
    slices = {profile.name: profile.compute_slices for profile in gpu.board.profiles}
    parts = [(activity(instance.metrics), slices.get(instance.profile)) for instance in gpu.instances]
    known = [(part, count) for part, count in parts if part is not None and count is not None]
    if len(known) < len(parts) or len({part.metric for part, _ in known}) != 1:
        return None
    return Activity(
        ratio=sum(part.ratio * count for part, count in known) / gpu.board.compute_slices,
        metric=known[0][0].metric,
        observed_at=min(part.observed_at for part, _ in known),
    )


def gpu_rows(fleet: Fleet) -> tuple[GpuRow, ...]:
    """Every GPU, in the order of the fleet."""
    return tuple(_row(gpu, node.cluster) for node in fleet.nodes for gpu in node.gpus)


def _row(gpu: Gpu, cluster: str) -> GpuRow:
    return GpuRow(
        cluster=cluster,
        node=gpu.node,
        index=gpu.index,
        uuid=gpu.uuid,
        board=gpu.board_label,
        state=gpu.verdict.state,
        activity=gpu_activity(gpu),
        memory_used_bytes=_memory_used(gpu),
        memory_total_bytes=gpu.memory_total_bytes,
        power_watts=_value(gpu, "power_watts"),
        temperature_celsius=_value(gpu, "temperature_celsius"),
        pods=_all_pods(gpu),
        instances=len(gpu.instances),
        observed_at=newest_observation(gpu),
        xid_code=_xid(gpu),
        models=served_text(engines) if (engines := gpu_tokens.engines(gpu)) else "",
        tokens_per_s=gpu_tokens.tokens_per_s(gpu),
        no_rate=gpu_tokens.no_rate(gpu),
    )


def _value(gpu: Gpu, metric: str) -> float | None:
    seen = gpu.metrics.get(metric)
    return None if seen is None else seen.value


def _xid(gpu: Gpu) -> float | None:
    """The highest code on the GPU or any of its instances: which of several is worse, no order tells."""
    seen = [gpu.metrics.get("xid_code"), *(instance.metrics.get("xid_code") for instance in gpu.instances)]
    return max((value.value for value in seen if value is not None), default=None)


def _memory_used(gpu: Gpu) -> float | None:
    """As reported for the whole GPU, else the sum over its instances when every one of them reports it."""
    whole = _value(gpu, "memory_used_bytes")
    if whole is not None or not gpu.instances:
        return whole
    parts = [instance.metrics.get("memory_used_bytes") for instance in gpu.instances]
    known = [part.value for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _all_pods(gpu: Gpu) -> str:
    pods = (*gpu.pods, *(pod for instance in gpu.instances for pod in instance.pods))
    return pods_text(pods) if pods else ""


def newest_observation(gpu: Gpu) -> datetime | None:
    """When the newest reading of the GPU or of one of its instances was observed."""
    of_gpu = (seen.observed_at for seen in gpu.metrics.values())
    of_instances = (seen.observed_at for instance in gpu.instances for seen in instance.metrics.values())
    return max((*of_gpu, *of_instances), default=None)


def gpu_detail(fleet: Fleet, uuid: str, gaps: Iterable[tuple[str, str | None, str]] = ()) -> GpuDetail | None:
    """All there is to say about one GPU; None when the fleet does not have it.

    `gaps` are (subject, metric, reason) as the collectors of its cluster reported them.
    """
    found = next(((node, gpu) for node in fleet.nodes for gpu in node.gpus if gpu.uuid == uuid), None)
    if found is None:
        return None
    node, gpu = found
    reasons = _reasons_by_metric(gaps)
    whole = Device(gpu=gpu, instance=None)
    devices = [
        _device_detail(whole, "Whole GPU", None, fleet.taken_at, reasons, level=Level.GPU if gpu.instances else None)
    ]
    for instance in gpu.instances:
        device = Device(gpu=gpu, instance=instance)
        title = f"{instance.profile}#{instance.gi_id}"
        devices.append(_device_detail(device, title, instance.gi_id, fleet.taken_at, reasons, level=Level.DEVICE))
    return GpuDetail(
        gpu=gpu,
        cluster=node.cluster,
        row=_row(gpu, node.cluster),
        drawing=layout_drawing(gpu),
        devices=tuple(devices),
        board_evidence=gpu.board.verification if gpu.board else None,
    )


def _reasons_by_metric(gaps: Iterable[tuple[str, str | None, str]]) -> dict[tuple[str | None, str | None], str]:
    """Reasons by (device, metric), and by (None, metric) where every exporter that lacks the metric gives the same one.

    What many devices of an exporter lack is told of the exporter, with their number, and not of each device.
    """
    reasons: dict[tuple[str | None, str | None], str] = {}
    of_exporters: dict[str | None, set[str]] = defaultdict(set)
    for subject, metric, reason in gaps:
        if subject.startswith("GPU-"):
            reasons[subject, metric] = reason
        else:
            of_exporters[metric].add(_DEVICE_COUNT.sub("", reason))
    return reasons | {(None, metric): next(iter(told)) for metric, told in of_exporters.items() if len(told) == 1}


def layout_drawing(gpu: Gpu) -> LayoutDrawing:
    """The GPU as it is cut now; where no source told the starts, one consistent arrangement, marked as assumed."""
    now = current_layout(gpu)
    return draw_gpu(gpu, now.layout, assumed=now.is_assumed, note=now.note)


def _device_detail(
    device: Device,
    title: str,
    gi_id: int | None,
    now: datetime,
    reasons: Mapping[tuple[str | None, str | None], str],
    level: Level | None,
) -> DeviceDetail:
    """`level` leaves out what a device of that kind cannot report: whole-GPU values repeat on every instance's line."""
    subject = device.gpu.uuid if gi_id is None else f"{device.gpu.uuid}/{gi_id}"
    expected = [metric for metric in METRICS if level is None or metric.level is level or metric.name in device.metrics]
    values = [
        ValueCard(
            metric=metric.name,
            value=device.metrics[metric.name].value,
            observed_at=device.metrics[metric.name].observed_at,
            help=metric.help,
            of_whole_gpu=metric.level is Level.GPU,
            is_old=(now - device.metrics[metric.name].observed_at).total_seconds() > VALUE_IS_OLD_AFTER_S,
        )
        for metric in expected
        if metric.name in device.metrics
    ]
    absent = [
        (metric.name, reasons.get((subject, metric.name)) or reasons.get((None, metric.name)) or NOT_REPORTED)
        for metric in expected
        if metric.name not in device.metrics
    ]
    return DeviceDetail(
        name=device.name,
        title=title,
        gi_id=gi_id,
        state=device.verdict.state,
        reason=device.verdict.reason,
        pods=pods_text(device.pods) if device.pods else "",
        activity=activity(device.metrics),
        memory_used_bytes=used.value if (used := device.metrics.get("memory_used_bytes")) else None,
        observed_at=max((seen.observed_at for seen in device.metrics.values()), default=None),
        values=tuple(values),
        absent=tuple(absent),
    )
