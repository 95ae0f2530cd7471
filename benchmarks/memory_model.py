"""Scores the vLLM memory model on recorded runs and writes the tables of benchmarks/MEMORY.md.

`python -m benchmarks.memory_model` needs the reference folder beside the checkout. Runs whose notes say CHECK are left
out, and the runs of one MIG series count as one together.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.memory_explained import WORST
from benchmarks.memory_fit import FITTED_FAMILIES, REFERENCE, fit_table, is_fitted, weighted_median
from benchmarks.memory_rivals import rivals
from benchmarks.memory_rows import RecordedRun, recorded_runs, with_run
from benchmarks.memory_scores import Score, is_stated, scores_of
from benchmarks.results import keep, table
from planner.memory.estimate import Verdict
from planner.memory.vllm import estimate_vllm
from planner.memory.vllm_settings import settings_of
from planner.units import GIB

MEMORY = Path(__file__).parent / "MEMORY.md"


def error_row(name: str, scores: Sequence[Score]) -> list[str]:
    """Count, weighted median and mean, 90th percentile, worst, and the share within the stated range."""
    if not scores:
        return [name, "0", "-", "-", "-", "-", "-"]
    weighted = [(abs(score.error), score.recorded.weight) for score in scores]
    total = sum(weight for _, weight in weighted)
    average = sum(error * weight for error, weight in weighted) / total
    ranged = [score for score in scores if score.low is not None]
    inside = sum(score.recorded.weight for score in ranged if score.is_in_range)
    share = f"{100 * inside / sum(score.recorded.weight for score in ranged):.0f} %" if ranged else "-"
    worst = max(scores, key=lambda score: abs(score.error))
    return [
        name,
        str(len(scores)),
        _percent(weighted_median(weighted) or 0.0),
        _percent(average),
        _percent(_percentile(weighted, 0.9)),
        f"{_percent(abs(worst.error))} ({worst.recorded.key})",
        share,
    ]


_HEADER = ["", "runs", "median", "mean", "90th", "worst", "in range"]
TERMS = (
    "weights, 16 or 32 bit",
    "weights, quantised",
    "KV bytes per token",
    "hybrid concurrency",
    "activation",
    "non-torch",
    "KV pool",
    "concurrency",
)


def term_table(scores: Sequence[Score]) -> str:
    """Errors by term, on all runs, on those that constants were fitted on, and on the rest."""
    rows = []
    for term in TERMS:
        chosen = [score for score in scores if score.term == term]
        rows.append(error_row(term, chosen))
        rows.append(error_row("  fitted on", [score for score in chosen if is_fitted(score.recorded)]))
        rows.append(error_row("  held out", [score for score in chosen if not is_fitted(score.recorded)]))
    return table(_HEADER, rows)


def grouped_table(scores: Iterable[Score], name: Callable[[Score], str]) -> str:
    """Errors by whatever `name` says."""
    groups: dict[str, list[Score]] = {}
    for score in scores:
        groups.setdefault(name(score), []).append(score)
    return table(_HEADER, [error_row(group, groups[group]) for group in sorted(groups)])


def verdict_table(runs: Sequence[RecordedRun]) -> tuple[str, list[str]]:
    """Verdicts against outcomes, and what was said of each failed run."""
    counts: dict[tuple[str, str, Verdict], int] = {}
    lines: list[str] = []
    for recorded, run in with_run(runs):
        outcome = str(recorded.row["outcome"])
        if not recorded.device_known or outcome in ("fail_runtime", "fail_unspecified"):
            continue
        estimate = estimate_vllm(run)
        failed = outcome != "ok"
        stated = "stated" if is_stated(recorded, run) else "partly stated"
        key = ("failed" if failed else "ran", stated, estimate.verdict)
        counts[key] = counts.get(key, 0) + 1
        if failed or (stated == "stated" and estimate.verdict is Verdict.DOES_NOT_FIT):
            lines.append(f"- {recorded.key} ({outcome}, {stated}): {estimate.verdict}. {estimate.reasons[0]}")
    rows = [
        [outcome, stated, *(str(counts.get((outcome, stated, verdict), 0)) for verdict in Verdict)]
        for outcome in ("ran", "failed")
        for stated in ("stated", "partly stated")
    ]
    return table(["outcome", "flags", *(str(verdict) for verdict in Verdict)], rows), lines


def worst_rows(scores: Sequence[Score], count: int = 10) -> list[Score]:
    """The largest relative errors of weights, pool and concurrency, one for each run."""
    chosen: dict[str, Score] = {}
    for score in scores:
        if score.term in ("non-torch",) or not abs(score.error) > 0:
            continue
        known = chosen.get(score.recorded.key)
        if known is None or abs(score.error) > abs(known.error):
            chosen[score.recorded.key] = score
    return sorted(chosen.values(), key=lambda score: -abs(score.error))[:count]


def _worst_text(scores: Sequence[Score]) -> str:
    lines = []
    for score in worst_rows(scores):
        row = score.recorded.row
        why = WORST.get(score.recorded.key, "Not explained yet.")
        lines.append(
            f"- **{score.recorded.key}** {row['model']}: {score.term} {score.measured:.2f}, estimated "
            f"{score.estimated:.2f} ({100 * score.error:+.1f} %). {why}"
        )
    return "\n".join(lines)


def _percentile(weighted: Sequence[tuple[float, float]], share: float) -> float:
    ordered = sorted(weighted)
    limit = share * sum(weight for _, weight in ordered)
    passed = 0.0
    for value, weight in ordered:
        passed += weight
        if passed >= limit - 1e-9:
            return value
    return ordered[-1][0]


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def report(runs: Sequence[RecordedRun]) -> str:
    """The whole section as Markdown."""
    scores = scores_of(runs)
    pools = [score for score in scores if score.term == "KV pool"]
    verdicts, failures = verdict_table(runs)
    within = sum(score.recorded.weight for score in pools if abs(score.error) <= 0.05)
    share = within / sum(score.recorded.weight for score in pools)
    weights = [score for score in scores if score.term.startswith("weights")]
    lacking = sum(1 for recorded in runs if recorded.run is None)
    return f"""## vLLM

