"""What gpufleet measures: the one list of metric names, their units, and what each is a property of.

Collectors may only emit these names and the store has one column per row; a test holds all three together. Adding a
metric starts here.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How values of a metric combine over time."""

    GAUGE = "gauge"
    COUNTER = "counter"  # only ever grows, except for resets (driver reload, exporter restart)


class Level(StrEnum):
    """What one value of a metric describes.

    Source: DCGM 4.6.0 field table, entity levels; NVIDIA MIG User Guide, "Monitoring".
    """

    GPU = "gpu"  # the whole GPU, also when an exporter repeats it on every GPU instance's line: never summed
    DEVICE = "device"  # the GPU, or the one GPU instance it is reported for


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One thing measured, by its name in base units."""

    name: str
    kind: Kind
    level: Level
    help: str


def _gauge(name: str, level: Level, help: str) -> Metric:
    return Metric(name=name, kind=Kind.GAUGE, level=level, help=help)


def _counter(name: str, level: Level, help: str) -> Metric:
    return Metric(name=name, kind=Kind.COUNTER, level=level, help=help)


METRICS: tuple[Metric, ...] = (
    _gauge("gpu_busy_ratio", Level.GPU, "Share of time any kernel ran (NVML utilization.gpu); absent under MIG."),
    _gauge("memory_busy_ratio", Level.GPU, "Share of time in which memory was read or written; absent under MIG."),
    _gauge("encoder_busy_ratio", Level.GPU, "Share of time in which the video encoder worked; absent under MIG."),
    _gauge("decoder_busy_ratio", Level.GPU, "Share of time in which the video decoder worked; absent under MIG."),
    _gauge("memory_used_bytes", Level.DEVICE, "Framebuffer occupied; no evidence of need, engines reserve it."),
    _gauge("memory_free_bytes", Level.DEVICE, "Framebuffer not occupied."),
    _gauge("memory_reserved_bytes", Level.DEVICE, "Framebuffer held by the driver."),
    _gauge("memory_total_bytes", Level.DEVICE, "Framebuffer of the device: used + free + reserved, or as reported."),
    _gauge("gr_engine_active_ratio", Level.DEVICE, "Share of time in which the graphics or compute engine was active."),
    _gauge("sm_active_ratio", Level.DEVICE, "Share of cycles in which an SM had at least one warp, averaged over SMs."),
    _gauge("sm_occupancy_ratio", Level.DEVICE, "Resident warps relative to the most an SM can hold."),
    _gauge("tensor_active_ratio", Level.DEVICE, "Share of cycles in which a tensor pipe was active."),
    _gauge("dram_active_ratio", Level.DEVICE, "Share of cycles in which device memory sent or received data."),
    _gauge("fp64_active_ratio", Level.DEVICE, "Share of cycles in which the FP64 pipe was active."),
    _gauge("fp32_active_ratio", Level.DEVICE, "Share of cycles in which the FP32 pipe was active."),
    _gauge("fp16_active_ratio", Level.DEVICE, "Share of cycles in which the FP16 pipe was active."),
    _gauge("sm_clock_hertz", Level.GPU, "SM clock."),
    _gauge("memory_clock_hertz", Level.GPU, "Memory clock."),
    _gauge("temperature_celsius", Level.GPU, "GPU temperature."),
    _gauge("memory_temperature_celsius", Level.GPU, "Memory temperature; boards without the sensor do not report it."),
    _gauge("power_watts", Level.GPU, "Board power draw."),
    _counter("energy_joules", Level.GPU, "Energy since the driver was loaded."),
    _gauge("pcie_tx_bytes_per_s", Level.GPU, "PCIe bytes sent per second."),
    _gauge("pcie_rx_bytes_per_s", Level.GPU, "PCIe bytes received per second."),
    _gauge("nvlink_tx_bytes_per_s", Level.GPU, "NVLink bytes sent per second."),
    _gauge("nvlink_rx_bytes_per_s", Level.GPU, "NVLink bytes received per second."),
    _gauge("nvlink_bytes_per_s", Level.GPU, "NVLink bytes per second, both directions."),
    _counter("pcie_replays", Level.GPU, "PCIe retries since the driver was loaded."),
    _gauge("xid_code", Level.DEVICE, "Last Xid error; sticky until driver reload, 0 means none."),
    _gauge("clock_event_reasons", Level.GPU, "Bit mask of what holds clocks down (NVML clocksEventReasons)."),
    _counter("power_throttle_s", Level.GPU, "Time throttled for power since the driver was loaded."),
    _counter("thermal_throttle_s", Level.GPU, "Time throttled for temperature since the driver was loaded."),
    _counter("ecc_uncorrectable", Level.GPU, "Uncorrectable (double-bit) volatile ECC errors."),
    _counter("ecc_correctable", Level.GPU, "Correctable (single-bit) volatile ECC errors."),
    _counter("remapped_rows_uncorrectable", Level.GPU, "Rows remapped for uncorrectable errors."),
    _counter("remapped_rows_correctable", Level.GPU, "Rows remapped for correctable errors."),
    _gauge("row_remap_failed", Level.GPU, "1 when a row remapping failed: the GPU wants replacing."),
    _gauge("row_remap_pending", Level.GPU, "1 when memory rows wait to be remapped, which the next GPU reset does."),
)

BY_NAME: dict[str, Metric] = {metric.name: metric for metric in METRICS}
