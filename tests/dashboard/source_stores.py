"""Stores whose sources are in every state, written as a collector and its doctor write them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from collectors.errors import CollectorError, Unreachable
from collectors.runner import run_once
from collectors.source import Attempt
from gpufleet.examinations import Examinations
from planner.readings import Batch, Gap, Reading, Subject
from planner.units import GpuUuid
from store.database import open_engine
from store.schema import migrate
from tests.dashboard.fleets import HOSTILE

NOT_LISTED = "DCGM_FI_PROF_SM_ACTIVE is not in this exporter's counter list"
BAD_LINE = f"line not read (no value): {HOSTILE[0]}"


@dataclass
class Answers:
    """A collector that yields these attempts."""

    source: str
    kind: str
    attempts: Iterable[Attempt]
    cluster: str = "default"
    interval_s: float = 3600.0

    def collect(self, now: datetime, watermarks: Mapping[str, datetime]) -> Iterator[Attempt]:
        yield from self.attempts

    def close(self) -> None:
        """Nothing is held."""


def attempt(target: str, at: datetime, *gaps: Gap, error: CollectorError | None = None, skew_s: float = 0.2) -> Attempt:
    reading = Reading(
        subject=Subject(gpu_uuid=GpuUuid(f"GPU-{target}")), metric="power_watts", value=70.0, observed_at=at
    )
    batch = None if error else Batch(readings=(reading,), gaps=gaps, found=(("version", "4.8.2"),))
    return Attempt(target=target, started_at=at, seconds=0.1, batch=batch, error=error, clock_skew_s=skew_s)


def write(url: str, *collectors: Answers) -> None:
    """Collect from each of these once, with its diagnoses."""
    engine = open_engine(url)
    migrate(engine)
    examinations = Examinations(engine)
    for collector in collectors:
        run_once(engine, collector, datetime.now(UTC), written=examinations.look)
    engine.dispose()


def write_troubled(url: str, now: datetime) -> None:
    """One source that is well, one that lacks a field, one that fails, and names that are markup."""
    lacking = Gap(subject="n1:9400", metric="sm_active_ratio", reason=NOT_LISTED)
    hour = timedelta(hours=1)
    gone = Unreachable("gateway:4000 did not answer: <img src=x onerror=window.pwned=1>", source="gateway")
    write(
        url,
        Answers("well", "dcgm", [attempt("n0:9400", now)]),
        Answers("nodes", "dcgm", [attempt("n1:9400", now - hour, lacking), attempt("n1:9400", now, lacking)]),
        Answers(
            "gateway",
            "litellm",
            [
                attempt("gateway:4000", now - 2 * hour),
                *(attempt("gateway:4000", now - n * hour, error=gone) for n in (1, 0)),
            ],
        ),
        Answers(
            HOSTILE[0],
            "serving",
            [attempt(HOSTILE[5], now, Gap(subject=HOSTILE[5], metric=None, reason=BAD_LINE), skew_s=47.0)],
            cluster=HOSTILE[5],
        ),
    )


def write_huge(url: str, now: datetime, targets: int = 1000) -> None:
    """One source of so many targets: the tenth of each ten lacks a field, and three fail."""
    lacking = Gap(subject="x", metric="sm_active_ratio", reason=NOT_LISTED)
    attempts = [
        attempt(
            f"node-{number:04d}:9400",
            now,
            *([lacking] if number % 10 == 9 else []),
            error=Unreachable(f"node-{number:04d}:9400 did not answer", source="x")
            if number in (5, 505, 995)
            else None,
        )
        for number in range(targets)
    ]
    write(url, Answers("fleet", "dcgm", attempts))
