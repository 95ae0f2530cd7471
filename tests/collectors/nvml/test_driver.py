"""The driver as a whole: missing, of another version, unloaded in the middle, hanging, and back again."""

import threading

import pynvml
import pytest

from collectors.errors import CollectorError, Unauthorized, Unreachable, Unsupported
from tests.collectors.nvml.fake_nvml.boards import a100, a100_seven_instances, gpu_uuid, h200
from tests.collectors.nvml.fake_nvml.machine import Code
from tests.collectors.nvml.readings import gaps, machine, of, reasons, values

SAYS: list[tuple[int, type[CollectorError], bool, str]] = [
    (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, Unsupported, True, "libnvidia-ml.so.1 is not found"),
    (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, Unsupported, True, "of different versions"),
    (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, Unreachable, False, "driver is not loaded"),
    (pynvml.NVML_ERROR_NO_PERMISSION, Unauthorized, True, "/dev/nvidiactl"),
    (pynvml.NVML_ERROR_UNKNOWN, Unreachable, False, "code 999 (unknown error)"),
]


@pytest.mark.parametrize(("code", "kind", "permanent", "words"), SAYS)
def test_a_library_that_does_not_open(code: int, kind: type[CollectorError], permanent: bool, words: str) -> None:
    with machine(a100()) as running:
        running.fake.init_code = code
        attempt = running.attempt()
        assert type(attempt.error) is kind
        assert attempt.error.permanent is permanent
        assert words in str(attempt.error)
        running.fake.init_code = 0
        assert len(running.read().facts) == 1, "it is opened again at the next interval"


def test_a_machine_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    with machine() as running:
        monkeypatch.setattr(pynvml, "nvmlLib", None)
        monkeypatch.setattr(pynvml, "CDLL", nothing)
        assert "libnvidia-ml.so.1 is not found" in running.error()


@pytest.mark.parametrize("code", [code for code, *_ in SAYS])
def test_machines_whose_gpus_cannot_be_counted(code: int) -> None:
    with machine(a100()) as running:
        running.fake.faults["nvmlDeviceGetCount_v2"] = code
        assert running.error()
        del running.fake.faults["nvmlDeviceGetCount_v2"]
        assert len(running.read().facts) == 1


def test_a_driver_that_is_unloaded_in_the_middle() -> None:
    with machine(a100(), h200()) as running:
        running.read()
        for function in ("nvmlDeviceGetPowerUsage", "nvmlSystemGetDriverVersion", "nvmlDeviceGetCount_v2"):
            running.fake.faults[function] = pynvml.NVML_ERROR_UNINITIALIZED
        assert "NVML is not initialised" in running.error()
        running.fake.faults.clear()
        running.fake.driver = "595.80"
        batch = running.read()
        assert {fact.driver_version for fact in batch.facts} == {"595.80"}
        assert batch.nodes_complete


def test_one_function_that_claims_the_drivers_end_is_only_a_gap() -> None:
    with machine(a100()) as running:
        running.fake.faults["nvmlDeviceGetPowerUsage"] = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
        batch = running.read()
        assert "power_watts" not in of(batch, gpu_uuid(0))
        assert of(batch, gpu_uuid(0))["temperature_celsius"] == 41


def test_a_gpu_that_is_lost_between_two_readings_and_comes_back() -> None:
    with machine(a100(0), a100(1), a100(2)) as running:
        running.read()
        running.fake.gpus[1].lost = pynvml.NVML_ERROR_GPU_IS_LOST
        batch = running.read()
        assert [fact.gpu_uuid for fact in batch.facts] == [gpu_uuid(0), gpu_uuid(2)]
        assert batch.nodes_complete == frozenset(), "a GPU that does not answer is not gone"
        assert (gpu_uuid(1), None, "nothing of this GPU is read: nvmlDeviceGetHandleByIndex: the GPU is lost") in gaps(
            batch
        )
        assert of(batch, gpu_uuid(1)) == {}
        running.fake.gpus[1].lost = None
        assert len(running.read().facts) == 3


def test_a_lost_gpu_that_still_says_its_name() -> None:
    """So does NVIDIA's mock library (k8s-test-infra): handle, UUID and name answer, all else is lost."""
    lost = a100(1)
    lost.lost, lost.lost_but_named = pynvml.NVML_ERROR_GPU_IS_LOST, True
    with machine(a100(0), lost) as running:
        batch = running.read()
    assert [fact.gpu_uuid for fact in batch.facts] == [gpu_uuid(0)]
    assert of(batch, gpu_uuid(1)) == {}


