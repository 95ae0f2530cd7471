"""Values over time: buckets hold what their samples said, and silence stays silence."""

from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from store.queries import device_history, node_activity
from store.writes import register_source
from tests.store.batches import NOW, after, batch, fact, readings, source_of_new_cluster, subject, write


def tell(engine: Engine, source_id: int, metric: str, values: dict[float, float], gi_id: int | None = None) -> None:
    told = [one for seconds, value in values.items() for one in readings(after(seconds), {metric: value}, gi_id=gi_id)]
    write(engine, source_id, batch(readings=told), at=after(max(values)))


def test_a_bucket_of_a_gauge_holds_the_mean(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, "power_watts", {0: 100.0, 30: 200.0, 60: 300.0, 90: 500.0})
    history = device_history(engine, subject(), ["power_watts"], NOW, after(119), max_points=2)
    assert (history.step_s, history.times) == (60, (NOW, after(60)))
    assert history.values["power_watts"] == (150.0, 400.0)


def test_a_counter_and_a_code_are_not_averaged(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, "energy_joules", {0: 10.0, 30: 30.0})
    tell(engine, source_id, "xid_code", {0: 0.0, 30: 79.0})
    history = device_history(engine, subject(), ["energy_joules", "xid_code"], NOW, after(59), max_points=1)
    assert history.values == {"energy_joules": (30.0,), "xid_code": (79.0,)}


def test_silence_is_none_and_a_steady_series_has_no_holes(engine: Engine, source_id: int) -> None:
    # Every 30 s with some jitter, silent from minute 10 to 20.
    moments = [30 * step + (step % 3) for step in range(120) if not 600 <= 30 * step < 1200]
    tell(engine, source_id, "power_watts", dict.fromkeys(moments, 1.0))
    history = device_history(engine, subject(), ["power_watts"], NOW, after(3599), max_points=10_000)
    silent = [at for at, value in zip(history.times, history.values["power_watts"], strict=True) if value is None]
    assert history.step_s <= 65
    assert silent
    assert after(540) < min(silent)
    assert max(silent) < after(1200)
    assert len(silent) * history.step_s >= 500


def test_a_metric_that_is_absent_is_none_in_every_bucket(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, "power_watts", {0: 1.0})
    history = device_history(engine, subject(), ["power_watts", "sm_active_ratio"], NOW, after(60))
    assert set(history.values["sm_active_ratio"]) == {None}
    assert len(history.values["sm_active_ratio"]) == len(history.times)


def test_an_unknown_device_has_empty_buckets_and_an_unknown_metric_is_an_error(engine: Engine) -> None:
    history = device_history(engine, subject(7), ["power_watts"], NOW, after(60), max_points=6)
    assert set(history.values["power_watts"]) == {None}
    with pytest.raises(KeyError, match="made_up"):
        device_history(engine, subject(), ["made_up"], NOW, after(60))


def test_buckets_do_not_shift_with_the_window(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, "power_watts", {30 * step: float(step) for step in range(100)})
    one = device_history(engine, subject(), ["power_watts"], after(600), after(2400), max_points=10)
    other = device_history(engine, subject(), ["power_watts"], after(637), after(2437), max_points=10)
    assert one.step_s == other.step_s
    shared = dict(zip(one.times[1:-1], one.values["power_watts"][1:-1], strict=True))
    moved = dict(zip(other.times[1:-1], other.values["power_watts"][1:-1], strict=True))
    assert all(moved[at] == value for at, value in shared.items() if at in moved)


def test_an_instance_has_its_own_history(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, "sm_active_ratio", {0: 0.1})
    tell(engine, source_id, "sm_active_ratio", {0: 0.9}, gi_id=3)
    history = device_history(engine, subject(gi_id=3), ["sm_active_ratio"], NOW, after(1))
    assert history.values["sm_active_ratio"][0] == 0.9


