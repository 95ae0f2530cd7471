"""Every function of NVML, failing with every code there is: what does not rest on it is read as without it."""

from collections.abc import Callable

import pynvml
import pytest

from collectors.nvml.metrics import ACTIVITY as METRICS_OF_PAGES
from planner.metrics import BY_NAME
from planner.readings import Batch
from tests.collectors.nvml.fake_nvml.boards import a100, gpu_uuid, h100_mixed, h200
from tests.collectors.nvml.fake_nvml.machine import FakeProcess
from tests.collectors.nvml.fake_nvml.signatures import SIGNATURES
from tests.collectors.nvml.readings import Machine, gaps, machine, values

CODES = sorted(
    {getattr(pynvml, name) for name in dir(pynvml) if name.startswith("NVML_ERROR_")} | {4711}  # one that nobody knows
)
LOST = {pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED, pynvml.NVML_ERROR_GPU_NOT_FOUND}

WHOLE_SOURCE = {"nvmlInitWithFlags", "nvmlDeviceGetCount_v2"}
"""Without these nothing can be read; test_driver.py has them."""
NOT_A_GPUS = {"nvmlShutdown", "nvmlErrorString", "nvmlEventSetFree", "nvmlGpmSampleFree", "nvmlEventSetWait_v2"}
"""Not part of a reading, or nobody's who could be lost."""
NOT_ASKED = {name for name in SIGNATURES if name.endswith("_v2") and "Processes" in name} | {
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetGpuInstanceProfileInfoByIdV",
}
"""Older names, which a current driver is not asked for."""

MEMORY = {"memory_used_bytes", "memory_free_bytes", "memory_total_bytes", "memory_reserved_bytes"}
ACTIVITY = {
    "gr_engine_active_ratio",
    "sm_active_ratio",
    "sm_occupancy_ratio",
    "tensor_active_ratio",
    "dram_active_ratio",
    "fp64_active_ratio",
    "fp32_active_ratio",
    "fp16_active_ratio",
}
LINKS = {"nvlink_tx_bytes_per_s", "nvlink_rx_bytes_per_s", "nvlink_bytes_per_s"}
PCIE = {"pcie_tx_bytes_per_s", "pcie_rx_bytes_per_s"}
EVERYTHING = {"*"}

RESTS_ON: dict[str, set[str]] = {
    "nvmlDeviceGetHandleByIndex_v2": EVERYTHING,
    "nvmlDeviceGetUUID": EVERYTHING,
    "nvmlDeviceGetMigMode": MEMORY | ACTIVITY | {"xid_code"},  # devices of one GPU or of its instances
    "nvmlDeviceGetMigDeviceHandleByIndex": MEMORY | ACTIVITY | {"xid_code"},
    "nvmlDeviceGetGpuInstanceId": MEMORY | ACTIVITY | {"xid_code"},
    "nvmlDeviceGetMemoryInfo_v2": MEMORY,
    "nvmlDeviceGetUtilizationRates": {"gpu_busy_ratio", "memory_busy_ratio"},
    "nvmlDeviceGetEncoderUtilization": {"encoder_busy_ratio"},
    "nvmlDeviceGetDecoderUtilization": {"decoder_busy_ratio"},
    "nvmlDeviceGetClockInfo": {"sm_clock_hertz", "memory_clock_hertz"},
    "nvmlDeviceGetTemperatureV": {"temperature_celsius"},
    "nvmlDeviceGetPowerUsage": {"power_watts"},
    "nvmlDeviceGetTotalEnergyConsumption": {"energy_joules"},
    "nvmlDeviceGetPcieReplayCounter": {"pcie_replays"},
    "nvmlDeviceGetPcieThroughput": PCIE,
    "nvmlDeviceGetCurrentClocksEventReasons": {"clock_event_reasons"},
    "nvmlDeviceGetViolationStatus": {"power_throttle_s", "thermal_throttle_s"},
    "nvmlDeviceGetTotalEccErrors": {"ecc_uncorrectable", "ecc_correctable"},
    "nvmlDeviceGetRemappedRows": {
        "remapped_rows_correctable",
        "remapped_rows_uncorrectable",
        "row_remap_failed",
        "row_remap_pending",
    },
    "nvmlDeviceGetFieldValues": {"memory_temperature_celsius"} | LINKS,
    "nvmlGpmQueryDeviceSupport": ACTIVITY | PCIE | LINKS,
    "nvmlGpmSampleAlloc": ACTIVITY | PCIE | LINKS,
    "nvmlGpmSampleGet": ACTIVITY | PCIE | LINKS,
    "nvmlGpmMigSampleGet": ACTIVITY,
    "nvmlGpmMetricsGet": ACTIVITY | PCIE | LINKS,
    "nvmlEventSetCreate": {"xid_code"},
    "nvmlDeviceRegisterEvents": {"xid_code"},
}
"""What may be missing, or said of another device, when a function fails; nothing where it is not listed."""


