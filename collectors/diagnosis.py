"""From one attempt at a target to its diagnosis: what the answer proves, and what its gaps cost."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from collectors.errors import BadPayload, ClockSkew, CollectorError, Unauthorized, Unreachable, Unsupported
from collectors.source import Attempt, Collector
from planner.diagnosis import Check, Diagnosis, Finding, Lack, Outcome
from planner.readings import Batch, Gap

MAX_CLOCK_SKEW_S = 5.0
"""More than this shows: values of two sources no longer lie beside each other."""
LOOK_BACK = timedelta(minutes=15)
"""How much of a source with a memory (Prometheus, Langfuse) a look reads: not the days that a first reading takes."""
MAX_LISTED = 100
"""Kinds of gaps of one target that are told one by one; a page that says more is not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """What to do about a gap, word for word: lines of a counter list, a Helm value, a right, a flag.

    `is_natural`: nothing is to be done, such a device or such a state cannot have it. `lack` is what is missing where
    the gap is not about one metric; it leads to what that costs.
    """

    fix: str | None = None
    is_natural: bool = False
    lack: Lack | None = None


RemedyOf = Callable[[Gap], Remedy]
FixOfError = Callable[[CollectorError], str | None]


def no_special_fix(error: CollectorError) -> str | None:
    """Of a source about whose errors there is nothing to add to `ERROR_FIXES`."""
    return None


ERROR_FIXES: Mapping[type[Exception], str] = {
    Unreachable: "Check the address and port from this machine (`curl -sv URL`), network policies and firewalls.",
    Unauthorized: "Give valid credentials: bearer_token_file, or username and password_file, in the source's table.",
    BadPayload: "Look at what the address answers (`curl -s URL | head`): it may be another program or a login page.",
    ClockSkew: "Set both clocks by NTP (`timedatectl` or `chronyc tracking` on both machines).",
    Unsupported: "Use a version that the documentation of this source lists.",
}


class _ReadUntil(Mapping[str, datetime]):
    """Says of every target that it was read until one moment, and names none: which there are, nobody knows yet."""

    def __init__(self, until: datetime) -> None:
        self._until = until

    def __getitem__(self, target: str) -> datetime:
        return self._until

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def diagnose(
    collector: Collector,
    now: datetime,
    *,
    losses: Mapping[str, str],
    remedy: RemedyOf,
    error_fix: FixOfError = no_special_fix,
) -> Iterator[Diagnosis]:
    """Look at every target of a source once, as a collection would; nothing is written.

    `losses` says what each of our metrics is good for. Several windows of one target are one diagnosis: the last.
    """
    last: dict[str, Attempt] = {}
    for attempt in collector.collect(now, _ReadUntil(now - LOOK_BACK)):
        last[attempt.target] = attempt
    for attempt in last.values():
        yield diagnosis_of(collector, attempt, losses=losses, remedy=remedy, error_fix=error_fix)


def diagnosis_of(
    collector: Collector,
    attempt: Attempt,
    *,
    losses: Mapping[str, str],
    remedy: RemedyOf,
    error_fix: FixOfError = no_special_fix,
) -> Diagnosis:
    """What one attempt at a target proves, whoever made it; nothing is asked for it."""
    batch = attempt.batch
    findings = list(_of_error(attempt, error_fix)) if batch is None else list(_of_batch(attempt, batch, losses, remedy))
    return Diagnosis(
        cluster=collector.cluster,
        source=collector.source,
        kind=collector.kind,
        target=attempt.target,
        taken_at=attempt.started_at,
        seconds=attempt.seconds,
        findings=tuple(findings),
        present=() if batch is None else _present(batch),
        version=None if batch is None else dict(batch.found).get("version"),
        clock_skew_s=attempt.clock_skew_s,
        newest_sample_age_s=None if batch is None else _age_s(attempt, batch),
    )


def _of_error(attempt: Attempt, error_fix: FixOfError) -> Iterator[Finding]:
    error = attempt.error
    if error is None:
        raise ValueError("An attempt has a batch or an error.")
    failed = {Unauthorized: Check.AUTHORISED, Unreachable: Check.REACHABLE, ClockSkew: Check.CLOCK}.get(
        type(error), Check.UNDERSTOOD
    )
    general = next((text for kind, text in ERROR_FIXES.items() if isinstance(error, kind)), None)
    fix = error_fix(error) or general
    for check in Check:
        if check is failed:
            cost = "Nothing of this target is measured."
            yield Finding(check=check, outcome=Outcome.FAILED, text=str(error), cost=cost, fix=fix)
            return
        if check in (Check.REACHABLE, Check.AUTHORISED):
            yield Finding(check=check, outcome=Outcome.OK, text=_OK_WORDS[check])


