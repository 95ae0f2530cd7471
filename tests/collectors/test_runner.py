import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from collectors.errors import Unauthorized, Unreachable
from collectors.runner import run_once
from collectors.source import Attempt
from planner.readings import Batch, Gap, Reading, Subject
from planner.serving_readings import CounterReading, HistogramReading, ServingSubject
from planner.units import GpuUuid
from store.database import open_engine
from store.errors import StoreError, StoreFull
from store.queries import source_health, watermarks
from store.schema import migrate

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
GPU = Subject(gpu_uuid=GpuUuid("GPU-1"))


def batch(watermark: datetime | None = None, value: float = 60.0) -> Batch:
    reading = Reading(subject=GPU, metric="power_watts", value=value, observed_at=NOW)
    gap = Gap(subject="t", metric="sm_active_ratio", reason="not listed")
    return Batch(readings=(reading,), facts=(), gaps=(gap,), watermark=watermark)


class Scripted:
    """A collector that yields what it was given, and remembers what it was asked with."""

    source = "scripted"
    kind = "dcgm"
    cluster = "east"
    interval_s = 30.0

    def __init__(self, *attempts: Attempt) -> None:
        self.attempts = attempts
        self.asked: Mapping[str, datetime] = {}
        self.engine: Engine | None = None
        self.rows_when_asked_for_more: list[int] = []

    def collect(self, now: datetime, watermarks: Mapping[str, datetime]) -> Iterator[Attempt]:
        self.asked = watermarks
        for attempt in self.attempts:
            yield attempt
            if self.engine is not None:
                with self.engine.connect() as connection:
                    count = connection.execute(text("SELECT count(*) FROM collection_attempt")).scalar_one()
                    self.rows_when_asked_for_more.append(count)

    def close(self) -> None:
        pass


def attempt(target: str, *, seconds_later: int = 0, **outcome: Any) -> Attempt:
    started_at = NOW + timedelta(seconds=seconds_later)
    return Attempt(target=target, started_at=started_at, seconds=0.5, **outcome)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'gpufleet.db'}")
    migrate(engine)
    yield engine
    engine.dispose()


def test_every_attempt_is_written_and_told(engine: Engine) -> None:
    failure = Unauthorized("t2 refuses.", source="scripted")
    outcomes = run_once(engine, Scripted(attempt("t1", batch=batch()), attempt("t2", error=failure)), NOW)
    assert [(outcome.target, outcome.ok, outcome.readings, outcome.facts) for outcome in outcomes] == [
        ("t1", True, 1, 0),
        ("t2", False, 0, 0),
    ]
    assert [gap.metric for gap in outcomes[0].gaps] == ["sm_active_ratio"]
    assert outcomes[1].error is failure
    health = {one.target: one for one in source_health(engine, NOW)}
    assert health["t1"].error is None
    assert health["t2"].error is not None
    assert {one.cluster for one in health.values()} == {"east"}


def test_each_attempt_is_written_before_the_next_is_asked_for(engine: Engine) -> None:
    collector = Scripted(*(attempt(f"t{n}", batch=batch()) for n in range(3)))
    collector.engine = engine
    run_once(engine, collector, NOW)
    assert collector.rows_when_asked_for_more == [1, 2, 3]


def test_a_watermark_is_handed_to_the_next_run(engine: Engine) -> None:
    run_once(engine, Scripted(attempt("t1", batch=batch(watermark=NOW))), NOW)
    again = Scripted()
    run_once(engine, again, NOW)
    assert again.asked == {"t1": NOW}


def test_a_failure_leaves_the_watermark_where_it_was(engine: Engine) -> None:
    run_once(engine, Scripted(attempt("t1", batch=batch(watermark=NOW))), NOW)
    failed = Scripted(attempt("t1", seconds_later=30, error=Unreachable("gone", source="scripted")))
    run_once(engine, failed, NOW)
    assert watermarks(engine, 1) == {"t1": NOW}


