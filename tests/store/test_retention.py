"""What is forgotten, and what never is."""

import pytest
from sqlalchemy import Engine

from planner.readings import Gap
from store import retention
from store.queries import source_health, watermarks
from store.retention import Pruned, prune
from store.writes import write_failure
from tests.store.batches import NOW, after, batch, fact, gpu_uuid, pod, readings, rows, spans, write


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