{len(runs)} recorded runs, {lacking} of them not usable (no configuration, or two engines at once). Errors are shares
of what the engine printed, the runs of one MIG series weighted as one. "In range": the share of measurements between
the low and the high of the term. Constants were fitted on the families named here and nothing else:
{", ".join(sorted(FITTED_FAMILIES))}. The counts of buffers and tensors behind the laws were checked against rows of
all families while they were written down, so "held out" is strict for constants, not for the choice of law.
"Activation" and below need a stated version and device; "KV pool" and "concurrency" are from configuration and flags
alone and need the share of memory too.

{term_table(scores)}

{100 * share:.0f} % of the pools lie within 5 %.

### Constants

{fit_table(runs)}

### KV pool by family

{grouped_table(pools, _family)}

### KV pool by version

{grouped_table(pools, _band)}

### Weights by family

{grouped_table(weights, _family)}

### Fit or no fit

{verdicts}

{chr(10).join(failures)}

### The worst ten, one by one

{_worst_text(scores)}
"""


def _family(score: Score) -> str:
    return str(score.recorded.row["family"])


def _band(score: Score) -> str:
    run = score.recorded.run
    return settings_of(run).version.band if run is not None else "-"


def rival_report(runs: Sequence[RecordedRun], reference: Path) -> str:
    """Errors of other offline estimators on the same measurements; a run that one does not answer is not counted."""
    measured = scores_of(runs)
    configs = reference / "memory" / "model_configs"
    answers = {name: {recorded.key: ask(recorded.row, configs) for recorded in runs} for name, ask in rivals().items()}
    lines: list[list[str]] = []
    for term, attribute in (
        ("weights, 16 or 32 bit", "weights_bytes"),
        ("weights, quantised", "weights_bytes"),
        ("KV pool", "kv_pool_bytes"),
    ):
        chosen = [score for score in measured if score.term == term]
        lines.append([term, "this model", *error_row("", chosen)[1:6]])
        for name, given in answers.items():
            theirs = [
                Score(recorded=score.recorded, term=term, measured=score.measured, estimated=value / GIB)
                for score in chosen
                if (value := getattr(given[score.recorded.key], attribute)) is not None
            ]
            lines.append([term, name, *error_row("", theirs)[1:6]])
    return "## vLLM beside other estimators\n\n" + table(["term", "estimator", *_HEADER[1:6]], lines)


def main() -> None:
    """Score, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=Path, default=REFERENCE)
    reference = parser.parse_args().reference
    runs = recorded_runs(reference)
    text = report(runs)
    keep("vllm", text, MEMORY)
    print(text)
    beside = rival_report(runs, reference)
    keep("vllm rivals", beside, MEMORY)
    print(beside)


if __name__ == "__main__":
    main()
