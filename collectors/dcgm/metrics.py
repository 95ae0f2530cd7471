"""What dcgm-exporter calls each of our metrics, in every generation of its names; adding a metric is adding a row.

Both roads, direct scrape and Prometheus, read this one table. Of two rows for one metric the earlier wins: names that
carry their unit stand first.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from planner.units import MIB

CSV = "dcgm-exporter 4.6.0-4.8.3, etc/default-counters.csv"
CSV_1X = "dcgm-exporter, etc/1.x-compatibility-metrics.csv"
HEADER = "DCGM 4.6.0, dcgmlib/dcgm_fields.h"
RELEASE_49 = "dcgm-exporter 4.9.0 release note with the DCGM 4.7 field reference (read second hand)"

CLAMP_TOLERANCE = 0.1
"""How far above 1 a ratio is still sampling noise and cut to 1 (NVIDIA/DCGM#152: SM activity above 100 % on MIG)."""

_SENTINEL_RANGES = (
    (2147483632.0, 2147483635.0),  # dcgm_fields.h: DCGM_INT32_BLANK and the three kinds after it
    (140737488355328.0, 140737488355331.0),  # DCGM_FP64_BLANK
)
_INT64_BLANK = 9223372036854775000.0  # DCGM_INT64_BLANK is ...5792; as a float it cannot be told from its neighbours


class Implausible(ValueError):
    """A number that this metric cannot have; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRow:
    """One name that a source uses: our metric, how to get to base units, and where name and unit were read."""

    source_name: str
    metric: str
    convert: Callable[[float], float]
    source: str


def as_is(value: float) -> float:
    """Already in our unit."""
    return value


def ratio(value: float) -> float:
    """0 to 1; a little more is cut to 1, see CLAMP_TOLERANCE."""
    if value > 1 + CLAMP_TOLERANCE:
        raise Implausible(f"{value:g} is no ratio")
    return min(value, 1.0)


def percent_to_ratio(value: float) -> float:
    """0 to 100 into 0 to 1."""
    if value > 100:
        raise Implausible(f"{value:g} is no percentage")
    return value / 100


def ratio_or_percent(value: float) -> float:
    """0 to 1, or 0 to 100 when it is more than 1: see `rows_of_scrape`."""
    return percent_to_ratio(value) if value > 1 else value


def megahertz_to_hertz(value: float) -> float:
    """MHz into Hz."""
    return value * 1e6


def mebibytes_to_bytes(value: float) -> float:
    """MiB into bytes; DCGM calls them MB."""
    return value * MIB


def millijoules_to_joules(value: float) -> float:
    """mJ into J."""
    return value / 1e3


def nanoseconds_to_seconds(value: float) -> float:
    """ns into s."""
    return value / 1e9


def nvlink_megabytes_to_bytes(value: float) -> float:
    """DCGM's NVLink "MB/s" into bytes/s: it divides KiB/s by 1000."""
    return value * 1000 * 1024


def memory_temperature(value: float) -> float:
    """Degrees Celsius; boards without the sensor report 0."""
    if value == 0:
        raise Implausible("0 means that this board has no memory temperature sensor")
    return value


def plausible(value: float) -> float:
    """The value itself; raises Implausible for what stands for "no value" whatever the metric."""
    if 0 <= value < _SENTINEL_RANGES[0][0]:
        return value  # below all marks: almost every value there is
    if math.isnan(value) or math.isinf(value):
        raise Implausible("the value is not a finite number")
    if value >= _INT64_BLANK or any(low <= value <= high for low, high in _SENTINEL_RANGES):
        raise Implausible("the value is DCGM's mark for not available")
    if value < 0:
        raise Implausible(f"{value:g} is negative")
    return value


def _row(metric: str, source_name: str, convert: Callable[[float], float], source: str) -> MetricRow:
    return MetricRow(source_name=source_name, metric=metric, convert=convert, source=source)


ROWS: tuple[MetricRow, ...] = (
    _row("gpu_busy_ratio", "DCGM_FI_DEV_GPU_UTIL_RATIO", ratio_or_percent, RELEASE_49),
    _row("gpu_busy_ratio", "DCGM_FI_DEV_GPU_UTIL", percent_to_ratio, CSV),
    _row("gpu_busy_ratio", "dcgm_gpu_utilization", percent_to_ratio, CSV_1X),
    _row("memory_busy_ratio", "DCGM_FI_DEV_MEMORY_UTIL_RATIO", ratio, RELEASE_49),
    _row("memory_busy_ratio", "DCGM_FI_DEV_MEM_COPY_UTIL", percent_to_ratio, CSV),
    _row("memory_busy_ratio", "dcgm_mem_copy_utilization", percent_to_ratio, CSV_1X),
    _row("encoder_busy_ratio", "DCGM_FI_DEV_ENC_UTIL_RATIO", ratio, RELEASE_49),
    _row("encoder_busy_ratio", "DCGM_FI_DEV_ENC_UTIL", percent_to_ratio, CSV),
    _row("encoder_busy_ratio", "dcgm_enc_utilization", percent_to_ratio, CSV_1X),
    _row("decoder_busy_ratio", "DCGM_FI_DEV_DEC_UTIL_RATIO", ratio, RELEASE_49),
    _row("decoder_busy_ratio", "DCGM_FI_DEV_DEC_UTIL", percent_to_ratio, CSV),
    _row("decoder_busy_ratio", "dcgm_dec_utilization", percent_to_ratio, CSV_1X),
    _row("memory_used_bytes", "DCGM_FI_DEV_FB_USED_BYTES", as_is, RELEASE_49),
    _row("memory_used_bytes", "DCGM_FI_DEV_FB_USED", mebibytes_to_bytes, CSV),
    _row("memory_used_bytes", "dcgm_fb_used", mebibytes_to_bytes, CSV_1X),
    _row("memory_free_bytes", "DCGM_FI_DEV_FB_FREE_BYTES", as_is, RELEASE_49),
    _row("memory_free_bytes", "DCGM_FI_DEV_FB_FREE", mebibytes_to_bytes, CSV),
    _row("memory_free_bytes", "dcgm_fb_free", mebibytes_to_bytes, CSV_1X),
    _row("memory_reserved_bytes", "DCGM_FI_DEV_FB_RESERVED_BYTES", as_is, RELEASE_49),
    _row("memory_reserved_bytes", "DCGM_FI_DEV_FB_RESERVED", mebibytes_to_bytes, CSV),
    _row("memory_total_bytes", "DCGM_FI_DEV_FB_CAPACITY_BYTES", as_is, RELEASE_49),
    _row("memory_total_bytes", "DCGM_FI_DEV_FB_TOTAL", mebibytes_to_bytes, HEADER),
    _row("gr_engine_active_ratio", "DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO", ratio, HEADER),
    _row("gr_engine_active_ratio", "DCGM_FI_PROF_GR_ENGINE_ACTIVE", ratio, CSV),
    _row("gr_engine_active_ratio", "dcgm_fi_prof_gr_engine_active", ratio, CSV_1X),  # its help text says %, wrongly
    _row("sm_active_ratio", "DCGM_FI_PROF_SM_UTIL_RATIO", ratio, HEADER),
    _row("sm_active_ratio", "DCGM_FI_PROF_SM_ACTIVE", ratio, CSV),
    _row("sm_active_ratio", "dcgm_fi_prof_sm_active", ratio, CSV_1X),
    _row("sm_occupancy_ratio", "DCGM_FI_PROF_SM_OCCUPANCY_RATIO", ratio, HEADER),
    _row("sm_occupancy_ratio", "DCGM_FI_PROF_SM_OCCUPANCY", ratio, CSV),
    _row("sm_occupancy_ratio", "dcgm_fi_prof_sm_occupancy", ratio, CSV_1X),
    _row("tensor_active_ratio", "DCGM_FI_PROF_TENSOR_UTIL_RATIO", ratio, HEADER),
    _row("tensor_active_ratio", "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", ratio, CSV),
    _row("tensor_active_ratio", "dcgm_fi_prof_pipe_tensor_active", ratio, CSV_1X),
    _row("dram_active_ratio", "DCGM_FI_PROF_DRAM_UTIL_RATIO", ratio, HEADER),
    _row("dram_active_ratio", "DCGM_FI_PROF_DRAM_ACTIVE", ratio, CSV),
    _row("dram_active_ratio", "dcgm_fi_prof_dram_active", ratio, CSV_1X),
    _row("fp64_active_ratio", "DCGM_FI_PROF_FP64_UTIL_RATIO", ratio, HEADER),
    _row("fp64_active_ratio", "DCGM_FI_PROF_PIPE_FP64_ACTIVE", ratio, CSV),
    _row("fp32_active_ratio", "DCGM_FI_PROF_FP32_UTIL_RATIO", ratio, HEADER),
    _row("fp32_active_ratio", "DCGM_FI_PROF_PIPE_FP32_ACTIVE", ratio, CSV),
    _row("fp16_active_ratio", "DCGM_FI_PROF_FP16_UTIL_RATIO", ratio, HEADER),
    _row("fp16_active_ratio", "DCGM_FI_PROF_PIPE_FP16_ACTIVE", ratio, CSV),
    _row("sm_clock_hertz", "DCGM_FI_DEV_SM_CLOCK_HERTZ", as_is, RELEASE_49),
    _row("sm_clock_hertz", "DCGM_FI_DEV_SM_CLOCK", megahertz_to_hertz, CSV),
    _row("sm_clock_hertz", "dcgm_sm_clock", megahertz_to_hertz, CSV_1X),
    _row("memory_clock_hertz", "DCGM_FI_DEV_MEMORY_CLOCK_HERTZ", as_is, RELEASE_49),
    _row("memory_clock_hertz", "DCGM_FI_DEV_MEM_CLOCK", megahertz_to_hertz, CSV),
    _row("memory_clock_hertz", "dcgm_memory_clock", megahertz_to_hertz, CSV_1X),
    _row("temperature_celsius", "DCGM_FI_DEV_GPU_TEMP_CELSIUS", as_is, HEADER),
    _row("temperature_celsius", "DCGM_FI_DEV_GPU_TEMP", as_is, CSV),
    _row("temperature_celsius", "dcgm_gpu_temp", as_is, CSV_1X),
    _row("memory_temperature_celsius", "DCGM_FI_DEV_MEMORY_TEMP_CELSIUS", memory_temperature, HEADER),
    _row("memory_temperature_celsius", "DCGM_FI_DEV_MEMORY_TEMP", memory_temperature, CSV),
    _row("memory_temperature_celsius", "dcgm_memory_temp", memory_temperature, CSV_1X),
    _row("power_watts", "DCGM_FI_DEV_BOARD_POWER_WATTS", as_is, HEADER),
    _row("power_watts", "DCGM_FI_DEV_POWER_USAGE", as_is, CSV),
    _row("power_watts", "dcgm_power_usage", as_is, CSV_1X),
    _row("energy_joules", "DCGM_FI_DEV_GPU_ENERGY_JOULES_TOTAL", as_is, RELEASE_49),
    _row("energy_joules", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", millijoules_to_joules, CSV),
    _row("energy_joules", "dcgm_total_energy_consumption", millijoules_to_joules, CSV_1X),
    # Rates in bytes/s, also where a counter list of the exporter declares them counters: never differentiate them.
    _row("pcie_tx_bytes_per_s", "DCGM_FI_PROF_PCIE_TX_BYTES", as_is, CSV),
    _row("pcie_tx_bytes_per_s", "dcgm_fi_prof_pcie_tx_bytes", as_is, CSV_1X),
    _row("pcie_rx_bytes_per_s", "DCGM_FI_PROF_PCIE_RX_BYTES", as_is, CSV),
    _row("pcie_rx_bytes_per_s", "dcgm_fi_prof_pcie_rx_bytes", as_is, CSV_1X),
    _row("nvlink_tx_bytes_per_s", "DCGM_FI_PROF_NVLINK_TX_BYTES", as_is, HEADER),
    _row("nvlink_tx_bytes_per_s", "DCGM_FI_DEV_NVLINK_TX_THROUGHPUT_TOTAL", nvlink_megabytes_to_bytes, HEADER),
    _row("nvlink_tx_bytes_per_s", "DCGM_FI_DEV_NVLINK_TX_BANDWIDTH_TOTAL", nvlink_megabytes_to_bytes, HEADER),
    _row("nvlink_rx_bytes_per_s", "DCGM_FI_PROF_NVLINK_RX_BYTES", as_is, HEADER),
    _row("nvlink_rx_bytes_per_s", "DCGM_FI_DEV_NVLINK_RX_THROUGHPUT_TOTAL", nvlink_megabytes_to_bytes, HEADER),
    _row("nvlink_rx_bytes_per_s", "DCGM_FI_DEV_NVLINK_RX_BANDWIDTH_TOTAL", nvlink_megabytes_to_bytes, HEADER),
    _row("nvlink_bytes_per_s", "DCGM_FI_DEV_NVLINK_THROUGHPUT_BYTES_PER_SECOND", as_is, RELEASE_49),
    _row("nvlink_bytes_per_s", "DCGM_FI_DEV_NVLINK_THROUGHPUT_TOTAL", nvlink_megabytes_to_bytes, HEADER),
    _row("nvlink_bytes_per_s", "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", nvlink_megabytes_to_bytes, HEADER),
    _row("nvlink_bytes_per_s", "dcgm_nvlink_bandwidth_total", nvlink_megabytes_to_bytes, CSV_1X),
    _row("pcie_replays", "DCGM_FI_DEV_PCIE_REPLAY_TOTAL", as_is, HEADER),
    _row("pcie_replays", "DCGM_FI_DEV_PCIE_REPLAY_COUNTER", as_is, CSV),
    _row("pcie_replays", "dcgm_pcie_replay_counter", as_is, CSV_1X),
    _row("xid_code", "DCGM_FI_DEV_XID_ERROR", as_is, HEADER),
    _row("xid_code", "DCGM_FI_DEV_XID_ERRORS", as_is, CSV),
    _row("xid_code", "dcgm_xid_errors", as_is, CSV_1X),
    _row("clock_event_reasons", "DCGM_FI_DEV_CLOCKS_EVENT_REASONS", as_is, HEADER),
    _row("clock_event_reasons", "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", as_is, HEADER),
    _row("power_throttle_s", "DCGM_FI_DEV_GPU_POWER_THROTTLE_SECONDS_TOTAL", as_is, RELEASE_49),
    _row("power_throttle_s", "DCGM_FI_DEV_POWER_VIOLATION", nanoseconds_to_seconds, CSV),
    _row("power_throttle_s", "dcgm_power_violation", nanoseconds_to_seconds, CSV_1X),
    _row("thermal_throttle_s", "DCGM_FI_DEV_GPU_THERMAL_THROTTLE_SECONDS_TOTAL", as_is, RELEASE_49),
    _row("thermal_throttle_s", "DCGM_FI_DEV_THERMAL_VIOLATION", nanoseconds_to_seconds, CSV),
    _row("thermal_throttle_s", "dcgm_thermal_violation", nanoseconds_to_seconds, CSV_1X),
    _row("ecc_uncorrectable", "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", as_is, CSV),
    _row("ecc_uncorrectable", "dcgm_ecc_dbe_volatile_total", as_is, CSV_1X),
    _row("ecc_correctable", "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", as_is, CSV),
    _row("ecc_correctable", "dcgm_ecc_sbe_volatile_total", as_is, CSV_1X),
    _row("remapped_rows_uncorrectable", "DCGM_FI_DEV_ROW_REMAP_UNCORRECTABLE_TOTAL", as_is, HEADER),
    _row("remapped_rows_uncorrectable", "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", as_is, CSV),
    _row("remapped_rows_correctable", "DCGM_FI_DEV_ROW_REMAP_CORRECTABLE_TOTAL", as_is, HEADER),
    _row("remapped_rows_correctable", "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", as_is, CSV),
    _row("row_remap_failed", "DCGM_FI_DEV_ROW_REMAP_FAILED", as_is, HEADER),
    _row("row_remap_failed", "DCGM_FI_DEV_ROW_REMAP_FAILURE", as_is, CSV),
    _row("row_remap_pending", "DCGM_FI_DEV_ROW_REMAP_PENDING", as_is, HEADER),  # field 396, in no default counter list
)

RANK: dict[str, int] = {row.source_name: rank for rank, row in enumerate(ROWS)}
_BY_SOURCE_NAME: dict[str, MetricRow] = {row.source_name: row for row in ROWS}

NOT_READ: dict[str, str] = {
    "DCGM_EXP_": "computed by the exporter over a window of its own; the fields it computes from are read",
    "DCGM_FI_DEV_NVLINK_": "per link, or a count of link errors; totals are read",
    "DCGM_FI_PROF_NVLINK_": "per link; totals are read",
    "DCGM_FI_PROF_": "cycle counters, and engines that inference does not use",
    "DCGM_FI_DEV_ECC_": "aggregate or per memory; the volatile totals are read",
    "DCGM_FI_DEV_RETIRED_": "replaced by row remapping on every MIG-capable board",
    "DCGM_FI_DEV_PAGE_RETIRED_": "replaced by row remapping on every MIG-capable board",
    "DCGM_FI_DEV_VGPU_": "vGPU licensing",
    "DCGM_FI_DEV_CPU_": "Grace CPU, not a GPU",
    "DCGM_FI_DEV_": "settings, limits and states that nothing here uses yet",
    "DCGM_FI_": "labels of the exporter and the driver",
    "dcgm_": "1.x names of the same",
}
"""Families that belong to DCGM and are left aside on purpose, by the beginning of their name, with the reason."""

_BASE_UNIT_UTIL = "DCGM_FI_DEV_GPU_UTIL_RATIO"
_ONLY_SINCE_47 = frozenset(row.source_name for row in ROWS if row.source == RELEASE_49) - {_BASE_UNIT_UTIL}


def is_dcgm(source_name: str) -> bool:
    """Whether a family is DCGM's at all, read or not."""
    return source_name in _BY_SOURCE_NAME or source_name.startswith(tuple(NOT_READ))


def metric_of(source_name: str) -> str | None:
    """Our metric for a family; None when it is not in the table."""
    row = _BY_SOURCE_NAME.get(source_name)
    return None if row is None else row.metric


def source_names(metric: str) -> tuple[str, ...]:
    """What DCGM calls one of our metrics, newest name first."""
    return tuple(row.source_name for row in ROWS if row.metric == metric)


def generation_of(names: Iterable[str]) -> str | None:
    """Which releases of dcgm-exporter use these names; None where none of them tells."""
    known = [row.source for name in names if (row := _BY_SOURCE_NAME.get(name)) is not None]
    if RELEASE_49 in known:
        mixed = " mixed with older ones from a counter list of its own" if CSV in known else ""
        return f"names of 4.9.0 and later{mixed}"
    if CSV in known:
        return "names of 2.x to 4.8.x"
    return "names of 1.x" if CSV_1X in known else None


def rows_of_scrape(values: Mapping[str, list[float]]) -> Mapping[str, MetricRow]:
    """The table for one scrape, given the values of each family in it.

    `GPU_UTIL_RATIO` is the one name with two meanings: in DCGM 4.6 an alias of field 203 in percent, from 4.7 a field
    of its own from 0 to 1. It is percent unless the scrape has another name that only 4.7 knows, or a value between
    0 and 1; whatever the scrape, a value above 1 is percent.
    """
    utils = values.get(_BASE_UNIT_UTIL)
    if not utils or not _ONLY_SINCE_47.isdisjoint(values) or any(0 < value < 1 for value in utils):
        return _BY_SOURCE_NAME
    alias = _row("gpu_busy_ratio", _BASE_UNIT_UTIL, percent_to_ratio, HEADER)
    return {**_BY_SOURCE_NAME, _BASE_UNIT_UTIL: alias}
