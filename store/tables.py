"""The tables: rows only, no rules. One natural key each; sample times are integer milliseconds since the epoch, UTC.

SQLModel tables do not validate: what comes in was validated at the edge (`collectors/*/wire.py`).
"""

from datetime import datetime

from sqlalchemy import BigInteger, Column, Index, Table, UniqueConstraint
from sqlmodel import Field, SQLModel

from store import cluster_tables as cluster_tables
from store import diagnosis_tables as diagnosis_tables
from store import gpu_detail_tables as gpu_detail_tables
from store import serving_tables as serving_tables
from store import usage_tables as usage_tables

METADATA = SQLModel.metadata
"""Holds the tables of all these files, whichever of them is imported."""

NO_INSTANCE = -1
"""`gi_id` of a whole GPU; a number, because NULLs are never equal in a unique key."""


class Cluster(SQLModel, table=True):
    """A named cluster; every source and inventory row belongs to one."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)


class Source(SQLModel, table=True):
    """A configured source of one cluster."""

    __table_args__ = (UniqueConstraint("cluster_id", "name"),)

    id: int | None = Field(default=None, primary_key=True)
    cluster_id: int = Field(foreign_key="cluster.id")
    name: str
    kind: str
    interval_s: float
    created_at: datetime


class CollectionAttempt(SQLModel, table=True):
    """One try at one target of a source: how long it took, what it yielded, what went wrong."""

    __tablename__ = "collection_attempt"
    __table_args__ = (
        UniqueConstraint("source_id", "target", "started_at"),
        Index("ix_collection_attempt_last_success", "source_id", "target", "ok", "started_at"),
    )

    id: int | None = Field(default=None, primary_key=True)
    source_id: int = Field(foreign_key="source.id")
    target: str
    started_at: datetime = Field(index=True)
    seconds: float
    ok: bool
    readings: int
    facts: int
    gaps: int
    # newest reading of the attempt, by the source's clock
    last_observed_at: datetime | None = Field(default=None, index=True)
    error_kind: str | None = None
    error: str | None = None
    permanent: bool | None = None
    interval_s: float | None = None  # of this target, where it is not its source's


class Watermark(SQLModel, table=True):
    """How far a source with a memory of its own has been read, per target."""

    source_id: int = Field(foreign_key="source.id", primary_key=True)
    target: str = Field(primary_key=True)
    read_until: datetime


class SourceGap(SQLModel, table=True):
    """What a target was asked for and did not have, from when to when."""

    __tablename__ = "source_gap"
    __table_args__ = (UniqueConstraint("source_id", "target", "subject", "metric", "reason"),)

    id: int | None = Field(default=None, primary_key=True)
    source_id: int = Field(foreign_key="source.id")
    target: str
    subject: str
    metric: str = ""  # "" when the gap is not about one metric: NULLs are never equal in a unique key
    reason: str
    first_seen: datetime
    last_seen: datetime


class GpuRecord(SQLModel, table=True):
    """What was known of a GPU over an interval; a new row on every change, open while `valid_to` is null."""

    __tablename__ = "gpu_record"
    __table_args__ = (UniqueConstraint("cluster_id", "gpu_uuid", "valid_from"),)

    id: int | None = Field(default=None, primary_key=True)
    cluster_id: int = Field(foreign_key="cluster.id")
    gpu_uuid: str = Field(index=True)
    node: str = Field(index=True)
    gpu_index: int | None = None
    model_name: str | None = None
    pci_bus_id: str | None = None
    driver_version: str | None = None
    mig_mode: str | None = None
    valid_from: datetime
    valid_to: datetime | None = Field(default=None, index=True)
    last_seen: datetime


class InstanceRecord(SQLModel, table=True):
    """A GPU instance over its life. `start` is null where no source told the placement."""

    __tablename__ = "instance_record"
    __table_args__ = (UniqueConstraint("cluster_id", "gpu_uuid", "gi_id", "valid_from"),)

    id: int | None = Field(default=None, primary_key=True)
    cluster_id: int = Field(foreign_key="cluster.id")
    gpu_uuid: str = Field(index=True)
    gi_id: int
    profile: str
    start: int | None = None
    valid_from: datetime
    valid_to: datetime | None = Field(default=None, index=True)
    last_seen: datetime


class PodRecord(SQLModel, table=True):
    """A pod on a device over an interval."""

    __tablename__ = "pod_record"
    __table_args__ = (
        UniqueConstraint("cluster_id", "gpu_uuid", "gi_id", "namespace", "name", "container", "valid_from"),
    )

    id: int | None = Field(default=None, primary_key=True)
    cluster_id: int = Field(foreign_key="cluster.id")
    gpu_uuid: str = Field(index=True)
    gi_id: int = NO_INSTANCE
    namespace: str
    name: str
    container: str = ""
    uid: str | None = None
    shared: bool = False
    valid_from: datetime
    valid_to: datetime | None = Field(default=None, index=True)
    last_seen: datetime


class DeviceKey(SQLModel, table=True):
    """A small number for (cluster, GPU, GPU instance), so that samples stay narrow."""

    __tablename__ = "device_key"
    __table_args__ = (UniqueConstraint("cluster_id", "gpu_uuid", "gi_id"),)

    id: int | None = Field(default=None, primary_key=True)
    cluster_id: int = Field(foreign_key="cluster.id")
    gpu_uuid: str
    gi_id: int = NO_INSTANCE


class Sample(SQLModel, table=True):
    """Everything measured of one device at one moment: one column per row of `planner.metrics`, null where absent."""

    __table_args__ = ({"sqlite_with_rowid": False},)

    device_id: int = Field(foreign_key="device_key.id", primary_key=True)
    observed_at_ms: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    gpu_busy_ratio: float | None = None
    memory_busy_ratio: float | None = None
    encoder_busy_ratio: float | None = None
    decoder_busy_ratio: float | None = None
    memory_used_bytes: float | None = None
    memory_free_bytes: float | None = None
    memory_reserved_bytes: float | None = None
    memory_total_bytes: float | None = None
    gr_engine_active_ratio: float | None = None
    sm_active_ratio: float | None = None
    sm_occupancy_ratio: float | None = None
    tensor_active_ratio: float | None = None
    dram_active_ratio: float | None = None
    fp64_active_ratio: float | None = None
    fp32_active_ratio: float | None = None
    fp16_active_ratio: float | None = None
    sm_clock_hertz: float | None = None
    memory_clock_hertz: float | None = None
    temperature_celsius: float | None = None
    memory_temperature_celsius: float | None = None
    power_watts: float | None = None
    energy_joules: float | None = None
    pcie_tx_bytes_per_s: float | None = None
    pcie_rx_bytes_per_s: float | None = None
    nvlink_tx_bytes_per_s: float | None = None
    nvlink_rx_bytes_per_s: float | None = None
    nvlink_bytes_per_s: float | None = None
    pcie_replays: float | None = None
    xid_code: float | None = None
    clock_event_reasons: float | None = None
    power_throttle_s: float | None = None
    thermal_throttle_s: float | None = None
    ecc_uncorrectable: float | None = None
    ecc_correctable: float | None = None
    remapped_rows_uncorrectable: float | None = None
    remapped_rows_correctable: float | None = None
    row_remap_failed: float | None = None
    row_remap_pending: float | None = None


class ScenarioRecord(SQLModel, table=True):
    """A what-if scenario that somebody saved; `body` is text of the dashboard's own, `version` says how to read it."""

    __tablename__ = "scenario"

    name: str = Field(primary_key=True)
    saved_at: datetime
    version: int
    body: str


class MemoryRunRecord(SQLModel, table=True):
    """One measured start of an engine beside its prediction; `terms` and `measured` are JSON (`store/memory_runs.py`).

    `digest` is the same for the same measurement. `board` and `profile` are those of the catalogue, null for a device
    that it does not know; `device_bytes` is what CUDA saw, null where the engine did not print it.
    """

    __tablename__ = "memory_run"

    id: int | None = Field(default=None, primary_key=True)
    digest: str = Field(unique=True)
    kept_at: datetime
    measured_at: datetime | None = None
    model: str
    engine: str
    engine_version: str | None = None
    device: str
    ranks: int
    board: str | None = None
    profile: str | None = None
    device_bytes: int | None = Field(default=None, sa_column=Column(BigInteger))
    terms: str
    measured: str


def table_of(model: type[SQLModel]) -> Table:
    """The SQLAlchemy table of a model, for statements over many rows at once."""
    return METADATA.tables[str(model.__tablename__)]
