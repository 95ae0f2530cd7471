"""What Kubernetes says about nodes, pods, quotas and claimed devices, as far as GPUs are concerned."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from planner.units import GpuUuid, NodeName


class Sharing(StrEnum):
    """How a node hands one GPU to several pods (label nvidia.com/gpu.sharing-strategy)."""

    NONE = "none"
    TIME_SLICING = "time-slicing"
    MPS = "mps"


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesNode:
    """A node that has, had or may have GPUs.

    `capacity` and `allocatable` hold the GPU resources only (nvidia.com/gpu, nvidia.com/gpu.shared, nvidia.com/mig-*).
    `labels` are those of NVIDIA's operators and of topology and instance type. `gpu_count` is the number of GPUs, not
    of MIG devices: None where the labels cannot tell (strategy `single`).
    """

    name: NodeName
    uid: str
    labels: Mapping[str, str]
    capacity: Mapping[str, int]
    allocatable: Mapping[str, int]
    taints: tuple[str, ...]  # key=value:effect
    unschedulable: bool
    ready: bool | None
    product: str | None
    gpu_count: int | None
    replicas: int | None  # of time-slicing or MPS
    sharing: Sharing | None
    mig_strategy: str | None  # none, single, mixed
    mig_config: str | None
    mig_config_state: str | None  # success, pending, failed, rebooting
    addresses: tuple[str, ...] = ()
    driver_version: str | None = None  # as NVIDIA writes it: 580.126.09


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesPod:
    """A pod that asks for GPUs, or that a serving endpoint was discovered at."""

    namespace: str
    name: str
    uid: str
    node: NodeName | None
    phase: str
    owner_kind: str | None  # the outermost known: Deployment for a ReplicaSet's pod
    owner_name: str | None
    priority: int | None
    priority_class: str | None
    requests: Mapping[str, int]  # GPU resources of all containers
    containers: tuple[str, ...]  # those that ask for GPUs, or use a claim
    pod_ip: str | None
    host_ip: str | None
    labels: Mapping[str, str]  # those that the configuration names, and app.kubernetes.io/*
    claims: tuple[str, ...]  # resource claims, by name
    pending_reason: str | None  # of the condition PodScheduled, with its message
    created_at: datetime
    started_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesQuota:
    """A quota on GPU resources in a namespace."""

    namespace: str
    name: str
    hard: Mapping[str, int]
    used: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedDevice:
    """A device that dynamic resource allocation gave to a claim; `gpu_uuid` is the parent GPU of a MIG device."""

    claim_namespace: str
    claim_name: str
    pods: tuple[str, ...]  # names of the pods that reserved it, in the claim's namespace
    driver: str
    pool: str
    device: str
    node: NodeName | None
    gpu_uuid: GpuUuid | None
    mig_uuid: str | None
    profile: str | None
    pci_bus_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterState:
    """Everything that one look at a cluster yielded; a list that could not be read is None, and a gap says why."""

    observed_at: datetime
    nodes: tuple[KubernetesNode, ...] | None
    pods: tuple[KubernetesPod, ...] | None
    quotas: tuple[KubernetesQuota, ...] | None = None
    claimed_devices: tuple[ClaimedDevice, ...] | None = None
    version: str | None = None
    details: Mapping[str, str] = field(default_factory=dict)
