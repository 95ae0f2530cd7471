"""What is written once is there, what is written twice is there once."""

import itertools
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from planner.cluster_facts import ClusterState
from planner.metrics import METRICS
from planner.readings import Batch, ComputeInstanceFact, Gap, GpuFact, InstanceFact, ProcessFact, Reading
from planner.token_usage import UsageSpan
from planner.units import NodeName
from store.queries import watermarks
from store.samples import from_ms, stored_readings, to_ms
from store.writes import register_source, write_batch, write_failure
from tests.store.batches import (
    NOW,
    after,
    batch,
    everything,
    fact,
    gpu_uuid,
    pod,
    readings,
    rows,
    source_of_new_cluster,
    subject,
    write,
)
from tests.store.serving_batches import (
    claim,
    counter,
    gauge,
    histogram,
    kubernetes_pod,
    node,
    quota,
    server,
    spend,
    usage,
)

NAMES = [metric.name for metric in METRICS]


def test_registering_twice_is_one_source_with_the_newest_settings(engine: Engine) -> None:
    first = register_source(engine, cluster="a", name="main", kind="dcgm", interval_s=30, now=NOW)
    again = register_source(engine, cluster="a", name="main", kind="prometheus", interval_s=60, now=after(60))
    other = register_source(engine, cluster="b", name="main", kind="dcgm", interval_s=30, now=NOW)
    assert first == again != other
    [row] = rows(engine, "source", id=first)
    assert (row["kind"], row["interval_s"], row["created_at"]) == ("prometheus", 60, NOW)
    assert [row["name"] for row in rows(engine, "cluster")] == ["a", "b"]


def test_registering_an_older_source_again_still_names_it(engine: Engine) -> None:
    first = register_source(engine, cluster="a", name="one", kind="dcgm", interval_s=30, now=NOW)
    register_source(engine, cluster="a", name="two", kind="dcgm", interval_s=30, now=NOW)
    assert register_source(engine, cluster="a", name="one", kind="dcgm", interval_s=30, now=NOW) == first


def test_a_batch_leaves_one_row_per_device_and_moment(engine: Engine, source_id: int) -> None:
    told = (
        *readings(NOW, {"power_watts": 300.0, "gpu_busy_ratio": 0.5}),
        *readings(NOW, {"memory_used_bytes": 1e9}, gi_id=7),
        *readings(after(30), {"power_watts": 310.0}),
    )
    write(engine, source_id, batch(readings=told))
    samples = rows(engine, "sample")
    assert [(row["observed_at_ms"], row["power_watts"], row["gpu_busy_ratio"]) for row in samples] == [
        (to_ms(NOW), 300.0, 0.5),
        (to_ms(after(30)), 310.0, None),
        (to_ms(NOW), None, None),
    ]
    assert set(stored_readings(engine)) == set(told)


def test_a_value_told_again_replaces_and_an_untold_one_stays(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(readings=readings(NOW, {"power_watts": 300.0, "gpu_busy_ratio": 0.5})))
    write(engine, source_id, batch(readings=readings(NOW, {"power_watts": 301.0, "xid_code": 0.0})))
    [row] = rows(engine, "sample")
    assert (row["power_watts"], row["gpu_busy_ratio"], row["xid_code"]) == (301.0, 0.5, 0.0)


def test_zero_is_stored_as_zero_and_absence_as_null(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(readings=readings(NOW, {"gpu_busy_ratio": 0.0})))
    [row] = rows(engine, "sample")
    assert row["gpu_busy_ratio"] == 0.0
    assert row["sm_active_ratio"] is None


def test_the_same_gpu_in_two_clusters_is_two_devices(engine: Engine, source_id: int) -> None:
    other, _ = source_of_new_cluster(engine)
    write(engine, source_id, batch(readings=readings(NOW, {"power_watts": 1.0})))
    write(engine, other, batch(readings=readings(NOW, {"power_watts": 2.0})))
    assert [row["power_watts"] for row in rows(engine, "sample")] == [1.0, 2.0]


def test_a_metric_without_a_column_is_refused_before_anything_is_written(engine: Engine, source_id: int) -> None:
    with pytest.raises(ValueError, match=r"no column for \['made_up_ratio'\]"):
        write(engine, source_id, batch(fact(NOW), readings=readings(NOW, {"power_watts": 1.0, "made_up_ratio": 1.0})))
    assert rows(engine, "sample") == rows(engine, "gpu_record") == rows(engine, "collection_attempt") == []