def test_a_gpu_that_never_said_who_it_is() -> None:
    lost = a100(1)
    lost.lost = pynvml.NVML_ERROR_UNKNOWN
    with machine(a100(0), lost) as running:
        batch = running.read()
    assert len(batch.facts) == 1
    assert any(subject == "GPU 1" and "code 999" in reason for subject, _, reason in gaps(batch))


def test_when_the_last_gpu_is_lost_nvml_is_opened_anew() -> None:
    with machine(a100()) as running:
        running.read()
        running.fake.gpus[0].lost = pynvml.NVML_ERROR_GPU_IS_LOST
        running.read()
        assert running.fake.opened == 0
        running.fake.gpus[0].lost = None
        assert len(running.read().facts) == 1
        assert running.fake.opened == 1


def test_a_driver_that_hangs_fails_in_time_and_is_not_asked_twice_at_once() -> None:
    released = threading.Event()

    def hang(*arguments: int) -> int | None:
        released.wait(30)
        return None

    with machine(a100(), timeout_s=0.2) as running:
        running.fake.faults["nvmlDeviceGetPowerUsage"] = hang
        first = running.error()
        assert "did not answer within 0.2 s" in first
        assert "Xid 119" in first
        asked = running.fake.calls["nvmlDeviceGetCount_v2"]
        assert "still does not answer" in running.error()
        assert running.fake.calls["nvmlDeviceGetCount_v2"] == asked
        released.set()
        running.fake.faults.clear()
        running.collector._running.result(20)  # type: ignore[union-attr]
        assert len(running.read().facts) == 1


def test_what_a_gpu_does_not_support_is_asked_once() -> None:
    gpu = a100(energy_mj=Code(3), memory_temperature=Code(3))
    with machine(gpu) as running:
        running.read()
        asked = running.fake.calls["nvmlDeviceGetTotalEnergyConsumption"]
        batch = running.read()
        assert asked == 1
        assert running.fake.calls["nvmlDeviceGetTotalEnergyConsumption"] == 1
        assert reasons(batch, "energy_joules") == ["nvmlDeviceGetTotalEnergyConsumption: not supported"]
        assert reasons(batch, "memory_temperature_celsius") == ["NVML_FI_DEV_MEMORY_TEMP: not supported"]


def test_what_failed_for_another_reason_is_asked_again() -> None:
    with machine(a100(energy_mj=Code(999))) as running:
        running.read()
        running.fake.gpus[0].energy_mj = 5_000
        assert of(running.read(), gpu_uuid(0))["energy_joules"] == 5.0


def test_a_gpu_that_is_cut_is_asked_again_what_it_supports() -> None:
    with machine(a100_seven_instances()) as running:
        running.read()
        running.fake.gpus[0] = a100()
        found = of(running.read(), gpu_uuid(0))
        assert found["row_remap_failed"] == 0, "under MIG it was not supported"
        assert found["gpu_busy_ratio"] == 0.37


def test_one_instance_that_cannot_be_read_leaves_the_inventory_alone() -> None:
    with machine(a100_seven_instances()) as running:
        running.fake.faults["nvmlDeviceGetGpuInstanceId"] = lambda handle, out: 999 if handle % 0x1_0000 == 3 else None
        batch = running.read()
    assert batch.facts == (), "the instance that did not answer must not be called gone"
    assert batch.nodes_complete == frozenset()
    instances = {device for device, _ in values(batch) if "/" in device}
    assert len(instances) == 6


def test_without_the_right_to_see_placements_the_rest_is_there() -> None:
    with machine(a100_seven_instances(), privileged=False) as running:
        batch = running.read()
    (fact,) = batch.facts
    seen = [(one.gi_id, one.profile, one.start) for one in fact.instances]
    assert seen[:2] == [(7, "1g.5gb", None), (8, "1g.5gb", None)]
    (told,) = [reason for reason in reasons(batch, None) if reason.startswith("where this GPU instance lies")]
    assert told == (
        "where this GPU instance lies is not known: nvmlDeviceGetGpuInstanceById wants a right that is missing: root, "
        "and in a container a privileged one with NVIDIA_MIG_CONFIG_DEVICES=all (7 devices)"
    )


def test_a_fault_of_ours_is_not_taken_for_the_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    with machine(a100()) as running:
        monkeypatch.setattr("collectors.nvml.reader.read_tables", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            running.attempt()
