import csv
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.dcgm.metrics import NOT_READ, ROWS, Implausible, is_dcgm, plausible, ratio, rows_of_scrape, source_names
from planner.metrics import BY_NAME
from tests.collectors.dcgm.lines import OTHER, UUID, line, read, readings, reasons


def test_every_metric_has_a_name_in_dcgm_and_every_name_a_metric() -> None:
    assert {row.metric for row in ROWS} == BY_NAME.keys()


def test_no_source_name_stands_for_two_metrics() -> None:
    names = [row.source_name for row in ROWS]
    assert len(names) == len(set(names))


def test_every_row_says_where_it_was_read() -> None:
    assert all(len(row.source) > 20 for row in ROWS)


def test_every_family_left_aside_says_why() -> None:
    assert all(reason for reason in NOT_READ.values())
    assert is_dcgm("DCGM_EXP_XID_ERRORS_COUNT")
    assert not is_dcgm("node_load1")


def test_every_renamed_field_is_in_the_table_under_both_names(reference: Path) -> None:
    with (reference / "payloads/dcgm-exporter/rename_4.8_to_4.9.csv").open(encoding="utf-8") as file:
        renamed = [row for row in csv.DictReader(file) if "LABEL" not in row["unit_change"]]
    by_name = {row.source_name: row for row in ROWS}
    assert renamed
    for row in renamed:
        old, new = by_name[row["name_le_4.8.4"]], by_name[row["name_ge_4.9.0"]]
        assert old.metric == new.metric
        if row["multiply_old_value_by"]:
            factor = float(row["multiply_old_value_by"])
            old_value = 50.0 if "UTIL" in row["name_le_4.8.4"] and factor == 0.01 else 0.5
            assert old.convert(old_value) == pytest.approx(new.convert(old_value * factor))


def test_names_that_are_no_field_of_dcgm_do_not_creep_in(reference: Path) -> None:
    with (reference / "payloads/dcgm/fields_4.6.0.csv").open(encoding="utf-8") as file:
        known = {name for row in csv.DictReader(file) for name in (row["name_4.6"], *row["old_names"].split())}
    with (reference / "payloads/dcgm-exporter/rename_4.8_to_4.9.csv").open(encoding="utf-8") as file:
        known |= {row["name_ge_4.9.0"] for row in csv.DictReader(file)}
    text = (reference / "payloads/dcgm-exporter/1.x-compatibility-metrics.csv").read_text(encoding="utf-8")
    known |= {row.strip("# ").split(",")[0].strip() for row in text.splitlines() if "," in row}
    assert {row.source_name for row in ROWS} <= known


@pytest.mark.parametrize(
    ("name", "value", "metric", "expected"),
    [
        ("DCGM_FI_DEV_SM_CLOCK", 1410, "sm_clock_hertz", 1.41e9),
        ("DCGM_FI_DEV_SM_CLOCK_HERTZ", 1.41e9, "sm_clock_hertz", 1.41e9),
        ("dcgm_sm_clock", 1410, "sm_clock_hertz", 1.41e9),
        ("DCGM_FI_DEV_FB_USED", 5120, "memory_used_bytes", 5120 * 2**20),
        ("DCGM_FI_DEV_FB_USED_BYTES", 5368709120, "memory_used_bytes", 5120 * 2**20),
        ("dcgm_fb_used", 5120, "memory_used_bytes", 5120 * 2**20),
        ("DCGM_FI_DEV_FB_TOTAL", 40960, "memory_total_bytes", 40960 * 2**20),
        ("DCGM_FI_DEV_FB_CAPACITY_BYTES", 42949672960, "memory_total_bytes", 40960 * 2**20),
        ("DCGM_FI_DEV_GPU_UTIL", 91, "gpu_busy_ratio", 0.91),
        ("dcgm_gpu_utilization", 91, "gpu_busy_ratio", 0.91),
        ("DCGM_FI_DEV_MEM_COPY_UTIL", 73, "memory_busy_ratio", 0.73),
        ("DCGM_FI_DEV_MEMORY_UTIL_RATIO", 0.73, "memory_busy_ratio", 0.73),
        ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", 15152422938, "energy_joules", 15152422.938),
        ("DCGM_FI_DEV_GPU_ENERGY_JOULES_TOTAL", 15152422.938, "energy_joules", 15152422.938),
        ("DCGM_FI_DEV_POWER_USAGE", 68.244, "power_watts", 68.244),
        ("DCGM_FI_DEV_BOARD_POWER_WATTS", 68.244, "power_watts", 68.244),
        ("DCGM_FI_DEV_POWER_VIOLATION", 2.5e9, "power_throttle_s", 2.5),
        ("DCGM_FI_DEV_GPU_POWER_THROTTLE_SECONDS_TOTAL", 2.5, "power_throttle_s", 2.5),
        ("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", 2, "nvlink_bytes_per_s", 2_048_000),
        ("DCGM_FI_DEV_NVLINK_THROUGHPUT_BYTES_PER_SECOND", 2_048_000, "nvlink_bytes_per_s", 2_048_000),
        ("DCGM_FI_PROF_PCIE_TX_BYTES", 4791810, "pcie_tx_bytes_per_s", 4791810),
        ("DCGM_FI_PROF_SM_ACTIVE", 0.5, "sm_active_ratio", 0.5),
        ("DCGM_FI_PROF_SM_UTIL_RATIO", 0.5, "sm_active_ratio", 0.5),
        ("dcgm_fi_prof_gr_engine_active", 0.5, "gr_engine_active_ratio", 0.5),
        ("DCGM_FI_DEV_ROW_REMAP_PENDING", 1, "row_remap_pending", 1),
        ("DCGM_FI_DEV_ROW_REMAP_PENDING", 0, "row_remap_pending", 0),
    ],
)
def test_every_generation_ends_in_base_units(name: str, value: float, metric: str, expected: float) -> None:
    assert readings(read(line(name, value)))[UUID, metric] == pytest.approx(expected)