def test_the_attempt_says_what_the_batch_held(engine: Engine, source_id: int) -> None:
    gap = Gap(subject="node-a", metric="sm_active_ratio", reason="profiling is off")
    told = batch(fact(NOW), readings=readings(after(-1), {"power_watts": 1.0}), gaps=[gap])
    write_batch(engine, source_id=source_id, target="t", started_at=NOW, seconds=0.25, batch=told)
    [row] = rows(engine, "collection_attempt")
    told_counts = {name: row[name] for name in ("target", "started_at", "seconds", "ok", "readings", "facts", "gaps")}
    assert told_counts == {
        "target": "t",
        "started_at": NOW,
        "seconds": 0.25,
        "ok": True,
        "readings": 1,
        "facts": 1,
        "gaps": 1,
    }
    assert (row["last_observed_at"], row["error"]) == (after(-1), None)


def test_a_failure_says_why_and_is_one_row_however_often_it_is_written(engine: Engine, source_id: int) -> None:
    for _ in range(2):
        write_failure(
            engine,
            source_id=source_id,
            target="t",
            started_at=NOW,
            seconds=5.0,
            error_kind="Unauthorized",
            message="401 from node-a",
            permanent=True,
        )
    [row] = rows(engine, "collection_attempt")
    assert (row["ok"], row["error_kind"], row["error"], row["permanent"], row["readings"]) == (
        False,
        "Unauthorized",
        "401 from node-a",
        True,
        0,
    )


def test_an_empty_batch_is_a_successful_attempt(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch())
    [row] = rows(engine, "collection_attempt")
    assert (row["ok"], row["readings"], row["last_observed_at"]) == (True, 0, None)


def test_a_gap_remembers_when_it_was_first_and_last_seen(engine: Engine, source_id: int) -> None:
    gap = Gap(subject="GPU-1", metric=None, reason="no pods")
    for seconds in (0, 60, -60, 30):
        write(engine, source_id, batch(gaps=[gap, gap]), at=after(seconds))
    [row] = rows(engine, "source_gap")
    assert (row["metric"], row["first_seen"], row["last_seen"]) == ("", after(-60), after(60))


def test_a_watermark_only_moves_forward(engine: Engine, source_id: int) -> None:
    for number, seconds in enumerate((0, 60, 30)):
        write(engine, source_id, batch(watermark=after(seconds)), at=after(number), target="p")
    write(engine, source_id, batch(), at=after(9), target="p")
    assert watermarks(engine, source_id) == {"p": after(60)}
    assert watermarks(engine, source_id + 1) == {}


def full_batch(at: float) -> Batch:
    """One of everything that a source can tell."""
    when = after(at)
    cut = GpuFact(
        observed_at=when,
        gpu_uuid=gpu_uuid(0),
        node=NodeName("node-a"),
        index=0,
        model_name="NVIDIA H100 80GB HBM3",
        pci_bus_id=None,
        driver_version=None,
        mig_mode=None,
        instances=(
            InstanceFact(
                gi_id=1,
                profile="1g.10gb",
                compute_instances=(ComputeInstanceFact(ci_id=0, profile="1c.1g.10gb", mig_uuid="MIG-1"),),
            ),
        ),
        pods=(pod("a", 1),),
        processes=(ProcessFact(gi_id=1, pid=4711, kind="compute", name="python", memory_bytes=5),),
    )
    return Batch(
        readings=(*readings(when, {"power_watts": 1.0}), *readings(when, {"memory_used_bytes": 5.0}, gi_id=1)),
        facts=(cut, fact(when, 1)),
        gaps=(Gap(subject="x", metric=None, reason="y"),),
        gauges=(gauge(at, "requests_running", 1.0), gauge(at, "requests_waiting_by_reason", 1.0, "capacity")),
        counters=(counter(at, 100 - at, started=at - 20), counter(at, at, "prompt_tokens")),
        histograms=(histogram(at, (100 - at,) * 3, 1.0, started=at - 20),),
        servers=(server(at),),
        cluster_state=ClusterState(
            observed_at=when,
            nodes=(node(),),
            pods=(kubernetes_pod(),),
            quotas=(quota(),),
            claimed_devices=(claim(),),
        ),
        usage=(usage(0, requests=1),),
        usage_spans=(UsageSpan(start=NOW, end=after(3600)),),
        spend=(spend(at, at, started=-60),),
        found=(("version", "4.8.2"),),
        nodes_complete=frozenset({NodeName("node-a")}),
        watermark=when,
    )


