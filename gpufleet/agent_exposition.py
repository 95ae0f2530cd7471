"""A batch of one machine in the words of dcgm-exporter 4.8: Prometheus text format, its names, its units, its labels.

What the exporter has no words for stands in families of our own (`gpufleet_...`) or is left out: compute instances and
processes. Label values are escaped as the format wants it, which the exporter's own template does not do.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from collectors.dcgm.metrics import ROWS as DCGM_ROWS
from collectors.dcgm.mig_mode import MIG_MODE_FAMILY
from collectors.dcgm.placements import DEVICES_FAMILY, PODS_FAMILY
from collectors.nvml.xid_codes import xid_text
from planner.hardware import MigMode
from planner.metrics import BY_NAME
from planner.readings import Batch, GpuFact, PodFact, Reading, Subject
from planner.units import MIB

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

XID_FAMILY = "DCGM_FI_DEV_XID_ERRORS"

NEIGHBOURS = 4
"""How many numbers next to the converted one are tried on each side, for one that converts back exactly."""

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """One family: our metric, the exporter's name, and how many of its units make one of ours."""

    metric: str
    name: str
    per_unit: float = 1.0
    unit: str = ""


def _family(metric: str, name: str, per_unit: float = 1.0, unit: str = "") -> _Family:
    return _Family(metric=metric, name=name, per_unit=per_unit, unit=unit)


