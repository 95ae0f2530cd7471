"""From an attempt to a diagnosis: every kind of failure has its check and its fix, every gap its cost."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import pytest

from collectors.diagnosis import ERROR_FIXES, Remedy, diagnose
from collectors.errors import BadPayload, ClockSkew, CollectorError, Unauthorized, Unreachable
from collectors.source import Attempt
from planner.diagnosis import Check, Diagnosis, Outcome
from planner.readings import Batch, Gap, Reading, Subject
from planner.units import GpuUuid

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
LOSSES = {"sm_active_ratio": "No need of SMs is known."}


class Answers:
    """A collector that yields these attempts."""

    source, kind, cluster, interval_s = "nodes", "dcgm", "default", 30.0

    def __init__(self, *attempts: Attempt) -> None:
        self.attempts = attempts

    def collect(self, now: datetime, watermarks: Mapping[str, datetime]) -> Iterator[Attempt]:
        assert watermarks.get("node-a:9400") == NOW - timedelta(minutes=15)  # not a day of backfill
        yield from self.attempts

    def close(self) -> None:
        """Nothing is held."""


def failed(error: CollectorError) -> Attempt:
    return Attempt(target="node-a:9400", started_at=NOW, seconds=0.1, error=error)


def answered(batch: Batch, **more: float) -> Attempt:
    return Attempt(target="node-a:9400", started_at=NOW, seconds=0.1, batch=batch, **more)


def remedy(gap: Gap) -> Remedy:
    return Remedy(is_natural=True) if gap.reason == "by nature" else Remedy(fix=f"Ask for {gap.metric}.")


def of(*attempts: Attempt) -> tuple[Diagnosis, ...]:
    return tuple(diagnose(Answers(*attempts), NOW, losses=LOSSES, remedy=remedy))


@pytest.mark.parametrize(
    ("kind", "check", "before"),
    [
        (Unreachable, Check.REACHABLE, []),
        (Unauthorized, Check.AUTHORISED, [Check.REACHABLE]),
        (BadPayload, Check.UNDERSTOOD, [Check.REACHABLE, Check.AUTHORISED]),
        (ClockSkew, Check.CLOCK, [Check.REACHABLE, Check.AUTHORISED]),
    ],
)
def test_a_failure_names_its_check_its_cost_and_its_fix(
    kind: type[CollectorError], check: Check, before: list[Check]
) -> None:
    [one] = of(failed(kind("it went wrong", source="nodes")))
    assert one.outcome is Outcome.FAILED
    assert [finding.check for finding in one.findings] == [*before, check]
    assert one.findings[-1].text == "it went wrong"
    assert one.findings[-1].fix == ERROR_FIXES[kind]
    assert one.findings[-1].cost is not None
    assert all(finding.outcome is Outcome.OK for finding in one.findings[:-1])


def test_what_is_there_and_what_is_missing() -> None:
    subject = Subject(gpu_uuid=GpuUuid("GPU-1"))
    [one] = of(
        answered(
            Batch(
                readings=(Reading(subject=subject, metric="power_watts", value=70.0, observed_at=NOW),),
                gaps=(
                    Gap(subject="GPU-1", metric="sm_active_ratio", reason="not in the list"),
                    Gap(subject="GPU-2", metric="sm_active_ratio", reason="not in the list"),
                    Gap(subject="GPU-1", metric="gpu_busy_ratio", reason="by nature"),
                ),
                found=(("version", "4.8.2"),),
            ),
            clock_skew_s=-2.0,
        )
    )
    assert (one.outcome, one.version, one.present) == (Outcome.WARNING, "4.8.2", ("power_watts",))
    assert (one.clock_skew_s, one.newest_sample_age_s) == (-2.0, 0.0)
    lacking = [finding for finding in one.findings if finding.outcome is Outcome.WARNING]
    assert [finding.text for finding in lacking] == [
        "sm_active_ratio is missing for GPU-1 and 1 more: not in the list."
    ]
    assert lacking[0].cost == LOSSES["sm_active_ratio"]
    assert lacking[0].fix == "Ask for sm_active_ratio."


def test_a_clock_that_is_off_is_told_and_the_rest_goes_on() -> None:
    [one] = of(answered(Batch(), clock_skew_s=90.0))
    clock = next(finding for finding in one.findings if finding.check is Check.CLOCK)
    assert clock.outcome is Outcome.WARNING
    assert clock.text == "90.0 s ahead of ours."
    assert clock.fix is not None


def test_a_source_that_says_little_is_not_called_fine() -> None:
    [one] = of(answered(Batch()))
    unknown = {finding.check for finding in one.findings if finding.outcome is Outcome.NOT_CHECKED}
    assert unknown == {Check.VERSION, Check.CLOCK, Check.AGE, Check.FIELDS}


def test_several_windows_of_one_target_are_one_diagnosis() -> None:
    error = failed(Unreachable("gone", source="nodes"))
    assert [one.outcome for one in of(answered(Batch()), error)] == [Outcome.FAILED]
