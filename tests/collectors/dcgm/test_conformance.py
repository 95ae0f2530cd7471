"""Recorded answers of real exporters: every one is read, and what it yields was worked out by hand.

A count is the distinct (device, field) pairs of the file whose field is one of our metrics, whole-GPU fields once per
GPU, less memory temperatures of 0, plus a total for each device with free, used and reserved. It was counted from the
raw lines by other means than the code under test.

Bytes are the file's MiB times 2**20, Hertz its MHz times 1e6, joules its mJ over 1000, ratios its percents over 100.
"""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from planner.hardware import MigMode
from planner.readings import Batch, InstanceFact, PodFact
from tests.collectors.dcgm.lines import read, readings

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What one recorded answer must yield."""

    file: str
    gpus: dict[str, tuple[int, str | None, MigMode | None]]  # index, model, MIG mode
    count: int  # readings
    values: dict[tuple[str, str], float] = field(default_factory=dict)
    instances: dict[str, tuple[InstanceFact, ...]] = field(default_factory=dict)
    pods: dict[str, tuple[PodFact, ...]] = field(default_factory=dict)
    node: str = "gpu-a"
    absent: tuple[tuple[str, str], ...] = ()


A100 = "GPU-7099682b-a20d-2bcc-74ab-b9060454d81e"
L4 = "GPU-c2f76b33-7953-256e-8f33-1343419b1a1c"
ERICSSON_T4 = "GPU-6d5c0ac5-74d7-3130-46f1-e93ed57f469a"
RAFAY_T4 = "GPU-d7cbb0cd-d4bd-c2f7-dfaf-221df5e958ea"
BUSY_T4 = "GPU-7a2e92f2-be71-d37e-a744-541600ffc722"
IDLE_T4 = "GPU-5f587dd4-6505-0873-c6db-8324dbfe5ba9"
DOCS_A100 = "GPU-34319582-d595-d1c7-d1d2-179bcfa61660"
DATADOG_T4 = "GPU-20c56d28-0da5-6d26-a36a-e7af1ce2586e"
DATADOG_OTHER_T4 = "GPU-9ef1b6d0-3643-5dd7-b823-c0ec20dcf2d5"
GB200 = (
    "GPU-2e2b6342-3996-51b9-5480-e20df571e09c",
    "GPU-67ff7ed1-19b8-1998-84ef-59fc0cbb0f3e",
    "GPU-c0c859b5-876c-b6f1-c6d7-bde487c326a1",
)
A100_MODEL = "NVIDIA A100-SXM4-40GB"

L4_VALUES = {
    (L4, "sm_clock_hertz"): 210e6,
    (L4, "memory_clock_hertz"): 405e6,
    (L4, "temperature_celsius"): 31.0,
    (L4, "power_watts"): 16.365,
    (L4, "energy_joules"): 4742.776,
    (L4, "gpu_busy_ratio"): 0.0,
    (L4, "memory_free_bytes"): 22563.0 * MIB,
    (L4, "memory_used_bytes"): 0.0,
    (L4, "memory_reserved_bytes"): 470.0 * MIB,
    (L4, "memory_total_bytes"): 23033.0 * MIB,
    (L4, "remapped_rows_correctable"): 0.0,
    (L4, "pcie_tx_bytes_per_s"): 112603.0,
    (L4, "pcie_rx_bytes_per_s"): 17544.0,
}

EXPECTED = (
    Expected(
        file="cncf/v1.35-ericsson-ccd-accelerator_metrics.prom",
        node="cp-bm14r7",
        gpus={ERICSSON_T4: (0, "Tesla T4", MigMode.DISABLED)},
        count=19,
        values={
            (ERICSSON_T4, "gpu_busy_ratio"): 0.91,
            (ERICSSON_T4, "memory_busy_ratio"): 0.73,
            (ERICSSON_T4, "memory_used_bytes"): 5120.0 * MIB,
            (ERICSSON_T4, "memory_total_bytes"): 15358.0 * MIB,
            (ERICSSON_T4, "gr_engine_active_ratio"): 0.156205,
            (ERICSSON_T4, "tensor_active_ratio"): 0.005822,
            (ERICSSON_T4, "dram_active_ratio"): 0.092781,
            (ERICSSON_T4, "energy_joules"): 15152422.938,
            (ERICSSON_T4, "power_watts"): 68.244,
            (ERICSSON_T4, "memory_clock_hertz"): 5e9,
        },
        absent=((ERICSSON_T4, "memory_temperature_celsius"), (ERICSSON_T4, "sm_active_ratio")),
    ),
    Expected(
        file="cncf/v1.35-kops-TestObservability_AcceleratorMetrics_ViaDCGM-output.scrape1.prom",
        node="i-030791dc5a37cd257",
        gpus={L4: (0, "NVIDIA L4", MigMode.DISABLED)},
        count=22,
        values=L4_VALUES,
        absent=((L4, "memory_temperature_celsius"),),
    ),
    Expected(
        file="DERIVED_4.9.0_names_from_kops_L4.prom",
        node="i-030791dc5a37cd257",
        gpus={L4: (0, "NVIDIA L4", MigMode.DISABLED)},
        count=22,
        values=L4_VALUES,  # the same scrape in the newest generation of names and units
        absent=((L4, "memory_temperature_celsius"),),
    ),
    Expected(
        file="cncf/v1.35-rafay-accelator_metrics.prom",
        node="ip-10-200-3-41",
        gpus={RAFAY_T4: (0, "Tesla T4", MigMode.DISABLED)},
        count=17,
        values={
            (RAFAY_T4, "sm_clock_hertz"): 300e6,
            (RAFAY_T4, "energy_joules"): 48287.135,
            (RAFAY_T4, "dram_active_ratio"): 0.000001,
            (RAFAY_T4, "pcie_rx_bytes_per_s"): 30378.0,
        },
    ),
    Expected(
        file="runai-samples/pre2.9_fraction_metrics_1_workload.prom",
        gpus={BUSY_T4: (0, "Tesla T4", MigMode.DISABLED), IDLE_T4: (1, "Tesla T4", MigMode.DISABLED)},
        count=38,
        values={
            (BUSY_T4, "memory_used_bytes"): 128.0 * MIB,
            (IDLE_T4, "memory_used_bytes"): 5.0 * MIB,
            (BUSY_T4, "gr_engine_active_ratio"): 0.000039,
            (IDLE_T4, "power_watts"): 17.035,
        },
        pods={
            BUSY_T4: (
                PodFact(
                    gi_id=None,
                    namespace="runai-reservation",
                    name="runai-reservation-gpu-qa-mig-worker-gpu-1-kvltw",
                    container="runai-reservation",
                ),
            ),
            IDLE_T4: (),
        },
    ),
    Expected(
        file="runai-samples/pre2.9_mig_metrics_Emtpy_MIG_enabled.prom",
        gpus={A100: (0, A100_MODEL, None)},  # alone on its exporter: nothing tells a missing field from an unlisted one
        count=14,
        values={(A100, "power_watts"): 75.96, (A100, "memory_temperature_celsius"): 30.0},
        absent=((A100, "memory_used_bytes"), (A100, "gpu_busy_ratio")),
    ),
    Expected(
        file="runai-samples/pre2.9_mig_metrics_Idle_1g.5gb_allocated.prom",
        gpus={A100: (0, A100_MODEL, MigMode.ENABLED)},
        count=14,
        instances={A100: (InstanceFact(gi_id=8, profile="1g.5gb"),)},
        values={
            (A100, "power_watts"): 75.69,
            (f"{A100}/8", "memory_used_bytes"): 6.0 * MIB,
            (f"{A100}/8", "memory_free_bytes"): 4857.0 * MIB,
            (f"{A100}/8", "gr_engine_active_ratio"): 0.0,
            (f"{A100}/8", "xid_code"): 0.0,
        },
        absent=((f"{A100}/8", "power_watts"), (A100, "gpu_busy_ratio"), (A100, "memory_used_bytes")),
    ),
    Expected(
        file="runai-samples/pre2.9_mig_metrics_Active_1g.5gb.prom",
        gpus={A100: (0, A100_MODEL, MigMode.ENABLED)},
        count=14,
        instances={A100: (InstanceFact(gi_id=9, profile="1g.5gb"),)},
        values={
            (A100, "sm_clock_hertz"): 1.41e9,
            (A100, "energy_joules"): 27151.028,
            (f"{A100}/9", "memory_used_bytes"): 4384.0 * MIB,
            (f"{A100}/9", "gr_engine_active_ratio"): 0.999892,
            (f"{A100}/9", "tensor_active_ratio"): 0.000118,
            (f"{A100}/9", "dram_active_ratio"): 0.622646,
        },
    ),
    Expected(
        file="runai-samples/pre2.9_mig_metrics_Active_2_1g.5gb___2g.10gb.prom",
        gpus={A100: (0, A100_MODEL, MigMode.ENABLED)},
        count=26,  # 8 of the GPU once, not three times, and 6 of each of three instances
        instances={
            A100: (
                InstanceFact(gi_id=5, profile="2g.10gb"),
                InstanceFact(gi_id=7, profile="1g.5gb"),
                InstanceFact(gi_id=9, profile="1g.5gb"),
            )
        },
        values={(A100, "sm_clock_hertz"): 1.41e9},
    ),
    Expected(
        file="runai-samples/pre2.9_mig_metrics_Empty_mig_disabled.part2.prom",
        gpus={A100: (0, A100_MODEL, MigMode.DISABLED)},
        count=23,
        values={
            (A100, "gpu_busy_ratio"): 0.0,
            (A100, "memory_free_bytes"): 40384.0 * MIB,
            (A100, "row_remap_failed"): 0.0,
            (A100, "memory_temperature_celsius"): 28.0,
            (A100, "energy_joules"): 424405.577,
        },
    ),
    Expected(
        file="nvidia_docs_a100_mig_device_plus_instance.prom",
        node="ub20-a100-k8s",
        gpus={DOCS_A100: (0, None, MigMode.ENABLED)},
        count=20,
        instances={DOCS_A100: (InstanceFact(gi_id=13, profile="1g.5gb"),)},
        values={
            (DOCS_A100, "power_watts"): 409.692,
            (DOCS_A100, "memory_used_bytes"): 4845.0 * MIB,
            (DOCS_A100, "gr_engine_active_ratio"): 0.99563,
            (DOCS_A100, "dram_active_ratio"): 0.690789,
            (f"{DOCS_A100}/13", "gr_engine_active_ratio"): 0.995687,
            (f"{DOCS_A100}/13", "dram_active_ratio"): 0.800339,
            (f"{DOCS_A100}/13", "xid_code"): 0.0,
        },
        absent=((f"{DOCS_A100}/13", "memory_used_bytes"),),
    ),
    Expected(
        file="datadog_fixture_T4_no_labels_mix.prom",
        node="424773df46e0",
        gpus={DATADOG_T4: (0, "Tesla T4", MigMode.DISABLED), DATADOG_OTHER_T4: (0, "Tesla T4", None)},
        count=17,  # without the last line: no line feed ends it, so its number may have been cut
        values={
            (DATADOG_T4, "memory_free_bytes"): 15109.0 * MIB,
            (DATADOG_T4, "power_watts"): 8.969,
            (DATADOG_OTHER_T4, "memory_total_bytes"): 15109.0 * MIB,
        },
        absent=((DATADOG_T4, "gr_engine_active_ratio"),),
    ),
    Expected(
        file="excerpt_gb200_issue581.prom",
        node="3f546054f69d",
        gpus={uuid: (index, "NVIDIA GB200", None) for index, uuid in enumerate(GB200)},
        count=0,
    ),
)


def read_file(reference: Path, name: str) -> Batch:
    return read((reference / "payloads" / "dcgm-exporter" / name).read_text(encoding="utf-8"))


def test_every_recorded_answer_is_read(reference: Path) -> None:
    files = sorted((reference / "payloads" / "dcgm-exporter").rglob("*.prom"))
    assert len(files) >= len(EXPECTED)
    for file in files:
        batch = read(file.read_text(encoding="utf-8"))
        assert batch.facts, file.name


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda expected: expected.file)
def test_a_recorded_answer_yields_what_was_worked_out_by_hand(reference: Path, expected: Expected) -> None:
    batch = read_file(reference, expected.file)
    told = readings(batch)
    assert {fact.gpu_uuid: (fact.index, fact.model_name, fact.mig_mode) for fact in batch.facts} == expected.gpus
    assert {fact.node for fact in batch.facts} == {expected.node}
    assert len(told) == expected.count
    assert {key: told[key] for key in expected.values} == pytest.approx(expected.values)
    assert not set(expected.absent) & told.keys()
    facts = {fact.gpu_uuid: fact for fact in batch.facts}
    assert {uuid: facts[uuid].instances for uuid in expected.instances} == expected.instances
    assert {uuid: facts[uuid].pods for uuid in expected.pods} == expected.pods


def test_a_scrape_yields_the_same_in_both_generations_of_names(reference: Path) -> None:
    old = read_file(reference, "cncf/v1.35-kops-TestObservability_AcceleratorMetrics_ViaDCGM-output.scrape2.prom")
    new = read_file(reference, "DERIVED_4.9.0_names_from_kops_L4.prom")
    assert readings(old) == pytest.approx(readings(new))
    assert old.facts == new.facts
