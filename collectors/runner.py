"""One run of one source: collect, write each attempt as it ends, log a line, go on whatever failed."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine

from collectors.errors import CollectorError
from collectors.source import Attempt, Collector
from planner.readings import Gap
from store.queries import watermarks
from store.writes import register_source, write_batch, write_failure

log = logging.getLogger("gpufleet.collectors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one attempt: its counts without its readings, which a day of backfill would pile up."""

    source: str
    target: str
    started_at: datetime
    seconds: float
    readings: int
    facts: int
    gaps: tuple[Gap, ...]
    error: CollectorError | None

    @property
    def ok(self) -> bool:
        """Whether the target was read and written."""
        return self.error is None


def run_once(
    engine: Engine,
    collector: Collector,
    now: datetime,
    *,
    stopping: Callable[[], bool] = lambda: False,
    written: Callable[[Collector, Attempt], None] | None = None,
) -> tuple[Outcome, ...]:
    """Read every target of a source once, oldest window first, and write each attempt before the next.

    `stopping` is asked after each attempt: a long backfill can be left there, and goes on from there the next time.
    `written` is told of each attempt that is in the store.
    A failing target is an outcome with its error. Raises StoreError when the store cannot be written: what was read
    would be lost silently otherwise.
    """
    source_id = register_source(
        engine,
        cluster=collector.cluster,
        name=collector.source,
        kind=collector.kind,
        interval_s=collector.interval_s,
        now=now,
    )
    outcomes = []
    for attempt in collector.collect(now, watermarks(engine, source_id)):
        _write(engine, source_id, attempt)
        if written is not None:
            written(collector, attempt)
        outcome = _outcome(collector.source, attempt)
        _log(outcome)
        outcomes.append(outcome)
        if stopping():
            break
    return tuple(outcomes)


def _write(engine: Engine, source_id: int, attempt: Attempt) -> None:
    if attempt.batch is not None:
        write_batch(
            engine,
            source_id=source_id,
            target=attempt.target,
            started_at=attempt.started_at,
            seconds=attempt.seconds,
            batch=attempt.batch,
            interval_s=attempt.interval_s,
        )
    elif attempt.error is not None:
        write_failure(
            engine,
            source_id=source_id,
            target=attempt.target,
            started_at=attempt.started_at,
            seconds=attempt.seconds,
            error_kind=type(attempt.error).__name__,
            message=str(attempt.error),
            permanent=attempt.error.permanent,
            interval_s=attempt.interval_s,
        )


def _outcome(source: str, attempt: Attempt) -> Outcome:
    batch = attempt.batch
    return Outcome(
        source=source,
        target=attempt.target,
        started_at=attempt.started_at,
        seconds=attempt.seconds,
        readings=batch.reading_count if batch else 0,
        facts=batch.fact_count if batch else 0,
        gaps=batch.gaps if batch else (),
        error=attempt.error,
    )


def _log(outcome: Outcome) -> None:
    if outcome.error is not None:
        log.warning(
            "%s %s: %s after %.2f s: %s",
            outcome.source,
            outcome.target,
            type(outcome.error).__name__,
            outcome.seconds,
            outcome.error,
        )
    else:
        log.info(
            "%s %s: %d readings, %d facts, %d gaps in %.2f s",
            outcome.source,
            outcome.target,
            outcome.readings,
            outcome.facts,
            len(outcome.gaps),
            outcome.seconds,
        )
