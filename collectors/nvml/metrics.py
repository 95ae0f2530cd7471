"""What NVML calls each of our metrics: functions, fields and GPM metrics; adding a metric is adding a row.

Numbers are NVML's own (a test holds them beside nvidia-ml-py's constants).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from planner.units import KIB, MIB

HEADER = "NVML API reference, R580 (nvml.h)"
GPM_HEADER = "NVML API reference, GPM enums (nvmlGpmMetricId_t)"

CLAMP_TOLERANCE = 0.1
"""How far above 1 a ratio is still sampling noise and cut to 1, as for DCGM (NVIDIA/DCGM#152)."""

MEMORY_V2 = 0x02000028
"""Version of nvmlMemory_v2_t: its size with the number 2 above it."""

_MARKS = (float(2**32 - 1), float(2**64 - 1))
"""NVML_VALUE_NOT_AVAILABLE, in both widths."""

Convert = Callable[[float], float]


class Implausible(ValueError):
    """A number that this metric cannot have; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRow:
    """One of our metrics in the answer of a function.

    `functions` are one question under its names, newest first; `pick` names the part of the answer, if it has parts.
    """

    metric: str
    functions: tuple[str, ...]
    arguments: tuple[int, ...] = ()
    pick: str | int | None = None
    convert: Convert
    source: str = HEADER
    under_mig: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRow:
    """One of our metrics as a field value."""

    metric: str
    field_id: int
    name: str  # as in nvml.h
    convert: Convert
    source: str = HEADER


@dataclass(frozen=True, slots=True, kw_only=True)
class GpmRow:
    """One of our metrics between two GPM samples. `per_instance` are those that a GPU instance has of its own."""

    metric: str
    gpm_id: int
    name: str  # as in nvml.h, behind NVML_GPM_METRIC_
    convert: Convert
    per_instance: bool = True
    under_mig: bool = True
    source: str = GPM_HEADER


def as_is(value: float) -> float:
    """Already in our unit."""
    return value


def percent_to_ratio(value: float) -> float:
    """0 to 100 into 0 to 1; a little more is cut to 1, see CLAMP_TOLERANCE."""
    if value > 100 * (1 + CLAMP_TOLERANCE):
        raise Implausible(f"{value:g} is no percentage")
    return min(value / 100, 1.0)


def megahertz_to_hertz(value: float) -> float:
    """MHz into Hz."""
    return value * 1e6


def thousandths(value: float) -> float:
    """mW into W, mJ into J."""
    return value / 1e3


def nanoseconds_to_seconds(value: float) -> float:
    """ns into s."""
    return value / 1e9


def kibibytes_to_bytes(value: float) -> float:
    """KiB into bytes; NVML says KB, as it says MB where it means MiB."""
    return value * KIB


def mebibytes_to_bytes(value: float) -> float:
    """MiB into bytes."""
    return value * MIB


def memory_temperature(value: float) -> float:
    """Degrees Celsius; boards without the sensor report 0."""
    if value == 0:
        raise Implausible("0 means that this board has no memory temperature sensor")
    return value


def plausible(value: float) -> float:
    """The value itself; raises Implausible for what stands for "no value" whatever the metric."""
    if math.isnan(value) or math.isinf(value):
        raise Implausible("the value is not a finite number")
    if value in _MARKS:
        raise Implausible("the value is NVML's mark for not available")
    if value < 0:
        raise Implausible(f"{value:g} is negative")
    return value


_ECC = "nvmlDeviceGetTotalEccErrors"
REMAPPED_ROWS = "nvmlDeviceGetRemappedRows"
REMAP_PENDING_PICK = 2
"""Which part of that answer says that rows wait to be remapped."""

CALLS: tuple[CallRow, ...] = (
    CallRow(
        metric="gpu_busy_ratio",
        functions=("nvmlDeviceGetUtilizationRates",),
        pick="gpu",
        convert=percent_to_ratio,
        under_mig=False,
    ),
    CallRow(
        metric="memory_busy_ratio",
        functions=("nvmlDeviceGetUtilizationRates",),
        pick="memory",
        convert=percent_to_ratio,
        under_mig=False,
    ),
    CallRow(
        metric="encoder_busy_ratio",
        functions=("nvmlDeviceGetEncoderUtilization",),
        pick=0,
        convert=percent_to_ratio,
        under_mig=False,
    ),
    CallRow(
        metric="decoder_busy_ratio",
        functions=("nvmlDeviceGetDecoderUtilization",),
        pick=0,
        convert=percent_to_ratio,
        under_mig=False,
    ),
    CallRow(  # 1 is NVML_CLOCK_SM
        metric="sm_clock_hertz", functions=("nvmlDeviceGetClockInfo",), arguments=(1,), convert=megahertz_to_hertz
    ),
    CallRow(  # 2 is NVML_CLOCK_MEM
        metric="memory_clock_hertz", functions=("nvmlDeviceGetClockInfo",), arguments=(2,), convert=megahertz_to_hertz
    ),
    CallRow(  # 0 is NVML_TEMPERATURE_GPU
        metric="temperature_celsius",
        functions=("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature"),
        arguments=(0,),
        convert=as_is,
    ),
    CallRow(metric="power_watts", functions=("nvmlDeviceGetPowerUsage",), convert=thousandths),
    CallRow(metric="energy_joules", functions=("nvmlDeviceGetTotalEnergyConsumption",), convert=thousandths),
    CallRow(metric="pcie_replays", functions=("nvmlDeviceGetPcieReplayCounter",), convert=as_is),
    CallRow(
        metric="clock_event_reasons",
        functions=("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"),
        convert=as_is,
    ),
    CallRow(  # 0 is NVML_PERF_POLICY_POWER
        metric="power_throttle_s",
        functions=("nvmlDeviceGetViolationStatus",),
        arguments=(0,),
        pick="violationTime",
        convert=nanoseconds_to_seconds,
    ),
    CallRow(  # 1 is NVML_PERF_POLICY_THERMAL
        metric="thermal_throttle_s",
        functions=("nvmlDeviceGetViolationStatus",),
        arguments=(1,),
        pick="violationTime",
        convert=nanoseconds_to_seconds,
    ),
    # Which errors (0 corrected, 1 uncorrected), since when (0: volatile, since the driver was loaded).
    CallRow(metric="ecc_uncorrectable", functions=(_ECC,), arguments=(1, 0), convert=as_is),
    CallRow(metric="ecc_correctable", functions=(_ECC,), arguments=(0, 0), convert=as_is),
    CallRow(metric="remapped_rows_correctable", functions=(REMAPPED_ROWS,), pick=0, convert=as_is),
    CallRow(metric="remapped_rows_uncorrectable", functions=(REMAPPED_ROWS,), pick=1, convert=as_is),
    CallRow(metric="row_remap_failed", functions=(REMAPPED_ROWS,), pick=3, convert=as_is),
    CallRow(metric="row_remap_pending", functions=(REMAPPED_ROWS,), pick=REMAP_PENDING_PICK, convert=as_is),
)

PCIE_THROUGHPUT: tuple[CallRow, ...] = (
    CallRow(  # 0 is NVML_PCIE_UTIL_TX_BYTES; measured over 20 ms, for which the call waits
        metric="pcie_tx_bytes_per_s",
        functions=("nvmlDeviceGetPcieThroughput",),
        arguments=(0,),
        convert=kibibytes_to_bytes,
    ),
    CallRow(
        metric="pcie_rx_bytes_per_s",
        functions=("nvmlDeviceGetPcieThroughput",),
        arguments=(1,),
        convert=kibibytes_to_bytes,
    ),
)
"""Asked where GPM does not give them."""

FIELDS: tuple[FieldRow, ...] = (
    FieldRow(
        metric="memory_temperature_celsius",
        field_id=82,
        name="NVML_FI_DEV_MEMORY_TEMP",
        convert=memory_temperature,
    ),
)

GPM: tuple[GpmRow, ...] = (
    GpmRow(metric="gr_engine_active_ratio", gpm_id=1, name="GRAPHICS_UTIL", convert=percent_to_ratio),
    GpmRow(metric="sm_active_ratio", gpm_id=2, name="SM_UTIL", convert=percent_to_ratio),
    GpmRow(metric="sm_occupancy_ratio", gpm_id=3, name="SM_OCCUPANCY", convert=percent_to_ratio),
    GpmRow(metric="tensor_active_ratio", gpm_id=5, name="ANY_TENSOR_UTIL", convert=percent_to_ratio),
    GpmRow(metric="dram_active_ratio", gpm_id=10, name="DRAM_BW_UTIL", convert=percent_to_ratio),
    GpmRow(metric="fp64_active_ratio", gpm_id=11, name="FP64_UTIL", convert=percent_to_ratio),
    GpmRow(metric="fp32_active_ratio", gpm_id=12, name="FP32_UTIL", convert=percent_to_ratio),
    GpmRow(metric="fp16_active_ratio", gpm_id=13, name="FP16_UTIL", convert=percent_to_ratio),
    GpmRow(
        metric="pcie_tx_bytes_per_s", gpm_id=20, name="PCIE_TX_PER_SEC", convert=mebibytes_to_bytes, per_instance=False
    ),
    GpmRow(
        metric="pcie_rx_bytes_per_s", gpm_id=21, name="PCIE_RX_PER_SEC", convert=mebibytes_to_bytes, per_instance=False
    ),
    GpmRow(
        metric="nvlink_rx_bytes_per_s",
        gpm_id=60,
        name="NVLINK_TOTAL_RX_PER_SEC",
        convert=mebibytes_to_bytes,
        per_instance=False,
        under_mig=False,
    ),
    GpmRow(
        metric="nvlink_tx_bytes_per_s",
        gpm_id=61,
        name="NVLINK_TOTAL_TX_PER_SEC",
        convert=mebibytes_to_bytes,
        per_instance=False,
        under_mig=False,
    ),
)

NVLINK_LINK_COUNT_FIELD = 91
ALL_LINKS = 0xFFFFFFFF
"""Scope of a throughput field that means all links together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkCounters:
    """A pair of cumulative counters that every NVLink has, as fields with the link as scope."""

    tx_field: int
    rx_field: int
    convert: Convert
    source: str = HEADER


NVLINK_COUNTERS: tuple[LinkCounters, ...] = (
    LinkCounters(tx_field=138, rx_field=139, convert=kibibytes_to_bytes),  # payload, Ampere and Hopper
    LinkCounters(tx_field=202, rx_field=204, convert=as_is),  # NVLink 5
)
"""In the order in which they are tried."""

FIELD_NAMES: dict[int, str] = {
    NVLINK_LINK_COUNT_FIELD: "NVML_FI_DEV_NVLINK_LINK_COUNT",
    138: "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX",
    139: "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX",
    202: "NVML_FI_DEV_NVLINK_COUNT_XMIT_BYTES",
    204: "NVML_FI_DEV_NVLINK_COUNT_RCV_BYTES",
    **{row.field_id: row.name for row in FIELDS},
}

ACTIVITY = ("gr_engine_active_ratio", "sm_active_ratio", "tensor_active_ratio", "dram_active_ratio")
"""What pages and advice rest on: its absence is said for every device."""

NOT_UNDER_MIG = ("gpu_busy_ratio", "memory_busy_ratio", "encoder_busy_ratio", "decoder_busy_ratio")
MEMORY = ("memory_used_bytes", "memory_free_bytes", "memory_total_bytes", "memory_reserved_bytes")
