"""The stretches of time over which counters were read and what each added: whether two counts are of the same time."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from store.increment_windows import ends_after, ends_inside, share_of
from store.samples import to_ms
from store.serving_names import named_series
from store.serving_series import chunked
from store.serving_tables import CounterIncrement, CounterState, ServingSeries
from store.tables import table_of

_SERIES = table_of(ServingSeries)
_STATES = table_of(CounterState)
_INCREMENTS = table_of(CounterIncrement)

SeriesName = tuple[str, str, str]
"""Endpoint, model and metric; all ranks and labels together."""

Spans = list[tuple[int, int]]
"""From when to when in milliseconds, by time, none touching the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedStretch:
    """What a counter added from one moment to another, as far as that lies in the window."""

    since_ms: int
    until_ms: int
    increment: float


def stretches_over(
    connection: Connection,
    start: datetime,
    end: datetime,
    *,
    metrics: Collection[str],
    cluster: str,
    endpoints: Collection[str],
) -> dict[SeriesName, list[CountedStretch]]:
    """Every stretch that touches the window, of all series of these endpoints; a sum of them is `counted_over`'s."""
    start_ms, end_ms = to_ms(start), to_ms(end)
    series = {one.id: one for one in named_series(connection, _SERIES, metrics, cluster, endpoints)}
    found: dict[SeriesName, list[CountedStretch]] = {}
    columns = _INCREMENTS.c
    part = share_of(_INCREMENTS, columns.increment, start_ms, end_ms)
    for chunk in chunked(series):
        inside = select(columns.series_id, columns.since_ms, columns.observed_at_ms, part).where(
            ends_inside(_INCREMENTS, chunk, start_ms, end_ms)
        )
        rows, is_beyond = ends_after(_INCREMENTS, _SERIES, chunk, end_ms)
        beyond = select(columns.series_id, columns.since_ms, columns.observed_at_ms, part).select_from(rows)
        quiet = select(_STATES.c.series_id, _STATES.c.quiet_since_ms, _STATES.c.observed_at_ms).where(
            _STATES.c.series_id.in_(chunk), _STATES.c.quiet_since_ms < end_ms, _STATES.c.observed_at_ms > start_ms
        )
        told = [*connection.execute(inside), *connection.execute(beyond.where(is_beyond))]
        told += [(*row, 0.0) for row in connection.execute(quiet)]
        for series_id, since_ms, until_ms, increment in told:
            one = series[series_id]
            found.setdefault((one.subject.endpoint, one.subject.model, one.metric), []).append(
                CountedStretch(
                    since_ms=max(since_ms, start_ms), until_ms=min(until_ms, end_ms), increment=float(increment)
                )
            )
    return found


def united(stretches: Iterable[CountedStretch]) -> Spans:
    """The time that any of them covers."""
    spans: Spans = []
    for since_ms, until_ms in sorted((one.since_ms, one.until_ms) for one in stretches):
        if spans and since_ms <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], until_ms))
        else:
            spans.append((since_ms, until_ms))
    return spans


def covered_s(spans: Spans) -> float:
    """How long they are together."""
    return sum(until_ms - since_ms for since_ms, until_ms in spans) / 1000


def outside(stretches: Iterable[CountedStretch], spans: Spans) -> float:
    """What the stretches added outside of these spans, each by its share of time."""
    return sum(one.increment * (1 - _inside_ms(one, spans) / max(one.until_ms - one.since_ms, 1)) for one in stretches)


def _inside_ms(one: CountedStretch, spans: Spans) -> int:
    return sum(max(min(one.until_ms, until_ms) - max(one.since_ms, since_ms), 0) for since_ms, until_ms in spans)
