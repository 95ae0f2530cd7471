"""What to do about a gap of a dcgm-exporter: lines that its counter list takes."""

import csv

import pytest

from collectors.dcgm.gaps import GIVEN_FOR_OTHERS, UNREPORTED_UNDER_MIG
from collectors.dcgm.metrics import ROWS, metric_of
from collectors.dcgm.remedies import remedy
from planner.readings import Gap

METRICS = sorted({row.metric for row in ROWS})


@pytest.mark.parametrize("metric", METRICS)
def test_the_lines_are_rows_of_a_counter_list_that_bring_the_metric(metric: str) -> None:
    fix = remedy(Gap(subject="node-a:9400", metric=metric, reason="X is not in this exporter's counter list")).fix
    assert fix is not None
    rows = [row for row in csv.reader(fix.splitlines()) if row and row[0].startswith("DCGM_FI_")]
    assert rows
    for name, kind, help_text in rows:
        assert metric_of(name) == metric
        assert kind.strip() in ("gauge", "counter")
        assert help_text.strip()


def test_profiling_fields_need_more_than_a_line() -> None:
    fix = remedy(Gap(subject="t", metric="sm_active_ratio", reason="it is not in this exporter's counter list")).fix
    assert fix is not None
    assert "SYS_ADMIN" in fix


def test_what_cannot_be_there_asks_for_nothing() -> None:
    natural = remedy(Gap(subject="t", metric="gpu_busy_ratio", reason="not available under MIG (8 devices)"))
    assert natural.is_natural
    assert natural.fix is None


def test_what_a_line_would_not_bring_gets_no_line() -> None:
    assert remedy(Gap(subject="GPU-1", metric="power_watts", reason=GIVEN_FOR_OTHERS)).fix is None
    assert remedy(Gap(subject="t", metric=None, reason="line not read")).fix is None
    driver = remedy(Gap(subject="GPU-1/7", metric="memory_used_bytes", reason=UNREPORTED_UNDER_MIG)).fix
    assert driver is not None
    assert "driver" in driver
