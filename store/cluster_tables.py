"""The tables of servers and of what Kubernetes knows: rows only, each with the time over which it was so.

Lists and maps are JSON text. A new row is made on every change of what matters; `valid_to` is null while it lasts.
"""

from datetime import datetime

from sqlalchemy import BigInteger, Column, UniqueConstraint
from sqlmodel import Field, SQLModel


class ServerRecord(SQLModel, table=True):
    """What was known of the server at an endpoint over an interval; null is unknown."""

    __tablename__ = "server_record"
    __table_args__ = (UniqueConstraint("cluster_id", "endpoint", "valid_from"),)

    id: int | None = Field(default=None, primary_key=True)
    cluster_id: int = Field(foreign_key="cluster.id")
    endpoint: str = Field(index=True)
    engine: str
    version: str | None = None
    settings: str | None = None  # [[name, value], ...]
    pod_namespace: str | None = None
    pod_name: str | None = None
    pod_ip: str | None = None
    node: str | None = None
    gpu_uuids: str | None = None  # [uuid, ...]
    valid_from: datetime
    valid_to: datetime | None = Field(default=None, index=True)
    last_seen: datetime


class ServedModelRecord(SQLModel, table=True):
    """A model that the server at an endpoint offered over an interval; null is unknown."""

    __tablename__ = "served_model_record"
    __table_args__ = (UniqueConstraint("cluster_id", "endpoint", "name", "valid_from"),)

    id: int | None = Field(default=None, primary_key=True)
    cluster_id: int = Field(foreign_key="cluster.id")
    endpoint: str = Field(index=True)
    name: str
    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None
    is_loaded: bool | None = None
    size_bytes: int | None = Field(default=None, sa_column=Column(BigInteger))
    device_bytes: int | None = Field(default=None, sa_column=Column(BigInteger))
    context_tokens: int | None = None
    expires_at: datetime | None = None
    quantization: str | None = None
    digest: str | None = None
    valid_from: datetime
    valid_to: datetime | None = Field(default=None, index=True)
    last_seen: datetime


class ClusterLook(SQLModel, table=True):
    """How far the lists of a cluster are known: when each was read completely, null when it never was."""

    __tablename__ = "cluster_look"

    cluster_id: int = Field(foreign_key="cluster.id", primary_key=True)
    observed_at: datetime
    version: str | None = None
    details: str
    nodes_at: datetime | None = None
    pods_at: datetime | None = None
    quotas_at: datetime | None = None
    claims_at: datetime | None = None


class NodeRecord(SQLModel, table=True):
    """A node of Kubernetes over an interval; null is what it does not have."""

    __tablename__ = "node_record"
    __table_args__ = (UniqueConstraint("cluster_id", "name", "valid_from"),)

    id: int | None = Field(default=None, primary_key=True)
    cluster_id: int = Field(foreign_key="cluster.id")
    name: str
    uid: str
    labels: str
    capacity: str
    allocatable: str
    taints: str
    unschedulable: bool
    ready: bool | None = None
    product: str | None = None
    gpu_count: int | None = None
    replicas: int | None = None
    sharing: str | None = None
    mig_strategy: str | None = None
    mig_config: str | None = None
    mig_config_state: str | None = None
    addresses: str
    driver_version: str | None = None
    valid_from: datetime
    valid_to: datetime | None = Field(default=None, index=True)
    last_seen: datetime


class KubernetesPodRecord(SQLModel, table=True):
    """A pod of Kubernetes that asks for GPUs or serves, over an interval; null is what it does not have."""

    __tablename__ = "kubernetes_pod_record"
    __table_args__ = (UniqueConstraint("cluster_id", "uid", "valid_from"),)

    id: int | None = Field(default=None, primary_key=True)
    cluster_id: int = Field(foreign_key="cluster.id")
    uid: str
    namespace: str
    name: str
    node: str | None = None
    phase: str
    owner_kind: str | None = None
    owner_name: str | None = None
    priority: int | None = None
    priority_class: str | None = None
    requests: str
    containers: str
    pod_ip: str | None = None
    host_ip: str | None = None
    labels: str
    claims: str
    pending_reason: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    valid_from: datetime
    valid_to: datetime | None = Field(default=None, index=True)
    last_seen: datetime


class QuotaRecord(SQLModel, table=True):
    """A quota on GPU resources over an interval."""

    __tablename__ = "quota_record"
    __table_args__ = (UniqueConstraint("cluster_id", "namespace", "name", "valid_from"),)

    id: int | None = Field(default=None, primary_key=True)
    cluster_id: int = Field(foreign_key="cluster.id")
    namespace: str
    name: str
    hard: str
    used: str
    valid_from: datetime
    valid_to: datetime | None = Field(default=None, index=True)
    last_seen: datetime


class ClaimedDeviceRecord(SQLModel, table=True):
    """A device that dynamic resource allocation gave to a claim, over an interval."""

    __tablename__ = "claimed_device_record"
    __table_args__ = (
        UniqueConstraint("cluster_id", "claim_namespace", "claim_name", "driver", "pool", "device", "valid_from"),
    )

    id: int | None = Field(default=None, primary_key=True)
    cluster_id: int = Field(foreign_key="cluster.id")
    claim_namespace: str
    claim_name: str
    driver: str
    pool: str
    device: str
    pods: str
    node: str | None = None
    gpu_uuid: str | None = None
    mig_uuid: str | None = None
    profile: str | None = None
    pci_bus_id: str | None = None
    valid_from: datetime
    valid_to: datetime | None = Field(default=None, index=True)
    last_seen: datetime
