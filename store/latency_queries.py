"""Latencies and sizes of requests over a window: what each histogram added, ready for any percentile.

Sums over ranks, endpoints or models, and percentiles of them, are made of these by `planner.serving_totals.merged`.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import numpy as np
from sqlalchemy import Connection, Engine, select

from planner.histograms import Histogram
from planner.serving_readings import ServingSubject
from planner.serving_totals import CountedHistogram
from store.database import reading
from store.increment_windows import ends_after, ends_inside
from store.samples import to_ms
from store.serving_names import Series as NamedSeries
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

    def take(self, stretch: "_Stretch", start_ms: int, end_ms: int, used_ms: int = 0) -> None:
        """Add what a stretch has in the window; of that time, `used_ms` is counted elsewhere."""
        length_ms = stretch.observed_ms - stretch.since_ms
        overlap_ms = min(stretch.observed_ms, end_ms) - max(stretch.since_ms, start_ms) - used_ms
        self.covered_ms += overlap_ms
        if overlap_ms == length_ms:
            self.total += stretch.total
            if stretch.buckets:
                self.whole.append(stretch.buckets)
        elif stretch.buckets:
            share = overlap_ms / length_ms
            self.total += stretch.total * share
            self.shares.append((stretch.buckets, share))


class _Stretch(NamedTuple):
    """What was added in a stretch that touches the window."""

    series_id: int
    since_ms: int
    observed_ms: int
    buckets: str = ""
    total: float = 0.0


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
    another version, is in it once for each. Where two roads tell one histogram with different bounds at the same time,
    the one that covers more of the window counts, and the other only where the first has nothing.
    """
    start_ms, end_ms = to_ms(start), to_ms(end)
    if end_ms <= start_ms:
        return ()
    with reading(engine) as connection:
        series = {one.id: one for one in named_series(connection, _SERIES, metrics, cluster, endpoints)}
        sums: defaultdict[int, _Sum] = defaultdict(_Sum)
        for chunk in chunked(series):
            for stretch in _stretches(connection, chunk, start_ms, end_ms):
                sums[stretch.series_id].take(stretch, start_ms, end_ms)
        bounds = _bounds(connection, sums)
        for rivals in _several_bounds(series.values(), sums):
            order = sorted(rivals, key=lambda one: (-sums[one].covered_ms, -len(bounds[one]), one))
            sums.update(_once(order, _stretches(connection, rivals, start_ms, end_ms), start_ms, end_ms))
    return tuple(
        CountedHistogram(
            cluster=one.cluster,
            subject=one.subject,
            metric=one.metric,
            histogram=_histogram(bounds[one.id], sums[one.id]),
            covered_s=sums[one.id].covered_ms / 1000,
        )
        for one in series.values()
        if one.id in sums and sums[one.id].covered_ms > 0
    )


def _stretches(connection: Connection, chunk: Collection[int], start_ms: int, end_ms: int) -> Iterator[_Stretch]:
    """What series added in stretches that touch the window, in no order."""
    columns = _INCREMENTS.c
    wanted = (columns.series_id, columns.since_ms, columns.observed_at_ms, columns.buckets, columns.total)
    ids = list(chunk)
    inside = select(*wanted).where(ends_inside(_INCREMENTS, ids, start_ms, end_ms))
    rows, is_beyond = ends_after(_INCREMENTS, _SERIES, ids, end_ms)
    beyond = select(*wanted).select_from(rows).where(is_beyond)
    quiet = select(_STATES.c.series_id, _STATES.c.quiet_since_ms, _STATES.c.observed_at_ms).where(
        _STATES.c.series_id.in_(ids), _STATES.c.quiet_since_ms < end_ms, _STATES.c.observed_at_ms > start_ms
    )
    for statement in (inside, beyond, quiet):
        for row in connection.execute(statement):
            yield _Stretch(*row)


def _several_bounds(series: Iterable[NamedSeries], sums: Collection[int]) -> list[list[int]]:
    """Series that tell the same histogram of the same subject with different bounds."""
    groups: defaultdict[tuple[str, ServingSubject, str], list[int]] = defaultdict(list)
    for one in series:
        if one.id in sums:
            groups[one.cluster, one.subject, one.metric].append(one.id)
    return [group for group in groups.values() if len(group) > 1]


def _once(order: Sequence[int], stretches: Iterable[_Stretch], start_ms: int, end_ms: int) -> dict[int, _Sum]:
    """The sums of such series, each moment counted by the first of `order` that was read then."""
    by_series: defaultdict[int, list[_Stretch]] = defaultdict(list)
    for stretch in stretches:
        by_series[stretch.series_id].append(stretch)
    sums: dict[int, _Sum] = {}
    used: list[tuple[int, int]] = []
    for series_id in order:
        sums[series_id] = _Sum()
        more = list(used)
        for stretch in by_series[series_id]:
            low, high = max(stretch.since_ms, start_ms), min(stretch.observed_ms, end_ms)
            used_ms = sum(max(min(high, end) - max(low, begin), 0) for begin, end in used)
            sums[series_id].take(stretch, start_ms, end_ms, used_ms)
            more.append((low, high))
        used = _joined(more)
    return sums


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans of time without those that touch another."""
    joined: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((begin, end))
    return joined


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
