"""What the agent serves is read back by our own DCGM collector as the same readings and the same inventory."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from collectors.dcgm.collector import read_exposition
from collectors.dcgm.metrics import ROWS, Implausible, plausible
from collectors.plain_text import plain_text
from gpufleet.agent_exposition import FAMILIES, exposition
from planner.hardware import MigMode
from planner.metrics import BY_NAME, Level
from planner.readings import Batch, GpuFact, InstanceFact, PodFact, ProcessFact, Reading, Subject
from planner.units import MIB, GpuUuid, NodeName
from tests.collectors.nvml.fake_nvml import boards
from tests.collectors.nvml.fake_nvml.machine import FakeGpu
from tests.collectors.nvml.readings import machine, read_once

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def back(batch: Batch) -> Batch:
    """The batch as the DCGM collector reads it."""
    return read_exposition(exposition(batch), observed_at=AT, source="test", target="gpu-a:9400")


def readings(batch: Batch) -> dict[tuple[str, str], float]:
    found = {(str(one.subject), one.metric): one.value for one in batch.readings}
    assert len(found) == len(batch.readings)
    return found


def without_what_the_format_cannot_say(fact: GpuFact) -> GpuFact:
    """Compute instances, processes, and pods that have no name."""
    return replace(
        fact,
        instances=tuple(replace(one, compute_instances=()) for one in fact.instances),
        pods=tuple(pod for pod in fact.pods if pod.namespace),
        processes=(),
    )


def test_every_metric_has_a_family_and_every_family_is_the_exporters() -> None:
    assert {family.metric for family in FAMILIES} == set(BY_NAME)
    known = {row.source_name: row.metric for row in ROWS}
    assert {family.name: family.metric for family in FAMILIES}.items() <= known.items()


@pytest.mark.parametrize(
    "gpus",
    [
        [boards.a100_seven_instances()],
        [boards.h100_mixed()],
        [boards.h200_shared_instance(), boards.h200(1)],
        [boards.t4(0), boards.t4(1), boards.gb10()],
        [boards.a100(0), boards.a100(1, mig_mode=(1, 1))],
    ],
    ids=["7x1g", "mixed", "shared", "small", "empty"],
)
def test_boards_come_back_as_they_went(gpus: list[FakeGpu]) -> None:
    batch = replace(read_once(*gpus))
    again = back(batch)
    assert readings(again) == readings(batch)
    assert {fact.gpu_uuid: replace(fact, observed_at=AT) for fact in again.facts} == {
        fact.gpu_uuid: without_what_the_format_cannot_say(fact) for fact in batch.facts
    }
    assert again.nodes_complete == batch.nodes_complete


UNITS = {  # what NVML counts in, as one of ours
    "sm_clock_hertz": 1e6,
    "memory_clock_hertz": 1e6,
    "power_watts": 1e-3,
    "energy_joules": 1e-3,
    "power_throttle_s": 1e-9,
    "thermal_throttle_s": 1e-9,
}
DIVISORS = {"power_watts": 1e3, "energy_joules": 1e3, "power_throttle_s": 1e9, "thermal_throttle_s": 1e9}
INEXACT = "nvlink_bytes_per_s"  # KiB/s divided by 1000: not every number has one of which it is a thousand times
PERCENTS = ("gpu_busy_ratio", "memory_busy_ratio", "encoder_busy_ratio", "decoder_busy_ratio")
MEMORY = ("memory_used_bytes", "memory_free_bytes", "memory_reserved_bytes")


def value_of(metric: str) -> st.SearchStrategy[float]:
    """Values as the NVML collector makes them."""
    if metric in PERCENTS:
        return st.integers(0, 100).map(lambda percent: percent / 100)
    if metric.endswith("_ratio"):
        return st.floats(0, 1)
    if metric in DIVISORS:
        return st.integers(0, 2**53).map(lambda count: count / DIVISORS[metric])
    if metric in UNITS:
        return st.integers(0, 10_000).map(lambda count: count * UNITS[metric])
    if metric.endswith("_bytes_per_s"):
        return st.integers(0, 2**44).map(lambda kib: kib * 1024.0)
    if metric in (*MEMORY, "memory_total_bytes"):
        return st.integers(0, 2**45).map(float)
    if metric == "memory_temperature_celsius":
        return st.integers(1, 120).map(float)
    return st.integers(0, 2**31 - 100).map(float)


def is_told(metric: str, value: float) -> bool:
    """Whether the exporter's own marks for "no value" do not happen to be this number."""
    per_unit = next(family.per_unit for family in FAMILIES if family.metric == metric)
    try:
        plausible(value * per_unit)
    except Implausible:
        return False
    return True


names = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,30}[a-z0-9])?", fullmatch=True)
texts = st.text(min_size=1, max_size=40).map(lambda text: plain_text(text, 200)).filter(bool)


@st.composite
def pods_of(draw: st.DrawFn, gi_id: int | None) -> tuple[PodFact, ...]:
    drawn = draw(st.lists(st.tuples(names, names, st.none() | names), max_size=3, unique=True))
    shared = len({(namespace, name) for namespace, name, _ in drawn}) > 1
    return tuple(
        PodFact(gi_id=gi_id, namespace=namespace, name=name, container=container, uid=uid, shared=shared)
        for namespace, name, container in sorted(drawn, key=lambda one: (one[0], one[1], one[2] or ""))
        for uid in [draw(st.none() | st.uuids().map(str))]
    )


@st.composite
def gpus(draw: st.DrawFn, number: int, node: str) -> tuple[GpuFact, list[Reading]]:
    uuid = GpuUuid(f"GPU-{number:08d}-{draw(st.integers(0, 10**9))}")
    instances = draw(
        st.lists(
            st.builds(
                InstanceFact,
                gi_id=st.integers(0, 14),
                profile=st.sampled_from(["1g.5gb", "1g.10gb+me", "3g.71gb"]),
                start=st.none() | st.integers(0, 7),
            ),
            max_size=3,
            unique_by=lambda one: one.gi_id,
        )
    )
    instances.sort()
    devices: list[int | None] = [one.gi_id for one in instances] or [None]
    mode = MigMode.ENABLED if instances else draw(st.sampled_from([MigMode.ENABLED, MigMode.DISABLED]))
    found: list[Reading] = []
    for metric in BY_NAME.values():
        is_whole = metric.level is Level.GPU
        if mode is MigMode.ENABLED and metric.name in PERCENTS:
            continue
        for gi_id in [None] if is_whole else devices:
            if metric.name != "memory_total_bytes" and draw(st.booleans()):
                value = draw(value_of(metric.name))
                assume(is_told(metric.name, value))
                subject = Subject(gpu_uuid=uuid, gi_id=gi_id)
                found.append(Reading(subject=subject, metric=metric.name, value=value, observed_at=AT))
    for gi_id in devices:  # as everywhere here, the total is the sum where all parts are given
        subject = Subject(gpu_uuid=uuid, gi_id=gi_id)
        parts = [one.value for one in found if one.subject == subject and one.metric in MEMORY]
        total = sum(parts) if len(parts) == 3 else draw(value_of("memory_total_bytes"))
        assume(is_told("memory_total_bytes", total))
        found.append(Reading(subject=subject, metric="memory_total_bytes", value=total, observed_at=AT))
    fact = GpuFact(
        observed_at=AT,
        gpu_uuid=uuid,
        node=NodeName(node),
        index=number,
        model_name=draw(st.none() | texts),
        pci_bus_id=draw(st.none() | st.just("00000000:1A:00.0")),
        driver_version=draw(st.none() | texts),
        mig_mode=mode,
        instances=tuple(instances),
        pods=tuple(pod for gi_id in devices for pod in draw(pods_of(gi_id))),
    )
    return fact, found


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    node = draw(names.filter(lambda name: "dcgm-exporter" not in name))
    drawn = [draw(gpus(number, node)) for number in range(draw(st.integers(1, 3)))]
    return Batch(
        readings=tuple(reading for _, found in drawn for reading in found), facts=tuple(fact for fact, _ in drawn)
    )