def test_a_gpu_in_two_clusters_can_be_asked_for_in_one(engine: Engine, source_id: int) -> None:
    other = register_source(engine, cluster="other", name="dcgm", kind="dcgm", interval_s=30, now=NOW)
    tell(engine, source_id, "power_watts", {0: 100.0})
    tell(engine, other, "power_watts", {0: 300.0})
    in_one = device_history(engine, subject(), ["power_watts"], NOW, after(1), cluster="other")
    assert in_one.values["power_watts"] == (300.0, None)


@given(
    values=st.dictionaries(st.integers(0, 3600), st.floats(0, 1e6), min_size=1, max_size=60),
    max_points=st.integers(1, 500),
)
@settings(max_examples=40, deadline=None)
def test_every_sample_is_in_the_bucket_of_its_time(
    shared_engine: Engine, values: dict[int, float], max_points: int
) -> None:
    source_id, cluster = source_of_new_cluster(shared_engine)
    tell(shared_engine, source_id, "power_watts", dict(values))
    history = device_history(
        shared_engine, subject(), ["power_watts"], NOW, after(3600), max_points=max_points, cluster=cluster
    )
    assert len(history.times) <= max_points + 2
    for start, value in zip(history.times, history.values["power_watts"], strict=True):
        inside = [
            told for seconds, told in values.items() if 0 <= (after(seconds) - start).total_seconds() < history.step_s
        ]
        assert value == (pytest.approx(fmean(inside), abs=1e-6) if inside else None)


def test_activity_is_told_per_device_by_the_best_metric_it_has(engine: Engine, source_id: int) -> None:
    facts = [fact(NOW, 0, index=1), fact(NOW, 1, index=0, node="node-b"), fact(NOW, 2, index=0)]
    told = [
        *readings(NOW, {"sm_active_ratio": 0.2, "gpu_busy_ratio": 0.9}, 0),
        *readings(NOW, {"gpu_busy_ratio": 0.7}, 1),
        *readings(NOW, {"power_watts": 50.0}, 2),
    ]
    write(engine, source_id, batch(*facts, readings=told))
    grid = node_activity(engine, NOW, after(10), max_points=1)
    assert [(one.node, one.gpu_index, one.values[0]) for one in grid.devices] == [
        ("node-a", 0, None),
        ("node-a", 1, 0.2),
        ("node-b", 0, 0.7),
    ]
    assert {len(one.values) for one in grid.devices} == {len(grid.times)}


def test_a_cut_gpu_is_shown_by_its_instances(engine: Engine, source_id: int) -> None:
    cut = fact(NOW, 0, instances=[(1, "1g.10gb"), (2, "2g.20gb")])
    told = [
        *readings(NOW, {"power_watts": 100.0}),
        *readings(NOW, {"gr_engine_active_ratio": 0.4}, gi_id=1),
        *readings(NOW, {"gr_engine_active_ratio": 0.6}, gi_id=2),
    ]
    write(engine, source_id, batch(cut, readings=told))
    grid = node_activity(engine, NOW, after(10), max_points=1)
    assert [(one.subject.gi_id, one.profile, one.values[0]) for one in grid.devices] == [
        (1, "1g.10gb", 0.4),
        (2, "2g.20gb", 0.6),
    ]


def test_activity_can_be_narrowed_to_nodes_and_clusters(engine: Engine, source_id: int) -> None:
    other = register_source(engine, cluster="other", name="dcgm", kind="dcgm", interval_s=30, now=NOW)
    for one in (source_id, other):
        told = [*readings(NOW, {"gpu_busy_ratio": 0.5}, 0), *readings(NOW, {"gpu_busy_ratio": 0.5}, 1)]
        write(engine, one, batch(fact(NOW, 0), fact(NOW, 1, node="node-b"), readings=told))
    by_node = node_activity(engine, NOW, after(1), nodes=["node-b"])
    assert [(one.cluster, one.node) for one in by_node.devices] == [("default", "node-b"), ("other", "node-b")]
    by_cluster = node_activity(engine, NOW, after(1), cluster="other")
    assert {one.cluster for one in by_cluster.devices} == {"other"}
