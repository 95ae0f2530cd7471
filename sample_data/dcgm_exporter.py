"""What a dcgm-exporter would say for one node: Prometheus text format, line shape as its Go template writes it.

Label values are not escaped and there is no `# EOF`: text/template knows nothing of the format it writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from sample_data.cluster import SimulatedCluster, SimulatedGpu, SimulatedInstance, SimulatedNode, SimulatedPod
from sample_data.dcgm_families import DeviceRow, Family, families
from sample_data.exporter_versions import WIRE_STYLES, ExporterVersion, WireStyle
from sample_data.workload import INTERVAL_S, DeviceState, GpuState, node_state

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_XID_TEXTS = {0: "No Error", 94: "Contained ECC error"}


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """One line per family: the GPU, which of its devices, and the labels, ready to print."""

    gpu: int  # position in the node
    device: int | None  # position among the GPU's devices; None: MIG mode without an instance
    is_instance: bool
    labels: str
    error_labels: dict[int, str]  # the same with err_code and err_msg, by Xid


@dataclass(frozen=True, slots=True, eq=False)
class _Page:
    """A node's exposition but for the values: what makes a scrape cheap."""

    families: tuple[Family, ...]
    lines: tuple[_Line, ...]


def exposition(
    cluster: SimulatedCluster,
    node_name: str,
    at: datetime,
    *,
    interval_s: float = INTERVAL_S,
    version: ExporterVersion | None = None,
    counters_since: datetime | None = None,
) -> str:
    """The body of a scrape of that node's exporter; KeyError when the cluster has no such node.

    `version` and `counters_since` replace the node's own exporter version and the time its driver was loaded.
    """
    node = cluster.node(node_name)
    page = _page(node, version or node.kind.exporter)
    states = node_state(node, at, interval_s=interval_s, counters_since=counters_since)
    parts: list[str] = []
    for family in page.families:
        lines = (
            _gpu_lines(family, page.lines, states) if family.write_gpu else _device_lines(family, page.lines, states)
        )
        if lines:
            parts.append(family.header)
            parts += lines
    return "".join(parts)


def _gpu_lines(family: Family, lines: Sequence[_Line], states: Sequence[GpuState]) -> list[str]:
    row, write, name = family.row, family.write_gpu, family.name
    if isinstance(row, DeviceRow) or write is None:
        raise TypeError(f"{name} is no whole-GPU family.")
    values = [write(state) for state in states]
    if row.has_error_labels:
        codes = [state.xid_code for state in states]
        return [f"{name}{line.error_labels[codes[line.gpu]]} {values[line.gpu]}\n" for line in lines]
    if row.under_mig:
        return [f"{name}{line.labels} {values[line.gpu]}\n" for line in lines]
    return [
        f"{name}{line.labels} {values[line.gpu]}\n"
        for line in lines
        if line.device is not None and not line.is_instance
    ]


def _device_lines(family: Family, lines: Sequence[_Line], states: Sequence[GpuState]) -> list[str]:
    row, write, name = family.row, family.write_device, family.name
    if not isinstance(row, DeviceRow) or write is None:
        raise TypeError(f"{name} is no family of devices.")
    if row.is_memory:
        lines = [line for line in lines if line.device is not None]
    return [
        f"{name}{line.labels} {write(_UNCUT if line.device is None else states[line.gpu].devices[line.device])}\n"
        for line in lines
    ]


_UNCUT = DeviceState(None, None, 0.0, False, 0, 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""What the profiler sees of a GPU in MIG mode without an instance."""


@lru_cache(maxsize=4096)
def _page(node: SimulatedNode, version: ExporterVersion) -> _Page:
    return _Page(families(node.kind, version), tuple(_lines(node, WIRE_STYLES[version])))


def _lines(node: SimulatedNode, style: WireStyle) -> list[_Line]:
    lines = []
    for gpu in node.gpus:
        if gpu.instances is None:
            lines.append(_line(node, style, gpu, 0, None, gpu.pod))
        elif not gpu.instances:
            lines.append(_line(node, style, gpu, None, None, None))
        # the exporter lists instances by profile and id, not by place
        positions = sorted(range(len(gpu.instances or ())), key=lambda at: _listing_key(gpu, at))
        for position in positions:
            instance = (gpu.instances or ())[position]
            lines.append(_line(node, style, gpu, position, instance, instance.pod))
    return lines


def _listing_key(gpu: SimulatedGpu, position: int) -> tuple[str, int]:
    instance = (gpu.instances or ())[position]
    return instance.profile, instance.gi_id


def _line(
    node: SimulatedNode,
    style: WireStyle,
    gpu: SimulatedGpu,
    device: int | None,
    instance: SimulatedInstance | None,
    pod: SimulatedPod | None,
) -> _Line:
    attributes = _pod_attributes(style, pod)
    codes = {0} | ({gpu.xid} if gpu.xid is not None else set())
    return _Line(
        gpu=gpu.index,
        device=device,
        is_instance=instance is not None,
        labels=_labels(node, style, gpu, instance, attributes),
        error_labels={
            code: _labels(node, style, gpu, instance, attributes | _error_attributes(style, code)) for code in codes
        },
    )


def _labels(
    node: SimulatedNode,
    style: WireStyle,
    gpu: SimulatedGpu,
    instance: SimulatedInstance | None,
    attributes: dict[str, str],
) -> str:
    labels = {
        "gpu": str(gpu.index),
        "UUID": gpu.uuid,
        "pci_bus_id": gpu.pci_bus_id,
        "device": f"nvidia{gpu.index}",
        "modelName": gpu.board.product,
    }
    if instance is not None:
        labels |= {"GPU_I_PROFILE": instance.profile, "GPU_I_ID": str(instance.gi_id)}
    labels[style.hostname_label] = node.exporter_pod if node.kind.hostname_is_pod else node.name
    labels[style.driver_label] = node.kind.driver_version
    labels |= dict(sorted(attributes.items()))
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


def _pod_attributes(style: WireStyle, pod: SimulatedPod | None) -> dict[str, str]:
    if pod is None:
        return {"container": "", "namespace": "", "pod": ""} if style.empty_pod_labels else {}
    attributes = {"container": pod.container, "namespace": pod.namespace, "pod": pod.name}
    return attributes | {"pod_uid": pod.uid} if style.pod_uid else attributes


def _error_attributes(style: WireStyle, code: int) -> dict[str, str]:
    if not style.xid_text:
        return {}
    return {"err_code": str(code), "err_msg": _XID_TEXTS.get(code, "Unknown Error")}