_OK_WORDS = {
    Check.REACHABLE: "It answers.",
    Check.AUTHORISED: "The credentials are accepted, or none are needed.",
    Check.UNDERSTOOD: "The answer is what this source speaks.",
}


def _of_batch(attempt: Attempt, batch: Batch, losses: Mapping[str, str], remedy: RemedyOf) -> Iterator[Finding]:
    for check, words in _OK_WORDS.items():
        yield Finding(check=check, outcome=Outcome.OK, text=words)
    told = "; ".join(f"{name}: {value}" for name, value in batch.found)
    yield Finding(
        check=Check.VERSION,
        outcome=Outcome.OK if told else Outcome.NOT_CHECKED,
        text=told or "The source does not say what it is.",
    )
    yield _clock(attempt.clock_skew_s)
    age_s = _age_s(attempt, batch)
    yield Finding(
        check=Check.AGE,
        outcome=Outcome.NOT_CHECKED if age_s is None else Outcome.OK,
        text="It gave no sample." if age_s is None else f"{max(age_s, 0):.0f} s.",
    )
    yield from _fields(batch, losses, remedy)


def _clock(skew_s: float | None) -> Finding:
    if skew_s is None:
        return Finding(check=Check.CLOCK, outcome=Outcome.NOT_CHECKED, text="The source does not tell its time.")
    text = f"{abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} ours."
    if abs(skew_s) <= MAX_CLOCK_SKEW_S:
        return Finding(check=Check.CLOCK, outcome=Outcome.OK, text=text)
    return Finding(
        check=Check.CLOCK,
        outcome=Outcome.WARNING,
        text=text,
        cost="Its values lie beside those of other moments of the other sources.",
        fix=ERROR_FIXES[ClockSkew],
    )


def _fields(batch: Batch, losses: Mapping[str, str], remedy: RemedyOf) -> Iterator[Finding]:
    present = _present(batch)
    yield Finding(
        check=Check.FIELDS,
        outcome=Outcome.OK if present else Outcome.NOT_CHECKED,
        text=f"{len(present)} metrics: {', '.join(present)}." if present else "It gave no metric.",
    )
    by_reason: dict[tuple[str | None, str], list[Gap]] = defaultdict(list)
    for gap in batch.gaps:
        by_reason[gap.metric, gap.reason].append(gap)
    told = sorted(by_reason.items(), key=lambda item: (item[0][0] or "", item[0][1]))
    for (metric, reason), gaps in told[:MAX_LISTED]:
        subjects = sorted({gap.subject for gap in gaps})
        where = subjects[0] if len(subjects) == 1 else f"{subjects[0]} and {len(subjects) - 1} more"
        what = f"{metric} is missing for {where}" if metric else where
        found = remedy(gaps[0])
        yield Finding(
            check=Check.FIELDS,
            outcome=Outcome.OK if found.is_natural else Outcome.WARNING,
            text=f"{what}: {reason}.",
            cost=None if found.is_natural else losses.get(metric or "") or losses.get(found.lack or ""),
            fix=found.fix,
            metric=metric,
            reason=reason,
        )
    if len(told) > MAX_LISTED:
        more = f"{len(told) - MAX_LISTED} more kinds of gaps are not listed."
        yield Finding(check=Check.FIELDS, outcome=Outcome.WARNING, text=more)


def _present(batch: Batch) -> tuple[str, ...]:
    names = {one.metric for one in batch.readings}
    names |= {one.metric for one in batch.gauges} | {one.metric for one in batch.counters}
    names |= {one.metric for one in batch.histograms} | {one.quantity for one in batch.spend}
    return tuple(sorted(names))


def _age_s(attempt: Attempt, batch: Batch) -> float | None:
    times = [one.observed_at for one in batch.readings]
    times += [one.observed_at for one in batch.gauges] + [one.observed_at for one in batch.counters]
    times += [one.observed_at for one in batch.spend] + [one.end for one in batch.usage]
    return (attempt.started_at - max(times)).total_seconds() if times else None
