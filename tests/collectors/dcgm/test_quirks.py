"""What real exporters do, one test or more for each known oddity of their format."""

import pytest

from planner.readings import PodFact
from tests.collectors.dcgm.lines import OTHER, TARGET, UUID, gaps_of, line, read, readings, reasons

SENTINELS = [
    *(str(9223372036854775792 + offset) for offset in range(4)),
    *(str(2147483632 + offset) for offset in range(4)),
    *(f"{140737488355328 + offset}.000000" for offset in range(4)),
    "<<<NULL>>>",
    "<<<NOT_FOUND>>>",
    "<<<NOT_SUPPORTED>>>",
    "<<<NOT_PERM>>>",
]


@pytest.mark.parametrize("sentinel", SENTINELS)
@pytest.mark.parametrize("name", ["DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_FB_USED", "DCGM_FI_PROF_DRAM_ACTIVE"])
def test_a_sentinel_of_old_exporters_is_a_gap(name: str, sentinel: str) -> None:
    batch = read(line(name, sentinel) + line("DCGM_FI_DEV_POWER_USAGE", 60))
    assert readings(batch) == {(UUID, "power_watts"): 60.0}
    assert any(name in gap.reason for gap in gaps_of(batch, UUID))


def test_a_sample_that_new_exporters_drop_is_a_gap_and_not_zero() -> None:
    batch = read(line("DCGM_FI_DEV_POWER_USAGE", 60) + line("DCGM_FI_DEV_GPU_TEMP", 40, uuid=OTHER))
    assert (UUID, "temperature_celsius") not in readings(batch)
    assert [gap.metric for gap in gaps_of(batch, UUID)] == ["temperature_celsius"]


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_a_number_that_is_not_finite_is_a_gap(value: str) -> None:
    batch = read(line("DCGM_FI_DEV_POWER_USAGE", value))
    assert readings(batch) == {}
    assert reasons(batch, "power_watts") == ["DCGM_FI_DEV_POWER_USAGE: the value is not a finite number"]


def test_a_conversion_error_text_voids_its_own_line_only() -> None:
    text = line("DCGM_FI_DEV_GPU_TEMP", "ERROR - FAILED TO CONVERT TO STRING") + line("DCGM_FI_DEV_POWER_USAGE", 60)
    batch = read(text)
    assert readings(batch) == {(UUID, "power_watts"): 60.0}
    assert "FAILED TO CONVERT" in reasons(batch, "temperature_celsius")[0]


def test_a_model_name_with_unescaped_quotes_is_read() -> None:
    batch = read(line("DCGM_FI_DEV_POWER_USAGE", 60, modelName='NVIDIA "L4" 24 GB\\'))
    assert readings(batch) == {(UUID, "power_watts"): 60.0}
    assert batch.facts[0].model_name == 'NVIDIA "L4" 24 GB\\'


def test_a_label_that_forges_another_gpu_is_a_gap_and_the_node_is_not_complete() -> None:
    batch = read(line("DCGM_FI_DEV_POWER_USAGE", 60) + line("DCGM_FI_DEV_POWER_USAGE", 61, job=f'x" y",UUID="{OTHER}'))
    assert readings(batch) == {(UUID, "power_watts"): 60.0}
    assert any("cannot be told apart" in gap.reason for gap in gaps_of(batch, TARGET))
    assert batch.nodes_complete == frozenset()


def test_whole_gpu_values_repeated_on_instances_are_taken_once_and_never_summed() -> None:
    text = "".join(
        line("DCGM_FI_DEV_POWER_USAGE", 115.2 + gi / 10, gi=gi)
        + line("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", 5000 + gi, gi=gi)
        for gi in (1, 2, 3)
    )
    assert readings(read(text)) == {(UUID, "power_watts"): pytest.approx(115.5), (UUID, "energy_joules"): 5.003}


