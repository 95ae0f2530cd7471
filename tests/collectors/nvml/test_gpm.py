"""GPM: two samples in order, of the same device, given back in the end; and what is read where it gives nothing."""

from tests.collectors.nvml.fake_nvml.boards import GPM_BUSY, GPM_LINKS, MIB, a100, gpu_uuid, h100_mixed, h200
from tests.collectors.nvml.fake_nvml.machine import Code
from tests.collectors.nvml.readings import machine, of, reasons

WHOLE = gpu_uuid(0x300)


def test_the_first_reading_waits_for_a_second_sample_and_later_ones_do_not() -> None:
    with machine(h200()) as running:
        assert of(running.read(), WHOLE)["sm_active_ratio"] == 0.4325
        assert running.clock.slept == [0.15]
        assert running.fake.calls["nvmlGpmSampleGet"] == 2
        running.read(after_s=30)
        assert running.clock.slept == [0.15]
        assert running.fake.calls["nvmlGpmSampleGet"] == 3


def test_a_machine_without_gpm_never_waits() -> None:
    with machine(a100()) as running:
        running.read()
        assert running.clock.slept == []
        assert running.fake.calls["nvmlGpmSampleAlloc"] == 0


def test_memory_is_asked_before_gpm() -> None:
    """On some drivers a GPU instance's memory was refused once GPM had been asked about it."""
    order: list[str] = []

    def noting(name: str):  # type: ignore[no-untyped-def]
        return lambda *arguments: order.append(name)

    with machine(h100_mixed(), h200()) as running:
        for name in ("nvmlDeviceGetMemoryInfo_v2", "nvmlGpmMigSampleGet", "nvmlGpmSampleGet"):
            running.fake.faults[name] = noting(name)
        running.read()
    assert order.index("nvmlGpmMigSampleGet") > max(
        place for place, name in enumerate(order) if name == "nvmlDeviceGetMemoryInfo_v2"
    )


def test_each_metric_has_its_own_code() -> None:
    gpu = h200()
    gpu.gpm = GPM_BUSY | GPM_LINKS | {2: Code(3), 5: Code(999), 10: float("nan"), 1: 100.4}
    with machine(gpu) as running:
        batch = running.read()
    found = of(batch, WHOLE)
    assert reasons(batch, "sm_active_ratio") == ["NVML_GPM_METRIC_SM_UTIL: not supported"]
    assert reasons(batch, "tensor_active_ratio") == [
        "NVML_GPM_METRIC_ANY_TENSOR_UTIL failed with code 999 (unknown error)"
    ]
    assert reasons(batch, "dram_active_ratio") == ["the value is not a finite number"]
    assert not {"sm_active_ratio", "tensor_active_ratio", "dram_active_ratio"} & set(found)
    assert found["gr_engine_active_ratio"] == 1.0, "a little more than 100 % is sampling noise"
    assert found["fp32_active_ratio"] == 0.04


def test_a_gpu_instance_that_is_made_anew_begins_with_a_sample_of_its_own() -> None:
    with machine(h100_mixed()) as running:
        running.read()
        gpu = running.fake.gpus[0]
        gpu.instances = gpu.instances[:1]
        batch = running.read(after_s=10)
        assert of(batch, f"{gpu.uuid}/2")["sm_active_ratio"] == 0.4325
        assert len(running.fake.samples) == 4, "two for the GPU and two for the instance that is left"


def test_pcie_is_measured_in_another_way_where_gpm_does_not_give_it() -> None:
    gpu = h200()
    gpu.gpm = dict(GPM_BUSY)
    with machine(gpu) as running:
        first = of(running.read(), WHOLE)
        assert "pcie_tx_bytes_per_s" not in first
        assert running.fake.calls["nvmlDeviceGetPcieThroughput"] == 0
        second = of(running.read(after_s=10), WHOLE)
        assert second["pcie_tx_bytes_per_s"] == 100 * 1024
        gpu.gpm = {20: Code(999), 21: 256.0}
        running.read(after_s=10)
        assert of(running.read(after_s=10), WHOLE)["pcie_tx_bytes_per_s"] == 100 * 1024


def test_profiling_that_is_kept_for_administrators() -> None:
    with machine(h200()) as running:
        running.fake.faults["nvmlGpmSampleGet"] = 4
        running.read()
        batch = running.read(after_s=10)
    (told,) = reasons(batch, "sm_active_ratio")
    assert told.startswith("nvmlGpmSampleGet wants a right that is missing: root, or the driver option NVreg_Restrict")
    assert of(batch, WHOLE)["pcie_rx_bytes_per_s"] == 250 * 1024
    assert of(batch, WHOLE)["gpu_busy_ratio"] == 1.0


def test_totals_of_the_links_come_from_gpm_where_no_link_counts() -> None:
    gpu = h200()
    gpu.link_bytes = {}
    with machine(gpu) as running:
        found = of(running.read(), WHOLE)
    assert found["nvlink_rx_bytes_per_s"] == 100 * MIB
    assert found["nvlink_tx_bytes_per_s"] == 200 * MIB
    assert found["nvlink_bytes_per_s"] == 300 * MIB
