import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.dcgm.collector import read_exposition
from collectors.errors import BadPayload
from planner.hardware import MigMode
from planner.metrics import BY_NAME, Level
from planner.readings import InstanceFact, PodFact
from tests.collectors.dcgm.lines import AT, OTHER, TARGET, UUID, gaps_of, line, read, readings, reasons


def mode(text: str, uuid: str = UUID) -> MigMode | None:
    return next(fact.mig_mode for fact in read(text).facts if fact.gpu_uuid == uuid)


def test_a_fact_tells_everything_the_labels_do() -> None:
    (fact,) = read(line("DCGM_FI_DEV_FB_USED", 1, gi=9, namespace="n", pod="p", container="c")).facts
    assert fact.observed_at == AT
    assert (fact.gpu_uuid, fact.node, fact.index) == (UUID, "gpu-a", 0)
    assert (fact.model_name, fact.pci_bus_id) == ("NVIDIA A100-SXM4-40GB", "00000000:31:00.0")
    assert (fact.driver_version, fact.mig_mode) == ("580.105.08", MigMode.ENABLED)
    assert fact.instances == (InstanceFact(gi_id=9, profile="1g.5gb", start=None),)
    assert fact.pods == (PodFact(gi_id=9, namespace="n", name="p", container="c"),)


def test_each_gpu_has_one_fact_and_the_node_is_complete() -> None:
    text = "".join(line("DCGM_FI_DEV_FB_USED", gi, gi=gi, uuid=uuid) for gi in (1, 2) for uuid in (UUID, OTHER))
    batch = read(text)
    assert [fact.gpu_uuid for fact in batch.facts] == [UUID, OTHER]
    assert batch.nodes_complete == {"gpu-a"}


def test_the_configured_node_replaces_the_one_in_the_labels() -> None:
    batch = read(line("DCGM_FI_DEV_FB_USED", 1), node="rack-7")
    assert batch.facts[0].node == "rack-7"
    assert batch.nodes_complete == {"rack-7"}


def test_memory_total_is_used_plus_free_plus_reserved() -> None:
    text = "".join(
        line(f"DCGM_FI_DEV_FB_{part}", mib) for part, mib in (("USED", 5120), ("FREE", 9791), ("RESERVED", 447))
    )
    assert readings(read(text))[UUID, "memory_total_bytes"] == 15358 * 2**20


def test_memory_total_as_reported_is_taken_where_a_part_is_missing() -> None:
    text = line("DCGM_FI_DEV_FB_USED", 5120) + line("DCGM_FI_DEV_FB_TOTAL", 15360)
    assert readings(read(text))[UUID, "memory_total_bytes"] == 15360 * 2**20


def test_memory_total_without_reserved_is_not_guessed() -> None:
    batch = read(line("DCGM_FI_DEV_FB_USED", 1) + line("DCGM_FI_DEV_FB_FREE", 2))
    assert (UUID, "memory_total_bytes") not in readings(batch)
    assert len(reasons(batch, "memory_total_bytes")) == 1


def test_device_level_values_beside_instances_belong_to_the_whole_gpu() -> None:
    text = line("DCGM_FI_DEV_FB_USED", 4845) + line("DCGM_FI_PROF_DRAM_ACTIVE", 0.8, gi=13)
    assert readings(read(text)) == {
        (UUID, "memory_used_bytes"): 4845 * 2**20,
        (f"{UUID}/13", "dram_active_ratio"): 0.8,
    }


def test_mig_is_on_where_there_are_instances() -> None:
    assert mode(line("DCGM_FI_DEV_POWER_USAGE", 60, gi=1)) is MigMode.ENABLED


def test_mig_is_off_where_the_whole_gpu_has_utilisation() -> None:
    assert mode(line("DCGM_FI_DEV_GPU_UTIL", 0)) is MigMode.DISABLED


def test_mig_is_off_where_the_whole_gpu_has_framebuffer_and_utilisation_is_not_listed() -> None:
    assert mode(line("DCGM_FI_DEV_FB_USED", 0)) is MigMode.DISABLED


def test_mig_mode_is_unknown_where_only_this_gpu_lacks_utilisation() -> None:
    text = line("DCGM_FI_DEV_FB_USED", 0) + line("DCGM_FI_DEV_GPU_UTIL", 5, uuid=OTHER)
    assert mode(text) is None


EMPTY_MIG = line("DCGM_FI_DEV_POWER_USAGE", 76) + line("DCGM_FI_DEV_GPU_TEMP", 32)


def test_mig_mode_is_unknown_where_framebuffer_is_not_listed_at_all() -> None:
    assert mode(EMPTY_MIG) is None


