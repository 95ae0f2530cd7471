"""What pages ask about sources: how they do, what is missing, whether anything is new."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event

from planner.readings import Gap
from store.database import open_engine
from store.fleet_snapshot import take_snapshot
from store.queries import data_version, device_history, last_observed_at, node_activity, open_gaps, source_health
from store.writes import register_source, write_batch, write_failure
from tests.store.batches import NOW, after, batch, fact, pod, readings, rows, subject, write


def fail(engine: Engine, source_id: int, seconds: float, target: str = "node-a") -> None:
    write_failure(
        engine,
        source_id=source_id,
        target=target,
        started_at=after(seconds),
        seconds=5.0,
        error_kind="Unreachable",
        message="refused",
        permanent=False,
    )


def test_an_empty_store_answers_everything_with_nothing(engine: Engine) -> None:
    assert source_health(engine, NOW) == ()
    assert open_gaps(engine) == ()
    assert last_observed_at(engine) is None
    assert data_version(engine) == "0"


def test_health_tells_of_the_last_attempt_the_last_success_and_the_age(engine: Engine, source_id: int) -> None:
    told = batch(readings=readings(after(-2), {"power_watts": 1.0}), gaps=[Gap(subject="s", metric=None, reason="r")])
    write(engine, source_id, told, at=NOW)
    fail(engine, source_id, 30)
    fail(engine, source_id, 60)
    [health] = source_health(engine, after(100))
    assert (health.cluster, health.source, health.kind, health.target) == ("default", "dcgm", "dcgm", "node-a")
    assert (health.last_attempt_at, health.last_success_at, health.last_observed_at) == (after(60), NOW, after(-2))
    assert (health.age_s, health.seconds, health.interval_s, health.readings) == (102, 5.0, 30, 0)
    assert (health.error_kind, health.error, health.permanent) == ("Unreachable", "refused", False)
    assert (health.consecutive_failures, health.open_gaps, health.is_ok) == (2, 1, False)


def test_a_target_that_is_read_less_often_than_its_source_says_so(engine: Engine, source_id: int) -> None:
    write_batch(
        engine, source_id=source_id, target="days", started_at=NOW, seconds=0.1, batch=batch(), interval_s=3600.0
    )
    write(engine, source_id, batch(), at=NOW)
    assert {one.target: one.interval_s for one in source_health(engine, after(60))} == {"days": 3600.0, "node-a": 30.0}
    write_failure(
        engine,
        source_id=source_id,
        target="days",
        started_at=after(90),
        seconds=0.1,
        error_kind="Unreachable",
        message="refused",
        permanent=False,
        interval_s=7200.0,
    )
    assert {one.target: one.interval_s for one in source_health(engine, after(99))} == {"days": 7200.0, "node-a": 30.0}


def test_a_success_ends_the_row_of_failures(engine: Engine, source_id: int) -> None:
    fail(engine, source_id, 0)
    write(engine, source_id, batch(), at=after(30))
    [health] = source_health(engine, after(60))
    assert (health.consecutive_failures, health.error, health.is_ok) == (0, None, True)
    assert (health.last_observed_at, health.age_s) == (None, None)


def test_a_target_that_never_succeeded_counts_all_its_failures(engine: Engine, source_id: int) -> None:
    for step in range(3):
        fail(engine, source_id, 30 * step)
    [health] = source_health(engine, after(90))
    assert (health.consecutive_failures, health.last_success_at, health.open_gaps) == (3, None, 0)


def test_targets_are_counted_apart(engine: Engine, source_id: int) -> None:
    gap = Gap(subject="s", metric=None, reason="r")
    write(engine, source_id, batch(gaps=[gap]), at=NOW, target="a")
    for step in (30, 60, 90):
        fail(engine, source_id, step, target="a")
    fail(engine, source_id, 30, target="b")
    write(engine, source_id, batch(), at=after(300), target="c")
    told = {one.target: (one.consecutive_failures, one.last_success_at) for one in source_health(engine, after(300))}
    assert told == {"a": (3, NOW), "b": (1, None), "c": (0, after(300))}
    assert {one.target: one.open_gaps for one in source_health(engine, after(300))} == {"a": 1, "b": 0, "c": 0}
    assert [one.target for one in open_gaps(engine)] == ["a"]


def test_every_target_of_every_source_of_every_cluster_is_told_in_order(engine: Engine, source_id: int) -> None:
    other = register_source(engine, cluster="another", name="prom", kind="prometheus", interval_s=60, now=NOW)
    register_source(engine, cluster="another", name="never tried", kind="dcgm", interval_s=60, now=NOW)
    for target in ("b", "c", "a"):
        write(engine, source_id, batch(), target=target)
    write(engine, other, batch(), target="query")
    assert [(one.cluster, one.source, one.target) for one in source_health(engine, NOW)] == [
        ("another", "prom", "query"),
        ("default", "dcgm", "a"),
        ("default", "dcgm", "b"),
        ("default", "dcgm", "c"),
    ]


def test_a_gap_is_open_while_the_last_success_still_had_it(engine: Engine, source_id: int) -> None:
    one = Gap(subject="GPU-1", metric="sm_active_ratio", reason="profiling is off")
    two = Gap(subject="GPU-2", metric=None, reason="no pods")
    write(engine, source_id, batch(gaps=[one, two]), at=NOW)
    write(engine, source_id, batch(gaps=[two]), at=after(30))
    fail(engine, source_id, 60)
    [gap] = open_gaps(engine)
    assert (gap.cluster, gap.source, gap.target, gap.subject, gap.metric) == (
        "default",
        "dcgm",
        "node-a",
        "GPU-2",
        None,
    )
    assert (gap.reason, gap.first_seen, gap.last_seen) == ("no pods", NOW, after(30))
    assert source_health(engine, after(60))[0].open_gaps == 1


def test_the_version_changes_with_every_attempt_and_only_then(engine: Engine, source_id: int) -> None:
    seen = [data_version(engine)]
    write(engine, source_id, batch(), at=NOW)
    seen.append(data_version(engine))
    fail(engine, source_id, 30)
    seen.append(data_version(engine))
    assert len(set(seen)) == 3
    write(engine, source_id, batch(), at=NOW)
    assert data_version(engine) == seen[-1]


def test_the_newest_reading_of_all_is_known(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(readings=readings(after(60), {"power_watts": 1.0})), at=after(61), target="b")
    write(engine, source_id, batch(readings=readings(NOW, {"power_watts": 1.0})), at=after(90), target="a")
    assert last_observed_at(engine) == after(60)


@contextmanager
def recorded_plans(engine: Engine) -> Iterator[list[str]]:
    """How SQLite answers each query that is asked in the block."""
    plans: list[str] = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        if statement.lstrip().startswith(("SELECT", "WITH")):
            found = connection.connection.cursor()
            found.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(f"{row[3]}" for row in found.fetchall())
            found.close()

    event.listen(engine, "before_cursor_execute", explain)
    yield plans
    event.remove(engine, "before_cursor_execute", explain)


@pytest.mark.parametrize("question", ["health", "gaps", "newest", "history", "activity", "snapshot", "write"])
def test_no_question_reads_all_samples_or_all_attempts(
    engine: Engine, source_id: int, path: Any, question: str
) -> None:
    told = batch(
        fact(NOW, instances=[(1, "1g.10gb")], pods=[pod("a", 1)]),
        readings=(*readings(NOW, {"power_watts": 1.0}), *readings(NOW, {"sm_active_ratio": 0.5}, gi_id=1)),
        complete=["node-a"],
    )
    write(engine, source_id, told)
    reader = open_engine(f"sqlite:///{path}", read_only=True)
    with recorded_plans(reader if question != "write" else engine) as plans:
        match question:
            case "health":
                source_health(reader, NOW)
            case "gaps":
                open_gaps(reader)
            case "newest":
                last_observed_at(reader)
                data_version(reader)
            case "history":
                device_history(reader, subject(), ["power_watts"], after(-3600), NOW)
            case "activity":
                node_activity(reader, after(-3600), NOW)
            case "snapshot":
                take_snapshot(reader, NOW)
            case "write":
                write(engine, source_id, told, at=after(30))
    reader.dispose()
    assert plans
    large = ("sample", "collection_attempt", "last", "older", "hop", "success")
    assert not any("AUTOMATIC" in plan for plan in plans), "an index is missing"
    scans = [plan for plan in plans if plan.startswith("SCAN") and plan.split()[1] in large]
    assert scans == []
    by_device = [plan for plan in plans if " sample " in f"{plan} "]
    assert all("PRIMARY KEY (device_id=?" in plan for plan in by_device)
    if question in ("history", "activity", "snapshot"):
        assert any("observed_at_ms" in plan for plan in by_device)


def test_a_reader_is_enough_for_every_question(engine: Engine, source_id: int, path: Any) -> None:
    write(engine, source_id, batch(fact(NOW), readings=readings(NOW, {"power_watts": 1.0})))
    reader = open_engine(f"sqlite:///{path}", read_only=True)
    assert len(source_health(reader, NOW)) == len(rows(reader, "gpu_record")) == 1
    assert len(list(take_snapshot(reader, NOW).gpus())) == 1
    reader.dispose()
