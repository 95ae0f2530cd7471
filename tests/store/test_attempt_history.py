"""Attempts by equal parts of a span: counted as they were written, each in its part."""

from datetime import datetime, timedelta

from sqlalchemy import Engine

from planner.readings import Batch
from store.attempt_history import attempt_history
from store.queries import source_health
from store.writes import register_source, write_batch, write_failure
from tests.store.batches import NOW

KEY = ("default", "dcgm", "a")
END = NOW + timedelta(hours=4)


def ok(engine: Engine, source_id: int, at: datetime, target: str = "a") -> None:
    write_batch(engine, source_id=source_id, target=target, started_at=at, seconds=0.1, batch=Batch())


def fail(engine: Engine, source_id: int, at: datetime, target: str = "a") -> None:
    write_failure(
        engine,
        source_id=source_id,
        target=target,
        started_at=at,
        seconds=0.1,
        error_kind="Unreachable",
        message="no answer",
        permanent=False,
    )


def test_each_attempt_counts_in_its_part(engine: Engine, source_id: int) -> None:
    for minutes in (-1, 0, 59, 60, 239, 240):  # the first and the last lie outside
        ok(engine, source_id, NOW + timedelta(minutes=minutes))
    for minutes in (30, 130):
        fail(engine, source_id, NOW + timedelta(minutes=minutes))
    found = attempt_history(engine, [KEY], NOW, END, parts=4)
    assert [(part.ok, part.failed) for part in found[KEY]] == [(2, 1), (1, 0), (0, 1), (1, 0)]
    assert [part.start for part in found[KEY]] == [NOW + timedelta(hours=hour) for hour in range(4)]


def test_targets_and_sources_of_one_name_are_told_apart(engine: Engine, source_id: int) -> None:
    west = register_source(engine, cluster="west", name="dcgm", kind="dcgm", interval_s=30, now=NOW)
    ok(engine, source_id, NOW)
    fail(engine, west, NOW)
    fail(engine, source_id, NOW, target="b")
    keys = [KEY, ("west", "dcgm", "a"), ("default", "dcgm", "b"), ("default", "dcgm", "c"), ("nowhere", "dcgm", "a")]
    found = attempt_history(engine, keys, NOW, END, parts=1)
    assert {key: (one.ok, one.failed) for key, (one,) in found.items()} == {
        keys[0]: (1, 0),
        keys[1]: (0, 1),
        keys[2]: (0, 1),
    }


def test_more_targets_than_one_statement_takes(engine: Engine, source_id: int) -> None:
    keys = [("default", "dcgm", f"t{number}") for number in range(450)]
    for number in (0, 199, 200, 449):
        ok(engine, source_id, NOW, target=f"t{number}")
    found = attempt_history(engine, keys, NOW, END, parts=48)
    assert sorted(found) == sorted(keys[number] for number in (0, 199, 200, 449))


def test_nothing_asked_is_nothing_told(engine: Engine) -> None:
    assert attempt_history(engine, [], NOW, END, parts=4) == {}


def test_a_failing_target_fails_since_the_first_of_its_failures_in_a_row(engine: Engine, source_id: int) -> None:
    fail(engine, source_id, NOW)
    ok(engine, source_id, NOW + timedelta(minutes=1))
    for minutes in (2, 3):
        fail(engine, source_id, NOW + timedelta(minutes=minutes))
    fail(engine, source_id, NOW + timedelta(minutes=5), target="never")
    failing, never = source_health(engine, END)
    assert (failing.failing_since, failing.consecutive_failures) == (NOW + timedelta(minutes=2), 2)
    assert (never.failing_since, never.consecutive_failures) == (NOW + timedelta(minutes=5), 1)
    ok(engine, source_id, NOW + timedelta(minutes=6), target="never")
    assert source_health(engine, END)[1].failing_since is None
