"""The road through Prometheus, against a reader that holds samples as a server would."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from collectors.errors import Unreachable
from collectors.prometheus import Series, WindowTooLarge
from collectors.prometheus_samples import Remarks
from collectors.serving import through_prometheus
from collectors.serving.config import ServingConfig
from collectors.serving.metrics import TABLES
from collectors.serving.table import meanings
from collectors.serving.through_prometheus import ServingThroughPrometheus
from collectors.source import Attempt
from planner.readings import Batch
from planner.serving_readings import ServingEngine

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TARGET = {"job": "vllm", "instance": "10.0.0.7:8000"}
OWN = {"namespace": "team-a", "pod": "vllm-0", "node": "gpu-a", "container": "vllm", "endpoint": "http"}
ENGINE = {"engine": "0", "model_name": "m"}


class FakeReader:
    """A server: its clock, its series as (labels, {seconds before NOW: value}), and its limits."""

    target = "prometheus:9090"

    def __init__(self) -> None:
        self.clock = NOW
        self.series: list[tuple[dict[str, str], dict[float, str]]] = []
        self.up: list[dict[str, str]] = [TARGET | OWN | {"__name__": "up"}]
        self.most_series = 10**9
        self.fails_at: Callable[[datetime], bool] = lambda until: False
        self.asked: list[tuple[datetime, int]] = []
        self.selectors: list[str] = []

    def add(self, name: str, values: Mapping[float, object], **labels: str) -> None:
        told = {"__name__": name, **TARGET, **OWN, **ENGINE, **labels}
        kept = {key: text for key, text in told.items() if text}
        self.series.append((kept, {at: str(value) for at, value in values.items()}))

    def server_time(self) -> datetime:
        return self.clock

    def raw_samples(self, selector: str, *, seconds: int, until: datetime) -> list[Series]:
        self.selectors.append(selector)
        if self.fails_at(until):
            raise Unreachable("prometheus:9090 cannot be connected to.", source="main")
        pattern = re.search(r'__name__=~"((?:[^"\\]|\\.)*)"', selector)
        assert pattern is not None
        names = re.compile(pattern[1].replace("\\\\", "\\"))
        found = []
        for labels, values in self.series:
            times = {NOW - timedelta(seconds=ago): text for ago, text in values.items()}
            kept = sorted((at, text) for at, text in times.items() if until - timedelta(seconds=seconds) <= at <= until)
            if kept and names.fullmatch(labels["__name__"]):
                found.append(Series(metric=labels, values=[(at.timestamp(), text) for at, text in kept]))
        if len(found) > self.most_series:
            raise WindowTooLarge("prometheus:9090 says that it was asked for too much at once.", source="main")
        self.asked.append((until, seconds))
        return found

    def label_sets(self, selector: str, *, seconds: int, until: datetime) -> list[dict[str, str]]:
        return self.up

    def remarks(self) -> Remarks:
        return Remarks()

    def close(self) -> None:
        pass


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> FakeReader:
    fake = FakeReader()
    monkeypatch.setattr(through_prometheus, "PrometheusReader", lambda config: fake)
    return fake


def collector(**table: Any) -> ServingThroughPrometheus:
    known = {"name": "main", "prometheus": "http://prometheus:9090", "backfill_s": 600, "overlap_s": 0, **table}
    return ServingThroughPrometheus(ServingConfig.model_validate(known))


def run(reading: ServingThroughPrometheus, mark: datetime | None = None, now: datetime = NOW) -> list[Attempt]:
    return list(reading.collect(now, {} if mark is None else {"prometheus:9090": mark}))


def batch_of(**table: Any) -> Batch:
    (attempt,) = run(collector(**table))
    assert attempt.error is None
    assert attempt.batch is not None
    return attempt.batch


def test_samples_of_one_moment_are_one_page(reader: FakeReader) -> None:
    reader.add("vllm:num_requests_running", {60: 1, 30: 2, 0: 3})
    reader.add("vllm:generation_tokens_total", {60: 10, 30: 20, 0: 30})
    reader.add("vllm:generation_tokens_created", {60: 1.795e9, 30: 1.795e9, 0: 1.795e9})
    for bound, counts in (("0.1", (1, 2, 3)), ("+Inf", (2, 4, 6))):
        reader.add("vllm:time_to_first_token_seconds_bucket", dict(zip((60, 30, 0), counts, strict=True)), le=bound)
    reader.add("vllm:time_to_first_token_seconds_sum", {60: 0.5, 30: 1.0, 0: 1.5})
    reader.add("vllm:time_to_first_token_seconds_count", {60: 2, 30: 4, 0: 6})
    batch = batch_of()
    assert [(one.value, one.observed_at) for one in batch.gauges] == [
        (1, NOW - timedelta(seconds=60)),
        (2, NOW - timedelta(seconds=30)),
        (3, NOW),
    ]
    assert [one.value for one in batch.counters] == [10, 20, 30]
    assert {one.started_at for one in batch.counters} == {datetime.fromtimestamp(1.795e9, UTC)}
    last = batch.histograms[-1]
    assert (last.bounds, last.counts, last.count, last.total) == ((0.1,), (3,), 6, 1.5)
    assert {one.subject.endpoint for one in batch.gauges} == {"10.0.0.7:8000"}
    assert {one.subject.model for one in batch.gauges} == {"m"}
    assert batch.watermark == NOW


def test_the_server_is_named_as_on_the_direct_road_and_its_pod_is_known(reader: FakeReader) -> None:
    reader.add("vllm:num_requests_running", {30: 1, 0: 1})
    reader.add("vllm:cache_config_info", {30: 1, 0: 1}, model_name="", block_size="16", num_gpu_blocks="10")
    batch = batch_of()
    assert len(batch.servers) == 2  # the first and the last
    fact = batch.servers[-1]
    assert (fact.endpoint, fact.engine, fact.observed_at) == ("10.0.0.7:8000", ServingEngine.VLLM, NOW)
    assert (fact.pod_namespace, fact.pod_name, fact.node, fact.pod_ip) == ("team-a", "vllm-0", "gpu-a", "10.0.0.7")
    assert [model.name for model in fact.models] == ["m"]
    assert fact.settings == (("block_size", "16"), ("num_gpu_blocks", "10"))
    assert [one.value for one in batch.gauges if one.metric == "kv_cache_tokens"] == [160, 160]


@pytest.mark.parametrize(
    ("instance", "endpoint", "ip"),
    [
        ("VLLM.team-a:8000", "vllm.team-a:8000", None),
        ("[fd00::7]:8000", "[fd00::7]:8000", "fd00::7"),
        ("127.0.0.1:1/pods/a/B", "127.0.0.1:1/pods/a/B", "127.0.0.1"),
    ],
)
def test_an_instance_is_an_endpoint(reader: FakeReader, instance: str, endpoint: str, ip: str | None) -> None:
    reader.up = []
    reader.add("vllm:num_requests_running", {0: 1}, instance=instance)
    (fact,) = batch_of().servers
    assert (fact.endpoint, fact.pod_ip) == (endpoint, ip)


def test_facts_are_told_where_they_change(reader: FakeReader) -> None:
    times = range(300, -1, -30)
    reader.add("vllm:num_requests_running", {at: 1 for at in times if at > 120}, model_name="a")
    reader.add("vllm:num_requests_running", {at: 1 for at in times if at <= 120}, model_name="b")
    told = [(fact.models[0].name, (NOW - fact.observed_at).seconds) for fact in batch_of().servers]
    assert told == [("a", 300), ("b", 120), ("b", 0)]


def test_two_prometheus_replicas_that_scrape_the_same_server_count_once(reader: FakeReader) -> None:
    # behind a Thanos without deduplication
    reader.up = [TARGET | OWN | {"prometheus_replica": name} for name in ("a", "b")]
    for name in ("a", "b"):
        reader.add("vllm:generation_tokens_total", {0: 10}, prometheus_replica=name)
    (counter,) = batch_of().counters
    assert counter.value == 10


def two_engines(reader: FakeReader, first: Mapping[str, str], second: Mapping[str, str]) -> None:
    """Two engines that count 10 tokens per second from 400,000 and from 1,000,000, scraped 7 s apart."""
    reader.up = [TARGET | OWN | first | {"__name__": "up"}, TARGET | OWN | second | {"__name__": "up"}]
    for labels, base, apart in ((first, 400_000, 0), (second, 1_000_000, 7)):
        counts = {ago - apart: base + 10 * (600 - ago) for ago in range(60, 601, 30)}
        reader.add("vllm:generation_tokens_total", counts, **labels)


def counted(batch: Batch) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for one in batch.counters:
        found.setdefault(one.subject.endpoint, []).append(one.value)
    return found


@pytest.mark.parametrize("instance", ["node-a", "node-a:8000"])
def test_two_pods_under_one_instance_are_two_servers(reader: FakeReader, instance: str) -> None:
    # a relabelling put the node's name there
    two_engines(reader, {"instance": instance, "pod": "llm-0"}, {"instance": instance, "pod": "llm-1"})
    batch = batch_of()
    told = counted(batch)
    assert {endpoint: values[0] for endpoint, values in told.items()} == {
        f"{instance}/team-a/llm-0": 400_000,
        f"{instance}/team-a/llm-1": 1_000_000,
    }
    assert all(values == sorted(values) and values[-1] - values[0] == 5400 for values in told.values())
    assert {(fact.endpoint, fact.pod_name, fact.node) for fact in batch.servers} == {
        (f"{instance}/team-a/llm-0", "llm-0", "gpu-a"),
        (f"{instance}/team-a/llm-1", "llm-1", "gpu-a"),
    }
    assert not [gap for gap in batch.gaps if "nobody knows" in gap.reason]


def test_two_pods_under_one_instance_are_two_servers_without_up(reader: FakeReader) -> None:
    # a federation that takes the engine's metrics only
    two_engines(reader, {"instance": "node-a", "pod": "llm-0"}, {"instance": "node-a", "pod": "llm-1"})
    reader.up = []
    assert set(counted(batch_of())) == {"node-a/team-a/llm-0", "node-a/team-a/llm-1"}


def test_two_clusters_behind_one_thanos_have_two_servers_at_one_address(reader: FakeReader) -> None:
    two_engines(reader, {"cluster": "east"}, {"cluster": "west"})
    assert set(counted(batch_of())) == {"10.0.0.7:8000/east/team-a/vllm-0", "10.0.0.7:8000/west/team-a/vllm-0"}


def test_two_containers_of_a_pod_are_two_servers_if_no_port_tells_them_apart(reader: FakeReader) -> None:
    two_engines(reader, {"instance": "llm", "container": "big"}, {"instance": "llm", "container": "small"})
    assert set(counted(batch_of())) == {"llm/team-a/vllm-0/big", "llm/team-a/vllm-0/small"}
    # with a port it is one server, which the annotations of the pod have scraped for each of its containers
    reader.series.clear()
    two_engines(reader, {"container": "vllm"}, {"container": "proxy"})
    assert set(counted(batch_of())) == {"10.0.0.7:8000"}


def test_what_was_once_two_servers_stays_so(reader: FakeReader) -> None:
    two_engines(reader, {"instance": "node-a", "pod": "llm-0"}, {"instance": "node-a", "pod": "llm-1"})
    reading = collector()
    run(reading)
    reader.series = [one for one in reader.series if one[0]["pod"] == "llm-0"]
    reader.add("vllm:generation_tokens_total", {-30: 406_300}, instance="node-a", pod="llm-0")
    reader.clock = later = NOW + timedelta(seconds=30)
    (attempt,) = run(reading, mark=NOW, now=later)
    assert attempt.batch is not None
    assert counted(attempt.batch) == {"node-a/team-a/llm-0": [406_300]}


def test_a_pod_that_follows_another_at_its_address_is_the_same_server(reader: FakeReader) -> None:
    reader.up = [TARGET | OWN | {"pod": name} for name in ("a", "b")]
    reader.add("vllm:generation_tokens_total", {600: 1, 570: 2}, pod="a")
    reader.add("vllm:generation_tokens_total", {60: 3, 30: 4}, pod="b")
    assert counted(batch_of()) == {"10.0.0.7:8000": [1, 2, 3, 4]}


def test_targets_of_which_nobody_can_tell_whether_they_are_one_are_not_added_up(reader: FakeReader) -> None:
    silent = dict.fromkeys(OWN, "")
    two_engines(reader, silent | {"instance": "llm", "flavour": "x"}, silent | {"instance": "llm", "flavour": "y"})
    reader.up = [{name: value for name, value in labels.items() if value} for labels in reader.up]
    batch = batch_of()
    assert (batch.counters, batch.servers) == ((), ())
    (gap,) = [one for one in batch.gaps if one.subject == "llm"]
    assert gap.reason.startswith("several scrape targets are called llm and differ in flavour; ")
    assert "give each its own instance label" in gap.reason


def test_two_jobs_that_scrape_one_address_scrape_one_server(reader: FakeReader) -> None:
    two_engines(reader, {}, {"job": "all-pods", "pod": "", "node": "", "namespace": ""})
    assert set(counted(batch_of())) == {"10.0.0.7:8000"}
    # a third that says too little to tell which of two it is
    reader.series.clear()
    two_engines(reader, {"instance": "node-a", "pod": "llm-0"}, {"instance": "node-a", "pod": "llm-1"})
    reader.add("vllm:generation_tokens_total", {60: 5, 30: 6}, instance="node-a", pod="", namespace="", job="nodes")
    told = batch_of()
    assert set(counted(told)) == {"node-a/team-a/llm-0", "node-a/team-a/llm-1"}
    assert any("several scrape targets are called node-a and differ in" in gap.reason for gap in told.gaps)
    # without a port the same name may mean anything
    reader.series.clear()
    silent = dict.fromkeys(OWN, "") | {"instance": "llm"}
    two_engines(reader, silent, silent | {"job": "other"})
    reader.up = []
    assert counted(batch_of()) == {}


def test_labels_of_the_target_are_no_part_of_the_series(reader: FakeReader) -> None:
    # a relabelling renamed a pod label; SGLang's own labels stay
    reader.up = [TARGET | OWN | {"team": "x"}]
    for streamed, value in (("true", 3), ("false", 4)):
        reader.add("sglang:num_requests_total", {0: value}, engine="", team="x", is_streaming=streamed)
    batch = batch_of()
    assert [one.value for one in batch.counters] == [7]
    assert not [gap for gap in batch.gaps if "nobody knows" in gap.reason]


def test_scrapes_closer_than_the_resolution_are_thinned(reader: FakeReader) -> None:
    reader.add("vllm:num_requests_running", {at: at for at in range(0, 300, 5)})
    kept = [one.value for one in batch_of().gauges]
    assert kept == [295, 265, 235, 205, 175, 145, 115, 85, 55, 25]
    assert len(batch_of(resolution_s=0).gauges) == 60


def test_what_was_read_is_not_read_again_in_the_overlap(reader: FakeReader) -> None:
    reader.add("vllm:num_requests_running", {at: at for at in range(0, 300, 30)})
    reading = collector(overlap_s=60)
    first = run(reading)[0].batch
    assert first is not None
    reader.clock = later = NOW + timedelta(seconds=30)
    reader.add("vllm:num_requests_running", {-30: 7})
    (attempt,) = run(reading, mark=first.watermark, now=later)
    assert attempt.batch is not None
    assert [one.value for one in attempt.batch.gauges] == [7]


def test_what_was_read_and_not_kept_is_read_again(reader: FakeReader) -> None:
    reader.add("vllm:num_requests_running", {at: at for at in range(0, 300, 30)})
    reading = collector()
    before, again = run(reading)[0].batch, run(reading)[0].batch  # the store refused: no watermark
    assert before is not None
    assert again is not None
    assert again.gauges == before.gauges


def test_a_part_of_a_sum_that_goes_keeps_what_it_had_counted(reader: FakeReader) -> None:
    reader.add("vllm:generation_tokens_total", {60: 1000, 30: 1010, 0: 1030}, shard="a")
    reader.add("vllm:generation_tokens_total", {60: 5000, 30: 5020}, shard="b")
    reading = collector()
    for _ in range(2):  # the second time, because the store had refused
        (attempt,) = run(reading)
        assert attempt.batch is not None
        assert [one.value for one in attempt.batch.counters] == [6000, 6030, 6050]
    reader.add("vllm:generation_tokens_total", {-30: 1040}, shard="a")
    reader.clock = later = NOW + timedelta(seconds=30)
    (attempt,) = run(reading, mark=NOW, now=later)
    assert attempt.batch is not None
    assert [one.value for one in attempt.batch.counters] == [6060]


def test_windows_are_read_oldest_first_and_a_failure_ends_the_run(reader: FakeReader) -> None:
    reader.add("vllm:num_requests_running", dict.fromkeys(range(0, 600, 30), 1))
    reader.fails_at = lambda until: until > NOW - timedelta(seconds=200)
    attempts = run(collector(window_s=200))
    assert [attempt.error is None for attempt in attempts] == [True, True, False]
    assert attempts[1].batch is not None
    assert attempts[1].batch.watermark == NOW - timedelta(seconds=200)


def test_too_many_series_are_asked_for_a_histogram_at_a_time(reader: FakeReader) -> None:
    reader.most_series = 3
    reader.add("vllm:num_requests_running", {0: 1})
    reader.add("vllm:cache_config_info", {0: 1}, model_name="", block_size="16", num_gpu_blocks="10")
    for family in ("time_to_first_token_seconds", "e2e_request_latency_seconds"):
        reader.add(f"vllm:{family}_bucket", {0: 2}, le="+Inf")
        reader.add(f"vllm:{family}_sum", {0: 0.5})
        reader.add(f"vllm:{family}_count", {0: 2})
    reading = collector()
    (attempt,) = run(reading)
    assert attempt.batch is not None
    assert {one.metric for one in attempt.batch.histograms} == {"ttft_s", "e2e_latency_s"}
    assert {one.metric for one in attempt.batch.gauges} == {"requests_running", "kv_cache_tokens"}
    reader.selectors.clear()
    run(reading)
    assert len(reader.selectors) > 5  # from then on without trying it whole
    assert max(map(len, reader.selectors)) < 4000


def test_a_whole_question_stays_short_enough_for_a_proxy(reader: FakeReader) -> None:
    batch_of()
    assert len(reader.selectors[0]) < 6000


def test_the_question_finds_every_name_that_is_read(reader: FakeReader) -> None:
    batch_of()
    pattern = re.search(r'__name__=~"((?:[^"\\]|\\.)*)"', reader.selectors[0])
    assert pattern is not None
    asked = re.compile(pattern[1].replace("\\\\", "\\"))
    for table in TABLES.values():
        for name in meanings(table):
            assert bool(asked.fullmatch(name)) is (table.engine is not ServingEngine.NIM), name


def test_names_without_a_prefix_are_read_on_request_only(reader: FakeReader) -> None:
    reader.add("num_requests_running", {0: 1}, engine="")
    reader.add("gpu_cache_usage_perc", {0: 0.5}, engine="")
    assert batch_of().gauges == ()
    assert {one.metric for one in batch_of(engine="nim").gauges} == {"requests_running", "kv_cache_used_ratio"}


def test_jobs_narrow_the_question_and_cannot_widen_it(reader: FakeReader) -> None:
    run(collector(jobs=['a"} or up{x="', "b.c"]))
    assert reader.selectors[0].endswith(r',job=~"a\"\\}\\ or\\ up\\{x=\"|b\\.c"}')


def test_a_server_without_series_of_an_engine_says_so(reader: FakeReader) -> None:
    (gap,) = batch_of().gaps
    assert "no series of a serving engine" in gap.reason


def test_gaps_are_those_of_the_engine_and_told_once(reader: FakeReader) -> None:
    reader.add("llamacpp:requests_processing", dict.fromkeys(range(0, 300, 30), 1), engine="", model_name="")
    missing = [gap.metric for gap in batch_of().gaps]
    assert "ttft_s" in missing
    assert len(missing) == len(set(missing))


def test_a_bucket_without_a_bound_costs_itself(reader: FakeReader) -> None:
    reader.add("vllm:time_to_first_token_seconds_bucket", {0: 2})
    reader.add("vllm:num_requests_running", {0: 1})
    batch = batch_of()
    assert [one.metric for one in batch.gauges] == ["requests_running"]
    assert any("without an upper bound" in gap.reason for gap in batch.gaps)


def test_found_names_the_engines_behind_the_server(reader: FakeReader) -> None:
    reader.add("vllm:num_requests_waiting_by_reason", {0: 1}, reason="capacity")
    assert batch_of().found == (("10.0.0.7:8000", "vllm, 0.20 or later"),)


def test_the_clock_of_the_server_is_compared(reader: FakeReader) -> None:
    reader.clock = NOW + timedelta(seconds=40)
    reader.add("vllm:num_requests_running", {0: 1})
    (attempt,) = run(collector())
    assert attempt.clock_skew_s == pytest.approx(40, abs=1)
    reader.clock = NOW + timedelta(hours=1)
    (refused,) = run(collector())
    assert "ahead of ours" in str(refused.error)


def test_a_server_that_keeps_failing_is_asked_less_often_and_recovers(reader: FakeReader) -> None:
    reader.fails_at = lambda until: True
    reading = collector()
    tries = sum(len(run(reading, now=NOW + timedelta(seconds=30 * step))) for step in range(12))
    assert 2 <= tries < 12
    reader.fails_at = lambda until: False
    (attempt,) = run(reading, now=NOW + timedelta(seconds=12 * 30 + 300))
    assert attempt.error is None
