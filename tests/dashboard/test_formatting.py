from datetime import timedelta

import pytest

from dashboard import formatting
from planner.metrics import METRICS
from tests.dashboard.fleets import NOW


def test_absent_is_a_dash_in_every_unit() -> None:
    assert {formatting.metric_value(metric.name, None) for metric in METRICS} == {"–"}
    assert formatting.age(None, NOW) == "–"
    assert formatting.clock(None) == "–"


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("memory_used_bytes", 79.2 * 1024**3, "79.2 GiB"),
        ("memory_used_bytes", 47 * 1024**2, "47 MiB"),
        ("memory_used_bytes", 0, "0 MiB"),
        ("pcie_tx_bytes_per_s", 3 * 1024**3, "3.0 GiB/s"),
        ("gpu_busy_ratio", 0.0, "0%"),
        ("gpu_busy_ratio", 0.004, "0.4%"),
        ("gpu_busy_ratio", 0.0001, "<0.1%"),
        ("gpu_busy_ratio", 0.42, "42%"),
        ("gpu_busy_ratio", 1.0, "100%"),
        ("power_watts", 311.6, "312 W"),
        ("temperature_celsius", 64.0, "64 °C"),
        ("sm_clock_hertz", 1.98e9, "1980 MHz"),
        ("energy_joules", 3.6e9, "1,000.0 kWh"),
        ("power_throttle_s", 300.0, "5 min"),
        ("xid_code", 79.0, "79"),
    ],
)
def test_a_metric_is_told_in_the_unit_its_name_ends_with(metric: str, value: float, text: str) -> None:
    assert formatting.metric_value(metric, value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (3 * 3600 + 300, "3 h 05 min"),
        (2 * 86400 + 4 * 3600, "2 d 4 h"),
    ],
)
def test_durations_keep_two_figures_of_meaning(seconds: float, text: str) -> None:
    assert formatting.duration(seconds) == text


def test_a_reading_from_the_future_is_told_as_such() -> None:
    assert formatting.age(NOW + timedelta(hours=3), NOW) == "3 h in the future"


def test_a_moment_of_another_day_carries_its_date() -> None:
    assert formatting.clock(NOW, NOW) == "12:03:10 UTC"
    assert formatting.clock(NOW - timedelta(days=1), NOW) == "2026-11-21 12:03 UTC"


def test_counts_show_a_digit_only_where_they_are_not_whole() -> None:
    assert [formatting.number(value) for value in (28.0, 22.43, 11.97, 1234.0, None)] == [
        "28",
        "22.4",
        "12",
        "1,234",
        "–",
    ]


def test_labels_drop_the_unit_and_spell_abbreviations() -> None:
    assert formatting.metric_label("sm_active_ratio") == "SM active"
    assert formatting.metric_label("pcie_tx_bytes_per_s") == "PCIe sent"
    assert len({formatting.metric_label(metric.name) for metric in METRICS}) == len(METRICS)
