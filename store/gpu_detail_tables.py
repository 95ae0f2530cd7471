"""The tables of what NVML alone tells of a GPU: compute instances and processes; and what sources say of themselves."""

from datetime import datetime

from sqlalchemy import BigInteger, Column, UniqueConstraint
from sqlmodel import Field, SQLModel


class ComputeInstanceRecord(SQLModel, table=True):
    """A compute instance over its life; `mig_uuid` names the MIG device that processes see."""

    __tablename__ = "compute_instance_record"
    __table_args__ = (UniqueConstraint("cluster_id", "gpu_uuid", "gi_id", "ci_id", "valid_from"),)

    id: int | None = Field(default=None, primary_key=True)
    cluster_id: int = Field(foreign_key="cluster.id")
    gpu_uuid: str = Field(index=True)
    gi_id: int
    ci_id: int = -1  # -1 where the source does not tell: NULLs are never equal in a unique key
    profile: str | None = None
    mig_uuid: str | None = None
    valid_from: datetime
    valid_to: datetime | None = Field(default=None, index=True)
    last_seen: datetime


class ProcessRecord(SQLModel, table=True):
    """A process on a device over an interval; null is what could not be learned of it."""

    __tablename__ = "process_record"
    __table_args__ = (UniqueConstraint("cluster_id", "gpu_uuid", "gi_id", "pid", "valid_from"),)

    id: int | None = Field(default=None, primary_key=True)
    cluster_id: int = Field(foreign_key="cluster.id")
    gpu_uuid: str = Field(index=True)
    gi_id: int = -1
    pid: int
    kind: str
    name: str | None = None
    memory_bytes: int | None = Field(default=None, sa_column=Column(BigInteger))
    user: str | None = None
    pod_uid: str | None = None
    container_id: str | None = None
    valid_from: datetime
    valid_to: datetime | None = Field(default=None, index=True)
    last_seen: datetime


class SourceFound(SQLModel, table=True):
    """What a target said of itself last: its version, which names it speaks."""

    __tablename__ = "source_found"

    source_id: int = Field(foreign_key="source.id", primary_key=True)
    target: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    value: str
    last_seen: datetime
