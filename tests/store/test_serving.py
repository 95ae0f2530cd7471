"""What engines counted comes back exact: after repeats, restarts of either side, and over any window."""

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from planner.fleet import Observation
from planner.histograms import Histogram
from planner.readings import Batch
from planner.serving_metrics import SERVING_METRICS, ServingKind
from planner.serving_totals import merged, summed
from store.database import open_engine
from store.gauge_queries import GAUGES, gauge_usage, latest_gauges
from store.latency_queries import counted_histograms
from store.serving import WIDE_GAUGES
from store.serving_queries import count_resets, counted
from store.writes import register_source
from tests.store.batches import NOW, after, everything, rows, source_of_new_cluster, write
from tests.store.serving_batches import counter, gauge, histogram, who

HOUR = 3600.0


def increment(engine: Engine, start: float, end: float, metric: str = "generation_tokens") -> float:
    return sum(one.increment for one in counted(engine, after(start), after(end), metrics=[metric]))


def test_every_gauge_without_a_label_has_a_column() -> None:
    gauges = {one.name for one in SERVING_METRICS if one.kind is ServingKind.GAUGE and one.split_by is None}
    assert set(GAUGES) == gauges == WIDE_GAUGES


@pytest.mark.parametrize(
    "told",
    [
        Batch(gauges=(gauge(0, "generation_tokens", 1.0),)),
        Batch(counters=(counter(0, 1.0, "requests_running"),)),
        Batch(histograms=(histogram(0, (1, 1, 1), 1.0, "made_up_s"),)),
    ],
)
def test_a_metric_of_another_kind_is_refused_before_anything_is_written(
    engine: Engine, source_id: int, told: Batch
) -> None:
    with pytest.raises(ValueError, match=r"planner/serving_metrics\.py"):
        write(engine, source_id, told)
    assert rows(engine, "serving_key") == rows(engine, "collection_attempt") == []


def test_gauges_of_one_moment_are_one_row(engine: Engine, source_id: int) -> None:
    told = (gauge(0, "requests_running", 3.0), gauge(0, "kv_cache_used_ratio", 0.5), gauge(30, "requests_running", 0.0))
    write(engine, source_id, Batch(gauges=told))
    write(engine, source_id, Batch(gauges=(gauge(0, "requests_waiting", 7.0), gauge(0, "requests_running", 4.0))))
    found = [
        (row["requests_running"], row["requests_waiting"], row["kv_cache_used_ratio"])
        for row in rows(engine, "serving_sample")
    ]
    assert found == [(4.0, 7.0, 0.5), (0.0, None, None)]


def test_the_latest_gauges_are_told_with_their_age(engine: Engine, source_id: int) -> None:
    told = (
        gauge(0, "requests_running", 3.0),
        gauge(0, "kv_cache_used_ratio", 0.5),
        gauge(30, "requests_running", 2.0),
        gauge(30, "requests_waiting_by_reason", 6.0, "capacity"),
        gauge(0, "requests_waiting_by_reason", 1.0, "deferred"),
        gauge(-HOUR, "kv_cache_tokens", 9.0),
        gauge(30, "requests_running", 1.0, subject=who("10.0.0.8:8000", "")),
    )
    write(engine, source_id, Batch(gauges=told))
    first, second = latest_gauges(engine, after(60))
    assert (first.subject, second.subject) == (who(), who("10.0.0.8:8000", ""))
    assert first.values == {
        "requests_running": Observation(value=2.0, observed_at=after(30)),
        "kv_cache_used_ratio": Observation(value=0.5, observed_at=NOW),
    }
    assert first.labelled == {
        ("requests_waiting_by_reason", "capacity"): Observation(value=6.0, observed_at=after(30)),
        ("requests_waiting_by_reason", "deferred"): Observation(value=1.0, observed_at=NOW),
    }
    assert latest_gauges(engine, after(60), cluster="nowhere") == ()


def test_a_window_of_gauges_has_quantiles(engine: Engine, source_id: int) -> None:
    told = [gauge(30 * step, "requests_waiting", float(step)) for step in range(101)]
    write(engine, source_id, Batch(gauges=tuple(told)))
    [found] = gauge_usage(engine, after(-1), after(3000))
    assert set(found.metrics) == {"requests_waiting"}
    seen = found.metrics["requests_waiting"]
    assert (seen.samples, seen.mean, seen.p50, seen.p95, seen.maximum) == (101, 50.0, 50.0, 95.0, 100.0)


