"""The one shape in which every source hands over what it said: readings, facts and gaps, in the planner's words."""

from dataclasses import dataclass
from datetime import datetime

from planner.hardware import MigMode
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
    """A pod seen on a GPU (`gi_id` None) or a GPU instance; `shared` when several pods are seen on one device."""

    gi_id: int | None
    namespace: str
    name: str
    container: str | None = None
    uid: str | None = None
    shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class InstanceFact:
    """A GPU instance seen on a GPU; `start` is None where the source cannot tell the placement (DCGM cannot)."""

    gi_id: int
    profile: str
    start: int | None = None


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

    readings: tuple[Reading, ...]
    facts: tuple[GpuFact, ...]
    gaps: tuple[Gap, ...]
    nodes_complete: frozenset[NodeName] = frozenset()
    watermark: datetime | None = None