def test_a_second_run_of_the_same_changes_no_sample(engine: Engine) -> None:
    for _ in range(2):
        run_once(engine, Scripted(attempt("t1", batch=batch())), NOW)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT power_watts FROM sample")).scalars().all() == [60.0]


def test_one_line_is_logged_per_attempt(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    failure = Unreachable("t2 cannot be connected to.", source="scripted")
    run_once(engine, Scripted(attempt("t1", batch=batch()), attempt("t2", error=failure)), NOW)
    lines = [record.getMessage() for record in caplog.records if record.name == "gpufleet.collectors"]
    assert lines == [
        "scripted t1: 1 readings, 0 facts, 1 gaps in 0.50 s",
        "scripted t2: Unreachable after 0.50 s: t2 cannot be connected to.",
    ]


def test_a_store_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'never-migrated.db'}")
    try:
        with pytest.raises(StoreError):
            run_once(engine, Scripted(attempt("t1", batch=batch())), NOW)
    finally:
        engine.dispose()


def test_what_cannot_be_stored_is_that_target_s_failure_and_costs_the_others_nothing(engine: Engine) -> None:
    who = ServingSubject(endpoint="t1", model="m")
    no_number = CounterReading(subject=who, metric="generation_tokens", value=float("nan"), observed_at=NOW)
    endless = HistogramReading(
        subject=who, metric="ttft_s", bounds=(), counts=(), count=float("inf"), total=1.0, observed_at=NOW
    )
    odd = [
        attempt("t1", batch=Batch(counters=(no_number,))),
        attempt("t2", batch=Batch(histograms=(endless,))),
        attempt("t3", batch=Batch(counters=(replace(no_number, metric="nobody_knows"),))),
    ]
    kept: list[str] = []
    outcomes = run_once(
        engine, Scripted(*odd, attempt("t4", batch=batch())), NOW, written=lambda _, one: kept.append(one.target)
    )
    assert [(one.target, one.ok, one.readings) for one in outcomes] == [
        ("t1", False, 0),
        ("t2", False, 0),
        ("t3", False, 0),
        ("t4", True, 1),
    ]
    assert kept == ["t1", "t2", "t3", "t4"]
    health = {one.target: one for one in source_health(engine, NOW)}
    assert "cannot be stored: OverflowError" in str(health["t2"].error)
    assert health["t4"].error is None


def test_a_collector_that_ends_with_an_exception_has_failed_and_keeps_what_it_had(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    words = "Bearer s3cret is too large"

    class Broken(Scripted):
        def collect(self, now: datetime, watermarks: Mapping[str, datetime]) -> Iterator[Attempt]:
            yield from super().collect(now, watermarks)
            raise OverflowError(words)

    outcomes = run_once(engine, Broken(attempt("t1", batch=batch())), NOW)
    assert [(one.target, one.ok) for one in outcomes] == [("t1", True), ("scripted", False)]
    health = {one.target: one for one in source_health(engine, NOW)}
    assert "ended by OverflowError" in str(health["scripted"].error)
    assert "s3cret" not in f"{health['scripted'].error} {caplog.text}"
    assert "raised at" in caplog.text


def test_a_store_that_fills_up_is_no_fault_of_the_target(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StoreFull("no space left for the store")

    monkeypatch.setattr("collectors.runner.write_batch", full)
    with pytest.raises(StoreFull):
        run_once(engine, Scripted(attempt("t1", batch=batch())), NOW)
    assert source_health(engine, NOW) == ()


def test_a_run_that_is_asked_to_stop_keeps_what_it_has_and_leaves_the_rest_for_the_next(engine: Engine) -> None:
    first, second = NOW + timedelta(hours=1), NOW + timedelta(hours=2)
    collector = Scripted(
        attempt("p", batch=batch(watermark=first)), attempt("p", seconds_later=1, batch=batch(watermark=second))
    )
    outcomes = run_once(engine, collector, NOW, stopping=lambda: True)
    assert len(outcomes) == 1
    run_once(engine, collector, NOW)
    assert collector.asked == {"p": first}
