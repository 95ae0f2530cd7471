"""How the attempts at a target ended over time, counted by equal parts of a span."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CTE, Engine, Integer, Select, and_, cast, func, literal, select, true, tuple_, union_all
from sqlmodel.sql.sqltypes import UTCDateTime

from store.database import reading
from store.tables import Cluster, CollectionAttempt, Source, table_of

_CLUSTERS = table_of(Cluster)
_SOURCES = table_of(Source)
_ATTEMPTS = table_of(CollectionAttempt)

_TARGETS_AT_ONCE = 200
"""So many names fit into one statement on every database."""

TargetKey = tuple[str, str, str]
"""Cluster, source and target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptCount:
    """How many attempts of one part of the span succeeded and failed; none of either where nobody tried."""

    start: datetime
    ok: int
    failed: int


def attempt_history(
    engine: Engine, targets: Sequence[TargetKey], start: datetime, end: datetime, *, parts: int
) -> dict[TargetKey, tuple[AttemptCount, ...]]:
    """For each of these targets `parts` counts, oldest first; a target that is not in the store has none.

    Counts in the index alone, so that a day of attempts of some dozens of targets costs milliseconds.
    """
    step = (end - start) / parts
    found: dict[TargetKey, tuple[AttemptCount, ...]] = {}
    for first in range(0, len(targets), _TARGETS_AT_ONCE):
        found |= _counted(engine, targets[first : first + _TARGETS_AT_ONCE], start, step, parts)
    return found


def _counted(
    engine: Engine, targets: Sequence[TargetKey], start: datetime, step: timedelta, parts: int
) -> dict[TargetKey, tuple[AttemptCount, ...]]:
    known = (
        select(_SOURCES.c.id, _CLUSTERS.c.name.label("cluster"), _SOURCES.c.name.label("source"))
        .join(_CLUSTERS, _CLUSTERS.c.id == _SOURCES.c.cluster_id)
        .where(tuple_(_CLUSTERS.c.name, _SOURCES.c.name).in_({(cluster, source) for cluster, source, _ in targets}))
    )
    by_id: dict[tuple[int, str], TargetKey] = {}
    with reading(engine) as connection:
        ids = {(row.cluster, row.source): row.id for row in connection.execute(known)}
        for cluster, source, target in targets:
            if (cluster, source) in ids:
                by_id[ids[cluster, source], target] = (cluster, source, target)
        rows = connection.execute(_statement(list(by_id), start, step, parts)).all() if by_id else ()
    counts: dict[TargetKey, list[AttemptCount]] = {}
    for row in rows:
        counted = AttemptCount(start=start + row.part * step, ok=row.ok, failed=row.failed)
        counts.setdefault(by_id[row.source_id, row.target], []).append(counted)
    return {key: tuple(told) for key, told in counts.items() if any(one.ok or one.failed for one in told)}


def _statement(targets: Sequence[tuple[int, str]], start: datetime, step: timedelta, parts: int) -> Select[Any]:
    """A count per target and part as a subquery each: so the index leads to it, whatever the planner thinks."""
    spans = _spans(start, step, parts)
    asked = union_all(
        *(
            select(cast(literal(source_id), Integer).label("source_id"), literal(target).label("target"))
            for source_id, target in targets
        )
    ).cte("asked")
    of_span = and_(
        _ATTEMPTS.c.source_id == asked.c.source_id,
        _ATTEMPTS.c.target == asked.c.target,
        _ATTEMPTS.c.started_at >= spans.c.since,
        _ATTEMPTS.c.started_at < spans.c.until,
    )
    ok, failed = (
        select(func.count()).select_from(_ATTEMPTS).where(of_span, _ATTEMPTS.c.ok.is_(is_ok)).scalar_subquery()
        for is_ok in (True, False)
    )
    return (
        select(asked.c.source_id, asked.c.target, spans.c.part, ok.label("ok"), failed.label("failed"))
        .select_from(asked)
        .join(spans, true())
        .order_by(asked.c.source_id, asked.c.target, spans.c.part)
    )


def _spans(start: datetime, step: timedelta, parts: int) -> CTE:
    return union_all(
        *(
            select(
                cast(literal(number), Integer).label("part"),
                literal(start + number * step, UTCDateTime()).label("since"),
                literal(start + (number + 1) * step, UTCDateTime()).label("until"),
            )
            for number in range(parts)
        )
    ).cte("spans")
