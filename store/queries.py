"""What pages and collectors ask the store, one typed function per question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, func, select

from planner.readings import Subject
from planner.units import NodeName
from store.database import reading
from store.tables import (
    Cluster,
    CollectionAttempt,
    DeviceKey,
    Sample,
    Source,
    SourceGap,
    Watermark,
    table_of,
)

_CLUSTERS = table_of(Cluster)
_SOURCES = table_of(Source)
_ATTEMPTS = table_of(CollectionAttempt)
_GAPS = table_of(SourceGap)
_DEVICES = table_of(DeviceKey)
_SAMPLES = table_of(Sample)

_LARGEST_IN_BUCKET = frozenset({"xid_code", "clock_event_reasons", "row_remap_failed"})
"""Codes and flags: the mean of two codes is no code, so a bucket shows the largest one seen in it."""

_SPACING_SAMPLES = 50  # newest samples that tell how far apart a device's samples are


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceHealth:
    """How one target of one source does; `age_s` is the age of its newest reading, None when it never had any."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One device over time in equal buckets; a bucket without a value is None, so that a line breaks there.

    Each bucket holds the mean of a gauge, the largest code of a code, and the largest reading of a counter: the rate
    is the caller's to make.
    """

    subject: Subject
    step_s: float
    times: tuple[datetime, ...]  # start of each bucket
    values: Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceActivity:
    """How busy one device was, bucket by bucket, by the best activity metric it has; None where nothing was said."""

    cluster: str
    node: NodeName
    gpu_index: int | None
    subject: Subject
    profile: str | None  # of a GPU instance
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityGrid:
    """Activity of many devices over the same buckets, by cluster, node, GPU index and GPU instance."""

    step_s: float
    times: tuple[datetime, ...]  # start of each bucket
    devices: tuple[DeviceActivity, ...]


ACTIVITY_METRICS = ("sm_active_ratio", "gr_engine_active_ratio", "gpu_busy_ratio")
"""What says best how busy a device is, best first: the rest counts an engine as busy when any kernel runs."""


def watermarks(engine: Engine, source_id: int) -> dict[str, datetime]:
    """How far each target of a source has been read."""
    table = table_of(Watermark)
    with reading(engine) as connection:
        rows = connection.execute(select(table.c.target, table.c.read_until).where(table.c.source_id == source_id))
        return {target: read_until for target, read_until in rows}


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
    """Every target that was ever tried (and not pruned since), by cluster, source and target."""
    raise NotImplementedError


def open_gaps(engine: Engine) -> tuple[OpenGap, ...]:
    """What is missing as of each target's last successful attempt, by cluster, source, target and subject."""
    raise NotImplementedError


def device_history(
    engine: Engine,
    subject: Subject,
    metrics: Sequence[str],
    start: datetime,
    end: datetime,
    *,
    max_points: int = 300,
    cluster: str | None = None,
) -> History:
    """What one device measured from `start` to `end`, in at most `max_points` buckets."""
    raise NotImplementedError


def node_activity(
    engine: Engine,
    start: datetime,
    end: datetime,
    *,
    max_points: int = 60,
    cluster: str | None = None,
    nodes: Sequence[str] | None = None,
) -> ActivityGrid:
    """How busy every device was from `start` to `end`, for the heat map; `nodes` narrows it down."""
    raise NotImplementedError
