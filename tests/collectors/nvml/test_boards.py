"""Boards and layouts: what is read of each, with every number worked out by hand from what the fake driver answers."""

import pytest

from planner.hardware import MigMode
from planner.metrics import BY_NAME
from planner.readings import Batch, ComputeInstanceFact, GpuFact, InstanceFact
from tests.collectors.nvml.fake_nvml.boards import (
    MIB,
    OLD_DRIVER_LACKS,
    a100,
    a100_seven_instances,
    gb10,
    gpu_uuid,
    h100_mixed,
    h200,
    h200_shared_instance,
    t4,
)
from tests.collectors.nvml.fake_nvml.machine import Code, FakeMemory
from tests.collectors.nvml.readings import AT, NODE, gaps, machine, of, read_once, reasons, values


def the_fact(batch: Batch) -> GpuFact:
    (fact,) = batch.facts
    return fact


def test_a_whole_gpu_gives_everything() -> None:
    uuid = gpu_uuid(0x300)
    with machine(h200()) as running:
        running.read()
        for key in running.fake.gpus[0].link_bytes:  # KiB that every link counts in ten seconds: 1 MiB each way
            running.fake.gpus[0].link_bytes[key] = 5000 + 1024
        batch = running.read(after_s=10)
    assert of(batch, uuid) == {
        "gpu_busy_ratio": 1.0,
        "memory_busy_ratio": 0.07,
        "encoder_busy_ratio": 0.0,
        "decoder_busy_ratio": 0.0,
        "sm_clock_hertz": 1.98e9,
        "memory_clock_hertz": 3.201e9,
        "temperature_celsius": 52,
        "memory_temperature_celsius": 40,
        "power_watts": 626.26,
        "energy_joules": 1234.567,
        "pcie_replays": 2,
        "clock_event_reasons": 0,
        "power_throttle_s": 1.5,
        "thermal_throttle_s": 0,
        "ecc_uncorrectable": 0,
        "ecc_correctable": 3,
        "remapped_rows_correctable": 1,
        "remapped_rows_uncorrectable": 0,
        "row_remap_failed": 0,
        "row_remap_pending": 0,
        "memory_used_bytes": 32362 * MIB,
        "memory_reserved_bytes": 614 * MIB,
        "memory_free_bytes": (143771 - 614 - 32362) * MIB,
        "memory_total_bytes": 143771 * MIB,
        "gr_engine_active_ratio": 0.615,
        "sm_active_ratio": 0.4325,
        "sm_occupancy_ratio": 0.125,
        "tensor_active_ratio": 0.3,
        "dram_active_ratio": 0.55,
        "fp64_active_ratio": 0.0,
        "fp32_active_ratio": 0.04,
        "fp16_active_ratio": 0.08,
        "pcie_tx_bytes_per_s": 512 * MIB,
        "pcie_rx_bytes_per_s": 256 * MIB,
        "nvlink_tx_bytes_per_s": pytest.approx(18 * MIB / 10.15),  # the first reading waited 0.15 s for GPM
        "nvlink_rx_bytes_per_s": pytest.approx(18 * MIB / 10.15),
        "nvlink_bytes_per_s": pytest.approx(36 * MIB / 10.15),
        "xid_code": 0,
    }
    assert {one.observed_at for one in batch.readings} == {AT}
    fact = the_fact(batch)
    assert fact.node == NODE
    assert fact.index == 0
    assert fact.model_name == "NVIDIA H200"
    assert fact.pci_bus_id == "00000000:83:00.0"
    assert fact.driver_version == "590.48.01"
    assert fact.mig_mode is MigMode.DISABLED
    assert (fact.instances, fact.pods, fact.processes) == ((), (), ())
    assert batch.nodes_complete == {NODE}
    assert dict(batch.found) == {"version": "590.48.01", "NVML": "13.590.48.01"}


def test_every_metric_is_one_of_the_planners() -> None:
    with machine(h200()) as running:
        running.read()
        names = {metric for _, metric in values(running.read(after_s=10))}
    assert names == set(BY_NAME), "NVML gives every metric there is on a Hopper GPU with NVLink"


