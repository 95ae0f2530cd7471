"""Everything that the join is made of, as the sources told it about one cluster over one window."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from planner.cluster_facts import ClaimedDevice, KubernetesNode, KubernetesPod
from planner.fleet import Pod
from planner.readings import Subject
from planner.serving_readings import ServingFact
from planner.units import NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """A device that work is placed on: a whole GPU, or one GPU instance.

    `pods` are those that sources of devices saw on it, `shared` when one of them saw several. `mig_uuids` are those of
    its compute instances. `sm_active_ratio` is the mean over the window, None where nothing measured it.
    """

    subject: Subject
    node: NodeName
    pci_bus_id: str | None = None
    profile: str | None = None
    pods: tuple[Pod, ...] = ()
    shared: bool = False
    mig_uuids: tuple[str, ...] = ()
    sm_active_ratio: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTraffic:
    """What one server counted for one model over the window, all its ranks together; None is not counted.

    `covered_s` is how much of the window its counters were read over; `requests_running` is the newest gauge.
    """

    model: str
    requests: float | None = None
    prompt_tokens: float | None = None
    generation_tokens: float | None = None
    requests_running: float | None = None
    covered_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """A server with what it counted; `is_asleep` says that the engine sleeps and holds no weights or no cache."""

    fact: ServingFact
    traffic: tuple[EngineTraffic, ...] = ()
    is_asleep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    """What a gateway or trace store totals over the window for one model, of one owner or of nobody in particular.

    `owner` is "" for what is told of the model as a whole and no owner's part is known.
    """

    model: str
    provider: str = ""
    owner: str = ""
    requests: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinFacts:
    """One cluster over one window.

    `nodes`, `pods` and `claims` are None where nobody reads Kubernetes or may not read that. `uses` are parts that add
    up: no total stands beside its parts. `aliases` maps a gateway's names of models to those of servers.
    """

    start: datetime
    end: datetime
    devices: tuple[DeviceFacts, ...] = ()
    servers: tuple[ServerFacts, ...] = ()
    nodes: tuple[KubernetesNode, ...] | None = None
    pods: tuple[KubernetesPod, ...] | None = None
    claims: tuple[ClaimedDevice, ...] | None = None
    uses: tuple[ModelUse, ...] = ()
    dimension: str = ""  # what owners of `uses` are: "team", "user"
    told_by: str | None = None  # the source of `uses`
    uses_spread: str | None = None  # what was assumed to cut them out of longer spans, as a clause
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def window_s(self) -> float:
        """Length of the window."""
        return (self.end - self.start).total_seconds()
