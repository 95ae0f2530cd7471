"""What the Sources page shows of each source: its targets together, what they lack by cost, and what to do."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from dashboard.target_figures import DECIDES_NOTHING, NOT_DIAGNOSED, RANK, Lacking, TargetFigures, TargetState
from planner.diagnosis import Finding, joined_fixes
from store.attempt_history import AttemptCount

LISTED_ERRORS = 3
_QUOTED = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class LackingLine:
    """One reason over all targets of a source."""

    metric: str | None
    reason: str
    targets: int
    subjects: tuple[str, ...]
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CostGroup:
    """All that is lacking and costs the same."""

    cost: str
    lines: tuple[LackingLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """What to do in a sentence, and the text to copy; "" where there is nothing to copy word for word."""

    sentence: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorLine:
    """A target's last error as it was told, or what many targets say alike."""

    kind: str
    text: str
    target: str
    since: datetime | None
    attempts: int
    fix: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFigures:
    """One source of one cluster with its targets, the worst first."""

    cluster: str
    source: str
    kind: str
    interval_s: float
    targets: tuple[TargetFigures, ...]
    counts: Mapping[TargetState, int]
    versions: tuple[tuple[str, int], ...]
    clock_skew_s: float | None  # the one that is furthest off
    clock_warning: Finding | None
    newest_at: datetime | None
    oldest_at: datetime | None  # newest sample of the target that is furthest behind
    is_overdue: bool
    errors: tuple[ErrorLine, ...]
    errors_more: int
    groups: tuple[CostGroup, ...]
    natural: tuple[LackingLine, ...]
    fixes: tuple[Fix, ...]
    present: tuple[str, ...]

    @property
    def state(self) -> TargetState:
        """That of its worst target."""
        return self.targets[0].state

    @property
    def is_diagnosed(self) -> bool:
        """Whether any of its targets was looked at."""
        return any(target.diagnosed_at is not None for target in self.targets)


def source_figures(targets: Iterable[TargetFigures]) -> tuple[SourceFigures, ...]:
    """Targets by source, the worst source and in it the worst target first."""
    by_source: dict[tuple[str, str], list[TargetFigures]] = {}
    for target in targets:
        by_source.setdefault((target.health.cluster, target.health.source), []).append(target)
    found = [_source(sorted(group, key=_badness)) for group in by_source.values()]
    return tuple(sorted(found, key=lambda one: (RANK[one.state], -one.counts[one.state], one.cluster, one.source)))


def _badness(target: TargetFigures) -> tuple[int, int, str]:
    return RANK[target.state], -sum(not one.is_natural for one in target.lacks), target.health.target


def _source(targets: Sequence[TargetFigures]) -> SourceFigures:
    first = targets[0].health
    skews = [target.clock_skew_s for target in targets if target.clock_skew_s is not None]
    observed = [at for target in targets if (at := target.health.last_observed_at) is not None]
    errors = _errors(targets)
    lacking = [one for target in targets for one in target.lacks]
    fixes = [error.fix for error in errors if error.fix]
    fixes += [one.fix for one in lacking if one.fix and not one.is_natural]
    clock_warning = next((target.clock_warning for target in targets if target.clock_warning is not None), None)
    if clock_warning is not None and clock_warning.fix is not None:
        fixes.append(clock_warning.fix)
    return SourceFigures(
        cluster=first.cluster,
        source=first.source,
        kind=first.kind,
        interval_s=min(target.health.interval_s for target in targets),
        targets=tuple(targets),
        counts=Counter(target.state for target in targets),
        versions=tuple(Counter(target.version for target in targets if target.version).most_common()),
        clock_skew_s=max(skews, key=abs, default=None),
        clock_warning=clock_warning,
        newest_at=max(observed, default=None),
        oldest_at=min(observed, default=None),
        is_overdue=any(target.is_overdue for target in targets),
        errors=tuple(errors[:LISTED_ERRORS]),
        errors_more=sum(not target.health.is_ok for target in targets) - len(errors[:LISTED_ERRORS]),
        groups=_groups(targets),
        natural=_lines(one for one in lacking if one.is_natural),
        fixes=tuple(_fix(text) for text in joined_fixes(dict.fromkeys(fixes))),
        present=tuple(sorted({name for target in targets for name in target.present})),
    )


def _errors(targets: Sequence[TargetFigures]) -> list[ErrorLine]:
    return [
        ErrorLine(
            kind=target.health.error_kind or "Error",
            text=target.health.error or "",
            target=target.health.target,
            since=target.health.failing_since,
            attempts=target.health.consecutive_failures,
            fix=target.fix,
        )
        for target in targets
        if not target.health.is_ok
    ]


def _groups(targets: Sequence[TargetFigures]) -> tuple[CostGroup, ...]:
    """By cost, what most targets lack first; what decides nothing last."""
    by_cost: dict[str, list[Lacking]] = {}
    for target in targets:
        for one in target.lacks:
            if not one.is_natural:
                by_cost.setdefault(one.cost, []).append(one)
    groups = [CostGroup(cost=cost, lines=_lines(lacking)) for cost, lacking in by_cost.items()]
    last = (NOT_DIAGNOSED, DECIDES_NOTHING)
    return tuple(sorted(groups, key=lambda group: (group.cost in last, -max(line.targets for line in group.lines))))


def _lines(lacking: Iterable[Lacking]) -> tuple[LackingLine, ...]:
    """One line per reason; a target has each reason once."""
    told: dict[tuple[str | None, str], list[Lacking]] = {}
    for one in lacking:
        told.setdefault((one.metric, one.reason), []).append(one)
    return tuple(
        LackingLine(
            metric=metric,
            reason=reason,
            targets=len(same),
            subjects=tuple(dict.fromkeys(subject for one in same for subject in one.subjects)),
            since=min((one.since for one in same if one.since is not None), default=None),
        )
        for (metric, reason), same in told.items()
    )


def _fix(text: str) -> Fix:
    """Lines below a sentence are to be copied; of a sentence alone, what stands between backticks."""
    sentence, _, lines = text.partition("\n")
    return Fix(sentence=sentence, text=lines or "\n".join(_QUOTED.findall(sentence)))


def in_states(sources: Sequence[SourceFigures], wanted: Iterable[TargetState]) -> tuple[SourceFigures, ...]:
    """Sources with a target in one of these states; all of them when none is wanted."""
    states = set(wanted)
    return tuple(one for one in sources if not states or any(one.counts.get(state) for state in states))


def state_counts(sources: Sequence[SourceFigures]) -> dict[TargetState, int]:
    """How many targets are in each state, the worst state first."""
    return {state: sum(one.counts.get(state, 0) for one in sources) for state in TargetState}


def summed(strips: Iterable[Sequence[AttemptCount]]) -> tuple[AttemptCount, ...]:
    """Several targets' attempts as those of one; empty where there are none."""
    return tuple(
        replace(parts[0], ok=sum(part.ok for part in parts), failed=sum(part.failed for part in parts))
        for parts in zip(*strips, strict=True)
    )