def test_increments_are_summed_over_any_window_by_their_time_in_it(engine: Engine, source_id: int) -> None:
    for at, value in ((0, 1000.0), (30, 1060.0), (60, 1060.0), (90, 1090.0)):
        write(engine, source_id, Batch(counters=(counter(at, value),)), at=after(at))
    assert increment(engine, 0, 90) == 90.0
    assert increment(engine, 0, 30) == 60.0
    assert increment(engine, 30, 60) == 0.0
    assert increment(engine, 15, 45) == 30.0  # half of the first stretch
    assert increment(engine, 70, 80) == 10.0  # a third of the last
    assert increment(engine, -100, 1000) == 90.0


def test_an_idle_engine_is_told_from_one_that_is_not_read(engine: Engine, source_id: int) -> None:
    for at in (0, 30, 60, 90):
        write(engine, source_id, Batch(counters=(counter(at, 5.0),)), at=after(at))
    [idle] = counted(engine, after(30), after(150))
    assert (idle.increment, idle.covered_s, idle.per_s) == (0.0, 60.0, 0.0)
    assert counted(engine, after(90), after(150)) == ()
    assert rows(engine, "counter_increment") == []
    write(engine, source_id, Batch(counters=(counter(120, 9.0),)))
    [busy] = counted(engine, after(30), after(150))
    assert (busy.increment, busy.covered_s) == (4.0, 90.0)
    assert len(rows(engine, "counter_increment")) == 2


def test_a_rate_after_a_silence_is_over_the_silence(engine: Engine, source_id: int) -> None:
    for at, value in ((0, 0.0), (8 * HOUR, 28_800.0)):
        write(engine, source_id, Batch(counters=(counter(at, value),)), at=after(at))
    [found] = counted(engine, after(7 * HOUR), after(8 * HOUR))
    assert (found.increment, found.per_s) == (3600.0, 1.0)


def test_a_young_series_counts_from_its_beginning_and_an_old_one_from_its_first_sight(
    engine: Engine, source_id: int
) -> None:
    young = counter(0, 600.0, started=-600)
    old = counter(0, 600.0, "prompt_tokens", started=-HOUR)
    write(engine, source_id, Batch(counters=(young, old)))
    assert increment(engine, -HOUR, 0) == 600.0
    assert increment(engine, -300, 0) == 300.0
    assert increment(engine, -HOUR, 0, "prompt_tokens") == 0.0


def test_a_collector_that_starts_again_goes_on_exactly(engine: Engine, source_id: int) -> None:
    write(engine, source_id, Batch(counters=(counter(0, 100.0),), histograms=(histogram(0, (1, 2, 3), 4.0),)))
    again = open_engine(str(engine.url))
    register_source(again, cluster="default", name="dcgm", kind="dcgm", interval_s=30, now=after(60))
    told = Batch(counters=(counter(60, 130.0),), histograms=(histogram(60, (1, 4, 6), 9.0),))
    write(again, source_id, told, at=after(60))
    assert increment(again, 0, 60) == 30.0
    [found] = counted_histograms(again, ["ttft_s"], NOW, after(60))
    assert found.histogram == Histogram(bounds=(0.1, 1.0), counts=(0.0, 2.0, 1.0), total=5.0)
    again.dispose()


def test_resets_are_told_by_time(engine: Engine, source_id: int) -> None:
    for at, value in ((0, 100.0), (30, 7.0), (60, 9.0)):
        told = Batch(
            counters=(counter(at, value), counter(at, value, "requests_finished", label="stop")),
            histograms=(histogram(at, (value, value, value), value),),
        )
        write(engine, source_id, told, at=after(at))
    found = count_resets(engine, NOW, after(60))
    assert [(one.metric, one.label, one.observed_at, one.before) for one in found] == [
        ("generation_tokens", "", after(30), 100.0),
        ("requests_finished", "stop", after(30), 100.0),
        ("ttft_s", "", after(30), 100.0),
    ]
    assert count_resets(engine, after(30), after(60)) == ()
    assert increment(engine, 0, 60) == 9.0


def test_ranks_and_replicas_add_up(engine: Engine, source_id: int) -> None:
    subjects = [who(rank="0"), who(rank="1"), who("10.0.0.8:8000")]
    for at, value in ((0, 0.0), (60, 60.0)):
        told = tuple(counter(at, value * (number + 1), subject=one) for number, one in enumerate(subjects))
        write(engine, source_id, Batch(counters=told), at=after(at))
    found = counted(engine, NOW, after(60))
    by_endpoint = summed(found, by=lambda one: one.subject.endpoint)
    assert {key: (one.increment, one.per_s, one.parts) for key, one in by_endpoint.items()} == {
        "10.0.0.7:8000": (180.0, 3.0, 2),
        "10.0.0.8:8000": (180.0, 3.0, 1),
    }
    [by_model] = summed(found, by=lambda one: one.subject.model).values()
    assert (by_model.increment, by_model.per_s) == (360.0, 6.0)


