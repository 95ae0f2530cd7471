"""NVLink: rates from the counters of each link, whatever some links and some drivers do."""

import pytest

from tests.collectors.nvml.fake_nvml.boards import a100, gpu_uuid
from tests.collectors.nvml.fake_nvml.machine import Code, FakeGpu
from tests.collectors.nvml.readings import Machine, machine, of, reasons

UUID = gpu_uuid(0)
TX, RX = 138, 139
ALL = 0xFFFFFFFF


def linked(links: int, **more: object) -> FakeGpu:
    return a100(links=links, link_bytes={(field, link): 0 for field in (TX, RX) for link in range(links)}, **more)


def rates(running: Machine, *, after_s: float) -> dict[str, float]:
    found = of(running.read(after_s=after_s), UUID)
    return {metric.split("_bytes")[0]: value for metric, value in found.items() if metric.startswith("nvlink")}


def test_the_sum_over_links_per_second() -> None:
    with machine(linked(3)) as running:
        assert rates(running, after_s=0) == {}, "one reading tells no rate"
        counters = running.fake.gpus[0].link_bytes
        counters[TX, 0], counters[TX, 2], counters[RX, 1] = 1000, 500, 30  # KiB
        assert rates(running, after_s=10) == {"nvlink_tx": 153600, "nvlink_rx": 3072, "nvlink": 156672}
        assert rates(running, after_s=10) == {"nvlink_tx": 0, "nvlink_rx": 0, "nvlink": 0}


def test_inactive_links_count_nothing_and_are_no_gap() -> None:
    with machine(linked(2)) as running:
        counters = running.fake.gpus[0].link_bytes
        counters[TX, 1] = counters[RX, 1] = Code(3)
        running.read()
        counters[TX, 0] = 10
        batch = running.read(after_s=1)
    assert of(batch, UUID)["nvlink_tx_bytes_per_s"] == 10240
    assert reasons(batch, "nvlink_tx_bytes_per_s") == []


def test_a_link_that_stops_counting_is_told() -> None:
    with machine(linked(2)) as running:
        counters = running.fake.gpus[0].link_bytes
        running.read()
        counters[TX, 0], counters[TX, 1] = 10, Code(999)
        batch = running.read(after_s=1)
    assert of(batch, UUID)["nvlink_tx_bytes_per_s"] == 10240
    assert reasons(batch, "nvlink_tx_bytes_per_s") == ["1 of 2 links did not count on: their bytes are missing in it"]


def test_a_counter_that_begins_anew_is_no_negative_rate() -> None:
    with machine(linked(1)) as running:
        running.fake.gpus[0].link_bytes[TX, 0] = 1_000_000
        running.read()
        running.fake.gpus[0].link_bytes[TX, 0] = 5
        batch = running.read(after_s=1)
        assert "nvlink_tx_bytes_per_s" not in of(batch, UUID)
        assert "nvlink_bytes_per_s" not in of(batch, UUID)
        assert reasons(batch, "nvlink_tx_bytes_per_s") == ["no link gave a counter that grew since the reading before"]
        running.fake.gpus[0].link_bytes[TX, 0] = 7
        assert of(running.read(after_s=1), UUID)["nvlink_tx_bytes_per_s"] == 2048


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (1000, 1000),  # the links add up to the total
        (990, 1000),  # or nearly: it was read a moment before
        (250, 250),  # every link repeats the total of 250
    ],
)
def test_the_links_are_held_against_the_total(told: int, expected: int) -> None:
    with machine(linked(4)) as running:
        counters = running.fake.gpus[0].link_bytes
        counters[TX, ALL] = counters[RX, ALL] = 0
        running.read()
        counters[TX, ALL] = told
        for link in range(4):
            counters[TX, link] = 250
        assert rates(running, after_s=1)["nvlink_tx"] == expected * 1024


def test_the_counters_of_nvlink_5_are_bytes() -> None:
    gpu = a100(links=2, link_bytes={(field, link): 0 for field in (202, 204) for link in range(2)})
    with machine(gpu) as running:
        running.read()
        gpu.link_bytes[202, 0], gpu.link_bytes[204, 1] = 4000, 600
        assert rates(running, after_s=2) == {"nvlink_tx": 2000, "nvlink_rx": 300, "nvlink": 2300}


def test_links_are_looked_for_once() -> None:
    with machine(a100(links=Code(3), link_bytes={})) as running:
        running.read()
        asked = running.fake.calls["nvmlDeviceGetFieldValues"]
        running.read()
        assert running.fake.calls["nvmlDeviceGetFieldValues"] - asked == 1, "only the memory temperature is left"


def test_counters_that_fail_are_told() -> None:
    with machine(linked(2)) as running:
        running.read()
        for key in running.fake.gpus[0].link_bytes:
            running.fake.gpus[0].link_bytes[key] = Code(999)
        batch = running.read(after_s=1)
    assert reasons(batch, "nvlink_bytes_per_s") == [
        "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX failed with code 999 (unknown error)"
    ]