def test_framebuffer_and_profiling_belong_to_the_instance() -> None:
    text = "".join(
        line("DCGM_FI_DEV_FB_USED", 100 * gi, gi=gi) + line("DCGM_FI_PROF_GR_ENGINE_ACTIVE", gi / 10, gi=gi)
        for gi in (1, 2)
    )
    assert readings(read(text)) == {
        (f"{UUID}/1", "memory_used_bytes"): 100 * 2**20,
        (f"{UUID}/2", "memory_used_bytes"): 200 * 2**20,
        (f"{UUID}/1", "gr_engine_active_ratio"): 0.1,
        (f"{UUID}/2", "gr_engine_active_ratio"): 0.2,
    }


def test_utilisation_under_mig_is_a_gap_even_where_an_old_exporter_says_zero() -> None:
    batch = read(line("DCGM_FI_DEV_GPU_UTIL", 0, gi=1) + line("DCGM_FI_DEV_POWER_USAGE", 60, gi=1))
    assert readings(batch) == {(UUID, "power_watts"): 60.0}
    for metric in ("gpu_busy_ratio", "memory_busy_ratio", "encoder_busy_ratio", "decoder_busy_ratio"):
        assert reasons(batch, metric) == ["not available under MIG"]


def test_an_instance_without_framebuffer_is_a_gap_that_names_the_known_defect() -> None:
    batch = read(line("DCGM_FI_PROF_GR_ENGINE_ACTIVE", 0.5, gi=1))
    assert "dcgm-exporter#380" in reasons(batch, "memory_used_bytes")[0]
    assert gaps_of(batch, f"{UUID}/1")


def test_an_instance_is_identified_by_gpu_and_instance_id() -> None:
    batch = read(line("DCGM_FI_DEV_FB_USED", 1, gi=7) + line("DCGM_FI_DEV_FB_USED", 2, gi=7, uuid=OTHER))
    assert readings(batch) == {
        (f"{UUID}/7", "memory_used_bytes"): 2**20,
        (f"{OTHER}/7", "memory_used_bytes"): 2 * 2**20,
    }


@pytest.mark.parametrize("labels", [{"container": "", "namespace": "", "pod": ""}, {}])
def test_an_idle_gpu_has_no_pod_whether_its_labels_are_empty_or_absent(labels: dict[str, str]) -> None:
    assert read(line("DCGM_FI_DEV_POWER_USAGE", 60, **labels)).facts[0].pods == ()


def test_a_hostname_that_is_the_exporters_pod_is_not_taken_for_the_node() -> None:
    text = line("DCGM_FI_DEV_POWER_USAGE", 60, Hostname="nvidia-dcgm-exporter-km55s")
    assert read(text, target="gpu-a:9400").facts[0].node == "gpu-a"


def test_both_spellings_of_hostname_are_read() -> None:
    old = read(line("DCGM_FI_DEV_POWER_USAGE", 60))
    new = read(line("DCGM_FI_DEV_POWER_USAGE", 60, Hostname=None, hostname="gpu-a"))
    assert old.facts == new.facts


def test_pods_on_a_time_sliced_gpu_share_it_and_values_are_not_doubled() -> None:
    pods = [{"namespace": "team", "pod": f"vllm-{n}", "container": "vllm", "vgpu": str(n)} for n in (0, 1)]
    text = "".join(line("DCGM_FI_DEV_POWER_USAGE", 60, **pod) for pod in pods)
    batch = read(text)
    assert readings(batch) == {(UUID, "power_watts"): 60.0}
    assert batch.facts[0].pods == tuple(
        PodFact(gi_id=None, namespace="team", name=f"vllm-{n}", container="vllm", shared=True) for n in (0, 1)
    )
    assert not any("twice" in gap.reason for gap in batch.gaps)


def test_the_line_of_the_device_beats_the_lines_of_its_pods() -> None:
    # since dcgm-exporter#594 both exist, with different meaning
    text = line("DCGM_FI_DEV_FB_USED", 700, namespace="team", pod="big", container="c", vgpu="0") + line(
        "DCGM_FI_DEV_FB_USED", 500
    )
    assert readings(read(text)) == {(UUID, "memory_used_bytes"): 500 * 2**20}


