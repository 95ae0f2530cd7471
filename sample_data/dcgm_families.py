"""The metric families of the simulated dcgm-exporters: one row per quantity, with what each name generation writes.

Names, order, types and help texts: default-counters.csv of dcgm-exporter (Apache-2.0) and, from 4.9 on, its release
note with the field tables of DCGM 4.6 and 4.7. Integer fields are written as integers, double fields with six decimals.
"""

from collections.abc import Callable
from dataclasses import dataclass

from planner.units import MIB
from sample_data.exporter_versions import WIRE_STYLES, ExporterVersion, WireStyle
from sample_data.node_kinds import NodeKind
from sample_data.workload import DeviceState, GpuState

GpuWriter = Callable[[GpuState], str]
DeviceWriter = Callable[[DeviceState], str]
Condition = Callable[[NodeKind, WireStyle], bool]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family as one exporter version writes it."""

    name: str
    header: str
    row: "GpuRow | DeviceRow"
    write_gpu: GpuWriter | None  # exactly one of the two is set
    write_device: DeviceWriter | None


@dataclass(frozen=True, slots=True)
class _Spelling:
    """A family's name and the unit in its help text, up to 4.8 and from 4.9 on; None where it did not exist."""

    old: str | None
    new: str | None
    old_unit: str = ""
    new_unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRow:
    """A whole-GPU quantity: on the GPU's line, or with the same value on the line of each of its instances."""

    spelling: _Spelling
    help: str
    old: GpuWriter
    new: GpuWriter | None = None  # written as `old` where None
    type: str = "gauge"
    under_mig: bool = True
    has_error_labels: bool = False
    condition: Condition = lambda kind, style: True


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """A quantity of a GPU without MIG or of one GPU instance."""

    spelling: _Spelling
    help: str
    old: DeviceWriter
    new: DeviceWriter | None = None
    is_memory: bool = False  # a GPU in MIG mode without instances has no framebuffer, but a profiling line
    condition: Condition = lambda kind, style: True


def _both(name: str) -> _Spelling:
    return _Spelling(name, name)


def _dev(old: str | None, new: str | None, old_unit: str = "", new_unit: str = "") -> _Spelling:
    return _Spelling(old and f"DCGM_FI_DEV_{old}", new and f"DCGM_FI_DEV_{new}", old_unit, new_unit)


def _prof(old: str, new: str) -> _Spelling:
    return _Spelling(f"DCGM_FI_PROF_{old}", f"DCGM_FI_PROF_{new}")


def _extended(kind: NodeKind, style: WireStyle) -> bool:
    return kind.extended_profiling


def _violations(kind: NodeKind, style: WireStyle) -> bool:
    return kind.extended_profiling and style.violations


def _nvlink(kind: NodeKind, style: WireStyle) -> bool:
    return kind.board.has_nvlink


def _memory_temperature(gpu: GpuState) -> str:
    return str(gpu.memory_temperature_celsius or 0)  # boards without the sensor: the exporter writes 0


def _percent(ratio: float | None) -> str:
    return str(round(100 * (ratio or 0.0)))  # whole-GPU line without MIG: there the ratio is known


def _hundredths(ratio: float | None) -> str:
    return f"{ratio or 0.0:.2f}0000"  # the driver measures whole percents, the exporter writes a double


_MHZ = 1_000_000
_PCIE = (
    "The rate of data {} over the PCIe bus - including both protocol headers and data payloads - in bytes per second."
)