@settings(max_examples=60)
@given(batches())
def test_every_batch_comes_back_as_it_went(batch: Batch) -> None:
    again = back(batch)
    told, found = readings(batch), readings(again)
    assert {key: found.get(key) for key in told if key[1] != INEXACT} == {
        key: value for key, value in told.items() if key[1] != INEXACT
    }
    assert found == pytest.approx(told, rel=1e-15)
    facts = {fact.gpu_uuid: fact for fact in again.facts}
    for fact in batch.facts:
        assert facts[fact.gpu_uuid] == without_what_the_format_cannot_say(fact)
    assert len(facts) == len(batch.facts)
    assert not [gap for gap in again.gaps if "not read" in gap.reason]


@given(st.floats(0, 1e15, allow_subnormal=False), st.sampled_from(sorted(BY_NAME)))
def test_any_number_comes_back_as_near_as_numbers_are(value: float, metric: str) -> None:
    if metric.endswith("_ratio"):
        value = min(value, 1.0)
    assume(metric != "memory_temperature_celsius" or value >= 1)
    assume(is_told(metric, value))
    subject = Subject(gpu_uuid=GpuUuid("GPU-1"))
    reading = Reading(subject=subject, metric=metric, value=value, observed_at=AT)
    (found,) = [one for one in back(Batch(readings=(reading,), facts=(a_fact(),))).readings if one.metric == metric]
    assert found.value == pytest.approx(value, rel=1e-14)


def a_fact(**more: object) -> GpuFact:
    described: dict[str, object] = {
        "observed_at": AT,
        "gpu_uuid": GpuUuid("GPU-1"),
        "node": NodeName("gpu-a"),
        "index": 0,
        "model_name": "NVIDIA L4",
        "pci_bus_id": None,
        "driver_version": "590.48.01",
        "mig_mode": MigMode.DISABLED,
        "instances": (),
        "pods": (),
    }
    return GpuFact(**described | more)  # type: ignore[arg-type]


def used(value: float, gi_id: int | None = None) -> Reading:
    subject = Subject(gpu_uuid=GpuUuid("GPU-1"), gi_id=gi_id)
    return Reading(subject=subject, metric="memory_used_bytes", value=value, observed_at=AT)


def test_prometheus_own_parser_reads_it() -> None:
    with machine(boards.h100_mixed(), boards.t4()) as running:
        text = exposition(running.read())
    families = {family.name: family for family in text_string_to_metric_families(text)}
    energy = families["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"]
    assert energy.type == "counter"
    assert {sample.value for sample in energy.samples} == {1_234_567}
    assert {sample.labels["modelName"] for sample in energy.samples} == {"NVIDIA H100 80GB HBM3", "Tesla T4"}
    memory = families["DCGM_FI_DEV_FB_USED"]
    assert memory.type == "gauge"
    assert memory.documentation.endswith("(in MiB).")
    assert {sample.labels.get("GPU_I_ID"): sample.value for sample in memory.samples} == {
        "2": 11091,
        "3": 17,
        "9": 9,
        "10": 9,
        None: 0,
    }
    labels = memory.samples[0].labels
    assert labels["GPU_I_PROFILE"] == "3g.40gb"
    assert labels["hostname"] == "gpu-a"
    assert labels["pci_bus_id"] == "00000000:00:09.0"
    assert labels["device"] == "nvidia0"
    assert labels["DCGM_FI_DRIVER_VERSION"] == "590.48.01"
    placed = {
        sample.labels.get("GPU_I_ID"): sample.labels.get("placement_start")
        for sample in families["gpufleet_device"].samples
    }
    assert placed == {None: None, "2": "4", "3": "0", "9": "2", "10": "3"}
    assert {sample.value for sample in families["DCGM_FI_DEV_MIG_MODE"].samples} == {0, 1}


