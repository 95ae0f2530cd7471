"""The one shape in which every source hands over what it said: readings, facts and gaps, in the planner's words."""

from dataclasses import dataclass
from datetime import datetime

from planner.cluster_facts import ClusterState
from planner.hardware import MigMode
from planner.serving_readings import CounterReading, GaugeReading, HistogramReading, ServingFact
from planner.token_usage import CumulativeSpend, TokenUsage, UsageSpan
from planner.units import GpuUuid, NodeName


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Subject:
    """The device a reading is about: a whole GPU (`gi_id` is None) or one of its GPU instances."""

    gpu_uuid: GpuUuid
    gi_id: int | None = None

    def __str__(self) -> str:
        return self.gpu_uuid if self.gi_id is None else f"{self.gpu_uuid}/{self.gi_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One value of one metric of `planner.metrics`, in base units; never NaN, an absent value is a gap."""

    subject: Subject
    metric: str
    value: float
    observed_at: datetime  # the source's time, aware UTC


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PodFact:
    """A pod seen on a GPU (`gi_id` None) or a GPU instance; `shared` when several pods are seen on one device.

    Where a source knows the uid alone (NVML, by the cgroup of a process), `namespace` is "" and `name` is the uid.
    """

    gi_id: int | None
    namespace: str
    name: str
    container: str | None = None
    uid: str | None = None
    shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFact:
    """A process on a GPU (`gi_id` None) or a GPU instance; what could not be learned of it is None.

    `kind` is "compute", "graphics" or "mps" (a client of the MPS server). `memory_bytes` is what the driver counts for
    it; `user` is the name or "uid N" of its owner; `pod_uid` and `container_id` come from its cgroup.
    """

    gi_id: int | None
    pid: int
    kind: str
    name: str | None = None
    memory_bytes: int | None = None
    user: str | None = None
    pod_uid: str | None = None
    container_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ComputeInstanceFact:
    """A compute instance, which a process sees as a MIG device: its profile (`1c.3g.71gb`) and its UUID (`MIG-...`)."""

    ci_id: int | None
    profile: str | None
    mig_uuid: str | None


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class InstanceFact:
    """A GPU instance seen on a GPU; `start` is None where the source cannot tell the placement (DCGM cannot).

    `compute_instances` are those that share it, its memory among them; empty where the source cannot tell.
    """

    gi_id: int
    profile: str
    start: int | None = None
    compute_instances: tuple[ComputeInstanceFact, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFact:
    """Everything one source says about one GPU at one moment.

    It is complete: an instance or a pod that is not in it was not there at `observed_at`. Absent attributes are
    None and say nothing (the store keeps what it knew).
    """

    observed_at: datetime
    gpu_uuid: GpuUuid
    node: NodeName
    index: int | None
    model_name: str | None
    pci_bus_id: str | None
    driver_version: str | None
    mig_mode: MigMode | None
    instances: tuple[InstanceFact, ...]
    pods: tuple[PodFact, ...]
    processes: tuple[ProcessFact, ...] = ()  # only NVML tells


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Gap:
    """What was asked for and is not available, with the reason in a sentence.

    `subject` is the device (`str(Subject)`), the target, or a field name; `metric` is one of `planner.metrics` or None.
    """

    subject: str
    metric: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one attempt at one target yielded; written in one transaction.

    `nodes_complete` names the nodes of which `facts` holds every GPU: GPUs of those nodes that are not in it are gone.
    `watermark` is how far a source with a memory of its own (Prometheus) has been read by this batch.
    """

    readings: tuple[Reading, ...] = ()
    facts: tuple[GpuFact, ...] = ()
    gaps: tuple[Gap, ...] = ()
    gauges: tuple[GaugeReading, ...] = ()
    counters: tuple[CounterReading, ...] = ()
    histograms: tuple[HistogramReading, ...] = ()
    servers: tuple[ServingFact, ...] = ()
    cluster_state: ClusterState | None = None
    usage: tuple[TokenUsage, ...] = ()
    usage_spans: tuple[UsageSpan, ...] = ()  # `usage` is complete there
    spend: tuple[CumulativeSpend, ...] = ()
    found: tuple[tuple[str, str], ...] = ()  # what the source says of itself: ("version", "4.8.2")
    nodes_complete: frozenset[NodeName] = frozenset()
    watermark: datetime | None = None

    @property
    def reading_count(self) -> int:
        """How many numbers it holds, of whatever kind."""
        told = (self.readings, self.gauges, self.counters, self.histograms, self.usage, self.spend)
        return sum(map(len, told))

    @property
    def fact_count(self) -> int:
        """How many descriptions it holds: of GPUs, of servers, and of the objects of a cluster."""
        state = self.cluster_state
        objects = (state.nodes, state.pods, state.quotas, state.claimed_devices) if state else ()
        return len(self.facts) + len(self.servers) + sum(len(one) for one in objects if one is not None)
