"""Latencies and sizes of requests over a window: what each histogram added, ready for any percentile.

Sums over ranks, endpoints or models, and percentiles of them, are made of these by `planner.serving_totals.merged`.
"""

import json
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from sqlalchemy import Connection, Engine, select

from planner.histograms import Histogram
from planner.serving_totals import CountedHistogram
from store.database import reading
from store.increment_windows import ends_after, ends_inside
from store.samples import to_ms
from store.serving_names import named_series
from store.serving_series import chunked
from store.serving_tables import HistogramBounds, HistogramIncrement, HistogramSeries, HistogramState
from store.tables import table_of

_SERIES = table_of(HistogramSeries)
_STATES = table_of(HistogramState)
_INCREMENTS = table_of(HistogramIncrement)
_BOUNDS = table_of(HistogramBounds)


@dataclass(slots=True)
class _Sum:
    """What is summed up of one series: rows that lie in the window as they are, the others by their share."""

    whole: list[str] = field(default_factory=list)
    shares: list[tuple[str, float]] = field(default_factory=list)
    total: float = 0.0
    covered_ms: int = 0


def counted_histograms(
    engine: Engine,
    metrics: Collection[str],
    start: datetime,
    end: datetime,
    *,
    cluster: str | None = None,
    endpoints: Collection[str] | None = None,
) -> tuple[CountedHistogram, ...]:
    """What each histogram of these metrics added from `start` to `end`, by cluster, subject and metric.

    One whose readings cover nothing of the window is not in the answer. A subject whose bounds changed in it, as with
    another version, is in it once for each.
    """
    start_ms, end_ms = to_ms(start), to_ms(end)
    if end_ms <= start_ms:
        return ()
    with reading(engine) as connection:
        series = {one.id: one for one in named_series(connection, _SERIES, metrics, cluster, endpoints)}
        sums: defaultdict[int, _Sum] = defaultdict(_Sum)
        for chunk in chunked(series):
            _sum_up(connection, chunk, sums, start_ms, end_ms)
        bounds = _bounds(connection, sums)
    return tuple(
        CountedHistogram(
            cluster=one.cluster,
            subject=one.subject,
            metric=one.metric,
            histogram=_histogram(bounds[one.id], sums[one.id]),
            covered_s=sums[one.id].covered_ms / 1000,
        )
        for one in series.values()
        if one.id in sums
    )


def _sum_up(
    connection: Connection, chunk: Collection[int], sums: defaultdict[int, _Sum], start_ms: int, end_ms: int
) -> None:
    columns = _INCREMENTS.c
    wanted = (columns.series_id, columns.since_ms, columns.observed_at_ms, columns.buckets, columns.total)
    ids = list(chunk)
    inside = select(*wanted).where(ends_inside(_INCREMENTS, ids, start_ms, end_ms))
    rows, is_beyond = ends_after(_INCREMENTS, _SERIES, ids, end_ms)
    beyond = select(*wanted).select_from(rows).where(is_beyond)
    quiet = select(_STATES.c.series_id, _STATES.c.quiet_since_ms, _STATES.c.observed_at_ms).where(
        _STATES.c.series_id.in_(ids), _STATES.c.quiet_since_ms < end_ms, _STATES.c.observed_at_ms > start_ms
    )
    for statement in (inside, beyond):
        for series_id, since_ms, observed_ms, buckets, total in connection.execute(statement):
            one = sums[series_id]
            overlap = min(observed_ms, end_ms) - max(since_ms, start_ms)
            one.covered_ms += overlap
            if since_ms >= start_ms and observed_ms <= end_ms:
                one.total += total
                if buckets:
                    one.whole.append(buckets)
            elif buckets:
                share = overlap / (observed_ms - since_ms)
                one.total += total * share
                one.shares.append((buckets, share))
    for series_id, since_ms, observed_ms in connection.execute(quiet):
        sums[series_id].covered_ms += min(observed_ms, end_ms) - max(since_ms, start_ms)


def _bounds(connection: Connection, series_ids: Collection[int]) -> dict[int, tuple[float, ...]]:
    found: dict[int, tuple[float, ...]] = {}
    texts: dict[str, tuple[float, ...]] = {}
    for chunk in chunked(series_ids):
        statement = (
            select(_SERIES.c.id, _BOUNDS.c.bounds)
            .join(_BOUNDS, _BOUNDS.c.id == _SERIES.c.bounds_id)
            .where(_SERIES.c.id.in_(chunk))
        )
        for series_id, text in connection.execute(statement):
            if text not in texts:
                texts[text] = tuple(map(float, json.loads(text)))
            found[series_id] = texts[text]
    return found


def _histogram(bounds: tuple[float, ...], sums: _Sum) -> Histogram:
    counts = np.zeros(len(bounds) + 1)
    parts = [(",".join(sums.whole), 1.0)] if sums.whole else []
    for text, share in (*parts, *sums.shares):
        pairs = np.fromstring(text, sep=",").reshape(-1, 2)
        counts += np.bincount(pairs[:, 0].astype(np.int64), weights=pairs[:, 1], minlength=len(counts)) * share
    return Histogram(bounds=bounds, counts=tuple(counts.tolist()), total=sums.total)
