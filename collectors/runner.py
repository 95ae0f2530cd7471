"""One run of one source: collect, write each attempt as it ends, log a line, go on whatever failed."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Engine

from collectors.errors import CollectorError
from collectors.source import Attempt, Collector
from collectors.unexpected import unexpected
from planner.readings import Gap
from store.errors import StoreError, StoreUnavailable
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
    A failing target is an outcome with its error, also where it fails in a way that nobody thought of: what it said
    cannot be stored, or reading it ended with any exception at all. Raises StoreError when the store cannot be
    written: what was read would be lost silently otherwise.
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
    for read in _guarded(collector, collector.collect(now, watermarks(engine, source_id)), now):
        attempt = _written(engine, source_id, collector.source, read)
        if written is not None:
            written(collector, attempt)
        outcome = _outcome(collector.source, attempt)
        _log(outcome)
        outcomes.append(outcome)
        if stopping():
            break
    return tuple(outcomes)


def _guarded(collector: Collector, attempts: Iterator[Attempt], now: datetime) -> Iterator[Attempt]:
    """The attempts; an exception that ends them becomes one of the source itself, since nobody knows whose it is."""
    began = time.monotonic()
    try:
        yield from attempts
    except StoreError:
        raise
    except Exception as failure:  # noqa: BLE001 - whatever it is, the round is over and has to be accounted for
        seconds = time.monotonic() - began
        yield Attempt(
            target=collector.source,
            started_at=now + timedelta(seconds=seconds),
            seconds=seconds,
            error=unexpected("the round was ended by", failure, source=collector.source),
        )


def _written(engine: Engine, source_id: int, source: str, attempt: Attempt) -> Attempt:
    """The attempt as it is in the store: where what a target said cannot be kept, it has failed."""
    try:
        _write(engine, source_id, attempt)
    except Exception as refusal:
        # A store that cannot be written refuses the failure as well; the others say themselves what is wrong with it.
        if attempt.batch is None or (isinstance(refusal, StoreError) and not isinstance(refusal, StoreUnavailable)):
            raise
        error = unexpected(f"what {attempt.target} said cannot be stored:", refusal, source=source)
        failed = replace(attempt, batch=None, error=error)
        try:
            _write(engine, source_id, failed)
        except StoreError:
            raise refusal from None
        return failed
    return attempt


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