def test_writing_a_full_batch_twice_changes_nothing(engine: Engine, source_id: int) -> None:
    assert all(getattr(full_batch(0), field.name) for field in fields(Batch)), "a source can tell more than this"
    for at in (0.0, 30.0):  # the second time, counters have begun anew
        told = full_batch(at)
        write(engine, source_id, told, at=after(at))
        before = everything(engine)
        write(engine, source_id, told, at=after(at))
        assert everything(engine) == before
    told_otherwise = ("scenario", "memory_run", "source_diagnosis", "rolled_up")
    empty = [name for name, rows in before.items() if not rows and name not in told_otherwise]
    assert empty == [], "every table that is collected took part"
    counts = [(row["readings"], row["facts"]) for row in before["collection_attempt"]]
    assert counts == [(2 + 2 + 2 + 1 + 1 + 1, 2 + 1 + 4)] * 2


def test_more_gpus_than_one_statement_can_name_go_in_one_batch(engine: Engine, source_id: int) -> None:
    numbers = range(1100)
    told = batch(
        *(fact(NOW, number) for number in numbers),
        readings=[one for number in numbers for one in readings(NOW, {"power_watts": float(number)}, number)],
    )
    write(engine, source_id, told)
    assert len(rows(engine, "gpu_record")) == len(rows(engine, "sample")) == 1100


moments = st.integers(0, 10_000_000).map(lambda ms: from_ms(to_ms(NOW) + ms))
subjects = st.builds(subject, st.integers(0, 3), st.sampled_from([None, 0, 1, 13]))
finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def told_readings(draw: st.DrawFn) -> tuple[Reading, ...]:
    return tuple(
        draw(
            st.lists(
                st.builds(Reading, subject=subjects, metric=st.sampled_from(NAMES), value=finite, observed_at=moments),
                unique_by=lambda one: (one.subject, one.metric, one.observed_at),
                max_size=30,
            )
        )
    )


def in_order(told: tuple[Reading, ...] | list[Reading]) -> list[Reading]:
    return sorted(told, key=lambda one: (one.subject.gpu_uuid, one.subject.gi_id or -1, one.observed_at, one.metric))


@given(told=told_readings())
@settings(max_examples=60, deadline=None)
def test_readings_come_back_as_they_went_in(shared_engine: Engine, told: tuple[Reading, ...]) -> None:
    source_id, cluster = source_of_new_cluster(shared_engine)
    write(shared_engine, source_id, batch(readings=told))
    assert in_order(list(stored_readings(shared_engine, cluster=cluster))) == in_order(told)


@given(told=told_readings(), cut=st.integers(0, 30), overlap=st.integers(0, 10))
@settings(max_examples=60, deadline=None)
def test_the_order_of_two_batches_does_not_matter(
    shared_engine: Engine, told: tuple[Reading, ...], cut: int, overlap: int
) -> None:
    first, second = batch(readings=told[: cut + overlap]), batch(readings=told[cut:])
    stored = []
    for one, other in itertools.permutations((first, second)):
        source_id, cluster = source_of_new_cluster(shared_engine)
        write(shared_engine, source_id, one)
        write(shared_engine, source_id, other, at=after(1))
        stored.append(list(stored_readings(shared_engine, cluster=cluster)))
    assert stored[0] == stored[1]


@given(told=told_readings())
@settings(max_examples=30, deadline=None)
def test_readings_are_stored_once_however_often_they_are_told(shared_engine: Engine, told: tuple[Reading, ...]) -> None:
    source_id, cluster = source_of_new_cluster(shared_engine)
    one: Batch = batch(readings=told)
    for number in range(2):
        write(shared_engine, source_id, one, at=after(number))
    assert len(list(stored_readings(shared_engine, cluster=cluster))) == len(told)


def test_stored_readings_can_be_narrowed(engine: Engine, source_id: int) -> None:
    for seconds in (0, 30, 60):
        write(engine, source_id, batch(readings=readings(after(seconds), {"power_watts": float(seconds)})))
    assert [one.value for one in stored_readings(engine, start=after(30), end=after(60))] == [30.0]
    assert list(stored_readings(engine, cluster="nowhere")) == []
