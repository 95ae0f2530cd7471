"""Against what real boards and NVIDIA's own mock answered, with expectations written by hand from those recordings.

Recordings: nvidia_gpu_exporter's captures of `nvidia-smi` (H100, H100 in MIG mode and H200 under driver 590.48.01, L40S
under 595.80), dumps of NVIDIA's mock NVML (k8s-test-infra), and the Xid catalogue as gpud parsed it.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from collectors.nvml.xid_codes import XIDS, Action
from planner.hardware import MigMode
from tests.collectors.nvml.fake_nvml.boards import MIB, gpu_uuid, h100_mixed
from tests.collectors.nvml.fake_nvml.machine import Code, FakeGpu, FakeMemory
from tests.collectors.nvml.fake_nvml.signatures import SIGNATURES
from tests.collectors.nvml.readings import gaps, machine, of, read_once, values

SMI = "payloads/nvidia-smi/utkuozdemir"
H100 = "linux-x86_64__nvidia-h100-80gb-hbm3__590.48.01.txt"
H100_MIG = "linux-x86_64__nvidia-h100-mig__590.48.01.txt"
H200 = "linux-x86_64__nvidia-h200__590.48.01.txt"
L40S = "linux-x86_64__nvidia-l40s__595.80.txt"
NEWEST = "linux-x86_64__nvidia-geforce-rtx-2080-super__610.57.04.txt"


def under_load(folder: Path, name: str) -> str:
    """What `nvidia-smi -q` printed while the GPU worked."""
    text = (folder / SMI / name).read_text(encoding="utf-8")
    return text.split("# load :: query (-q)")[1].split("# load :: query-gpu")[0]


def printed(text: str, *path: str) -> str:
    """The value behind a path of headings: `printed(text, "FB Memory Usage", "Used")`."""
    for heading in path[:-1]:
        text = re.split(rf"\n +{re.escape(heading)} *(?:: [^\n]*)?\n", text, maxsplit=1)[1]
    found = re.search(rf"^ +{re.escape(path[-1])} +: (.*)$", text, re.MULTILINE)
    assert found is not None, path
    return found[1].strip()


def amount(text: str, *path: str) -> float:
    """The number of a printed value, without its unit."""
    return float(printed(text, *path).split()[0])


def recorded(text: str, uuid: str) -> FakeGpu:
    """A GPU that answers what the recording shows."""
    memory = {part: int(amount(text, "FB Memory Usage", part)) * MIB for part in ("Total", "Reserved", "Used")}
    sensor = printed(text, "Memory Current Temp")
    return FakeGpu(
        uuid=uuid,
        name=printed(text, "Product Name"),
        bus_id=printed(text, "Bus Id"),
        memory=FakeMemory(total=memory["Total"], reserved=memory["Reserved"], used=memory["Used"]),
        mig_mode=(0, 0) if printed(text, "MIG Mode", "Current") == "Disabled" else Code(3),
        utilization=(int(amount(text, "Utilization", "GPU")), int(amount(text, "Utilization", "Memory"))),
        encoder=int(amount(text, "Utilization", "Encoder")),
        decoder=int(amount(text, "Utilization", "Decoder")),
        power_mw=round(1000 * amount(text, "GPU Power Readings", "Average Power Draw")),
        temperature=int(amount(text, "GPU Current Temp")),
        memory_temperature=Code(3) if sensor == "N/A" else int(sensor.split()[0]),
        clocks_mhz={1: int(amount(text, "Clocks", "SM")), 2: int(amount(text, "Clocks", "Memory"))},
        violations_ns={0: 1000 * int(amount(text, "Clocks Event Reasons Counters", "SW Power Capping")), 1: 0},
        ecc={0: 0, 1: 0},
        remapped_rows=(0, 0, 0, 0),
        pcie_replays=int(amount(text, "Replays Since Reset")),
        pcie_kb_per_s={0: int(amount(text, "Tx Throughput")), 1: int(amount(text, "Rx Throughput"))},
    )


@pytest.mark.parametrize(
    ("name", "product", "expected"),
    [
        (
            H100,
            "NVIDIA H100 80GB HBM3",
            {
                "gpu_busy_ratio": 1.0,
                "memory_busy_ratio": 0.11,
                "encoder_busy_ratio": 0.0,
                "power_watts": 629.45,
                "temperature_celsius": 59,
                "memory_temperature_celsius": 55,
                "sm_clock_hertz": 1.98e9,
                "memory_clock_hertz": 2.619e9,
                "memory_used_bytes": 19818 * MIB,
                "memory_reserved_bytes": 479 * MIB,
                "memory_total_bytes": 81559 * MIB,
                "pcie_replays": 9,
                "pcie_tx_bytes_per_s": 3092 * 1024,
                "pcie_rx_bytes_per_s": 6346 * 1024,
                "power_throttle_s": 0,
                "row_remap_failed": 0,
                "row_remap_pending": 0,
            },
        ),
        (
            H200,
            "NVIDIA H200",
            {
                "gpu_busy_ratio": 1.0,
                "memory_busy_ratio": 0.07,
                "power_watts": 627.32,
                "temperature_celsius": 52,
                "memory_temperature_celsius": 41,
                "memory_used_bytes": 32362 * MIB,
                "memory_reserved_bytes": 614 * MIB,
                "memory_total_bytes": 143771 * MIB,
                "memory_clock_hertz": 3.201e9,
            },
        ),
        (
            L40S,
            "NVIDIA L40S",
            {
                "gpu_busy_ratio": 0.09,
                "encoder_busy_ratio": 0.59,
                "power_watts": 110.24,
                "temperature_celsius": 54,
                "memory_used_bytes": 1235 * MIB,
                "memory_total_bytes": 46068 * MIB,
                "pcie_rx_bytes_per_s": 2012109 * 1024,
                "power_throttle_s": 204.642816,
            },
        ),
    ],
)
def test_recorded_boards(reference: Path, name: str, product: str, expected: dict[str, float]) -> None:
    text = under_load(reference, name)
    batch = read_once(recorded(text, gpu_uuid(1)))
    found = of(batch, gpu_uuid(1))
    assert {metric: found[metric] for metric in expected} == expected
    (fact,) = batch.facts
    assert fact.model_name == product
    assert fact.pci_bus_id == printed(text, "Bus Id")
    assert fact.mig_mode is MigMode.DISABLED
    assert ("memory_temperature_celsius" in found) is (name != L40S), "an L40S prints N/A for it"


def test_the_recorded_mig_layout(reference: Path) -> None:
    """Four GPU instances of an H100: each block of `-q` has its ids and its framebuffer."""
    text = under_load(reference, H100_MIG)
    blocks = text.split("    MIG Device\n")[1:]
    shown = {
        int(amount(block, "GPU Instance ID")): (
            int(amount(block, "Shared FB Memory Usage", "Total")),
            int(amount(block, "Shared FB Memory Usage", "Used")),
        )
        for block in blocks
    }
    assert shown == {2: (40448, 11091), 3: (20096, 17), 9: (9984, 9), 10: (9984, 9)}, "the recording has changed"
    batch = read_once(h100_mixed())
    uuid = gpu_uuid(0x100)
    read = {
        gi_id: tuple(of(batch, f"{uuid}/{gi_id}")[f"memory_{part}_bytes"] / MIB for part in ("total", "used"))
        for gi_id in shown
    }
    assert read == shown
    assert of(batch, uuid)["power_watts"] == amount(text, "GPU Power Readings", "Average Power Draw")
    assert of(batch, uuid)["temperature_celsius"] == amount(text, "GPU Current Temp")
    assert of(batch, uuid)["memory_temperature_celsius"] == amount(text, "Memory Current Temp")
    assert printed(text, "Utilization", "GPU") == "N/A"
    assert "gpu_busy_ratio" not in of(batch, uuid)
    assert printed(text, "Remapped Rows") == "N/A"
    assert "row_remap_failed" not in of(batch, uuid)


@pytest.mark.parametrize("name", [H100_MIG, NEWEST])
def test_real_drivers_export_every_function_that_is_asked(reference: Path, name: str) -> None:
    text = (reference / SMI / name).read_text(encoding="utf-8")
    exported = set(re.findall(r"^(nvml\w+)$", text.split("nvml-symbols")[1], re.MULTILINE))
    assert len(exported) > 400
    assert set(SIGNATURES) <= exported


MOCKED: dict[str, tuple[str, str, dict[str, float]]] = {
    "a100": (
        "GPU-12345678-1234-1234-1234-123456780001",
        "00000000:0F:00.0",
        {
            "memory_total_bytes": 42949672960,
            "memory_reserved_bytes": 611319808,
            "power_watts": 72.0,
            "energy_joules": 0.0,
            "temperature_celsius": 33,
            "memory_temperature_celsius": 31,
            "sm_clock_hertz": 210e6,
            "memory_clock_hertz": 1215e6,
        },
    ),
    "b200": (
        "GPU-b2000000-0000-0000-0000-000000000001",
        "00000000:1B:00.0",
        {
            "memory_total_bytes": 206158430208,
            "power_watts": 130.0,
            "energy_joules": 900.0,
            "temperature_celsius": 35,
            "memory_temperature_celsius": 33,
            "sm_active_ratio": 0.0,
        },
    ),
    "gb200": (
        "GPU-b200b200-0000-0000-0000-000000000001",
        "00000000:0B:00.0",
        {"memory_free_bytes": 205084688384, "power_watts": 145.0, "temperature_celsius": 36, "tensor_active_ratio": 0},
    ),
    "gb300": (
        "GPU-b300b300-0000-0000-0000-000000000001",
        "00000000:0B:00.0",
        {"memory_total_bytes": 309237645312, "memory_reserved_bytes": 1610612736, "power_watts": 175.0},
    ),
    "h100": (
        "GPU-01000100-0000-0000-0000-000000000001",
        "00000000:1B:00.0",
        {
            "memory_total_bytes": 85899345920,
            "memory_reserved_bytes": 1073741824,
            "power_watts": 95.0,
            "energy_joules": 600.0,
            "temperature_celsius": 34,
            "memory_temperature_celsius": 32,
            "sm_clock_hertz": 345e6,
            "memory_clock_hertz": 1593e6,
            "clock_event_reasons": 1,
            "pcie_tx_bytes_per_s": 0,
            "gr_engine_active_ratio": 0,
        },
    ),
    "l40s": (
        "GPU-14050000-0000-0000-0000-000000000001",
        "00000000:31:00.0",
        {"memory_total_bytes": 51539607552, "power_watts": 45.0, "memory_clock_hertz": 10001e6},
    ),
    "t4": (
        "GPU-00000074-0000-0000-0000-000000000001",
        "00000000:86:00.0",
        {"memory_total_bytes": 17179869184, "memory_reserved_bytes": 314572800, "power_watts": 12.0},
    ),
}


def answer(told: Any) -> Any:
    return Code(told["code"]) if isinstance(told, dict) and "code" in told else told


def mocked(dump: dict[str, Any]) -> FakeGpu:
    """A GPU that answers what NVIDIA's mock answered."""
    memory = dump["nvmlDeviceGetMemoryInfo_v2"]
    fields = dump["field_values"]
    gpm: Any = Code(3)
    if dump["gpm_support"]["isSupportedDevice"]:
        ids = {"GRAPHICS_UTIL": 1, "SM_UTIL": 2, "SM_OCCUPANCY": 3, "ANY_TENSOR_UTIL": 5, "DRAM_BW_UTIL": 10}
        ids |= {"PCIE_TX_PER_SEC": 20, "PCIE_RX_PER_SEC": 21}
        told = {number: dump["gpm"][f"NVML_GPM_METRIC_{name}"] for name, number in ids.items()}
        gpm = {number: Code(one["nvmlReturn"]) if isinstance(one, dict) else one for number, one in told.items()}
    return FakeGpu(
        uuid=dump["nvmlDeviceGetUUID"],
        name=dump["nvmlDeviceGetName"],
        bus_id=dump["nvmlDeviceGetPciInfo"]["busId"],
        memory=FakeMemory(total=memory["total"], reserved=memory["reserved"], used=memory["used"]),
        mig_mode=tuple(dump["nvmlDeviceGetMigMode"]),
        max_mig_devices=dump["nvmlDeviceGetMaxMigDeviceCount"],
        utilization=tuple(dump["nvmlDeviceGetUtilizationRates"].values()),
        power_mw=answer(dump["nvmlDeviceGetPowerUsage"]),
        energy_mj=answer(dump["nvmlDeviceGetTotalEnergyConsumption"]),
        temperature=dump["temperature_gpu"],
        memory_temperature=fields["NVML_FI_DEV_MEMORY_TEMP"]["value"],
        clocks_mhz={1: dump["clocks"]["sm"], 2: dump["clocks"]["mem"]},
        clock_reasons=dump["nvmlDeviceGetCurrentClocksEventReasons"],
        remapped_rows=tuple(dump["nvmlDeviceGetRemappedRows"]),
        links=fields["NVML_FI_DEV_NVLINK_LINK_COUNT"]["value"],
        pcie_kb_per_s={0: dump["pcie_tx_KBps"], 1: dump["pcie_rx_KBps"]},
        gpm=gpm,
    )


