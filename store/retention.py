"""What the store forgets, so that it does not grow for ever."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Engine, Table, and_, delete, func, or_, select

from store.database import reading, writing
from store.samples import to_ms
from store.tables import (
    CollectionAttempt,
    DeviceKey,
    GpuRecord,
    InstanceRecord,
    PodRecord,
    Sample,
    SourceGap,
    table_of,
)

_ROWS_PER_TRANSACTION = 5_000
"""So many that a collector waits for some tenths of a second at most between two of its batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """How many rows went."""

    samples: int
    attempts: int
    gaps: int
    inventory: int


def prune(engine: Engine, before: datetime) -> Pruned:
    """Forget what is older than `before`: samples, attempts, gaps, and inventory that had ended by then.

    Stays: everything that still lasts, each target's newest attempt and newest success, watermarks, clusters and
    sources. The file does not shrink, its space is used again. Works in small transactions, so that collectors go on;
    stopped half-way, the next run does the rest.
    """
    gaps = table_of(SourceGap)
    return Pruned(
        samples=_prune_samples(engine, to_ms(before)),
        attempts=_delete_where(engine, table_of(CollectionAttempt), _forgettable_attempt(before)),
        gaps=_delete_where(engine, gaps, gaps.c.last_seen < before),
        inventory=sum(
            _delete_where(engine, table, table.c.valid_to < before)
            for table in (table_of(GpuRecord), table_of(InstanceRecord), table_of(PodRecord))
        ),
    )


def _prune_samples(engine: Engine, before_ms: int) -> int:
    samples, devices = table_of(Sample).c, table_of(DeviceKey).c
    with reading(engine) as connection:
        ids = list(connection.execute(select(devices.id).order_by(devices.id)).scalars())
    removed = 0
    for device_id in ids:
        of_device = samples.device_id == device_id
        oldest = (
            select(samples.observed_at_ms)
            .where(of_device, samples.observed_at_ms < before_ms)
            .order_by(samples.observed_at_ms)
            .offset(_ROWS_PER_TRANSACTION)
            .limit(1)
        )
        limit_ms: int | None = before_ms
        while limit_ms is not None:
            with writing(engine) as connection:
                limit_ms = connection.execute(oldest).scalar()
                up_to = before_ms if limit_ms is None else limit_ms
                removed += connection.execute(
                    delete(table_of(Sample)).where(of_device, samples.observed_at_ms < up_to)
                ).rowcount
    return removed


def _forgettable_attempt(before: datetime) -> ColumnElement[bool]:
    """Old, and neither its target's newest attempt nor its newest success: source health is told from these."""
    attempts = table_of(CollectionAttempt)
    other = attempts.alias("other")
    newest = (
        select(func.max(other.c.started_at))
        .correlate_except(other)
        .where(other.c.source_id == attempts.c.source_id, other.c.target == attempts.c.target)
    )
    last_success = newest.where(other.c.ok.is_(True)).scalar_subquery()
    return and_(
        attempts.c.started_at < before,
        attempts.c.started_at < newest.scalar_subquery(),
        or_(last_success.is_(None), attempts.c.started_at != last_success),
    )


def _delete_where(engine: Engine, table: Table, condition: ColumnElement[bool]) -> int:
    removed = 0
    while True:
        with writing(engine) as connection:
            ids: Sequence[Any] = list(
                connection.execute(select(table.c.id).where(condition).limit(_ROWS_PER_TRANSACTION)).scalars()
            )
            if ids:
                connection.execute(delete(table).where(table.c.id.in_(ids)))
        removed += len(ids)
        if len(ids) < _ROWS_PER_TRANSACTION:
            return removed
