"""What is forgotten, and what never is."""

import pytest
from sqlalchemy import Engine

from planner.cluster_facts import ClusterState
from planner.readings import Batch, Gap
from store import retention
from store.queries import source_health, watermarks
from store.retention import Pruned, prune
from store.samples import to_ms
from store.serving_queries import counted
from store.writes import write_failure
from tests.store.batches import NOW, after, batch, everything, fact, gpu_uuid, pod, readings, rows, spans, write
from tests.store.serving_batches import counter, gauge, histogram, kubernetes_pod, node, server, spend, usage


def fail(engine: Engine, source_id: int, seconds: float) -> None:
    write_failure(
        engine,
        source_id=source_id,
        target="node-a",
        started_at=after(seconds),
        seconds=1.0,
        error_kind="Unreachable",
        message="refused",
        permanent=False,
    )


def test_old_samples_go_and_newer_ones_stay(engine: Engine, source_id: int) -> None:
    told = [one for step in range(10) for one in readings(after(60 * step), {"power_watts": float(step)})]
    write(engine, source_id, batch(readings=told))
    assert prune(engine, after(240)).samples == 4
    assert [row["power_watts"] for row in rows(engine, "sample")] == [4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("rows_per_transaction", [1, 3, 10])
def test_transactions_are_small_and_forget_the_same(
    engine: Engine, source_id: int, monkeypatch: pytest.MonkeyPatch, rows_per_transaction: int
) -> None:
    monkeypatch.setattr(retention, "_ROWS_PER_TRANSACTION", rows_per_transaction)
    for step in range(10):
        told = [one for number in (0, 1) for one in readings(after(60 * step), {"power_watts": 1.0}, number)]
        write(engine, source_id, batch(readings=told), at=after(60 * step))
    assert prune(engine, after(300)) == Pruned(samples=10, attempts=5, gaps=0, inventory=0)
    assert len(rows(engine, "sample")) == 10
    assert len(rows(engine, "collection_attempt")) == 5


def test_inventory_that_lasts_stays_however_old_it_is(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, 0, pods=[pod("a")]), fact(NOW, 1, instances=[(1, "1g.10gb")])))
    write(engine, source_id, batch(fact(after(60), 0, pods=[pod("b")])), at=after(60))
    assert prune(engine, after(86_400)).inventory == 1
    assert spans(engine, "pod_record", "name") == [("b", 60, None)]
    assert {row["gpu_uuid"] for row in rows(engine, "gpu_record")} == {gpu_uuid(0), gpu_uuid(1)}
    assert len(rows(engine, "instance_record")) == 1


def test_source_health_is_the_same_after_forgetting_everything(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(watermark=NOW), at=NOW)
    write(engine, source_id, batch(readings=readings(after(60), {"power_watts": 1.0})), at=after(60))
    for step in (120, 180):
        fail(engine, source_id, step)
    before = source_health(engine, after(200))
    assert before[0].consecutive_failures == 2
    assert prune(engine, after(86_400)).attempts == 2  # the older success and the older failure
    [after_pruning] = source_health(engine, after(200))
    assert (after_pruning.last_attempt_at, after_pruning.last_success_at, after_pruning.last_observed_at) == (
        after(180),
        after(60),
        after(60),
    )
    assert watermarks(engine, source_id) == {"node-a": NOW}


def test_old_gaps_go(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(gaps=[Gap(subject="old", metric=None, reason="r")]), at=NOW)
    write(engine, source_id, batch(gaps=[Gap(subject="new", metric=None, reason="r")]), at=after(600))
    assert prune(engine, after(300)).gaps == 1
    assert [row["subject"] for row in rows(engine, "source_gap")] == ["new"]


def test_forgetting_twice_forgets_nothing_more(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW), readings=readings(NOW, {"power_watts": 1.0})))
    prune(engine, after(60))
    assert prune(engine, after(60)) == Pruned(samples=0, attempts=0, gaps=0, inventory=0)


def tell_engine(engine: Engine, source_id: int, at: float, value: float) -> None:
    told = Batch(
        gauges=(gauge(at, "requests_running", 1.0), gauge(at, "requests_waiting_by_reason", 1.0, "capacity")),
        counters=(counter(at, value),),
        histograms=(histogram(at, (value, value, value), value),),
        servers=(server(at),),
        spend=(spend(at, value),),
        usage=(usage(int(at // 3600), requests=1),),
        found=(("version", "0.33.0"),),
    )
    write(engine, source_id, told, at=after(at))


def test_what_engines_and_gateways_said_long_ago_goes_and_the_rest_stays(engine: Engine, source_id: int) -> None:
    for hour in range(5):
        tell_engine(engine, source_id, 3600.0 * hour, 10.0 * hour + 10)
    removed = prune(engine, after(2 * 3600 + 1))
    # Three moments of each gauge; two increments of the counter and of the histogram.
    assert (removed.serving, removed.usage) == (3 + 3 + 2 + 2, 2 + 2)
    assert [row["observed_at_ms"] for row in rows(engine, "serving_sample")] == [
        to_ms(after(3 * 3600)),
        to_ms(after(4 * 3600)),
    ]
    assert sum(one.increment for one in counted(engine, NOW, after(5 * 3600))) == 20.0
    assert [len(rows(engine, name)) for name in ("token_usage", "spend_hour", "server_record")] == [3, 2, 1]
    tell_engine(engine, source_id, 5 * 3600.0, 65.0)
    assert sum(one.increment for one in counted(engine, after(4 * 3600), after(5 * 3600))) == 15.0


def test_an_engine_that_is_gone_is_forgotten_wholly_and_begins_anew(engine: Engine, source_id: int) -> None:
    for at in (0.0, 60.0, 120.0):
        tell_engine(engine, source_id, at, 10.0 + at)
    write(
        engine, source_id, Batch(counters=(counter(130, 1.0), counter(140, 0.5)), servers=(server(140),)), at=after(140)
    )
    prune(engine, after(86_400))
    left = [
        name
        for name in everything(engine)
        if name.startswith(("serving", "counter", "histogram", "served", "server", "spend", "token", "source_found"))
        and name != "histogram_bounds"
        and rows(engine, name)
    ]
    assert left == []
    tell_engine(engine, source_id, 90_000.0, 500.0)
    assert counted(engine, NOW, after(90_000)) == ()


def test_small_transactions_forget_the_same_of_engines(
    engine: Engine, source_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_ROWS_PER_TRANSACTION", 2)
    for step in range(10):
        tell_engine(engine, source_id, 60.0 * step, 10.0 * step)
    assert prune(engine, after(300)).serving == 5 + 5 + 4 + 4
    assert len(rows(engine, "counter_increment")) == 5


def test_objects_of_kubernetes_that_ended_go(engine: Engine, source_id: int) -> None:
    for at, pods in ((0, (kubernetes_pod("a"), kubernetes_pod("b"))), (60, (kubernetes_pod("b"),))):
        state = ClusterState(observed_at=after(at), nodes=(node(),), pods=pods)
        write(engine, source_id, Batch(cluster_state=state), at=after(at))
    assert prune(engine, after(3600)).inventory == 1
    assert [row["name"] for row in rows(engine, "kubernetes_pod_record")] == ["b"]
    assert len(rows(engine, "node_record")) == 1