FAMILIES: tuple[_Family, ...] = (
    _family("sm_clock_hertz", "DCGM_FI_DEV_SM_CLOCK", 1e-6, "in MHz"),
    _family("memory_clock_hertz", "DCGM_FI_DEV_MEM_CLOCK", 1e-6, "in MHz"),
    _family("memory_temperature_celsius", "DCGM_FI_DEV_MEMORY_TEMP", unit="in C"),
    _family("temperature_celsius", "DCGM_FI_DEV_GPU_TEMP", unit="in C"),
    _family("power_watts", "DCGM_FI_DEV_POWER_USAGE", unit="in W"),
    _family("energy_joules", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", 1e3, "in mJ"),
    _family("pcie_replays", "DCGM_FI_DEV_PCIE_REPLAY_COUNTER"),
    _family("gpu_busy_ratio", "DCGM_FI_DEV_GPU_UTIL", 100, "in %"),
    _family("memory_busy_ratio", "DCGM_FI_DEV_MEM_COPY_UTIL", 100, "in %"),
    _family("encoder_busy_ratio", "DCGM_FI_DEV_ENC_UTIL", 100, "in %"),
    _family("decoder_busy_ratio", "DCGM_FI_DEV_DEC_UTIL", 100, "in %"),
    _family("xid_code", XID_FAMILY),
    _family("power_throttle_s", "DCGM_FI_DEV_POWER_VIOLATION", 1e9, "in ns"),
    _family("thermal_throttle_s", "DCGM_FI_DEV_THERMAL_VIOLATION", 1e9, "in ns"),
    _family("clock_event_reasons", "DCGM_FI_DEV_CLOCKS_EVENT_REASONS"),
    _family("memory_total_bytes", "DCGM_FI_DEV_FB_TOTAL", 1 / MIB, "in MiB"),
    _family("memory_free_bytes", "DCGM_FI_DEV_FB_FREE", 1 / MIB, "in MiB"),
    _family("memory_used_bytes", "DCGM_FI_DEV_FB_USED", 1 / MIB, "in MiB"),
    _family("memory_reserved_bytes", "DCGM_FI_DEV_FB_RESERVED", 1 / MIB, "in MiB"),
    _family("ecc_correctable", "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL"),
    _family("ecc_uncorrectable", "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"),
    _family("remapped_rows_uncorrectable", "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS"),
    _family("remapped_rows_correctable", "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS"),
    _family("row_remap_failed", "DCGM_FI_DEV_ROW_REMAP_FAILURE"),
    _family("row_remap_pending", "DCGM_FI_DEV_ROW_REMAP_PENDING"),
    _family("nvlink_bytes_per_s", "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", 1 / 1_024_000, "in KiB/s / 1000"),
    _family("nvlink_tx_bytes_per_s", "DCGM_FI_PROF_NVLINK_TX_BYTES", unit="in bytes/s"),
    _family("nvlink_rx_bytes_per_s", "DCGM_FI_PROF_NVLINK_RX_BYTES", unit="in bytes/s"),
    _family("pcie_tx_bytes_per_s", "DCGM_FI_PROF_PCIE_TX_BYTES", unit="in bytes/s"),
    _family("pcie_rx_bytes_per_s", "DCGM_FI_PROF_PCIE_RX_BYTES", unit="in bytes/s"),
    _family("gr_engine_active_ratio", "DCGM_FI_PROF_GR_ENGINE_ACTIVE"),
    _family("sm_active_ratio", "DCGM_FI_PROF_SM_ACTIVE"),
    _family("sm_occupancy_ratio", "DCGM_FI_PROF_SM_OCCUPANCY"),
    _family("tensor_active_ratio", "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"),
    _family("dram_active_ratio", "DCGM_FI_PROF_DRAM_ACTIVE"),
    _family("fp64_active_ratio", "DCGM_FI_PROF_PIPE_FP64_ACTIVE"),
    _family("fp32_active_ratio", "DCGM_FI_PROF_PIPE_FP32_ACTIVE"),
    _family("fp16_active_ratio", "DCGM_FI_PROF_PIPE_FP16_ACTIVE"),
)

_READ_BACK = {row.source_name: row.convert for row in DCGM_ROWS}


def exposition(batch: Batch, *, known: Mapping[str, GpuFact] | None = None) -> str:
    """The text of one answer; empty when there is no reading.

    Whole-GPU values stand once per GPU, on a line without GPU_I_ID; the rest on the line of its GPU or GPU instance.
    Every device has a line in gpufleet_device, so that none is missed that gave no value. The pod of a device is on all
    of its lines; of several pods each has a line of its own in gpufleet_pod_on_device and its part of FB_USED. Readings
    of a GPU without a fact are left out, unless `known` has its last one, uncut.
    """
    facts = {str(fact.gpu_uuid): fact for fact in batch.facts}
    for uuid, fact in (known or {}).items():
        if uuid not in facts and not fact.instances:
            facts[uuid] = fact
    by_metric: dict[str, list[Reading]] = defaultdict(list)
    for reading in batch.readings:
        if reading.subject.gpu_uuid in facts:
            by_metric[reading.metric].append(reading)
    parts: list[str] = []
    for family in FAMILIES:
        lines = list(_lines(family, by_metric[family.metric], facts))
        if lines:
            parts += [_header(family.name, _help(family), BY_NAME[family.metric].kind.value), *lines]
    if not parts:
        return ""
    parts += _mig_modes(batch.facts)
    parts += _devices(batch.facts)
    parts += _pods(batch.facts)
    return "".join(parts)


def gauge(name: str, help_text: str, value: float) -> str:
    """A family with one value and no labels."""
    return f"{_header(name, help_text, 'gauge')}{name} {number(value)}\n"


def number(value: float) -> str:
    """The shortest text that reads back as this number."""
    return str(int(value)) if value.is_integer() and abs(value) < 2**63 else repr(value)


def _header(name: str, help_text: str, kind: str) -> str:
    return f"# HELP {name} {help_text}\n# TYPE {name} {kind}\n"


def _help(family: _Family) -> str:
    text = BY_NAME[family.metric].help
    return f"{text.rstrip('.')} ({family.unit})." if family.unit else text


def _lines(family: _Family, readings: Sequence[Reading], facts: Mapping[str, GpuFact]) -> Iterator[str]:
    for reading in readings:
        fact = facts[reading.subject.gpu_uuid]
        value = number(_in_source_unit(family, reading.value))
        errors: Labels = ()
        if family.name == XID_FAMILY:
            code = int(reading.value)
            errors = (("err_code", str(code)), ("err_msg", "No Error" if code == 0 else xid_text(code)))
        pods, pod = _pods_of(fact, reading.subject), _the_pod(fact, reading.subject)
        yield f"{family.name}{_block(_device_labels(fact, reading.subject), pod, errors)} {value}\n"
        if family.metric == "memory_used_bytes" and not pod:
            yield from _pod_memory(family, fact, reading.subject, pods)


def _pod_memory(family: _Family, fact: GpuFact, subject: Subject, pods: Sequence[PodFact]) -> Iterator[str]:
    """The memory of each of several pods on one device, where the driver counts it for their processes."""
    for place, pod in enumerate(pods):
        parts = [
            process.memory_bytes
            for process in fact.processes
            if process.gi_id == subject.gi_id and process.pod_uid is not None and process.pod_uid == pod.uid
        ]
        known = [part for part in parts if part is not None]
        if known and len(known) == len(parts):
            labels = _block(_device_labels(fact, subject), _pod_labels(pod), (("vgpu", str(place)),))
            yield f"{family.name}{labels} {number(_in_source_unit(family, float(sum(known))))}\n"


def _mig_modes(facts: Iterable[GpuFact]) -> Iterator[str]:
    told = [fact for fact in facts if fact.mig_mode in (MigMode.ENABLED, MigMode.DISABLED)]
    if told:
        yield _header(MIG_MODE_FAMILY, "MIG mode: 0 is disabled, 1 is enabled.", "gauge")
    for fact in told:
        labels = _device_labels(fact, Subject(gpu_uuid=fact.gpu_uuid))
        yield f"{MIG_MODE_FAMILY}{_block(labels)} {int(fact.mig_mode is MigMode.ENABLED)}\n"


def _devices(facts: Sequence[GpuFact]) -> Iterator[str]:
    """Every GPU and GPU instance, with the placement that the exporter's own families cannot tell."""
    if facts:
        yield _header(DEVICES_FAMILY, "A GPU or GPU instance; placement_start is where the instance lies.", "gauge")
    for fact in facts:
        whole = Subject(gpu_uuid=fact.gpu_uuid)
        yield f"{DEVICES_FAMILY}{_block(_device_labels(fact, whole), _the_pod(fact, whole))} 1\n"
        for instance in fact.instances:
            subject = Subject(gpu_uuid=fact.gpu_uuid, gi_id=instance.gi_id)
            start = () if instance.start is None else (("placement_start", str(instance.start)),)
            yield f"{DEVICES_FAMILY}{_block(_device_labels(fact, subject), _the_pod(fact, subject), start)} 1\n"


def _pods(facts: Iterable[GpuFact]) -> Iterator[str]:
    """Pods that share a device, which no single line of it can name."""
    lines = []
    for fact in facts:
        for gi_id in sorted({pod.gi_id for pod in fact.pods}, key=lambda one: -1 if one is None else one):
            subject = Subject(gpu_uuid=fact.gpu_uuid, gi_id=gi_id)
            pods = _pods_of(fact, subject)
            if len(pods) == 1:
                continue
            for place, pod in enumerate(pods):
                labels = _block(_device_labels(fact, subject), _pod_labels(pod), (("vgpu", str(place)),))
                lines.append(f"{PODS_FAMILY}{labels} 1\n")
    if lines:
        yield _header(PODS_FAMILY, "A container of a pod with a process on a device that others are on too.", "gauge")
        yield from lines


def _pods_of(fact: GpuFact, subject: Subject) -> list[PodFact]:
    return [pod for pod in fact.pods if pod.gi_id == subject.gi_id]


def _the_pod(fact: GpuFact, subject: Subject) -> Labels:
    """The labels of the one pod of a device; none where there are several."""
    pods = _pods_of(fact, subject)
    return _pod_labels(pods[0]) if len({(pod.namespace, pod.name) for pod in pods}) == 1 else ()


def _device_labels(fact: GpuFact, subject: Subject) -> Labels:
    """In the order of the exporter's template; what is not known has no label."""
    index = None if fact.index is None else str(fact.index)
    profile = next((one.profile for one in fact.instances if one.gi_id == subject.gi_id), None)
    told: tuple[tuple[str, str | None], ...] = (
        ("gpu", index),
        ("UUID", fact.gpu_uuid),
        ("pci_bus_id", fact.pci_bus_id),
        ("device", None if index is None else f"nvidia{index}"),
        ("modelName", fact.model_name),
        ("GPU_I_PROFILE", profile),
        ("GPU_I_ID", None if subject.gi_id is None else str(subject.gi_id)),
        ("hostname", fact.node),
        ("DCGM_FI_DRIVER_VERSION", fact.driver_version),
    )
    return tuple((name, value) for name, value in told if value is not None)


def _pod_labels(pod: PodFact) -> Labels:
    """Sorted, as the exporter's map; a pod of which only the uid is known has no name to tell."""
    if not pod.namespace:
        return (("pod_uid", pod.uid or ""),)
    told = (("container", pod.container), ("namespace", pod.namespace), ("pod", pod.name), ("pod_uid", pod.uid))
    return tuple((name, value) for name, value in told if value is not None)


def _block(*labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for part in labels for name, value in part) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _in_source_unit(family: _Family, value: float) -> float:
    """The number of the exporter's unit that is read back as exactly this value, or as near as a number can be."""
    near = value * family.per_unit
    read_back = _READ_BACK[family.name]
    for candidate in (float(round(near)), near, *_neighbours(near)):
        if candidate >= 0 and _reads_as(read_back, candidate, value):
            return candidate
    return near


def _neighbours(number: float) -> Iterator[float]:
    below = above = number
    for _ in range(NEIGHBOURS):
        below, above = math.nextafter(below, -math.inf), math.nextafter(above, math.inf)
        yield below
        yield above


def _reads_as(read_back: Callable[[float], float], candidate: float, value: float) -> bool:
    try:
        return read_back(candidate) == value
    except ValueError:
        return False