def test_series_can_be_narrowed(engine: Engine, source_id: int) -> None:
    other, cluster = source_of_new_cluster(engine)
    for at in (0.0, 30.0):
        told = (counter(at, at), counter(at, at, "prompt_tokens"), counter(at, at, subject=who("10.0.0.8:8000")))
        write(engine, source_id, Batch(counters=told), at=after(at))
        write(engine, other, Batch(counters=(counter(at, 2 * at),)), at=after(at))
    assert len(counted(engine, NOW, after(30))) == 4
    assert [one.increment for one in counted(engine, NOW, after(30), cluster=cluster)] == [60.0]
    assert len(counted(engine, NOW, after(30), metrics=["prompt_tokens"])) == 1
    assert len(counted(engine, NOW, after(30), endpoints=["10.0.0.8:8000"])) == 1


def test_other_bounds_are_another_series_and_are_summed_on_the_common_ones(engine: Engine, source_id: int) -> None:
    for at, counts, total_s in ((0, (0, 0, 0), 0.0), (30, (2, 5, 6), 3.0)):
        write(engine, source_id, Batch(histograms=(histogram(at, counts, total_s, started=0),)), at=after(at))
    # Another version starts at 60, with a bound more.
    finer = histogram(90, (1, 3, 4, 4), 2.0, bounds=(0.05, 0.1, 1.0), started=60)
    write(engine, source_id, Batch(histograms=(finer,)), at=after(90))
    found = counted_histograms(engine, ["ttft_s"], NOW, after(90))
    assert sorted(one.histogram.bounds for one in found) == [(0.05, 0.1, 1.0), (0.1, 1.0)]
    [total] = merged(found, by=lambda one: one.subject).values()
    assert total.histogram == Histogram(bounds=(0.1, 1.0), counts=(5.0, 4.0, 1.0), total=5.0)
    assert total.dropped_bounds == (0.05,)
    assert total.note is not None
    assert len(rows(engine, "histogram_bounds")) == 2


def test_a_histogram_is_shared_out_by_time_at_the_edges_of_a_window(engine: Engine, source_id: int) -> None:
    for at, counts, total in ((0, (0, 0, 0), 0.0), (60, (4, 8, 8), 3.0), (120, (4, 8, 10), 23.0)):
        write(engine, source_id, Batch(histograms=(histogram(at, counts, total),)), at=after(at))
    [found] = counted_histograms(engine, ["ttft_s"], after(30), after(90))
    assert found.histogram == Histogram(bounds=(0.1, 1.0), counts=(2.0, 2.0, 1.0), total=11.5)
    assert found.covered_s == 60.0


def test_a_torn_scrape_is_made_good_by_the_next(engine: Engine, source_id: int) -> None:
    # The second bucket was read before a value came in, the count after it.
    for at, counts in ((0, (0, 0, 0)), (30, (3, 2, 3)), (60, (3, 4, 5))):
        write(engine, source_id, Batch(histograms=(histogram(at, counts, 1.0 + at),)), at=after(at))
    [found] = counted_histograms(engine, ["ttft_s"], NOW, after(60))
    assert found.histogram.counts == (3.0, 1.0, 1.0)


def test_writing_twice_changes_nothing(engine: Engine, source_id: int) -> None:
    for at in (0.0, 30.0):
        told = Batch(
            gauges=(gauge(at, "requests_running", at), gauge(at, "engine_asleep", 0.0, "awake")),
            counters=(counter(at, at, started=-60), counter(at, 2 * at, "requests_finished", label="stop")),
            histograms=(histogram(at, (at, at, at), at, started=-60),),
        )
        write(engine, source_id, told, at=after(at))
        before = everything(engine)
        write(engine, source_id, told, at=after(at))
        assert everything(engine) == before


def test_many_series_go_in_one_batch(engine: Engine, source_id: int) -> None:
    subjects = [who(f"10.0.{number // 250}.{number % 250}:8000") for number in range(1100)]
    for at in (0.0, 30.0):
        told = Batch(counters=tuple(counter(at, at, subject=one) for one in subjects))
        write(engine, source_id, told, at=after(at))
    assert increment(engine, 0, 30) == 1100 * 30.0


steps = st.lists(st.tuples(st.integers(1, 120), st.integers(0, 40), st.booleans()), min_size=1, max_size=15)


