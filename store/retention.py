"""What the store forgets, so that it does not grow for ever."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Engine, Table, and_, delete, func, or_, select

from store.cluster_tables import (
    ClaimedDeviceRecord,
    KubernetesPodRecord,
    NodeRecord,
    QuotaRecord,
    ServedModelRecord,
    ServerRecord,
)
from store.database import reading, writing
from store.diagnoses import forget_diagnoses
from store.gpu_detail_tables import ComputeInstanceRecord, ProcessRecord, SourceFound
from store.roll_up import roll_up
from store.samples import to_ms
from store.serving_retention import prune_moments, prune_serving, prune_spend
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
from store.usage_tables import TokenUsageRecord

_RECORDS = (
    table_of(GpuRecord),
    table_of(InstanceRecord),
    table_of(PodRecord),
    table_of(ComputeInstanceRecord),
    table_of(ProcessRecord),
    table_of(NodeRecord),
    table_of(KubernetesPodRecord),
    table_of(QuotaRecord),
    table_of(ClaimedDeviceRecord),
)
_SILENT = (table_of(ServerRecord), table_of(ServedModelRecord))
"""Nobody tells the end of these: they are just not heard of any more."""

_ROWS_PER_TRANSACTION = 5_000
"""So many that a collector waits for some tenths of a second at most between two of its batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """How many rows went."""

    samples: int
    attempts: int
    gaps: int
    inventory: int
    serving: int = 0  # gauges, increments and resets of engines
    usage: int = 0  # totals of use and cost, and hours of gateways' counters
    merged: int = 0  # increments that became part of longer ones


def prune(engine: Engine, before: datetime) -> Pruned:
    """Forget what is older than `before`: readings, attempts, gaps, use and cost, and inventory that had ended by then.

    Increments of engines that are older than two days are merged into stretches of ten minutes (`store.roll_up`).

    Stays: everything that still lasts, the last value of each counter that is still told, each target's newest attempt
    and newest success, watermarks, clusters and sources. The file does not shrink, its space is used again. Works in
    small transactions, so that collectors go on; stopped half-way, the next run does the rest.
    """
    before_ms = to_ms(before)
    gaps, found, totals = table_of(SourceGap), table_of(SourceFound), table_of(TokenUsageRecord)
    ended = [(table, table.c.valid_to < before) for table in _RECORDS]
    ended += [(table, or_(table.c.valid_to < before, table.c.last_seen < before)) for table in _SILENT]
    with writing(engine) as connection:
        connection.execute(delete(found).where(found.c.last_seen < before))
    forget_diagnoses(engine, before)
    return Pruned(
        samples=prune_moments(engine, table_of(Sample), table_of(DeviceKey), before_ms, _ROWS_PER_TRANSACTION),
        attempts=_delete_where(engine, table_of(CollectionAttempt), _forgettable_attempt(before)),
        gaps=_delete_where(engine, gaps, gaps.c.last_seen < before),
        inventory=sum(_delete_where(engine, table, condition) for table, condition in ended),
        serving=prune_serving(engine, before_ms, rows_per_transaction=_ROWS_PER_TRANSACTION),
        usage=_delete_where(engine, totals, totals.c.end_at < before) + prune_spend(engine, before_ms),
        merged=_merge_increments(engine),
    )


def _merge_increments(engine: Engine) -> int:
    """Merge what is two days older than the newest attempt: the store's own sense of now."""
    with reading(engine) as connection:
        newest = connection.execute(select(func.max(table_of(CollectionAttempt).c.started_at))).scalar()
    return 0 if newest is None else roll_up(engine, to_ms(newest))


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
