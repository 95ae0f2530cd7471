"""The tables: their numbers are nvidia-ml-py's constants, their names the planner's, and each row has its source."""

import math

import pynvml
import pytest

from collectors.nvml import metrics
from collectors.nvml.board_check import PROFILE_COUNT
from collectors.nvml.metrics import (
    CALLS,
    FIELD_NAMES,
    FIELDS,
    GPM,
    NVLINK_COUNTERS,
    PCIE_THROUGHPUT,
    Implausible,
    percent_to_ratio,
    plausible,
)
from collectors.nvml.refusals import Kind, refusal
from collectors.nvml.wire import NO_INSTANCE
from collectors.nvml.xid_events import XID_EVENT
from planner.metrics import BY_NAME


def test_every_row_speaks_of_a_metric_of_the_planner() -> None:
    rows = [*CALLS, *PCIE_THROUGHPUT, *FIELDS, *GPM]
    assert {row.metric for row in rows} <= set(BY_NAME)
    assert all(row.source for row in rows)
    once = [row.metric for row in (*CALLS, *FIELDS)]
    assert len(once) == len(set(once))


def test_every_function_is_one_of_the_binding() -> None:
    for row in (*CALLS, *PCIE_THROUGHPUT):
        for function in row.functions:
            assert callable(getattr(pynvml, function)), function


@pytest.mark.parametrize("number", sorted(FIELD_NAMES))
def test_fields_have_the_numbers_of_the_header(number: int) -> None:
    assert getattr(pynvml, FIELD_NAMES[number]) == number


@pytest.mark.parametrize("row", GPM, ids=lambda row: row.name)
def test_gpm_metrics_have_the_numbers_of_the_header(row: metrics.GpmRow) -> None:
    assert getattr(pynvml, f"NVML_GPM_METRIC_{row.name}") == row.gpm_id


def test_the_counters_of_the_links_are_named() -> None:
    assert {field for pair in NVLINK_COUNTERS for field in (pair.tx_field, pair.rx_field)} <= set(FIELD_NAMES)


def test_other_numbers_are_those_of_the_header() -> None:
    by_metric = {row.metric: row for row in (*CALLS, *PCIE_THROUGHPUT)}
    assert by_metric["sm_clock_hertz"].arguments == (pynvml.NVML_CLOCK_SM,)
    assert by_metric["memory_clock_hertz"].arguments == (pynvml.NVML_CLOCK_MEM,)
    assert by_metric["temperature_celsius"].arguments == (pynvml.NVML_TEMPERATURE_GPU,)
    assert by_metric["power_throttle_s"].arguments == (pynvml.NVML_PERF_POLICY_POWER,)
    assert by_metric["thermal_throttle_s"].arguments == (pynvml.NVML_PERF_POLICY_THERMAL,)
    assert by_metric["ecc_uncorrectable"].arguments == (
        pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
        pynvml.NVML_VOLATILE_ECC,
    )
    assert by_metric["ecc_correctable"].arguments == (pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, pynvml.NVML_VOLATILE_ECC)
    assert by_metric["pcie_tx_bytes_per_s"].arguments == (pynvml.NVML_PCIE_UTIL_TX_BYTES,)
    assert by_metric["pcie_rx_bytes_per_s"].arguments == (pynvml.NVML_PCIE_UTIL_RX_BYTES,)
    assert pynvml.nvmlMemory_v2 == metrics.MEMORY_V2
    assert pynvml.nvmlEventTypeXidCriticalError == XID_EVENT
    assert pynvml.NVML_GPU_INSTANCE_ID_ANY == NO_INSTANCE
    assert pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT == PROFILE_COUNT
    assert pynvml.NVML_GPM_METRICS_GET_VERSION == 1


def test_every_error_code_of_the_binding_has_words() -> None:
    for name in dir(pynvml):
        if name.startswith("NVML_ERROR_"):
            told = refusal("nvmlX", getattr(pynvml, name))
            assert "does not know" not in told.reason, name
    assert refusal("nvmlX", 4711).reason == "nvmlX failed with code 4711, which this version does not know"
    assert refusal("nvmlX", 4711).kind is Kind.FAILED


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, float(2**32 - 1), float(2**64 - 1)])
def test_what_stands_for_no_value_is_refused(value: float) -> None:
    with pytest.raises(Implausible):
        plausible(value)


def test_units() -> None:
    assert percent_to_ratio(37) == 0.37
    assert percent_to_ratio(104) == 1.0
    with pytest.raises(Implausible):
        percent_to_ratio(111)
    assert metrics.kibibytes_to_bytes(3) == 3072
    assert metrics.mebibytes_to_bytes(2) == 2_097_152
    assert metrics.nanoseconds_to_seconds(2_500_000_000) == 2.5
    assert metrics.thousandths(61_500) == 61.5
    assert metrics.megahertz_to_hertz(1410) == 1_410_000_000
