"""What pages and collectors ask the store, one typed function per question: how the sources do, and what is missing.

Questions about values over time are in `store.history`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import CTE, ColumnElement, Engine, ScalarSelect, Select, and_, func, literal, select
from sqlmodel.sql.sqltypes import UTCDateTime

from store.database import reading
from store.history import ActivityGrid as ActivityGrid
from store.history import DeviceActivity as DeviceActivity
from store.history import History as History
from store.history import device_history as device_history
from store.history import node_activity as node_activity
from store.tables import Cluster, CollectionAttempt, Source, SourceGap, Watermark, table_of

_CLUSTERS = table_of(Cluster)
_SOURCES = table_of(Source)
_ATTEMPTS = table_of(CollectionAttempt)
_GAPS = table_of(SourceGap)
_BEFORE_ALL = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceHealth:
    """How one target of one source does; `age_s` is the age of its newest reading, None when it never had any.

    `interval_s` is how often the target is read, which may be less often than its source.
    """

    cluster: str
    source: str
    kind: str
    target: str
    interval_s: float
    last_attempt_at: datetime
    last_success_at: datetime | None
    last_observed_at: datetime | None
    age_s: float | None
    seconds: float  # of the last attempt
    readings: int  # of the last attempt
    consecutive_failures: int
    error_kind: str | None  # of the last attempt, None when it succeeded
    error: str | None
    permanent: bool | None
    open_gaps: int
    failing_since: datetime | None = None  # the first of the failures in a row

    @property
    def is_ok(self) -> bool:
        """Whether the last attempt succeeded."""
        return self.consecutive_failures == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenGap:
    """What a target's last successful attempt was asked for and did not have."""

    cluster: str
    source: str
    target: str
    subject: str
    metric: str | None
    reason: str
    first_seen: datetime
    last_seen: datetime


def watermarks(engine: Engine, source_id: int) -> dict[str, datetime]:
    """How far each target of a source has been read."""
    table = table_of(Watermark)
    with reading(engine) as connection:
        rows = connection.execute(select(table.c.target, table.c.read_until).where(table.c.source_id == source_id))
        return {row.target: row.read_until for row in rows}


def data_version(engine: Engine) -> str:
    """Changes whenever an attempt was stored: a cheap key for what was computed from the store."""
    with reading(engine) as connection:
        newest = connection.execute(select(func.max(_ATTEMPTS.c.id))).scalar_one()
    return str(newest or 0)


def last_observed_at(engine: Engine) -> datetime | None:
    """When the newest reading of any source was observed."""
    with reading(engine) as connection:
        newest: datetime | None = connection.execute(select(func.max(_ATTEMPTS.c.last_observed_at))).scalar_one()
    return newest


def source_health(engine: Engine, now: datetime) -> tuple[SourceHealth, ...]:
    """Every target that was ever tried (and not pruned since), by cluster, source and target.

    Reads a few index entries per target, however long the history of attempts is.
    """
    with reading(engine) as connection:
        rows = connection.execute(_health_statement()).mappings().all()
    return tuple(
        SourceHealth(
            **{name: row[name] for name in row if name != "ok"},
            age_s=None if row["last_observed_at"] is None else (now - row["last_observed_at"]).total_seconds(),
        )
        for row in rows
    )


def open_gaps(engine: Engine) -> tuple[OpenGap, ...]:
    """What is missing as of each target's last successful attempt, by cluster, source, target and subject."""
    last_success = _last_success(_GAPS.c.source_id, _GAPS.c.target)
    statement = (
        select(
            _CLUSTERS.c.name.label("cluster"),
            _SOURCES.c.name.label("source"),
            *(_GAPS.c[name] for name in ("target", "subject", "metric", "reason", "first_seen", "last_seen")),
        )
        .join(_SOURCES, _SOURCES.c.id == _GAPS.c.source_id)
        .join(_CLUSTERS, _CLUSTERS.c.id == _SOURCES.c.cluster_id)
        .where(_GAPS.c.last_seen >= last_success)
        .order_by(_CLUSTERS.c.name, _SOURCES.c.name, _GAPS.c.target, _GAPS.c.subject, _GAPS.c.metric, _GAPS.c.reason)
    )
    with reading(engine) as connection:
        rows = connection.execute(statement).mappings().all()
    return tuple(OpenGap(**{**row, "metric": row["metric"] or None}) for row in rows)


