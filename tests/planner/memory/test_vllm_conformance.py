"""The vLLM model against every recorded run of the reference: what the benchmark prints must stay true."""

from pathlib import Path
from statistics import mean, median

import pytest

from benchmarks.memory_explained import WORST
from benchmarks.memory_fit import is_fitted, weighted_median
from benchmarks.memory_model import report, verdict_table, worst_rows
from benchmarks.memory_rows import RecordedRun, recorded_runs, with_run
from benchmarks.memory_scores import Score, is_stated, scores_of
from planner.memory.estimate import Verdict
from planner.memory.vllm import estimate_vllm


@pytest.fixture(scope="module")
def runs(reference: Path) -> tuple[RecordedRun, ...]:
    """The recorded runs."""
    return recorded_runs(reference)


@pytest.fixture(scope="module")
def scores(runs: tuple[RecordedRun, ...]) -> list[Score]:
    """Everything measured beside its estimate."""
    return scores_of(runs)


def errors(scores: list[Score], term: str) -> list[tuple[float, float]]:
    """Absolute errors of a term with their weights."""
    return [(abs(score.error), score.recorded.weight) for score in scores if score.term == term]


def average(weighted: list[tuple[float, float]]) -> float:
    """Weighted mean."""
    return sum(error * weight for error, weight in weighted) / sum(weight for _, weight in weighted)


def test_checked_rows_are_left_out_and_the_series_counts_once(runs: tuple[RecordedRun, ...]) -> None:
    assert {"vllm-002", "vllm-089"}.isdisjoint(recorded.key for recorded in runs)
    series = [recorded for recorded in runs if recorded.row["mig_profile"]]
    assert sum(recorded.weight for recorded in series) == pytest.approx(1)


def test_weights(scores: list[Score]) -> None:
    plain = errors(scores, "weights, 16 or 32 bit")
    assert (weighted_median(plain) or 0) <= 0.003
    assert average(plain) <= 0.007
    assert (weighted_median(errors(scores, "weights, quantised")) or 0) <= 0.015


def test_layout_of_the_cache(scores: list[Score]) -> None:
    plain = [error for error, _ in errors(scores, "KV bytes per token")]
    assert median(plain) == pytest.approx(0, abs=1e-9)
    assert mean(plain) <= 0.001
    worked = [
        score for score in scores if score.term == "hybrid concurrency" and score.recorded.row["family"] == "gemma3"
    ]
    assert len(worked) >= 2
    assert all(score.error == 0 for score in worked)


def test_pool_and_concurrency(scores: list[Score]) -> None:
    pools = errors(scores, "KV pool")
    assert (weighted_median(pools) or 0) <= 0.01
    near = sum(weight for error, weight in pools if error <= 0.05)
    assert near / sum(weight for _, weight in pools) >= 0.9
    assert (weighted_median(errors(scores, "concurrency")) or 0) <= 0.02


def test_held_out_families_are_as_good(scores: list[Score]) -> None:
    held_out = [score for score in scores if not is_fitted(score.recorded)]
    assert (weighted_median(errors(held_out, "weights, 16 or 32 bit")) or 0) <= 0.003
    assert (weighted_median(errors(held_out, "activation")) or 0) <= 0.02
    assert (weighted_median(errors(held_out, "KV pool")) or 0) <= 0.01


def test_no_failed_run_is_said_to_fit(runs: tuple[RecordedRun, ...]) -> None:
    kinds = ("fail_oom", "fail_oom_warmup", "fail_no_kv", "fail_ctx_too_long")
    failed = [
        (recorded.key, estimate_vllm(run).verdict)
        for recorded, run in with_run(runs)
        if recorded.row["outcome"] in kinds and recorded.device_known
    ]
    assert len(failed) >= 8
    assert [key for key, verdict in failed if verdict is Verdict.FITS] == []


def test_no_run_with_stated_flags_that_worked_is_ruled_out(runs: tuple[RecordedRun, ...]) -> None:
    wrong = [
        recorded.key
        for recorded, run in with_run(runs)
        if recorded.row["outcome"] == "ok"
        and is_stated(recorded, run)
        and estimate_vllm(run).verdict is Verdict.DOES_NOT_FIT
    ]
    assert wrong == []


def test_the_worst_runs_are_explained(scores: list[Score]) -> None:
    assert [score.recorded.key for score in worst_rows(scores) if score.recorded.key not in WORST] == []


def test_the_report_is_complete(runs: tuple[RecordedRun, ...]) -> None:
    text = report(runs)
    for part in ("KV pool by family", "KV pool by version", "Fit or no fit", "The worst ten"):
        assert part in text
    assert "Not explained yet" not in text
    assert verdict_table(runs)[1]