@pytest.mark.parametrize("board", sorted(MOCKED))
def test_nvidias_mock(reference: Path, board: str) -> None:
    uuid, bus_id, expected = MOCKED[board]
    dump = json.loads((reference / f"payloads/nvml/mock-{board}.json").read_text(encoding="utf-8"))
    batch = read_once(mocked(dump["devices"][1]))
    (fact,) = batch.facts
    assert fact.gpu_uuid == uuid
    assert fact.pci_bus_id == bus_id
    found = of(batch, uuid)
    assert {metric: found[metric] for metric in expected} == expected
    has_gpm = board in ("h100", "b200", "gb200", "gb300")
    assert ("sm_active_ratio" in found) is has_gpm


def test_nvidias_mock_with_a_failed_gpu(reference: Path) -> None:
    """GPU 1 says its name and is lost for the rest, as recorded; GPU 0 works on at 91 %."""
    recording = json.loads(
        (reference / "captured/nvml-mock/h100_dynamic_and_failed_gpu1.json").read_text(encoding="utf-8")
    )
    gpus = []
    for one in recording["devices"]:
        is_lost = one["power"] == "NVMLError: GPU is lost"
        gpus.append(
            FakeGpu(
                uuid=one["uuid"],
                name=one["name"],
                bus_id="00000000:1A:00.0",
                memory=FakeMemory(total=85899345920, reserved=1073741824, used=0),
                mig_mode=tuple(int(mode) for mode in one["mig_mode"]),
                utilization=(0, 0) if is_lost else tuple(one["util"].values()),
                power_mw=0 if is_lost else one["power"],
                lost=15 if is_lost else None,
                lost_but_named=True,
            )
        )
    with machine(*gpus) as running:
        batch = running.read()
    first, second = "GPU-01000100-0000-0000-0000-000000000000", "GPU-01000100-0000-0000-0000-000000000001"
    assert of(batch, first)["gpu_busy_ratio"] == 0.91
    assert of(batch, first)["power_watts"] == 464.026
    assert of(batch, second) == {}
    assert [fact.gpu_uuid for fact in batch.facts] == [first]
    assert any(subject == second and "the GPU is lost" in reason for subject, _, reason in gaps(batch))