def test_gpu_util_ratio_above_one_is_percent() -> None:
    assert readings(read(line("DCGM_FI_DEV_GPU_UTIL_RATIO", 91)))[UUID, "gpu_busy_ratio"] == 0.91


def test_gpu_util_ratio_below_one_is_a_ratio() -> None:
    assert readings(read(line("DCGM_FI_DEV_GPU_UTIL_RATIO", 0.91)))[UUID, "gpu_busy_ratio"] == 0.91


def test_gpu_util_ratio_of_one_is_one_percent_where_the_rest_speaks_the_old_units() -> None:
    text = line("DCGM_FI_DEV_GPU_UTIL_RATIO", 1) + line("DCGM_FI_DEV_FB_USED", 5)
    assert readings(read(text))[UUID, "gpu_busy_ratio"] == 0.01


def test_gpu_util_ratio_of_one_is_all_of_it_where_the_rest_speaks_base_units() -> None:
    text = line("DCGM_FI_DEV_GPU_UTIL_RATIO", 1) + line("DCGM_FI_DEV_FB_USED_BYTES", 5)
    assert readings(read(text))[UUID, "gpu_busy_ratio"] == 1.0


def test_gpu_util_ratio_of_one_is_judged_by_the_other_gpus() -> None:
    text = line("DCGM_FI_DEV_GPU_UTIL_RATIO", 1) + line("DCGM_FI_DEV_GPU_UTIL_RATIO", 80, uuid=OTHER)
    assert readings(read(text))[UUID, "gpu_busy_ratio"] == 0.01


def test_a_mixed_counter_list_tells_one_metric_once_by_the_name_that_carries_its_unit() -> None:
    text = line("DCGM_FI_DEV_FB_USED", 5) + line("DCGM_FI_DEV_FB_USED_BYTES", 5 * 2**20 + 7)
    assert readings(read(text))[UUID, "memory_used_bytes"] == 5 * 2**20 + 7


def test_a_ratio_slightly_above_one_is_cut_to_one() -> None:
    assert readings(read(line("DCGM_FI_PROF_SM_ACTIVE", 1.03)))[UUID, "sm_active_ratio"] == 1.0


def test_a_ratio_far_above_one_is_a_gap() -> None:
    batch = read(line("DCGM_FI_PROF_SM_ACTIVE", 37))
    assert (UUID, "sm_active_ratio") not in readings(batch)
    assert reasons(batch, "sm_active_ratio") == ["DCGM_FI_PROF_SM_ACTIVE: 37 is no ratio"]


def test_a_percentage_above_a_hundred_is_a_gap() -> None:
    assert reasons(read(line("DCGM_FI_DEV_GPU_UTIL", 101)), "gpu_busy_ratio") == [
        "DCGM_FI_DEV_GPU_UTIL: 101 is no percentage"
    ]


@settings(deadline=None)
@given(st.floats())
def test_what_is_plausible_is_finite_and_not_negative(value: float) -> None:
    try:
        kept = plausible(value)
    except Implausible:
        return
    assert math.isfinite(kept)
    assert kept >= 0


@settings(deadline=None)
@given(st.floats(min_value=0, max_value=10))
def test_a_ratio_never_leaves_zero_to_one(value: float) -> None:
    try:
        assert 0 <= ratio(value) <= 1
    except Implausible:
        assert value > 1


def test_the_table_of_an_empty_scrape_is_the_whole_table() -> None:
    assert len(rows_of_scrape({})) == len(ROWS)


def test_names_are_told_newest_first() -> None:
    assert source_names("power_watts") == (
        "DCGM_FI_DEV_BOARD_POWER_WATTS",
        "DCGM_FI_DEV_POWER_USAGE",
        "dcgm_power_usage",
    )
