"""What serving engines did over a window: what their counters added, and which counts began anew.

Questions about gauges are in `store.gauge_queries`, about latencies in `store.latency_queries`.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, func, select

from planner.serving_readings import ServingSubject
from planner.serving_totals import Counted
from store.database import reading
from store.increment_windows import ends_after, ends_inside, overlap_ms, share_of
from store.samples import from_ms, to_ms
from store.serving_names import named_series
from store.serving_series import chunked
from store.serving_tables import (
    CounterIncrement,
    CounterReset,
    CounterState,
    HistogramReset,
    HistogramSeries,
    ServingSeries,
)
from store.tables import table_of

_SERIES = table_of(ServingSeries)
_STATES = table_of(CounterState)
_INCREMENTS = table_of(CounterIncrement)
_RESETS = table_of(CounterReset)
_HISTOGRAMS = table_of(HistogramSeries)
_HISTOGRAM_RESETS = table_of(HistogramReset)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountReset:
    """A count began anew, as when an engine starts; `before` is how far it was, of a histogram how many values."""

    cluster: str
    subject: ServingSubject
    metric: str
    label: str
    observed_at: datetime
    before: float


def counted(
    engine: Engine,
    start: datetime,
    end: datetime,
    *,
    metrics: Collection[str] | None = None,
    cluster: str | None = None,
    endpoints: Collection[str] | None = None,
) -> tuple[Counted, ...]:
    """What each counter added from `start` to `end`; one whose readings cover nothing of it is not in the answer."""
    with reading(engine) as connection:
        return counted_over(connection, start, end, metrics=metrics, cluster=cluster, endpoints=endpoints)


def counted_over(
    connection: Connection,
    start: datetime,
    end: datetime,
    *,
    metrics: Collection[str] | None = None,
    cluster: str | None = None,
    endpoints: Collection[str] | None = None,
) -> tuple[Counted, ...]:
    """The same in a view of the store that is open already."""
    start_ms, end_ms = to_ms(start), to_ms(end)
    if end_ms <= start_ms:
        return ()
    series = {one.id: one for one in named_series(connection, _SERIES, metrics, cluster, endpoints)}
    sums: defaultdict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for chunk in chunked(series):
        overlap = overlap_ms(_INCREMENTS, start_ms, end_ms)
        part = share_of(_INCREMENTS, _INCREMENTS.c.increment, start_ms, end_ms)
        inside = (
            select(_INCREMENTS.c.series_id, func.sum(part), func.sum(overlap))
            .where(ends_inside(_INCREMENTS, chunk, start_ms, end_ms))
            .group_by(_INCREMENTS.c.series_id)
        )
        rows, is_beyond = ends_after(_INCREMENTS, _SERIES, chunk, end_ms)
        beyond = select(_INCREMENTS.c.series_id, part, overlap).select_from(rows).where(is_beyond)
        quiet = select(_STATES.c.series_id, _STATES.c.quiet_since_ms, _STATES.c.observed_at_ms).where(
            _STATES.c.series_id.in_(chunk), _STATES.c.quiet_since_ms < end_ms, _STATES.c.observed_at_ms > start_ms
        )
        for series_id, increment, covered_ms in (*connection.execute(inside), *connection.execute(beyond)):
            sums[series_id][0] += increment
            sums[series_id][1] += float(covered_ms)  # PostgreSQL sums whole numbers to decimals
        for series_id, since_ms, observed_ms in connection.execute(quiet):
            sums[series_id][1] += min(observed_ms, end_ms) - max(since_ms, start_ms)
    return tuple(
        Counted(
            cluster=one.cluster,
            subject=one.subject,
            metric=one.metric,
            label=one.label,
            increment=sums[one.id][0],
            covered_s=sums[one.id][1] / 1000,
        )
        for one in series.values()
        if one.id in sums
    )


def count_resets(
    engine: Engine, start: datetime, end: datetime, *, cluster: str | None = None
) -> tuple[CountReset, ...]:
    """Which counters and histograms began anew after `start` and up to `end`, by time."""
    found: list[CountReset] = []
    with reading(engine) as connection:
        for series_table, resets, before in (
            (_SERIES, _RESETS, _RESETS.c.value_before),
            (_HISTOGRAMS, _HISTOGRAM_RESETS, _HISTOGRAM_RESETS.c.count_before),
        ):
            named = {one.id: one for one in named_series(connection, series_table, None, cluster, None)}
            statement = select(resets.c.series_id, resets.c.observed_at_ms, before).where(
                resets.c.observed_at_ms > to_ms(start), resets.c.observed_at_ms <= to_ms(end)
            )
            found += [
                CountReset(
                    cluster=named[series_id].cluster,
                    subject=named[series_id].subject,
                    metric=named[series_id].metric,
                    label=named[series_id].label,
                    observed_at=from_ms(observed_ms),
                    before=value,
                )
                for series_id, observed_ms, value in connection.execute(statement)
                if series_id in named
            ]
    return tuple(sorted(found, key=lambda one: (one.observed_at, one.cluster, one.subject, one.metric, one.label)))