def test_two_containers_of_one_pod_do_not_share_the_gpu() -> None:
    text = line("DCGM_FI_DEV_FB_USED", 5, namespace="n", pod="p", container="a") + line(
        "DCGM_FI_DEV_POWER_USAGE", 60, namespace="n", pod="p", container="b"
    )
    assert [(pod.container, pod.shared) for pod in read(text).facts[0].pods] == [("a", False), ("b", False)]


def test_an_empty_pod_uid_is_none_and_pod_labels_are_ignored() -> None:
    (pod,) = (
        read(line("DCGM_FI_DEV_POWER_USAGE", 60, namespace="n", pod="p", container="c", pod_uid="", team_name="x"))
        .facts[0]
        .pods
    )
    assert pod == PodFact(gi_id=None, namespace="n", name="p", container="c", uid=None)


def test_a_pod_uid_is_kept() -> None:
    (pod,) = (
        read(line("DCGM_FI_DEV_POWER_USAGE", 60, namespace="n", pod="p", container="c", pod_uid="u-1")).facts[0].pods
    )
    assert pod.uid == "u-1"


def test_dynamic_resource_labels_change_nothing() -> None:
    dra = {"dra_claim_name": "c", "dra_device": "gpu-3", "dra_mig_profile": "1g.5gb", "dra_mig_device_uuid": "MIG-1"}
    assert read(line("DCGM_FI_DEV_POWER_USAGE", 60, **dra)) == read(line("DCGM_FI_DEV_POWER_USAGE", 60))


def test_profiling_fields_that_vanish_are_said_once_for_the_exporter() -> None:
    batch = read(line("DCGM_FI_DEV_POWER_USAGE", 60) + line("DCGM_FI_DEV_POWER_USAGE", 60, uuid=OTHER))
    (reason,) = reasons(batch, "sm_active_ratio")
    assert reason == (
        "DCGM_FI_PROF_SM_ACTIVE (from 4.9.0 DCGM_FI_PROF_SM_UTIL_RATIO) is not in this exporter's counter list, "
        "or profiling is not possible on this node"
    )
    assert [gap.subject for gap in batch.gaps if gap.metric == "sm_active_ratio"] == [TARGET]


def test_a_counter_that_starts_again_passes_through_as_it_is() -> None:
    before, after = (read(line("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", value)) for value in (9_000_000, 12_000))
    assert [readings(batch)[UUID, "energy_joules"] for batch in (before, after)] == [9000.0, 12.0]


def test_an_exporter_that_changes_its_generation_keeps_the_same_columns() -> None:
    old = (
        line("DCGM_FI_DEV_GPU_UTIL", 91)
        + line("DCGM_FI_DEV_FB_USED", 5120)
        + line("DCGM_FI_DEV_POWER_USAGE", 68.2)
        + line("DCGM_FI_PROF_DRAM_ACTIVE", 0.25)
    )
    labels = {"Hostname": None, "hostname": "gpu-a", "DCGM_FI_DRIVER_VERSION": None}
    labels["DCGM_FI_SYSTEM_DRIVER_VERSION"] = "580.105.08"
    new = (
        line("DCGM_FI_DEV_GPU_UTIL_RATIO", 0.91, **labels)
        + line("DCGM_FI_DEV_FB_USED_BYTES", 5368709120, **labels)
        + line("DCGM_FI_DEV_BOARD_POWER_WATTS", 68.2, **labels)
        + line("DCGM_FI_PROF_DRAM_UTIL_RATIO", 0.25, **labels)
    )
    assert readings(read(old)) == readings(read(new))
    assert read(old).facts == read(new).facts


