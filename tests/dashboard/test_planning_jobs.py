"""Plans in threads: computed once, cancelled when nobody waits, bounded in number, honest about failures."""

import threading
import time
from collections.abc import Callable

import pytest

from dashboard import planning_jobs
from dashboard.planning_jobs import JobState, PlanningJobs
from dashboard.scenario import ScenarioInvalid
from planner.errors import PlanningCancelled

LONG_S = 20.0


def until_stopped(stopping: Callable[[], bool]) -> str:
    end = time.monotonic() + LONG_S
    while time.monotonic() < end:
        if stopping():
            raise PlanningCancelled("stopped")
        time.sleep(0.005)
    return "never stopped"


def test_an_answer_is_computed_once_for_all_who_ask() -> None:
    jobs: PlanningJobs[int] = PlanningJobs()
    calls: list[int] = []

    def make(stopping: Callable[[], bool]) -> int:
        calls.append(1)
        return 42

    first = jobs.ask("k", "anna", make)
    assert first.wait("anna", LONG_S)
    assert jobs.ask("k", "bert", make) is first
    assert (first.answer, first.state, len(calls)) == (42, JobState.DONE, 1)


def test_cancelling_stops_the_planner() -> None:
    jobs: PlanningJobs[str] = PlanningJobs()
    job = jobs.ask("k", "anna", until_stopped)
    assert not job.wait("anna", 0.05)
    job.leave("anna")
    assert job._ended.wait(LONG_S)
    assert job.state is JobState.CANCELLED
    assert job.answer is None


def test_one_who_leaves_does_not_cancel_for_the_others() -> None:
    jobs: PlanningJobs[str] = PlanningJobs()
    job = jobs.ask("k", "anna", until_stopped)
    jobs.ask("k", "bert", until_stopped)
    jobs.leave("k", "anna")
    assert not job.wait("bert", 0.1)
    jobs.leave("k", "bert")
    assert job._ended.wait(LONG_S)


def test_a_plan_nobody_asks_about_any_more_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning_jobs, "ABANDONED_AFTER_S", 0.1)
    job = PlanningJobs[str]().ask("k", "anna", until_stopped)
    assert job._ended.wait(LONG_S)
    assert job.state is JobState.CANCELLED


def test_a_cancelled_plan_can_be_asked_for_again() -> None:
    jobs: PlanningJobs[str] = PlanningJobs()
    first = jobs.ask("k", "anna", until_stopped)
    first.leave("anna")
    assert first._ended.wait(LONG_S)
    second = jobs.ask("k", "anna", lambda stopping: "done")
    assert second.wait("anna", LONG_S)
    assert second.answer == "done"


def test_more_than_a_few_wait_for_their_turn_and_can_be_cancelled_there() -> None:
    jobs: PlanningJobs[str] = PlanningJobs()
    running = [jobs.ask(f"k{n}", "anna", until_stopped) for n in range(planning_jobs.AT_ONCE)]
    last = jobs.ask("last", "bert", lambda stopping: "done")
    assert not last.wait("bert", 0.3)
    assert last.state is JobState.QUEUED
    last.leave("bert")
    assert last._ended.wait(LONG_S)
    assert last.state is JobState.CANCELLED
    for job in running:
        job.leave("anna")
    assert all(job._ended.wait(LONG_S) for job in running)
    assert jobs.ask("again", "bert", lambda stopping: "done").wait("bert", LONG_S)


def test_errors_of_the_planner_are_told_and_mistakes_of_ours_are_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    jobs: PlanningJobs[str] = PlanningJobs()

    def invalid(stopping: Callable[[], bool]) -> str:
        raise ScenarioInvalid("no such board")

    def mistake(stopping: Callable[[], bool]) -> str:
        raise KeyError("secret path /srv/x")

    told, hidden = jobs.ask("a", "anna", invalid), jobs.ask("b", "anna", mistake)
    assert told.wait("anna", LONG_S)
    assert hidden.wait("anna", LONG_S)
    assert (told.state, told.problem) == (JobState.FAILED, "no such board")
    assert "secret" not in hidden.problem
    assert "secret" in caplog.text


def test_old_answers_are_forgotten_by_number_and_by_weight() -> None:
    jobs: PlanningJobs[int] = PlanningJobs(limit=3, weight_limit=100)
    for number in range(6):
        assert jobs.ask(f"k{number}", "anna", lambda stopping: 1).wait("anna", LONG_S)
    assert list(jobs._jobs) == ["k3", "k4", "k5"]
    assert jobs.ask("heavy", "anna", lambda stopping: 1, weight=99).wait("anna", LONG_S)
    assert list(jobs._jobs) == ["k5", "heavy"]


def test_threads_end_with_the_process() -> None:
    job = PlanningJobs[str]().ask("k", "anna", until_stopped)
    assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("plan-"))
    job.leave("anna")
    assert job._ended.wait(LONG_S)
