"""The doctor beside the collection: it looks at attempts that were made anyway, seldom, and never gets in the way."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from collectors.errors import BadPayload, CollectorError, Unauthorized, Unreachable
from collectors.runner import run_once
from collectors.source import Attempt
from gpufleet.examinations import EVERY, Examinations
from planner.diagnosis import Diagnosis, Outcome
from planner.readings import Batch, Gap
from store.database import open_engine
from store.diagnoses import kept_diagnoses
from store.schema import migrate

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
GAP = Gap(subject="node-a:9400", metric="power_watts", reason="DCGM_FI_DEV_POWER_USAGE is not in this exporter's list")
WELL = Attempt(target="node-a:9400", started_at=NOW, seconds=0.1, batch=Batch(found=(("version", "4.8.2"),)))


class Answers:
    """A collector that gives these attempts, one per collection."""

    source, kind, cluster, interval_s = "nodes", "dcgm", "default", 30.0

    def __init__(self, *attempts: Attempt) -> None:
        self.attempts = list(attempts)
        self.collections = 0

    def collect(self, now: datetime, watermarks: Mapping[str, datetime]) -> Iterator[Attempt]:
        self.collections += 1
        yield self.attempts.pop(0)

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = open_engine(f"sqlite:///{tmp_path / 'gpufleet.db'}")
    migrate(opened)
    yield opened
    opened.dispose()


def collect(engine: Engine, examinations: Examinations, *attempts: Attempt) -> list[Diagnosis]:
    """The newest diagnosis after each of these attempts."""
    collector, found = Answers(*attempts), []
    for attempt in attempts:
        run_once(engine, collector, attempt.started_at, written=examinations.look)
        found += kept_diagnoses(engine).diagnoses
    assert collector.collections == len(attempts)  # no request but those of the collection
    return found


def after(attempt: Attempt, seconds: float, *gaps: Gap, error: CollectorError | None = None) -> Attempt:
    return replace(
        attempt,
        started_at=NOW + timedelta(seconds=seconds),
        batch=None if error else replace(attempt.batch or Batch(), gaps=gaps),
        error=error,
    )


def test_a_target_is_diagnosed_at_its_first_attempt(engine: Engine) -> None:
    [found] = collect(engine, Examinations(engine), WELL)
    assert (found.cluster, found.source, found.kind, found.target) == ("default", "nodes", "dcgm", "node-a:9400")
    assert (found.taken_at, found.version, found.outcome) == (NOW, "4.8.2", Outcome.OK)


def test_what_does_not_change_is_looked_at_once_an_hour(engine: Engine) -> None:
    attempts = [after(WELL, 30), after(WELL, EVERY.total_seconds() - 1), after(WELL, EVERY.total_seconds())]
    found = collect(engine, Examinations(engine), WELL, *attempts)
    assert [one.taken_at for one in found] == [NOW, NOW, NOW, NOW + EVERY]


def test_a_failure_and_its_end_are_told_at_once(engine: Engine) -> None:
    gone = after(WELL, 30, error=Unreachable("no answer within 10 s", source="nodes"))
    still = after(WELL, 60, error=Unreachable("no answer within 12 s", source="nodes"))
    found = collect(engine, Examinations(engine), WELL, gone, still, after(WELL, 90))
    assert [one.outcome for one in found] == [Outcome.OK, Outcome.FAILED, Outcome.FAILED, Outcome.OK]
    assert found[2].taken_at == found[1].taken_at  # other numbers in the same sentence are no news


def test_another_kind_of_failure_is_told_at_once(engine: Engine) -> None:
    errors = [Unreachable("no answer", source="nodes"), Unauthorized("401", source="nodes")]
    attempts = [after(WELL, 30 * number, error=error) for number, error in enumerate(errors)]
    found = collect(engine, Examinations(engine), *attempts)
    assert [one.findings[-1].text for one in found] == ["no answer", "401"]


def test_a_new_gap_is_told_at_once_with_its_cost_and_fix(engine: Engine) -> None:
    gap = replace(GAP, reason="DCGM_FI_DEV_POWER_USAGE is not in this exporter's counter list")
    found = collect(engine, Examinations(engine), WELL, after(WELL, 30, gap))
    lacking = found[1].findings[-1]
    assert (lacking.metric, lacking.reason) == ("power_watts", gap.reason)
    assert lacking.cost == "Power is not shown, and cost by energy not counted."
    assert "DCGM_FI_DEV_POWER_USAGE" in (lacking.fix or "")


def test_a_clock_that_is_set_back_brings_a_new_look(engine: Engine) -> None:
    examinations = Examinations(engine)
    collect(engine, examinations, after(WELL, 3600))
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM source_diagnosis"))
    assert [one.taken_at for one in collect(engine, examinations, WELL)] == [NOW]


def test_a_doctor_that_fails_is_logged_and_the_collection_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> Diagnosis:
        raise ZeroDivisionError("the doctor is ill")

    monkeypatch.setattr("gpufleet.examinations.diagnosis_from", broken)
    with caplog.at_level(logging.ERROR, logger="gpufleet.examinations"):
        [outcome] = run_once(engine, Answers(WELL), NOW, written=Examinations(engine).look)
    assert outcome.ok
    assert "nodes node-a:9400: no diagnosis was possible" in caplog.text


def test_a_diagnosis_that_could_not_be_written_is_tried_again(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    examinations = Examinations(engine)
    with caplog.at_level(logging.ERROR, logger="gpufleet.examinations"):
        examinations.look(Answers(), WELL)  # its source is not in the store yet
    assert "the diagnosis was not written" in caplog.text
    assert len(collect(engine, examinations, after(WELL, 1))) == 1


@pytest.mark.parametrize(
    ("kind", "error", "fix"),
    [
        ("langfuse", Unauthorized("401", source="x"), "secret_key_file"),
        ("litellm", BadPayload("other metrics", source="x"), 'callbacks: ["prometheus"]'),
        ("nvml", Unreachable("NVML does not answer", source="x"), "nvidia-smi"),
        ("kubernetes", Unauthorized("401", source="x"), "kubeconfig"),
        ("serving", Unreachable("no answer", source="x"), "curl -sv URL"),
    ],
)
def test_every_kind_of_source_says_what_to_do_about_its_errors(
    engine: Engine, kind: str, error: CollectorError, fix: str
) -> None:
    collector = Answers(after(WELL, 0, error=error))
    collector.kind = kind
    run_once(engine, collector, NOW, written=Examinations(engine).look)
    [found] = kept_diagnoses(engine).diagnoses
    assert fix in (found.findings[-1].fix or "")
