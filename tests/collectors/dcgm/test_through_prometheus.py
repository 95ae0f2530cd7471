"""The road through Prometheus, against a reader that holds samples as a server would."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from collectors.dcgm import through_prometheus
from collectors.dcgm.metrics import ROWS
from collectors.dcgm.through_prometheus import PrometheusCollector
from collectors.errors import BadPayload, ClockSkew, Unreachable
from collectors.prometheus import Series, WindowTooLarge
from collectors.prometheus_config import PrometheusConfig
from collectors.prometheus_samples import Remarks
from collectors.prometheus_windows import MIN_WINDOW_S
from collectors.source import Attempt
from planner.hardware import MigMode
from planner.readings import Batch, InstanceFact, PodFact
from tests.collectors.dcgm.lines import OTHER, UUID

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
TARGET = {"job": "dcgm-exporter", "instance": "gpu-a:9400"}
OWN_POD = {"namespace": "gpu-operator", "pod": "nvidia-dcgm-exporter-km55s", "container": "nvidia-dcgm-exporter"}
DEVICE = {"gpu": "0", "UUID": UUID, "modelName": "NVIDIA A100-SXM4-40GB", "Hostname": "nvidia-dcgm-exporter-km55s"}


class FakeReader:
    """A server: its clock, its series as (labels, {seconds before NOW: value}), and its limits."""

    target = "prometheus:9090"

    def __init__(self) -> None:
        self.clock = NOW
        self.series: list[tuple[dict[str, str], dict[float, str]]] = []
        self.up: list[dict[str, str]] = []
        self.most_seconds = 10**9
        self.fails_at: Callable[[datetime], bool] = lambda until: False
        self.asked: list[tuple[datetime, int]] = []
        self.selectors: list[str] = []

    def add(self, name: str, values: Mapping[float, object], **labels: str) -> None:
        told = {"__name__": name, **TARGET, **DEVICE, **labels}
        self.series.append(
            ({key: text for key, text in told.items() if text}, {at: str(value) for at, value in values.items()})
        )

    def server_time(self) -> datetime:
        return self.clock

    def raw_samples(self, selector: str, *, seconds: int, until: datetime) -> list[Series]:
        self.selectors.append(selector)
        if self.fails_at(until):
            raise Unreachable("prometheus:9090 cannot be connected to.", source="main")
        if seconds > self.most_seconds:
            raise WindowTooLarge("prometheus:9090 says that it was asked for too much at once.", source="main")
        self.asked.append((until, seconds))
        found = []
        for labels, values in self.series:
            times = {NOW - timedelta(seconds=ago): text for ago, text in values.items()}
            kept = sorted((at, text) for at, text in times.items() if until - timedelta(seconds=seconds) <= at <= until)
            if kept:
                found.append(Series(metric=labels, values=[(at.timestamp(), text) for at, text in kept]))
        return found

    def label_sets(self, selector: str, *, seconds: int, until: datetime) -> list[dict[str, str]]:
        self.selectors.append(selector)
        return self.up

    def remarks(self) -> Remarks:
        return Remarks()

    def close(self) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeReader:
    fake = FakeReader()
    monkeypatch.setattr(through_prometheus, "PrometheusReader", lambda config: fake)
    return fake


def collector(**table: Any) -> PrometheusCollector:
    return PrometheusCollector(
        PrometheusConfig.model_validate({"name": "main", "url": "http://prometheus:9090", "backfill_s": 3600, **table})
    )


def collect(read_until: datetime | None = None, **table: Any) -> list[Attempt]:
    marks = {} if read_until is None else {FakeReader.target: read_until}
    return list(collector(**table).collect(NOW, marks))


def only(attempts: list[Attempt]) -> Batch:
    (attempt,) = attempts
    assert attempt.batch is not None, attempt.error
    return attempt.batch


def told(batch: Batch) -> set[tuple[str, str, float, float]]:
    return {
        (str(reading.subject), reading.metric, reading.value, (NOW - reading.observed_at).total_seconds())
        for reading in batch.readings
    }


def test_samples_are_told_at_the_time_of_their_scrape_in_our_units(server: FakeReader) -> None:
    server.add("DCGM_FI_DEV_FB_USED", {90: 5, 60: 6, 30.5: 7})
    batch = only(collect())
    assert told(batch) == {(UUID, "memory_used_bytes", mib * 2**20, ago) for mib, ago in ((5, 90), (6, 60), (7, 30.5))}
    assert batch.watermark == NOW


def test_the_first_run_reads_as_far_back_as_configured_oldest_window_first(server: FakeReader) -> None:
    attempts = collect(backfill_s=7200, window_s=1800)
    marks = [attempt.batch.watermark for attempt in attempts if attempt.batch]
    assert marks == [NOW - timedelta(seconds=ago) for ago in (5400, 3600, 1800, 0)]
    assert len({attempt.started_at for attempt in attempts}) == 4


def test_a_later_run_reads_on_from_the_watermark_with_an_overlap(server: FakeReader) -> None:
    mark = NOW - timedelta(seconds=30)
    only(collect(mark, overlap_s=60))
    ((until, seconds),) = server.asked
    assert until == NOW
    assert 90 <= seconds <= 92


def test_a_collector_that_was_down_for_a_day_reads_the_whole_day(server: FakeReader) -> None:
    server.add("DCGM_FI_DEV_POWER_USAGE", dict.fromkeys(range(0, 86400, 600), 60))
    attempts = collect(NOW - timedelta(days=1))
    times = [reading.observed_at for attempt in attempts if attempt.batch for reading in attempt.batch.readings]
    assert len(attempts) == 24
    assert set(times) == {NOW - timedelta(seconds=ago) for ago in range(0, 86_400, 600)}


def test_windows_overlap_and_join_without_a_hole(server: FakeReader) -> None:
    collect(NOW - timedelta(hours=5), window_s=1000, overlap_s=50)
    for (earlier, _), (later, seconds) in zip(server.asked, server.asked[1:], strict=False):
        assert later - timedelta(seconds=seconds) <= earlier - timedelta(seconds=50)


def test_a_window_that_is_too_large_is_halved_and_stays_so(server: FakeReader) -> None:
    server.most_seconds = 1000
    attempts = collect(NOW - timedelta(hours=2))
    assert all(attempt.error is None for attempt in attempts)
    assert attempts[-1].batch is not None
    assert attempts[-1].batch.watermark == NOW
    assert all(seconds <= 1000 for _, seconds in server.asked)


def test_a_server_that_refuses_even_the_shortest_window_is_an_error_that_says_what_to_do(server: FakeReader) -> None:
    server.most_seconds = 1
    (attempt,) = collect()
    assert isinstance(attempt.error, BadPayload)
    assert f"Even {MIN_WINDOW_S} s" in str(attempt.error)


def test_a_failing_window_ends_the_run_and_nothing_after_it_is_passed(server: FakeReader) -> None:
    server.fails_at = lambda until: until > NOW - timedelta(minutes=40)
    attempts = collect(NOW - timedelta(hours=1), window_s=900)
    assert [attempt.error is None for attempt in attempts] == [True, False]
    assert attempts[0].batch is not None
    assert attempts[0].batch.watermark == NOW - timedelta(minutes=45)


def test_a_clock_an_hour_ahead_is_refused_and_nothing_is_passed(server: FakeReader) -> None:
    server.clock = NOW + timedelta(hours=1)
    server.add("DCGM_FI_DEV_POWER_USAGE", {-3600: 60})
    (attempt,) = collect()
    assert isinstance(attempt.error, ClockSkew)
    assert "1 h 0 min ahead" in str(attempt.error)
    assert attempt.batch is None


def test_a_clock_a_minute_ahead_is_believed(server: FakeReader) -> None:
    server.clock = NOW + timedelta(minutes=1)
    assert only(collect(NOW)).watermark == server.clock


def test_a_watermark_in_the_future_is_said(server: FakeReader) -> None:
    (attempt,) = collect(NOW + timedelta(hours=3))
    assert isinstance(attempt.error, ClockSkew)
    assert "reaches in 3 h 0 min" in str(attempt.error)


def test_an_unreachable_server_is_one_attempt_with_the_error(server: FakeReader) -> None:
    server.fails_at = lambda until: True
    (attempt,) = collect()
    assert isinstance(attempt.error, Unreachable)


def test_a_server_without_dcgm_says_so(server: FakeReader) -> None:
    batch = only(collect())
    assert [gap.reason for gap in batch.gaps] == [
        "this server has no DCGM series: is a dcgm-exporter among its scrape targets?"
    ]


def test_workloads_are_found_in_both_label_styles(server: FakeReader) -> None:
    workload = {"namespace": "team", "pod": "vllm-0", "container": "vllm"}
    server.up = [{**TARGET, **OWN_POD}]
    server.add(
        "DCGM_FI_DEV_POWER_USAGE", {30: 60}, **OWN_POD, **{f"exported_{key}": text for key, text in workload.items()}
    )
    exported = only(collect())
    server.series.clear()
    server.up = [dict(TARGET)]
    server.add("DCGM_FI_DEV_POWER_USAGE", {30: 60}, **workload)
    plain = only(collect())
    assert (
        exported.facts[0].pods
        == plain.facts[0].pods
        == (PodFact(gi_id=None, name="vllm-0", namespace="team", container="vllm"),)
    )


@pytest.mark.parametrize("up", [[{**TARGET, **OWN_POD}], []])
def test_the_exporters_own_pod_is_no_workload(server: FakeReader, up: list[dict[str, str]]) -> None:
    server.up = up
    server.add("DCGM_FI_DEV_POWER_USAGE", {30: 60}, **OWN_POD)
    assert only(collect()).facts[0].pods == ()


def test_a_pod_of_any_name_is_the_exporters_own_when_its_target_says_so(server: FakeReader) -> None:
    own = {"namespace": "ops", "pod": "metrics-x", "container": "m"}
    server.up = [{**TARGET, **own}]
    server.add("DCGM_FI_DEV_POWER_USAGE", {30: 60}, **own)
    assert only(collect()).facts[0].pods == ()


def test_the_node_comes_from_the_target_then_the_hostname_then_the_instance(server: FakeReader) -> None:
    server.up = [{**TARGET, "node": "from-target"}]
    server.add("DCGM_FI_DEV_POWER_USAGE", {30: 60})
    assert only(collect()).facts[0].node == "from-target"
    server.up = []
    assert only(collect()).facts[0].node == "gpu-a"
    server.series[0][0]["Hostname"] = "from-hostname"
    assert only(collect()).facts[0].node == "from-hostname"


def test_facts_are_told_at_both_ends_of_a_window_and_of_every_change(server: FakeReader) -> None:
    early, late = ({"namespace": "n", "pod": pod, "container": "c"} for pod in ("old", "new"))
    server.add("DCGM_FI_DEV_POWER_USAGE", dict.fromkeys(range(1000, 500, -10), 60), **early)
    server.add("DCGM_FI_DEV_POWER_USAGE", dict.fromkeys(range(500, 0, -10), 60), **late)
    facts = only(collect()).facts
    assert [((NOW - fact.observed_at).total_seconds(), fact.pods[0].name) for fact in facts] == [
        (1000, "old"),
        (510, "old"),
        (500, "new"),
        (10, "new"),
    ]


def test_the_overlap_repeats_readings_and_no_facts(server: FakeReader) -> None:
    server.add("DCGM_FI_DEV_POWER_USAGE", {50: 60, 10: 61})
    batch = only(collect(NOW - timedelta(seconds=30)))
    assert {ago for *_, ago in told(batch)} == {50, 10}
    assert [(NOW - fact.observed_at).total_seconds() for fact in batch.facts] == [10]
    assert batch.nodes_complete == {"gpu-a"}


def test_a_node_that_was_not_scraped_is_not_complete(server: FakeReader) -> None:
    server.add("DCGM_FI_DEV_POWER_USAGE", {50: 60})
    batch = only(collect(NOW - timedelta(seconds=30)))
    assert batch.facts == ()
    assert batch.nodes_complete == frozenset()


def test_repeated_whole_gpu_values_are_told_once_per_scrape(server: FakeReader) -> None:
    for gi in ("1", "2", "3"):
        server.add("DCGM_FI_DEV_POWER_USAGE", {60: 100, 30: 110}, GPU_I_ID=gi, GPU_I_PROFILE="1g.5gb")
    assert told(only(collect())) == {(UUID, "power_watts", 100.0, 60), (UUID, "power_watts", 110.0, 30)}


def test_a_gpu_seen_by_two_targets_is_told_at_the_times_of_both(server: FakeReader) -> None:
    server.add("DCGM_FI_DEV_POWER_USAGE", {60: 100})
    server.add("DCGM_FI_DEV_POWER_USAGE", {55: 101}, job="again")
    assert told(only(collect())) == {(UUID, "power_watts", 100.0, 60), (UUID, "power_watts", 101.0, 55)}


@pytest.mark.parametrize("value", ["NaN", "+Inf", "9223372036854775794", "nonsense"])
def test_a_value_that_is_none_is_a_gap(server: FakeReader, value: str) -> None:
    server.add("DCGM_FI_DEV_POWER_USAGE", {30: value})
    batch = only(collect())
    assert batch.readings == ()
    assert [gap.metric for gap in batch.gaps if gap.subject == UUID] == ["power_watts"]


def test_a_counter_that_starts_again_passes_through_as_it_is(server: FakeReader) -> None:
    server.add("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", {60: 9_000_000, 30: 12_000})
    assert {value for _, _, value, _ in told(only(collect()))} == {9000.0, 12.0}


def test_an_exporter_that_was_upgraded_in_between_keeps_its_columns(server: FakeReader) -> None:
    server.add("DCGM_FI_DEV_FB_USED", {60: 5120})
    server.add("DCGM_FI_DEV_FB_USED_BYTES", {30: 5120 * 2**20}, Hostname="", hostname="nvidia-dcgm-exporter-zzzzz")
    assert {(metric, value) for _, metric, value, _ in told(only(collect()))} == {("memory_used_bytes", 5120 * 2.0**20)}


def test_hostile_labels_break_nothing_and_never_reach_a_query(server: FakeReader) -> None:
    evil = '"} or vector(1) #\x1b[2J'
    server.up = [{**TARGET, "node": "n"}]
    server.add("DCGM_FI_DEV_POWER_USAGE", {30: 60}, pod=evil, namespace=evil, container=evil, modelName=evil, job=evil)
    server.add("DCGM_FI_DEV_POWER_USAGE", {30: 60}, UUID=evil, instance=evil)
    batch = only(collect())
    assert [str(reading.subject) for reading in batch.readings] == [UUID]
    assert batch.facts[0].pods[0].name.isprintable()
    assert any("UUID label is none" in gap.reason for gap in batch.gaps)
    assert all(gap.subject.isprintable() and gap.reason.isprintable() for gap in batch.gaps)
    assert not any("vector(1)" in text for text in server.selectors)


def test_the_query_names_every_family_that_is_read_and_nothing_else(server: FakeReader) -> None:
    collect(jobs=["dcgm"])
    (names,) = re.findall(r'__name__=~"([^"]*)"', server.selectors[0])
    others = {"DCGM_FI_DEV_MIG_MODE", "gpufleet_device", "gpufleet_pod_on_device"}
    assert set(names.split("|")) == {row.source_name for row in ROWS} | others
    assert 'job=~"dcgm"' in server.selectors[0]


def test_an_agent_behind_prometheus_tells_mig_mode_placements_and_pods_that_share(server: FakeReader) -> None:
    instance = {"GPU_I_ID": "3", "GPU_I_PROFILE": "3g.20gb"}
    server.add("DCGM_FI_DEV_FB_USED", {60: 5, 30: 5}, **instance)
    server.add("DCGM_FI_DEV_MIG_MODE", {60: 1, 30: 1})
    server.add("gpufleet_device", {60: 1, 30: 1}, placement_start="4", **instance)
    server.add("DCGM_FI_DEV_POWER_USAGE", {60: 60, 30: 60}, UUID=OTHER, gpu="1")
    server.add("DCGM_FI_DEV_MIG_MODE", {60: 0, 30: 1}, UUID=OTHER, gpu="1")
    for place, name in enumerate("ab"):
        server.add("gpufleet_pod_on_device", {60: 1, 30: 1}, namespace="llm", pod=name, vgpu=str(place), **instance)
    batch = only(collect())
    cut = [fact for fact in batch.facts if fact.gpu_uuid == UUID]
    assert {fact.instances for fact in cut} == {(InstanceFact(gi_id=3, profile="3g.20gb", start=4),)}
    assert {(pod.name, pod.shared) for fact in cut for pod in fact.pods} == {("a", True), ("b", True)}
    other = sorted((fact for fact in batch.facts if fact.gpu_uuid == OTHER), key=lambda fact: fact.observed_at)
    assert [fact.mig_mode for fact in other] == [MigMode.DISABLED, MigMode.ENABLED]


def test_two_gpus_of_one_node_are_both_told(server: FakeReader) -> None:
    server.add("DCGM_FI_DEV_POWER_USAGE", {30: 60})
    server.add("DCGM_FI_DEV_POWER_USAGE", {30: 61}, UUID=OTHER, gpu="1")
    batch = only(collect())
    assert {fact.gpu_uuid for fact in batch.facts} == {UUID, OTHER}
    assert batch.nodes_complete == {"gpu-a"}