def test_the_first_generation_with_its_own_label_names_is_read() -> None:
    text = f'dcgm_gpu_utilization{{gpu="3",uuid="{UUID}",pod_name="p",pod_namespace="n",container_name="c"}} 50\n'
    batch = read(text)
    assert readings(batch) == {(UUID, "gpu_busy_ratio"): 0.5}
    assert batch.facts[0].index == 3
    assert batch.facts[0].pods == (PodFact(gi_id=None, namespace="n", name="p", container="c"),)


def test_an_xid_with_its_text_is_one_value_of_its_device() -> None:
    text = line("DCGM_FI_DEV_XID_ERRORS", 94, gi=1, err_code="94", err_msg="Contained ECC error") + line(
        "DCGM_FI_DEV_XID_ERRORS", 0, gi=2, err_code="0", err_msg="No Error"
    )
    assert readings(read(text)) == {(f"{UUID}/1", "xid_code"): 94.0, (f"{UUID}/2", "xid_code"): 0.0}


def test_a_memory_temperature_of_zero_is_a_board_without_the_sensor() -> None:
    batch = read(line("DCGM_FI_DEV_MEMORY_TEMP", 0))
    assert readings(batch) == {}
    assert "no memory temperature sensor" in reasons(batch, "memory_temperature_celsius")[0]


def test_zero_nvlink_traffic_is_zero() -> None:
    assert readings(read(line("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", 0))) == {(UUID, "nvlink_bytes_per_s"): 0.0}


def test_identical_series_are_told_once_without_a_word() -> None:
    batch = read(line("DCGM_FI_DEV_POWER_USAGE", 60) * 2)
    assert readings(batch) == {(UUID, "power_watts"): 60.0}
    assert reasons(batch, "power_watts") == []


def test_contradicting_series_keep_the_larger_value_and_say_so() -> None:
    batch = read(line("DCGM_FI_DEV_POWER_USAGE", 60) + line("DCGM_FI_DEV_POWER_USAGE", 75))
    assert readings(batch) == {(UUID, "power_watts"): 75.0}
    assert "given twice" in reasons(batch, "power_watts")[0]


def test_lines_about_cpus_and_links_are_no_gap() -> None:
    text = 'DCGM_FI_DEV_CPU_UTIL_TOTAL{cpu="0",cpucore="1",Hostname="gpu-a"} 0.5\n' + line(
        "DCGM_FI_DEV_POWER_USAGE", 60
    )
    batch = read(text)
    assert len(batch.facts) == 1
    assert not any("UUID" in gap.reason for gap in batch.gaps)


def test_a_line_of_ours_without_a_gpu_is_a_gap() -> None:
    batch = read("DCGM_FI_DEV_MEMORY_TEMP 0\n" + line("DCGM_FI_DEV_POWER_USAGE", 60))
    assert reasons(batch, "memory_temperature_celsius") == ["a line was left out: no UUID label: not about a GPU"]


def test_an_empty_answer_is_a_gap_and_completes_no_node() -> None:
    batch = read("")
    assert (batch.readings, batch.facts, batch.nodes_complete) == ((), (), frozenset())
    assert "DCGM may not be running" in batch.gaps[0].reason


def test_a_time_that_is_still_to_come_is_refused() -> None:
    an_hour_ahead = 1795352400000 + 2 * 3_600_000
    batch = read(line("DCGM_FI_DEV_POWER_USAGE", f"60 {an_hour_ahead}") + line("DCGM_FI_DEV_GPU_TEMP", 40))
    assert readings(batch) == {(UUID, "temperature_celsius"): 40.0}
    assert "still to come" in gaps_of(batch, UUID)[0].reason


def test_a_body_cut_in_the_middle_keeps_what_came_before() -> None:
    batch = read((line("DCGM_FI_DEV_POWER_USAGE", 60) + line("DCGM_FI_DEV_GPU_TEMP", 47))[:-2])
    assert readings(batch) == {(UUID, "power_watts"): 60.0}
    assert any("middle of a line" in gap.reason for gap in batch.gaps)
    assert batch.nodes_complete == frozenset()
