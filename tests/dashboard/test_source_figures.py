"""States of targets, what they lack by cost, and the lines to copy, worked out by hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dashboard.source_figures import (
    Fix,
    SourceFigures,
    in_states,
    source_figures,
    state_counts,
    summed,
)
from dashboard.target_figures import DECIDES_NOTHING, NOT_DIAGNOSED, TargetState, target_figures
from planner.diagnosis import Check, Diagnosis, Finding, Outcome, joined_fixes
from store.attempt_history import AttemptCount
from store.queries import OpenGap, SourceHealth

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
ALLOWED_S = 90.0
HEALTH = SourceHealth(
    cluster="east",
    source="nodes",
    kind="dcgm",
    target="a:9400",
    interval_s=30,
    last_attempt_at=NOW - timedelta(seconds=10),
    last_success_at=NOW - timedelta(seconds=10),
    last_observed_at=NOW - timedelta(seconds=12),
    age_s=12,
    seconds=0.1,
    readings=8,
    consecutive_failures=0,
    error_kind=None,
    error=None,
    permanent=None,
    open_gaps=0,
)
FAILS = replace(HEALTH, consecutive_failures=3, error_kind="Unreachable", error="no answer", failing_since=NOW)
NEW = replace(FAILS, last_success_at=None, last_observed_at=None, age_s=None)
DIAGNOSIS = Diagnosis(
    cluster="east", source="nodes", kind="dcgm", target="a:9400", taken_at=NOW, seconds=0.1, findings=()
)


def gap(metric: str | None, reason: str, subject: str = "GPU-1", minutes: float = 5) -> OpenGap:
    return OpenGap(
        cluster="east",
        source="nodes",
        target="a:9400",
        subject=subject,
        metric=metric,
        reason=reason,
        first_seen=NOW - timedelta(minutes=minutes),
        last_seen=NOW,
    )


def finding(metric: str | None, reason: str, *, cost: str | None = "It costs.", fix: str | None = None) -> Finding:
    return Finding(
        check=Check.FIELDS, outcome=Outcome.WARNING, text="text", cost=cost, fix=fix, metric=metric, reason=reason
    )


def source(
    *findings: Finding, gaps: tuple[OpenGap, ...] = (), health: SourceHealth = HEALTH, **more: object
) -> SourceFigures:
    diagnosis = replace(DIAGNOSIS, findings=findings, **more)  # type: ignore[arg-type]
    [found] = source_figures([target_figures(health, diagnosis, gaps, NOW, allowed_s=ALLOWED_S)])
    return found


@pytest.mark.parametrize(
    ("health", "gaps", "state"),
    [
        (HEALTH, (), TargetState.OK),
        (HEALTH, (gap("power_watts", "not listed"),), TargetState.LACKING),
        (FAILS, (), TargetState.FAILING),
        (NEW, (), TargetState.NEVER),
        (replace(HEALTH, last_attempt_at=NOW - timedelta(seconds=91)), (), TargetState.SILENT),
        (replace(HEALTH, last_attempt_at=NOW - timedelta(seconds=90)), (), TargetState.OK),
        (replace(HEALTH, age_s=91.0), (), TargetState.LACKING),
        (replace(FAILS, last_attempt_at=NOW - timedelta(days=1)), (), TargetState.FAILING),
    ],
)
def test_the_state_of_a_target(health: SourceHealth, gaps: tuple[OpenGap, ...], state: TargetState) -> None:
    assert target_figures(health, None, gaps, NOW, allowed_s=ALLOWED_S).state is state


def test_what_cannot_be_there_is_no_lack() -> None:
    natural = replace(finding("gpu_busy_ratio", "not available under MIG", cost=None), outcome=Outcome.OK)
    one = source(natural, gaps=(gap("gpu_busy_ratio", "not available under MIG"),))
    assert one.state is TargetState.OK
    assert one.groups == ()
    assert [line.metric for line in one.natural] == ["gpu_busy_ratio"]


def test_gaps_stand_under_what_they_cost_since_they_were_first_seen() -> None:
    one = source(
        finding("a", "not listed", cost="Dear."),
        finding("b", "not listed", cost="Dear."),
        finding("c", "not listed", cost=None),
        gaps=(
            gap("c", "not listed"),
            gap("a", "not listed", "GPU-1", minutes=60),
            gap("a", "not listed", "GPU-2", minutes=5),
            gap("b", "not listed"),
            gap("d", "new"),
        ),
    )
    assert [(group.cost, [line.metric for line in group.lines]) for group in one.groups] == [
        ("Dear.", ["a", "b"]),
        (DECIDES_NOTHING, ["c"]),
        (NOT_DIAGNOSED, ["d"]),
    ]
    line = one.groups[0].lines[0]
    assert (line.since, line.subjects, line.targets) == (NOW - timedelta(minutes=60), ("GPU-1", "GPU-2"), 1)


def test_a_gap_whose_numbers_moved_keeps_its_diagnosis() -> None:
    one = source(
        finding(None, "the gateway removed 12 series", cost="Dear."), gaps=(gap(None, "the gateway removed 13 series"),)
    )
    assert [group.cost for group in one.groups] == ["Dear."]
    assert one.groups[0].lines[0].reason == "the gateway removed 13 series"


def test_a_failing_target_says_its_error_since_when_and_what_to_do() -> None:
    failed = Finding(check=Check.REACHABLE, outcome=Outcome.FAILED, text="no answer", fix="Look (`curl -sv URL`).")
    one = source(failed, health=FAILS)
    [error] = one.errors
    assert (error.kind, error.text, error.since, error.attempts) == ("Unreachable", "no answer", NOW, 3)
    assert one.fixes == (Fix(sentence="Look (`curl -sv URL`).", text="curl -sv URL"),)


def test_a_clock_that_is_off_is_told_with_its_fix() -> None:
    clock = Finding(check=Check.CLOCK, outcome=Outcome.WARNING, text="90 s ahead.", cost="Lies beside.", fix="Set it.")
    one = source(clock, clock_skew_s=90.0)
    assert one.state is TargetState.LACKING
    assert (one.clock_warning, one.clock_skew_s) == (clock, 90.0)
    assert one.fixes == (Fix(sentence="Set it.", text=""),)


def test_sources_and_targets_come_worst_first() -> None:
    healths = [
        HEALTH,
        replace(HEALTH, target="b:9400"),
        replace(FAILS, target="c:9400"),
        replace(HEALTH, source="gateway", target="g:4000"),
        replace(FAILS, cluster="west", target="x:9400"),
        replace(FAILS, cluster="west", target="y:9400"),
    ]
    lacks = {"b:9400": (gap("a", "not listed"),)}
    found = source_figures(
        target_figures(health, None, lacks.get(health.target, ()), NOW, allowed_s=ALLOWED_S) for health in healths
    )
    assert [(one.cluster, one.source, one.state) for one in found] == [
        ("west", "nodes", TargetState.FAILING),  # two of them fail
        ("east", "nodes", TargetState.FAILING),
        ("east", "gateway", TargetState.OK),
    ]
    assert [target.health.target for target in found[1].targets] == ["c:9400", "b:9400", "a:9400"]
    assert {state: count for state, count in state_counts(found).items() if count} == {
        TargetState.FAILING: 3,
        TargetState.LACKING: 1,
        TargetState.OK: 2,
    }
    assert [one.source for one in in_states(found, [TargetState.LACKING])] == ["nodes"]
    assert in_states(found, []) == found


def test_many_failing_targets_are_counted_and_three_shown() -> None:
    healths = [replace(FAILS, target=f"n{number}:9400") for number in range(5)]
    [one] = source_figures(target_figures(health, None, (), NOW, allowed_s=ALLOWED_S) for health in healths)
    assert (len(one.errors), one.errors_more) == (3, 2)


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("version: 1.2.3; driver: 570", "1.2.3"),
        ("dcgm-exporter: names of 2.x to 4.8.x; driver: 570", "names of 2.x to 4.8.x"),
        ("odd", "odd"),
    ],
)
def test_where_no_version_is_told_what_else_is_told_stands_there(told: str, shown: str) -> None:
    one = source(Finding(check=Check.VERSION, outcome=Outcome.OK, text=told))
    assert one.versions == ((shown, 1),)
    unknown = Finding(check=Check.VERSION, outcome=Outcome.NOT_CHECKED, text="The source does not say what it is.")
    assert source(unknown).versions == ()


def test_fixes_of_one_list_become_one_list_with_each_line_under_its_heading() -> None:
    fixes = ["Add:\n# new\nA\n# old\nB", "Update it.", "Add:\n# new\nC\n# old\nB\n# note", "Update it."]
    assert joined_fixes(fixes) == ("Add:\n# new\nA\nC\n# old\nB\n# note", "Update it.")


def test_attempts_of_several_targets_are_added_up() -> None:
    def counts(*told: tuple[int, int]) -> tuple[AttemptCount, ...]:
        return tuple(AttemptCount(start=NOW, ok=ok, failed=failed) for ok, failed in told)

    assert summed([counts((1, 0), (2, 3)), counts((4, 1), (0, 0))]) == counts((5, 1), (2, 3))
    assert summed([]) == ()