def test_seven_instances_of_an_a100() -> None:
    batch = read_once(a100_seven_instances())
    uuid = gpu_uuid(0)
    fact = the_fact(batch)
    assert fact.mig_mode is MigMode.ENABLED
    assert [(one.gi_id, one.profile, one.start) for one in fact.instances] == [
        (7, "1g.5gb", 0),
        (8, "1g.5gb", 1),
        (9, "1g.5gb", 2),
        (10, "1g.5gb", 3),
        (11, "1g.5gb", 4),
        (12, "1g.5gb", 5),
        (13, "1g.5gb", 6),
    ]
    assert of(batch, f"{uuid}/9") == {
        "memory_used_bytes": 5 * MIB,
        "memory_reserved_bytes": 0,
        "memory_free_bytes": 4859 * MIB,
        "memory_total_bytes": 4864 * MIB,
        "xid_code": 0,
    }
    whole = of(batch, uuid)
    assert whole["power_watts"] == 61.5
    assert not {metric for metric in whole if metric.startswith(("memory_used", "memory_free", "memory_total"))}
    assert "gpu_busy_ratio" not in whole
    assert (uuid, "gpu_busy_ratio", "not available under MIG") in gaps(batch)
    # Ampere has no GPM, so nothing tells work from idleness; said once for seven devices
    assert (NODE, "sm_active_ratio", "GPM needs a GPU from Hopper on (7 devices)") in gaps(batch)


def test_a_mixed_layout_of_an_h100() -> None:
    """Numbers of a recording: `nvidia-smi` of an H100 80GB HBM3 in MIG mode under load, driver 590.48.01."""
    batch = read_once(h100_mixed())
    uuid = gpu_uuid(0x100)
    fact = the_fact(batch)
    assert [(one.gi_id, one.profile, one.start) for one in fact.instances] == [
        (2, "3g.40gb", 4),
        (3, "2g.20gb", 0),
        (9, "1g.10gb", 2),
        (10, "1g.10gb", 3),
    ]
    used = {device: value / MIB for (device, metric), value in values(batch).items() if metric == "memory_used_bytes"}
    assert used == {f"{uuid}/2": 11091, f"{uuid}/3": 17, f"{uuid}/9": 9, f"{uuid}/10": 9}
    assert of(batch, f"{uuid}/2")["sm_active_ratio"] == 0.4325
    assert of(batch, f"{uuid}/10")["sm_active_ratio"] == 0.0
    assert "sm_active_ratio" not in of(batch, uuid)
    assert of(batch, uuid)["power_watts"] == 432.21
    assert of(batch, uuid)["memory_temperature_celsius"] == 58
    assert of(batch, uuid)["pcie_replays"] == 9
    assert of(batch, uuid)["pcie_tx_bytes_per_s"] == 512 * MIB  # GPM of the whole GPU
    assert not {metric for metric in of(batch, uuid) if metric.startswith("nvlink")}
    assert reasons(batch, "row_remap_failed") == ["nvmlDeviceGetRemappedRows: not supported"]


def test_memory_that_two_compute_instances_share_is_counted_once() -> None:
    """As on a recorded H200: GPU instance 2 holds 1c.3g.71gb and 2c.3g.71gb, with a hole in the device numbers."""
    batch = read_once(h200_shared_instance())
    uuid = gpu_uuid(0x200)
    assert the_fact(batch).instances == (
        InstanceFact(
            gi_id=2,
            profile="3g.71gb",
            start=0,
            compute_instances=(
                ComputeInstanceFact(ci_id=0, profile="1c.3g.71gb", mig_uuid="MIG-aaaaaaaa-0-0-0-0"),
                ComputeInstanceFact(ci_id=1, profile="2c.3g.71gb", mig_uuid="MIG-bbbbbbbb-0-0-0-0"),
            ),
        ),
    )
    totals = [value for (_, metric), value in values(batch).items() if metric == "memory_total_bytes"]
    assert totals == [71424 * MIB]
    assert of(batch, f"{uuid}/2")["memory_used_bytes"] == 20000 * MIB


@pytest.mark.parametrize("silent", [0, 3])
def test_one_compute_instance_is_enough_to_tell_the_shared_memory(silent: int) -> None:
    with machine(h200_shared_instance()) as running:
        handle = running.fake._address(0) + silent + 1
        running.fake.faults["nvmlDeviceGetMemoryInfo_v2"] = lambda asked, out: 999 if asked == handle else None
        batch = running.read()
    assert of(batch, f"{gpu_uuid(0x200)}/2")["memory_used_bytes"] == 20000 * MIB
    assert reasons(batch, "memory_used_bytes") == []


def test_mig_mode_without_an_instance() -> None:
    batch = read_once(a100(mig_mode=(1, 1), utilization=Code(3)))
    uuid = gpu_uuid(0)
    assert the_fact(batch).mig_mode is MigMode.ENABLED
    assert the_fact(batch).instances == ()
    assert (uuid, "memory_used_bytes", "MIG mode is on and no GPU instance is made") in gaps(batch)
    assert not {metric for metric in of(batch, uuid) if metric.startswith("memory_") and metric.endswith("_bytes")}
    assert of(batch, uuid)["xid_code"] == 0
    assert batch.nodes_complete == {NODE}


@pytest.mark.parametrize(("mode", "instances_count"), [((0, 1), 0), ((1, 0), 7)])
def test_a_pending_change_of_the_mode_is_a_state_of_its_own(mode: tuple[int, int], instances_count: int) -> None:
    gpu = a100_seven_instances()
    gpu.mig_mode = mode
    fact = the_fact(read_once(gpu))
    assert fact.mig_mode is MigMode.PENDING
    assert len(fact.instances) == instances_count


