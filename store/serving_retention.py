"""What the store forgets of serving engines and gateways: old readings, and series that nobody tells of any more."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Engine, Table, delete, exists, select

from store.database import reading, writing
from store.serving_tables import (
    CounterBeginning,
    CounterIncrement,
    CounterReset,
    CounterState,
    HistogramBeginning,
    HistogramIncrement,
    HistogramReset,
    HistogramSeries,
    HistogramState,
    ServingKey,
    ServingLabelSample,
    ServingSample,
    ServingSeries,
)
from store.tables import table_of
from store.token_usage import HOUR_MS
from store.usage_tables import SpendHour, SpendSeries

_KEYS, _SERIES, _HISTOGRAMS = table_of(ServingKey), table_of(ServingSeries), table_of(HistogramSeries)
_SAMPLES, _LABELLED = table_of(ServingSample), table_of(ServingLabelSample)
_COUNTS = (table_of(CounterIncrement), table_of(CounterReset))
_HISTOGRAM_COUNTS = (table_of(HistogramIncrement), table_of(HistogramReset))
_STATES, _HISTOGRAM_STATES = table_of(CounterState), table_of(HistogramState)
_BEGINNINGS, _HISTOGRAM_BEGINNINGS = table_of(CounterBeginning), table_of(HistogramBeginning)
_SPEND, _HOURS = table_of(SpendSeries), table_of(SpendHour)


def prune_serving(engine: Engine, before_ms: int, *, rows_per_transaction: int) -> int:
    """Forget readings from before that moment, and series last seen before it; returns how many readings went.

    A series that is told of again later begins anew: nothing is counted twice.
    """
    removed = prune_moments(engine, _SAMPLES, _KEYS, before_ms, rows_per_transaction)
    for table in (_LABELLED, *_COUNTS):
        removed += prune_moments(engine, table, _SERIES, before_ms, rows_per_transaction)
    for table in _HISTOGRAM_COUNTS:
        removed += prune_moments(engine, table, _HISTOGRAMS, before_ms, rows_per_transaction)
    for state, beginning in ((_STATES, _BEGINNINGS), (_HISTOGRAM_STATES, _HISTOGRAM_BEGINNINGS)):
        with writing(engine) as connection:
            connection.execute(delete(state).where(state.c.observed_at_ms < before_ms))
            is_followed = exists().where(state.c.series_id == beginning.c.series_id)
            connection.execute(delete(beginning).where(~is_followed))
    for series, used in (
        (_SERIES, (_STATES, _LABELLED, *_COUNTS)),
        (_HISTOGRAMS, (_HISTOGRAM_STATES, *_HISTOGRAM_COUNTS)),
    ):
        _delete_unused(engine, series, [table.c.series_id for table in used])
    _delete_unused(engine, _KEYS, [_SERIES.c.serving_id, _HISTOGRAMS.c.serving_id, _SAMPLES.c.serving_id])
    return removed


def prune_spend(engine: Engine, before_ms: int) -> int:
    """Forget hours that had ended by that moment, and counters last seen before it; returns how many hours went."""
    with writing(engine) as connection:
        removed = connection.execute(delete(_HOURS).where(_HOURS.c.hour_ms <= before_ms - HOUR_MS)).rowcount
    with writing(engine) as connection:
        of_series = exists().where(_HOURS.c.series_id == _SPEND.c.id)
        connection.execute(delete(_SPEND).where(_SPEND.c.observed_at_ms < before_ms, ~of_series))
    return removed


def prune_moments(engine: Engine, table: Table, owners: Table, before_ms: int, rows_per_transaction: int) -> int:
    """Remove rows of a table keyed by owner and `observed_at_ms`, in transactions of a bounded number of rows."""
    key, at = next(iter(table.primary_key.columns)), table.c.observed_at_ms
    is_old = exists().where(key == owners.c.id, at < before_ms)
    with reading(engine) as connection:
        ids: Sequence[Any] = list(connection.execute(select(owners.c.id).where(is_old).order_by(owners.c.id)).scalars())
    removed = 0
    for owner in ids:
        oldest = select(at).where(key == owner, at < before_ms).order_by(at).offset(rows_per_transaction).limit(1)
        limit_ms: int | None = before_ms
        while limit_ms is not None:
            with writing(engine) as connection:
                limit_ms = connection.execute(oldest).scalar()
                up_to = before_ms if limit_ms is None else limit_ms
                removed += connection.execute(delete(table).where(key == owner, at < up_to)).rowcount
    return removed


def _delete_unused(engine: Engine, owners: Table, uses: Sequence[ColumnElement[Any]]) -> None:
    is_used = [exists().where(column == owners.c.id) for column in uses]
    with writing(engine) as connection:
        connection.execute(delete(owners).where(*(~used for used in is_used)))
