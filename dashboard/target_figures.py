"""How one target does: its state, what it lacks, what that costs, and what it says of itself."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dashboard.formatting import duration
from planner.diagnosis import Check, Diagnosis, Finding, Outcome
from store.attempt_history import TargetKey
from store.queries import OpenGap, SourceHealth

NOT_DIAGNOSED = "Not looked at yet: the running collector says what this costs with its next attempt."
DECIDES_NOTHING = "Is shown where it is there, and decides nothing."


class TargetState(StrEnum):
    """How a target does, the worst first."""

    NEVER = "never answered"
    FAILING = "failing"
    SILENT = "silent"
    LACKING = "lacking"
    OK = "ok"


RANK = {state: place for place, state in enumerate(TargetState)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """One thing that targets of a source do not give, for one reason; `fix` is what brings it."""

    metric: str | None
    reason: str
    cost: str
    fix: str | None
    since: datetime | None
    subjects: tuple[str, ...]
    is_natural: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFigures:
    """One target; `trouble` says in a sentence why it is not well, "" where it is."""

    health: SourceHealth
    state: TargetState
    trouble: str
    is_overdue: bool  # its newest sample is older than its interval allows
    lacks: tuple[Lacking, ...]
    fix: str | None  # of its error
    version: str | None
    clock_skew_s: float | None
    clock_warning: Finding | None
    present: tuple[str, ...]
    diagnosed_at: datetime | None

    @property
    def key(self) -> TargetKey:
        """What the store knows it by."""
        return (self.health.cluster, self.health.source, self.health.target)


def target_figures(
    health: SourceHealth, diagnosis: Diagnosis | None, gaps: Iterable[OpenGap], now: datetime, *, allowed_s: float
) -> TargetFigures:
    """One target; it may be silent, and its samples old, for `allowed_s`."""
    findings = () if diagnosis is None else diagnosis.findings
    known = {_alike(finding.metric, finding.reason): finding for finding in findings if finding.reason is not None}
    lacks = tuple(_lacks(gaps, known))
    warnings = [finding for finding in findings if finding.outcome is Outcome.WARNING and finding.reason is None]
    silent_s = (now - health.last_attempt_at).total_seconds()
    is_overdue = health.age_s is not None and health.age_s > allowed_s
    is_lacking = bool(warnings) or any(not one.is_natural for one in lacks) or is_overdue
    if not health.is_ok:
        state = TargetState.NEVER if health.last_success_at is None else TargetState.FAILING
    elif silent_s > allowed_s:
        state = TargetState.SILENT
    else:
        state = TargetState.LACKING if is_lacking else TargetState.OK
    return TargetFigures(
        health=health,
        state=state,
        trouble=_trouble(health, state, silent_s, is_overdue=is_overdue),
        is_overdue=is_overdue,
        lacks=lacks,
        fix=next((finding.fix for finding in findings if finding.outcome is Outcome.FAILED), None),
        version=_version(diagnosis),
        clock_skew_s=None if diagnosis is None else diagnosis.clock_skew_s,
        clock_warning=next((finding for finding in warnings if finding.check is Check.CLOCK), None),
        present=() if diagnosis is None else diagnosis.present,
        diagnosed_at=None if diagnosis is None else diagnosis.taken_at,
    )


def _version(diagnosis: Diagnosis | None) -> str | None:
    """What the target says it is; where it tells no version of its own, the first that it says of itself."""
    if diagnosis is None or diagnosis.version is not None:
        return None if diagnosis is None else diagnosis.version
    told = (one.text for one in diagnosis.findings if one.check is Check.VERSION and one.outcome is Outcome.OK)
    first = next(told, "").partition("; ")[0]
    return first.partition(": ")[2] or first or None


def _trouble(health: SourceHealth, state: TargetState, silent_s: float, *, is_overdue: bool) -> str:
    if state is TargetState.SILENT:
        return (
            f"It is read every {duration(health.interval_s)} and was not for {duration(silent_s)}: the collector does "
            "not run, or this target is not configured any more."
        )
    if is_overdue and health.is_ok:
        return f"It answers with samples that are {duration(health.age_s)} old."
    return ""


_NUMBERS = re.compile(r"\d+")


def _alike(metric: str | None, reason: str | None) -> tuple[str | None, str]:
    """The same for sentences that differ in their numbers only: a diagnosis may be an hour old."""
    return metric, _NUMBERS.sub("#", reason or "")


def _lacks(gaps: Iterable[OpenGap], known: Mapping[tuple[str | None, str], Finding]) -> Iterable[Lacking]:
    by_reason: dict[tuple[str | None, str], list[OpenGap]] = {}
    for gap in gaps:
        by_reason.setdefault((gap.metric, gap.reason), []).append(gap)
    for (metric, reason), told in by_reason.items():
        finding = known.get(_alike(metric, reason))
        yield Lacking(
            metric=metric,
            reason=reason,
            cost=NOT_DIAGNOSED if finding is None else finding.cost or DECIDES_NOTHING,
            fix=None if finding is None else finding.fix,
            since=min(gap.first_seen for gap in told),
            subjects=tuple(dict.fromkeys(gap.subject for gap in told)),
            is_natural=finding is not None and finding.outcome is Outcome.OK,
        )