def test_xids_have_words() -> None:
    reading = Reading(subject=Subject(gpu_uuid=GpuUuid("GPU-1")), metric="xid_code", value=79, observed_at=AT)
    text = exposition(Batch(readings=(reading,), facts=(a_fact(),)))
    (line,) = [line for line in text.splitlines() if line.startswith("DCGM_FI_DEV_XID_ERRORS{")]
    assert 'err_code="79",err_msg="the GPU has fallen off the bus; drain the node and reboot it"} 79' in line


def test_pods_that_share_a_device_have_lines_and_memory_of_their_own() -> None:
    pods = (
        PodFact(gi_id=None, namespace="llm", name="a", container="vllm", uid="u-a", shared=True),
        PodFact(gi_id=None, namespace="llm", name="b", container=None, uid="u-b", shared=True),
    )
    processes = (
        ProcessFact(gi_id=None, pid=1, kind="compute", memory_bytes=3 * MIB, pod_uid="u-a"),
        ProcessFact(gi_id=None, pid=2, kind="compute", memory_bytes=4 * MIB, pod_uid="u-a"),
        ProcessFact(gi_id=None, pid=3, kind="compute", memory_bytes=None, pod_uid="u-b"),
    )
    batch = Batch(readings=(used(10 * MIB),), facts=(a_fact(pods=pods, processes=processes),))
    text = exposition(batch)
    memory = [line for line in text.splitlines() if line.startswith("DCGM_FI_DEV_FB_USED{")]
    assert [line.rsplit(" ", 1)[1] for line in memory] == ["10", "7"]
    assert "pod=" not in memory[0]
    assert 'container="vllm",namespace="llm",pod="a",pod_uid="u-a",vgpu="0"' in memory[1]
    again = back(batch)
    assert readings(again) == {("GPU-1", "memory_used_bytes"): 10 * MIB}
    assert again.facts[0].pods == pods


def test_a_pod_of_which_only_the_uid_is_known() -> None:
    pods = (PodFact(gi_id=None, namespace="", name="u-a", uid="u-a"),)
    batch = Batch(readings=(used(1.0),), facts=(a_fact(pods=pods),))
    assert 'pod_uid="u-a"} ' in exposition(batch)
    assert back(batch).facts[0].pods == ()


def test_hostile_names_stay_in_their_label() -> None:
    hostile = 'x"} 1\nDCGM_FI_DEV_GPU_TEMP{UUID="GPU-2'
    batch = Batch(readings=(used(1.0),), facts=(a_fact(model_name=hostile),))
    again = back(batch)
    assert [fact.gpu_uuid for fact in again.facts] == ["GPU-1"]
    assert readings(again) == {("GPU-1", "memory_used_bytes"): 1.0}


def test_labels_are_escaped_as_the_format_wants_it() -> None:
    odd = 'a\\nb \\ "c"\nd'
    text = exposition(Batch(readings=(used(1.0),), facts=(a_fact(model_name=odd),)))
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert {sample.labels["modelName"] for sample in samples} == {odd}


def test_a_lost_gpu_keeps_its_xid_where_it_was_not_cut() -> None:
    reading = Reading(subject=Subject(gpu_uuid=GpuUuid("GPU-1")), metric="xid_code", value=79, observed_at=AT)
    batch = Batch(readings=(reading,))
    assert exposition(batch) == ""
    assert "} 79\n" in exposition(batch, known={"GPU-1": a_fact()})
    cut = a_fact(instances=(InstanceFact(gi_id=2, profile="3g.40gb"),), mig_mode=MigMode.ENABLED)
    assert exposition(batch, known={"GPU-1": cut}) == ""


def test_an_instance_without_a_value_is_not_missed() -> None:
    fact = a_fact(instances=(InstanceFact(gi_id=2, profile="3g.40gb"), InstanceFact(gi_id=3, profile="1g.10gb")))
    again = back(Batch(readings=(used(1.0, gi_id=2),), facts=(fact,)))
    assert [(one.gi_id, one.profile) for one in again.facts[0].instances] == [(2, "3g.40gb"), (3, "1g.10gb")]
