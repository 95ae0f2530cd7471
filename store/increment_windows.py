"""Stretches of time against a window: which rows of increments touch it, and how much of each lies in it.

A row says what was added from `since_ms` to `observed_at_ms`. Rows of a series never overlap, so at most one of them
begins inside a window and ends after it.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, FromClause, Table, and_, case, func, select


def overlap_ms(table: Table, start_ms: int, end_ms: int) -> ColumnElement[int]:
    """How much of the stretch of a row lies between two moments; the row must touch the window."""
    since, observed = table.c.since_ms, table.c.observed_at_ms
    return case((observed < end_ms, observed), else_=end_ms) - case((since > start_ms, since), else_=start_ms)


def share_of(table: Table, column: ColumnElement[float], start_ms: int, end_ms: int) -> ColumnElement[float]:
    """What a row adds to the window: all of it where the stretch lies inside, else its share of time."""
    since, observed = table.c.since_ms, table.c.observed_at_ms
    is_inside = and_(since >= start_ms, observed <= end_ms)
    return case((is_inside, column), else_=column * overlap_ms(table, start_ms, end_ms) / (observed - since))


def ends_inside(table: Table, series_ids: Sequence[int], start_ms: int, end_ms: int) -> ColumnElement[bool]:
    """Rows whose stretch ends in the window."""
    columns = table.c
    return and_(columns.series_id.in_(series_ids), columns.observed_at_ms > start_ms, columns.observed_at_ms <= end_ms)


def ends_after(
    table: Table, series: Table, series_ids: Sequence[int], end_ms: int
) -> tuple[FromClause, ColumnElement[bool]]:
    """The row of each series that reaches over the end of the window, found by one step along the key per series."""
    later = table.alias("later")
    next_ms = (
        select(func.min(later.c.observed_at_ms))
        .where(later.c.series_id == series.c.id, later.c.observed_at_ms > end_ms)
        .correlate(series)
        .scalar_subquery()
    )
    joined = series.join(table, and_(table.c.series_id == series.c.id, table.c.observed_at_ms == next_ms))
    return joined, and_(series.c.id.in_(series_ids), table.c.since_ms < end_ms)