def test_a_t4_under_an_old_driver_gives_what_it_has() -> None:
    with machine(t4(), driver="470.256.02") as running:
        running.fake.absent |= OLD_DRIVER_LACKS
        running.fake.gpus[0].memory = FakeMemory(total=15360 * MIB, reserved=449 * MIB, used=1000 * MIB)
        batch = running.read()
    uuid = gpu_uuid(0x400)
    found = of(batch, uuid)
    assert found["memory_used_bytes"] == 1449 * MIB, "before R510 what the driver holds counts as used"
    assert found["memory_total_bytes"] == 15360 * MIB
    assert "memory_reserved_bytes" not in found
    assert any(
        reason.startswith("this driver does not tell the reserve") for reason in reasons(batch, "memory_reserved_bytes")
    )
    assert found["temperature_celsius"] == 30
    assert found["clock_event_reasons"] == 1
    assert found["pcie_tx_bytes_per_s"] == 100 * 1024
    assert found["pcie_rx_bytes_per_s"] == 250 * 1024
    assert the_fact(batch).mig_mode is MigMode.DISABLED
    assert reasons(batch, "sm_active_ratio") == [
        "nvmlGpmQueryDeviceSupport: this driver does not have it; GPM needs a GPU from Hopper on"
    ]
    assert reasons(batch, "memory_temperature_celsius") == ["NVML_FI_DEV_MEMORY_TEMP: not supported"]
    assert not [gap for gap in batch.gaps if gap.metric and gap.metric.startswith("nvlink")], "a T4 has none to miss"


def test_a_gpu_that_shares_the_memory_of_its_cpu() -> None:
    batch = read_once(gb10())
    uuid = gpu_uuid(0x500)
    assert of(batch, uuid)["power_watts"] == 4.41
    for metric in ("memory_used_bytes", "memory_free_bytes", "memory_total_bytes"):
        (reason,) = reasons(batch, metric)
        assert "shares the memory of its CPU" in reason
    assert the_fact(batch).pci_bus_id == "0000000F:01:00.0"


def test_a_memory_sensor_that_says_zero_is_none() -> None:
    batch = read_once(a100(memory_temperature=0))
    assert "memory_temperature_celsius" not in of(batch, gpu_uuid(0))
    assert reasons(batch, "memory_temperature_celsius") == ["0 means that this board has no memory temperature sensor"]


@pytest.mark.parametrize(
    ("more", "metric"),
    [
        ({"power_mw": 2**32 - 1}, "power_watts"),
        ({"energy_mj": 2**64 - 1}, "energy_joules"),
        ({"utilization": (255, 0)}, "gpu_busy_ratio"),
    ],
)
def test_a_number_that_stands_for_none_is_a_gap(more: dict[str, object], metric: str) -> None:
    batch = read_once(a100(**more))
    assert metric not in of(batch, gpu_uuid(0))
    assert len(reasons(batch, metric)) == 1


def test_a_device_without_memory_is_no_device_with_zero_bytes() -> None:
    batch = read_once(a100(memory=FakeMemory(total=0, reserved=0, used=0)))
    assert "memory_total_bytes" not in of(batch, gpu_uuid(0))
    assert reasons(batch, "memory_total_bytes") == ["the driver says that this device has 0 bytes of memory"]


def test_rows_that_wait_to_be_remapped_are_told() -> None:
    batch = read_once(a100(remapped_rows=(0, 2, 1, 0)))
    assert of(batch, gpu_uuid(0))["remapped_rows_uncorrectable"] == 2
    assert of(batch, gpu_uuid(0))["row_remap_failed"] == 0
    assert of(batch, gpu_uuid(0))["row_remap_pending"] == 1
    assert any("wait to be remapped" in reason for reason in reasons(batch, None))


def test_sixteen_gpus() -> None:
    batch = read_once(*(a100(number) for number in range(16)))
    assert [fact.index for fact in batch.facts] == list(range(16))
    assert len({fact.gpu_uuid for fact in batch.facts}) == 16
    assert batch.nodes_complete == {NODE}
    for number in range(16):
        assert of(batch, gpu_uuid(number))["memory_used_bytes"] == 1024 * MIB
    assert (NODE, "sm_active_ratio", "GPM needs a GPU from Hopper on (16 devices)") in gaps(batch)


def test_no_gpu_at_all() -> None:
    batch = read_once()
    assert batch.facts == ()
    assert batch.nodes_complete == frozenset()
    assert [gap.reason for gap in batch.gaps] == [
        "NVML knows no GPU on this machine (in a container: NVIDIA_VISIBLE_DEVICES=all)"
    ]