TELLS_THE_DEVICES = {"nvmlDeviceGetMigMode", "nvmlDeviceGetMigDeviceHandleByIndex", "nvmlDeviceGetGpuInstanceId"}
SAID = set(BY_NAME) - LINKS - (ACTIVITY - set(METRICS_OF_PAGES))
"""What must not be missing in silence: everything but links, which most boards lack, and what no page rests on."""


def gpus() -> list[object]:
    whole = h200()
    whole.processes = {"compute": [FakeProcess(pid=7)]}
    return [a100(), h100_mixed(), whole]


def second_reading(running: Machine) -> Batch:
    running.read()
    return running.read(after_s=10)


@pytest.fixture(scope="module")
def untroubled() -> dict[tuple[str, str], float]:
    with machine(*gpus()) as running:  # type: ignore[arg-type]
        return values(second_reading(running))


def always(code: int) -> Callable[..., int]:
    return lambda *arguments: code


@pytest.mark.parametrize("function", sorted(set(SIGNATURES) - WHOLE_SOURCE - NOT_A_GPUS))
def test_what_does_not_rest_on_it_stays(function: str, untroubled: dict[tuple[str, str], float]) -> None:
    metrics = RESTS_ON.get(function, set())
    kept = {key: value for key, value in untroubled.items() if key[1] not in metrics and metrics != EVERYTHING}
    for code in CODES:
        if code in LOST:
            continue
        with machine(*gpus()) as running:  # type: ignore[arg-type]
            running.fake.faults[function] = always(code)
            batch = second_reading(running)
            asked = running.fake.calls[function]
        found = values(batch)
        assert {key: found.get(key) for key in kept} == kept, f"{function} fails with {code}"
        if metrics and metrics != EVERYTHING and function not in TELLS_THE_DEVICES:
            lacking = {metric for device, metric in untroubled if (device, metric) not in found}
            assert lacking <= metrics
            assert lacking & SAID <= {gap.metric for gap in batch.gaps}, f"{function} fails with {code} in silence"
        assert asked or function in NOT_ASKED, "the reading no longer asks this function"


@pytest.mark.parametrize("function", sorted(set(SIGNATURES) - WHOLE_SOURCE - NOT_A_GPUS - NOT_ASKED))
def test_a_gpu_that_a_function_calls_lost_costs_only_itself(
    function: str, untroubled: dict[tuple[str, str], float]
) -> None:
    doomed = [gpu_uuid(0), gpu_uuid(0x100), gpu_uuid(0x300)]
    for victim in range(3):
        for code in sorted(LOST):
            with machine(*gpus()) as running:  # type: ignore[arg-type]
                running.read()
                running.fake.faults[function] = only_for(running, victim, code)
                batch = running.read(after_s=10)
            found = values(batch)
            others = {key: value for key, value in untroubled.items() if not key[0].startswith(doomed[victim])}
            assert {key: found.get(key) for key in others} == others, f"{function} says {code} of GPU {victim}"
            mine = [key for key in found if key[0].startswith(doomed[victim])]
            is_whole = len(mine) == len([key for key in untroubled if key[0].startswith(doomed[victim])])
            assert not mine or is_whole, "a lost GPU is read whole or not at all"
            assert is_whole or any("nothing of this GPU is read" in reason for _, _, reason in gaps(batch))
            assert is_whole or all(fact.gpu_uuid != doomed[victim] for fact in batch.facts)
            assert is_whole or batch.nodes_complete == frozenset()


def only_for(running: Machine, victim: int, code: int) -> Callable[..., int | None]:
    """The code where the first argument is a handle of this GPU, or its index."""
    lower, upper = running.fake._address(victim), running.fake._address(victim + 1)

    def fault(*arguments: int) -> int | None:
        first = arguments[0] if arguments else None
        is_its = first == victim or (isinstance(first, int) and lower <= first < upper)
        return code if is_its else None

    return fault