def test_nvidias_mock_in_mig_mode(reference: Path) -> None:
    """The mock turns the mode on, makes no instance, and goes on telling a utilisation that real boards refuse."""
    recording = json.loads((reference / "captured/nvml-mock/h100_mig_enabled.json").read_text(encoding="utf-8"))
    one = recording["devices"][0]
    assert one["mig_mode"] == ["1", "1"]
    assert set(one["mig_devices"]) == {"NVMLError: Not Found"}
    gpu = FakeGpu(
        uuid=one["uuid"],
        name=one["name"],
        bus_id=one["pci"]["busId"],
        memory=FakeMemory(total=one["mem_v2"]["total"], reserved=one["mem_v2"]["reserved"], used=0),
        mig_mode=(1, 1),
        max_mig_devices=one["max_mig"],
        utilization=tuple(one["util"].values()),
    )
    batch = read_once(gpu)
    (fact,) = batch.facts
    assert fact.mig_mode is MigMode.ENABLED
    assert fact.instances == ()
    assert not {metric for _, metric in values(batch)} & {"gpu_busy_ratio", "memory_used_bytes", "memory_total_bytes"}


ACTIONS = {
    "RESTART_APP": Action.RESTART_WORKLOAD,
    "RESET_GPU": Action.RESET_GPU,
    "RESTART_BM": Action.REBOOT_NODE,
    "CHECK_MECHANICALS": Action.CHECK_CABLES,
    "IGNORE": Action.NOTHING,
}


def test_actions_are_those_of_the_catalogue(reference: Path) -> None:
    catalogue = json.loads((reference / "payloads/xid/xid_catalog.json").read_text(encoding="utf-8"))
    asked = {one["code"]: one["immediate_action"] for one in catalogue}
    for code, xid in XIDS.items():
        assert ACTIONS.get(asked[code], Action.LOOK_CLOSER) is xid.action, code
    resets = {code for code, action in asked.items() if action in ("RESET_GPU", "RESTART_BM")}
    assert resets <= set(XIDS), "every code that wants a reset or a reboot has words"