@given(steps=steps, cuts=st.lists(st.integers(-100, 2000), max_size=6), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_what_was_counted_comes_back_over_any_windows_that_lie_end_to_end(
    shared_engine: Engine, steps: list[tuple[int, int, bool]], cuts: list[int], seed: int
) -> None:
    """Each step is (seconds, tokens, whether the engine is started anew before it)."""
    source_id, cluster = source_of_new_cluster(shared_engine)
    dice = random.Random(seed)
    at, value, started, truth = 0, 0, 0, 0
    readings = [counter(0, 0.0, started=0)]
    for seconds, tokens, is_restarted in steps:
        if is_restarted:
            at += 2
            value, started = 0, at
        at, value, truth = at + seconds, value + tokens, truth + tokens
        readings.append(counter(at, float(value), started=started))
    # In batches of any size, some readings twice, some late: all but the last of each may come again.
    sent = [
        one for number, one in enumerate(readings) for one in readings[max(0, number - dice.randint(0, 2)) : number + 1]
    ]
    while sent:
        size = dice.randint(1, 4)
        write(shared_engine, source_id, Batch(counters=tuple(sent[:size])))
        sent = sent[size:]
    edges = sorted({-1000, 5000, *cuts})
    parts = [
        sum(one.increment for one in counted(shared_engine, after(one), after(other), cluster=cluster))
        for one, other in pairwise(edges)
    ]
    assert sum(parts) == pytest.approx(truth)
    [whole] = counted(shared_engine, after(-1000), after(5000), cluster=cluster)
    assert whole.increment == truth
    restarts = sum(is_restarted for _, _, is_restarted in steps)
    assert len(count_resets(shared_engine, after(-1000), after(5000), cluster=cluster)) == restarts


@given(
    scrapes=st.lists(st.lists(st.floats(0.001, 5.0), max_size=30), min_size=1, max_size=6),
    window=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    ratio=st.sampled_from([0.5, 0.9, 0.95, 0.99]),
)
@settings(max_examples=60, deadline=None)
def test_percentiles_are_those_of_the_values_within_a_bucket(
    shared_engine: Engine, scrapes: list[list[float]], window: tuple[int, int], ratio: float
) -> None:
    source_id, cluster = source_of_new_cluster(shared_engine)
    bounds = (0.01, 0.1, 0.5, 1.0, 2.5)
    seen: list[float] = []
    write(shared_engine, source_id, Batch(histograms=(histogram(0, (0,) * 6, 0.0, bounds=bounds),)))
    for number, values in enumerate(scrapes):
        seen += values
        counts = [float(sum(value <= bound for value in seen)) for bound in bounds]
        told = histogram(30.0 * (number + 1), (*counts, float(len(seen))), sum(seen), bounds=bounds)
        write(shared_engine, source_id, Batch(histograms=(told,)))
    first, last = sorted(min(one, len(scrapes)) for one in window)
    true = sorted(value for values in scrapes[first:last] for value in values)
    found = counted_histograms(shared_engine, ["ttft_s"], after(30 * first), after(30 * last), cluster=cluster)
    if first == last:
        assert found == ()
        return
    [one] = found
    assert one.histogram.count == len(true)
    assert one.histogram.total == pytest.approx(sum(true))
    percentile = one.histogram.percentile(ratio)
    if not true:
        assert percentile is None
        return
    assert percentile is not None
    exact = float(np.quantile(true, ratio, method="inverted_cdf"))
    assert percentile.low < exact <= (percentile.high or np.inf)
    if percentile.high is not None:
        assert abs(percentile.value - exact) <= percentile.high - percentile.low


def test_two_roads_with_different_bounds_count_once(engine: Engine, source_id: int) -> None:
    for at in range(0, 91, 30):
        fine = histogram(at, (at, at, 2 * at, 3 * at), float(at), bounds=(0.05, 0.1, 1.0))
        coarse = histogram(at + 5, (at, 2 * at, 3 * at), float(at))
        write(engine, source_id, Batch(histograms=(fine,)), at=after(at))
        write(engine, source_id, Batch(histograms=(coarse,)), at=after(at + 5))
    found = counted_histograms(engine, ["ttft_s"], NOW, after(90))
    assert sum(one.histogram.count for one in found) == 270.0
    assert [one.histogram.bounds for one in found] == [(0.05, 0.1, 1.0)]
    # The road that goes on counts where the other has ended: 5 s of 30.
    ended = counted_histograms(engine, ["ttft_s"], NOW, after(95))
    assert sum(one.histogram.count for one in ended) == pytest.approx(270 + 15)
    assert sum(one.covered_s for one in ended) == 95