@pytest.mark.parametrize("gi", [None, 1])
def test_mig_is_on_where_a_live_mig_capable_gpu_alone_has_no_framebuffer(gi: int | None) -> None:
    batch = read(EMPTY_MIG + line("DCGM_FI_DEV_FB_USED", 3, uuid=OTHER, gi=gi))
    assert batch.facts[0].mig_mode is MigMode.ENABLED
    assert batch.facts[0].instances == ()
    missing = {gap.metric: gap.reason for gap in gaps_of(batch, UUID)}
    assert missing["memory_used_bytes"] == "MIG mode is on and no GPU instance is made"
    assert missing["gpu_busy_ratio"] == "not available under MIG"


def test_a_gpu_that_gives_nothing_is_not_taken_for_one_in_mig_mode() -> None:
    text = line("DCGM_FI_DEV_XID_ERRORS", 79) + line("DCGM_FI_DEV_FB_USED", 3, uuid=OTHER)
    assert mode(text) is None


def test_a_board_without_mig_is_not_taken_for_one_in_mig_mode() -> None:
    text = EMPTY_MIG.replace("NVIDIA A100-SXM4-40GB", "Tesla T4") + line("DCGM_FI_DEV_FB_USED", 3, uuid=OTHER)
    assert mode(text) is None


MIG_MODE = "DCGM_FI_DEV_MIG_MODE"


def test_mig_mode_is_what_the_exporter_says_where_nothing_else_tells() -> None:
    assert mode(EMPTY_MIG + line(MIG_MODE, 1)) is MigMode.ENABLED
    assert mode(EMPTY_MIG + line(MIG_MODE, 0)) is MigMode.DISABLED


def test_what_the_exporter_says_of_mig_mode_beats_what_would_be_inferred() -> None:
    assert mode(line("DCGM_FI_DEV_FB_USED", 0) + line(MIG_MODE, 1)) is MigMode.ENABLED
    alone_without_framebuffer = EMPTY_MIG + line("DCGM_FI_DEV_FB_USED", 3, uuid=OTHER)
    assert mode(alone_without_framebuffer + line(MIG_MODE, 0)) is MigMode.DISABLED


def test_mig_mode_of_one_gpu_says_nothing_of_another() -> None:
    text = EMPTY_MIG + line(MIG_MODE, 1, uuid=OTHER)
    assert (mode(text), mode(text, OTHER)) == (None, MigMode.ENABLED)


@pytest.mark.parametrize("value", ["2", "9223372036854775792", "2147483632", "-1", "NaN", "on", ""])
def test_a_mig_mode_that_is_none_leaves_the_inference(value: str) -> None:
    assert mode(line("DCGM_FI_DEV_GPU_UTIL", 0) + line(MIG_MODE, value)) is MigMode.DISABLED
    assert mode(EMPTY_MIG + line(MIG_MODE, value)) is None


def test_mig_modes_that_differ_leave_the_inference() -> None:
    assert mode(EMPTY_MIG + line(MIG_MODE, 0) + line(MIG_MODE, 1, gpu="1")) is None


def test_instances_that_are_there_beat_a_mig_mode_that_says_otherwise() -> None:
    assert mode(line("DCGM_FI_DEV_FB_USED", 5, gi=3) + line(MIG_MODE, 0)) is MigMode.ENABLED


def test_utilisation_is_not_believed_where_mig_is_on_without_an_instance() -> None:
    batch = read(EMPTY_MIG + line("DCGM_FI_DEV_GPU_UTIL", 0) + line(MIG_MODE, 1))
    assert (UUID, "gpu_busy_ratio") not in readings(batch)
    assert reasons(batch, "gpu_busy_ratio") == ["not available under MIG"]


def placed(text: str) -> list[tuple[int, int | None]]:
    return [(one.gi_id, one.start) for fact in read(text).facts for one in fact.instances]


def test_gpufleet_agent_tells_where_an_instance_lies() -> None:
    text = line("DCGM_FI_DEV_FB_USED", 5, gi=3) + line("DCGM_FI_DEV_FB_USED", 5, gi=9)
    text += line("gpufleet_device", 1, gi=3, placement_start="4") + line("gpufleet_device", 1, gi=9)
    assert placed(text) == [(3, 4), (9, None)]


def test_a_start_on_another_family_is_somebody_elses_label() -> None:
    assert placed(line("DCGM_FI_DEV_FB_USED", 5, gi=3, placement_start="4")) == [(3, None)]