def _health_statement() -> Select[Any]:
    targets = _targets()
    last, older = _ATTEMPTS.alias("last"), _ATTEMPTS.alias("older")
    of_target = and_(older.c.source_id == targets.c.source_id, older.c.target == targets.c.target)
    newest_start = select(func.max(older.c.started_at)).where(of_target).scalar_subquery()
    last_success = _last_success(targets.c.source_id, targets.c.target)
    observed = (
        select(older.c.last_observed_at)
        .where(of_target, older.c.last_observed_at.is_not(None))
        .order_by(older.c.started_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    since_success = func.coalesce(last_success, literal(_BEFORE_ALL, UTCDateTime()))  # "or is null" would read them all
    failures = (
        select(func.count()).select_from(older).where(of_target, older.c.started_at > since_success).scalar_subquery()
    )
    failing_since = (
        select(func.min(older.c.started_at)).where(of_target, older.c.started_at > since_success).scalar_subquery()
    )
    gaps = (
        select(func.count())
        .select_from(_GAPS)
        .where(
            _GAPS.c.source_id == targets.c.source_id,
            _GAPS.c.target == targets.c.target,
            _GAPS.c.last_seen >= last_success,
        )
        .scalar_subquery()
    )
    return (
        select(
            _CLUSTERS.c.name.label("cluster"),
            _SOURCES.c.name.label("source"),
            _SOURCES.c.kind,
            targets.c.target,
            func.coalesce(last.c.interval_s, _SOURCES.c.interval_s).label("interval_s"),
            last.c.started_at.label("last_attempt_at"),
            last_success.label("last_success_at"),
            observed.label("last_observed_at"),
            last.c.seconds,
            last.c.readings,
            failures.label("consecutive_failures"),
            last.c.error_kind,
            last.c.error,
            last.c.permanent,
            gaps.label("open_gaps"),
            failing_since.label("failing_since"),
        )
        .select_from(targets)
        .join(_SOURCES, _SOURCES.c.id == targets.c.source_id)
        .join(_CLUSTERS, _CLUSTERS.c.id == _SOURCES.c.cluster_id)
        .join(
            last,
            and_(
                last.c.source_id == targets.c.source_id,
                last.c.target == targets.c.target,
                last.c.started_at == newest_start,
            ),
        )
        .where(targets.c.target.is_not(None))
        .order_by(_CLUSTERS.c.name, _SOURCES.c.name, targets.c.target)
    )


def _targets() -> CTE:
    """Each target of each source, found by hopping along the index from one to the next; ends with a NULL each."""
    attempts = _ATTEMPTS.alias("hop")
    first = select(
        _SOURCES.c.id.label("source_id"),
        select(func.min(attempts.c.target))
        .where(attempts.c.source_id == _SOURCES.c.id)
        .scalar_subquery()
        .label("target"),
    ).cte("targets", recursive=True)
    following = (
        select(func.min(attempts.c.target))
        .where(attempts.c.source_id == first.c.source_id, attempts.c.target > first.c.target)
        .scalar_subquery()
    )
    return first.union_all(select(first.c.source_id, following).where(first.c.target.is_not(None)))


def _last_success(source_id: ColumnElement[int], target: ColumnElement[str]) -> ScalarSelect[datetime]:
    attempts = _ATTEMPTS.alias("success")
    return (
        select(func.max(attempts.c.started_at))
        .where(attempts.c.source_id == source_id, attempts.c.target == target, attempts.c.ok.is_(True))
        .correlate_except(attempts)  # also when it stands two levels below the rows it is about
        .scalar_subquery()
    )