_ROWS: tuple[GpuRow | DeviceRow, ...] = (
    GpuRow(
        spelling=_dev("SM_CLOCK", "SM_CLOCK_HERTZ", "in MHz", "in Hz"),
        help="SM clock frequency ({}).",
        old=lambda gpu: str(gpu.sm_clock_hertz // _MHZ),
        new=lambda gpu: str(gpu.sm_clock_hertz),
    ),
    GpuRow(
        spelling=_dev("MEM_CLOCK", "MEMORY_CLOCK_HERTZ", "in MHz", "in Hz"),
        help="Memory clock frequency ({}).",
        old=lambda gpu: str(gpu.memory_clock_hertz // _MHZ),
        new=lambda gpu: str(gpu.memory_clock_hertz),
    ),
    GpuRow(
        spelling=_dev("MEMORY_TEMP", "MEMORY_TEMP_CELSIUS"),
        help="Memory temperature (in C).",
        old=_memory_temperature,
    ),
    GpuRow(
        spelling=_dev("GPU_TEMP", "GPU_TEMP_CELSIUS"),
        help="GPU temperature (in C).",
        old=lambda gpu: str(gpu.temperature_celsius),
    ),
    GpuRow(
        spelling=_dev("POWER_USAGE", "BOARD_POWER_WATTS"),
        help="Power draw (in W).",
        old=lambda gpu: f"{gpu.power_watts:.6f}",
    ),
    GpuRow(
        spelling=_dev("TOTAL_ENERGY_CONSUMPTION", "GPU_ENERGY_JOULES_TOTAL", "in mJ", "in J"),
        help="Total energy consumption since boot ({}).",
        type="counter",
        old=lambda gpu: str(int(gpu.energy_joules * 1000)),
        new=lambda gpu: str(int(gpu.energy_joules)),
    ),
    GpuRow(
        spelling=_dev("PCIE_REPLAY_COUNTER", "PCIE_REPLAY_TOTAL"),
        help="Total number of PCIe retries.",
        type="counter",
        old=lambda gpu: str(gpu.pcie_replays),
    ),
    GpuRow(
        spelling=_dev("GPU_UTIL", "GPU_UTIL_RATIO", "in %", "0-1"),
        help="GPU utilization ({}).",
        under_mig=False,
        old=lambda gpu: _percent(gpu.gpu_busy_ratio),
        new=lambda gpu: _hundredths(gpu.gpu_busy_ratio),
    ),
    GpuRow(
        spelling=_dev("MEM_COPY_UTIL", "MEMORY_UTIL_RATIO", "in %", "0-1"),
        help="Memory utilization ({}).",
        under_mig=False,
        old=lambda gpu: _percent(gpu.memory_busy_ratio),
        new=lambda gpu: _hundredths(gpu.memory_busy_ratio),
    ),
    GpuRow(
        spelling=_dev("ENC_UTIL", "ENC_UTIL_RATIO", "in %", "0-1"),
        help="Encoder utilization ({}).",
        under_mig=False,
        old=lambda gpu: "0",
        new=lambda gpu: "0.000000",
    ),
    GpuRow(
        spelling=_dev("DEC_UTIL", "DEC_UTIL_RATIO", "in %", "0-1"),
        help="Decoder utilization ({}).",
        under_mig=False,
        old=lambda gpu: "0",
        new=lambda gpu: "0.000000",
    ),
    GpuRow(
        spelling=_dev("XID_ERRORS", "XID_ERROR"),
        help="Value of the last XID error encountered.",
        has_error_labels=True,
        old=lambda gpu: str(gpu.xid_code),
    ),
    GpuRow(
        spelling=_dev("POWER_VIOLATION", "GPU_POWER_THROTTLE_SECONDS_TOTAL", "in ns", "in s"),
        help="Throttling duration due to power constraints ({}).",
        type="counter",
        condition=_violations,
        old=lambda gpu: str(int(gpu.power_throttle_s * 1e9)),
        new=lambda gpu: f"{gpu.power_throttle_s:.6f}",
    ),
    GpuRow(
        spelling=_dev("THERMAL_VIOLATION", "GPU_THERMAL_THROTTLE_SECONDS_TOTAL", "in ns", "in s"),
        help="Throttling duration due to thermal constraints ({}).",
        type="counter",
        condition=_violations,
        old=lambda gpu: str(int(gpu.thermal_throttle_s * 1e9)),
        new=lambda gpu: f"{gpu.thermal_throttle_s:.6f}",
    ),
    GpuRow(
        spelling=_dev("CLOCK_THROTTLE_REASONS", None),
        help="Current clock throttle reasons (bitmask of DCGM_CLOCKS_THROTTLE_REASON_*).",
        condition=lambda kind, style: kind.extended_profiling and style.old_clock_events_name,
        old=lambda gpu: str(gpu.clock_event_reasons),
    ),
    GpuRow(
        spelling=_dev("CLOCKS_EVENT_REASONS", "CLOCKS_EVENT_REASONS"),
        help="Current clock event reasons (bitmask of DCGM_CLOCKS_EVENT_REASON_*).",
        condition=lambda kind, style: kind.extended_profiling and not style.old_clock_events_name,
        old=lambda gpu: str(gpu.clock_event_reasons),
    ),
    DeviceRow(
        spelling=_dev(None, "FB_CAPACITY_BYTES", "", "in bytes"),
        help="Framebuffer memory capacity ({}).",
        is_memory=True,
        old=lambda device: str(device.memory_total_bytes),
    ),
    DeviceRow(
        spelling=_dev("FB_FREE", "FB_FREE_BYTES", "in MiB", "in bytes"),
        help="Framebuffer memory free ({}).",
        is_memory=True,
        old=lambda device: str(device.memory_free_bytes // MIB),
        new=lambda device: str(device.memory_free_bytes),
    ),
    DeviceRow(
        spelling=_dev("FB_USED", "FB_USED_BYTES", "in MiB", "in bytes"),
        help="Framebuffer memory used ({}).",
        is_memory=True,
        old=lambda device: str(device.memory_used_bytes // MIB),
        new=lambda device: str(device.memory_used_bytes),
    ),
    DeviceRow(
        spelling=_dev("FB_RESERVED", "FB_RESERVED_BYTES", "in MiB", "in bytes"),
        help="Framebuffer memory reserved ({}).",
        is_memory=True,
        condition=lambda kind, style: style.reserved_memory,
        old=lambda device: str(device.memory_reserved_bytes // MIB),
        new=lambda device: str(device.memory_reserved_bytes),
    ),
    GpuRow(
        spelling=_dev("NVLINK_BANDWIDTH_TOTAL", None),
        help="Total number of NVLink bandwidth counters for all lanes.",
        type="counter",
        condition=lambda kind, style: kind.board.has_nvlink and not style.nvlink_is_gauge,
        old=lambda gpu: str(gpu.nvlink_bytes_per_s // 1_024_000),  # KiB/s divided by 1000
    ),
    GpuRow(
        spelling=_dev("NVLINK_BANDWIDTH_TOTAL", None),
        help="Total number of NVLink bandwidth counters for all lanes.",
        condition=lambda kind, style: kind.board.has_nvlink and style.nvlink_is_gauge,
        old=lambda gpu: str(gpu.nvlink_bytes_per_s // 1_024_000),
    ),
    GpuRow(
        spelling=_dev(None, "NVLINK_THROUGHPUT_BYTES_PER_SECOND"),
        help="NVLink throughput of all lanes (in bytes per second).",
        condition=_nvlink,
        old=lambda gpu: str(gpu.nvlink_bytes_per_s),
    ),
    GpuRow(
        spelling=_dev("UNCORRECTABLE_REMAPPED_ROWS", "ROW_REMAP_UNCORRECTABLE_TOTAL"),
        help="Number of remapped rows for uncorrectable errors",
        type="counter",
        under_mig=False,
        old=lambda gpu: str(gpu.remapped_rows_uncorrectable),
    ),
    GpuRow(
        spelling=_dev("CORRECTABLE_REMAPPED_ROWS", "ROW_REMAP_CORRECTABLE_TOTAL"),
        help="Number of remapped rows for correctable errors",
        type="counter",
        under_mig=False,
        old=lambda gpu: "0",
    ),
    GpuRow(
        spelling=_dev("ROW_REMAP_FAILURE", "ROW_REMAP_FAILED"),
        help="Whether remapping of rows has failed",
        under_mig=False,
        old=lambda gpu: "0",
    ),
    GpuRow(
        spelling=_both("DCGM_FI_DEV_VGPU_LICENSE_STATUS"),
        help="vGPU License status",
        under_mig=False,
        old=lambda gpu: "0",
    ),
    DeviceRow(
        spelling=_prof("GR_ENGINE_ACTIVE", "GR_ENGINE_UTIL_RATIO"),
        help="Ratio of time the graphics engine is active.",
        old=lambda device: f"{device.gr_engine_active_ratio:.6f}",
    ),
    DeviceRow(
        spelling=_prof("SM_ACTIVE", "SM_UTIL_RATIO"),
        help="The ratio of cycles an SM has at least 1 warp assigned.",
        condition=_extended,
        old=lambda device: f"{device.sm_active_ratio:.6f}",
    ),
    DeviceRow(
        spelling=_prof("SM_OCCUPANCY", "SM_OCCUPANCY_RATIO"),
        help="The ratio of number of warps resident on an SM.",
        condition=_extended,
        old=lambda device: f"{device.sm_occupancy_ratio:.6f}",
    ),
    DeviceRow(
        spelling=_prof("PIPE_TENSOR_ACTIVE", "TENSOR_UTIL_RATIO"),
        help="Ratio of cycles the tensor (HMMA) pipe is active.",
        condition=_extended,
        old=lambda device: f"{device.tensor_active_ratio:.6f}",
    ),
    DeviceRow(
        spelling=_prof("DRAM_ACTIVE", "DRAM_UTIL_RATIO"),
        help="Ratio of cycles the device memory interface is active sending or receiving data.",
        condition=_extended,
        old=lambda device: f"{device.dram_active_ratio:.6f}",
    ),
    GpuRow(
        spelling=_both("DCGM_FI_PROF_PCIE_TX_BYTES"),
        help=_PCIE.format("transmitted"),
        condition=_extended,
        old=lambda gpu: str(gpu.pcie_tx_bytes_per_s),
    ),
    GpuRow(
        spelling=_both("DCGM_FI_PROF_PCIE_RX_BYTES"),
        help=_PCIE.format("received"),
        condition=_extended,
        old=lambda gpu: str(gpu.pcie_rx_bytes_per_s),
    ),
)


def families(kind: NodeKind, version: ExporterVersion) -> tuple[Family, ...]:
    """What an exporter of that version says on a node of that kind, in order."""
    style = WIRE_STYLES[version]
    built = []
    for row in _ROWS:
        name = row.spelling.new if style.base_units else row.spelling.old
        if name is None or not row.condition(kind, style):
            continue
        help_text = row.help.format(row.spelling.new_unit if style.base_units else row.spelling.old_unit)
        header = f"# HELP {name} {help_text}\n# TYPE {name} {row.type if isinstance(row, GpuRow) else 'gauge'}\n"
        if isinstance(row, GpuRow):
            write_gpu = row.new if style.base_units and row.new is not None else row.old
            built.append(Family(name, header, row, write_gpu, None))
        else:
            write_device = row.new if style.base_units and row.new is not None else row.old
            built.append(Family(name, header, row, None, write_device))
    return tuple(built)