@pytest.mark.parametrize("start", ["", "-1", "four", "99999", "4.0", "1e1"])
def test_a_start_that_is_no_placement_unit_is_not_taken(start: str) -> None:
    assert placed(line("gpufleet_device", 1, gi=3, placement_start=start) + line("DCGM_FI_DEV_FB_USED", 5, gi=3)) == [
        (3, None)
    ]


def test_an_instance_with_two_starts_has_none() -> None:
    text = line("DCGM_FI_DEV_FB_USED", 5, gi=3)
    text += line("gpufleet_device", 1, gi=3, placement_start="4") + line(
        "gpufleet_device", 1, gi=3, placement_start="0"
    )
    assert placed(text) == [(3, None)]


def test_a_start_belongs_to_the_gpu_of_its_line() -> None:
    text = line("DCGM_FI_DEV_FB_USED", 5, gi=3) + line("DCGM_FI_DEV_FB_USED", 5, gi=3, uuid=OTHER)
    text += line("gpufleet_device", 1, gi=3, uuid=OTHER, placement_start="2")
    assert placed(text) == [(3, None), (3, 2)]


def test_an_instance_whose_profile_nobody_names_is_still_an_instance() -> None:
    (fact,) = read(line("DCGM_FI_DEV_FB_USED", 3, gi=4, GPU_I_PROFILE=None)).facts
    assert fact.instances == (InstanceFact(gi_id=4, profile="unknown"),)


def test_what_many_devices_lack_is_one_gap_with_their_number() -> None:
    text = "".join(line("DCGM_FI_DEV_MEMORY_TEMP", 0, uuid=f"GPU-{n}") for n in range(8))
    (gap,) = [gap for gap in read(text).gaps if gap.metric == "memory_temperature_celsius"]
    assert gap.subject == TARGET
    assert gap.reason.endswith("(8 devices)")


@pytest.mark.parametrize(
    "labels",
    [
        {"UUID": "GPU-" + "x" * 300},
        {"UUID": "'; DROP TABLE sample; --"},
        {"UUID": "MIG-GPU-1/2/0"},
        {"GPU_I_ID": "7; rm -rf"},
        {"GPU_I_ID": "-1"},
        {"GPU_I_ID": "99999999999999999999"},
    ],
)
def test_labels_that_dcgm_would_not_write_are_refused_with_a_gap(labels: dict[str, str]) -> None:
    batch = read(line("DCGM_FI_DEV_POWER_USAGE", 60, uuid=OTHER) + line("DCGM_FI_DEV_POWER_USAGE", 60, **labels))
    assert readings(batch) == {(OTHER, "power_watts"): 60.0}
    assert "a line was left out" in reasons(batch, "power_watts")[0]


def test_hostile_label_text_is_kept_short_and_printable() -> None:
    (fact,) = read(
        line("DCGM_FI_DEV_POWER_USAGE", 60, pod="\u202eevil\x1b[2J" + "x" * 5000, namespace="<script>", container="c")
    ).facts
    (pod,) = fact.pods
    assert len(pod.name) <= 253
    assert pod.name.isprintable()
    assert pod.namespace == "<script>"  # text stays text; whoever shows it escapes it


def test_metrics_of_another_exporter_are_refused() -> None:
    with pytest.raises(BadPayload, match="none of which is DCGM's"):
        read('node_load1{instance="a"} 0.5\n')


def test_noise_is_refused() -> None:
    with pytest.raises(BadPayload, match="not the Prometheus text format"):
        read("hello\nworld\n")


names = st.sampled_from(
    ["DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_FB_USED", "DCGM_FI_PROF_SM_ACTIVE", "DCGM_FI_DEV_GPU_UTIL", "DCGM_EXP_X"]
)
some_lines = st.builds(
    line,
    names,
    st.one_of(st.floats(), st.integers(), st.just("<<<NULL>>>")),
    uuid=st.sampled_from([UUID, OTHER]),
    gi=st.sampled_from([None, 1, 2]),
    pod=st.sampled_from(["a", "b", ""]),
    namespace=st.just("n"),
)


@settings(deadline=None)
@given(st.lists(some_lines, min_size=1, max_size=30).map("".join))
def test_whatever_is_scraped_is_told_once_in_our_words(text: str) -> None:
    batch = read_exposition(text, observed_at=AT, source="test", target=TARGET)
    told = readings(batch)  # fails on a value told twice
    for (subject, metric), value in told.items():
        assert value >= 0
        assert BY_NAME[metric].level is Level.DEVICE or "/" not in subject
    assert len({fact.gpu_uuid for fact in batch.facts}) == len(batch.facts)
    assert len(set(batch.gaps)) == len(batch.gaps)
