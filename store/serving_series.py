"""Small numbers for the series of serving engines, new ones where needed."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Insert, Select, bindparam, select

from store.database import dialect_insert
from store.serving_tables import HistogramBounds, HistogramSeries, ServingSeries
from store.tables import table_of

SeriesName = tuple[int, str, str]
"""Number of the subject, metric, label."""

HistogramName = tuple[int, str, int]
"""Number of the subject, metric, number of the bounds."""

_IN_CHUNK = 500

_SERIES = table_of(ServingSeries)
_HISTOGRAMS = table_of(HistogramSeries)
_BOUNDS = table_of(HistogramBounds)


def series_ids(connection: Connection, names: set[SeriesName]) -> dict[SeriesName, int]:
    """Numbers of counters and of gauges with a label."""
    found = dict(_known_series(connection, names))
    missing = sorted(names - found.keys())
    if missing:
        connection.execute(
            _new_series(connection.dialect.name),
            [{"serving_id": one[0], "metric": one[1], "label": one[2]} for one in missing],
        )
        found = dict(_known_series(connection, names))
    return found


def histogram_ids(connection: Connection, names: set[HistogramName]) -> dict[HistogramName, int]:
    """Numbers of histograms."""
    found = dict(_known_histograms(connection, names))
    missing = sorted(names - found.keys())
    if missing:
        connection.execute(
            _new_histograms(connection.dialect.name),
            [{"serving_id": one[0], "metric": one[1], "bounds_id": one[2]} for one in missing],
        )
        found = dict(_known_histograms(connection, names))
    return found


def bounds_ids(connection: Connection, bounds: set[str]) -> dict[str, int]:
    """Numbers of lists of bounds, given as their JSON text."""
    found = dict(_known_bounds(connection, bounds))
    missing = sorted(bounds - found.keys())
    if missing:
        connection.execute(_new_bounds(connection.dialect.name), [{"bounds": one} for one in missing])
        found = dict(_known_bounds(connection, bounds))
    return found


def chunked(values: Iterable[Any]) -> Iterator[Sequence[Any]]:
    """The values in order, in lists that a statement can name."""
    ordered = sorted(values)
    for start in range(0, len(ordered), _IN_CHUNK):
        yield ordered[start : start + _IN_CHUNK]


def _known_series(connection: Connection, names: set[SeriesName]) -> Iterator[tuple[SeriesName, int]]:
    for chunk in chunked({name[0] for name in names}):
        for series_id, *rest in connection.execute(_series_statement(), {"ids": chunk}):
            name = (rest[0], rest[1], rest[2])
            if name in names:
                yield name, series_id


def _known_histograms(connection: Connection, names: set[HistogramName]) -> Iterator[tuple[HistogramName, int]]:
    for chunk in chunked({name[0] for name in names}):
        for series_id, *rest in connection.execute(_histograms_statement(), {"ids": chunk}):
            name = (rest[0], rest[1], rest[2])
            if name in names:
                yield name, series_id


def _known_bounds(connection: Connection, bounds: set[str]) -> Iterator[tuple[str, int]]:
    for chunk in chunked(bounds):
        for bounds_id, text in connection.execute(_bounds_statement(), {"bounds": chunk}):
            yield text, bounds_id


@cache
def _series_statement() -> Select[Any]:
    columns = _SERIES.c
    return select(columns.id, columns.serving_id, columns.metric, columns.label).where(
        columns.serving_id.in_(bindparam("ids", expanding=True))
    )


@cache
def _histograms_statement() -> Select[Any]:
    columns = _HISTOGRAMS.c
    return select(columns.id, columns.serving_id, columns.metric, columns.bounds_id).where(
        columns.serving_id.in_(bindparam("ids", expanding=True))
    )


@cache
def _bounds_statement() -> Select[Any]:
    return select(_BOUNDS.c.id, _BOUNDS.c.bounds).where(_BOUNDS.c.bounds.in_(bindparam("bounds", expanding=True)))


@cache
def _new_series(dialect: str) -> Insert:
    return dialect_insert(dialect, _SERIES).on_conflict_do_nothing()


@cache
def _new_histograms(dialect: str) -> Insert:
    return dialect_insert(dialect, _HISTOGRAMS).on_conflict_do_nothing()


@cache
def _new_bounds(dialect: str) -> Insert:
    return dialect_insert(dialect, _BOUNDS).on_conflict_do_nothing()
