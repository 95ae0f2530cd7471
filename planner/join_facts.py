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

    `pods` are those that sources of devices saw on it, `shared` when one of them saw several. `old_pods` are those
    of them that no source has named for so long that they say nothing about now. `mig_uuids` are those of its compute
    instances. `sm_active_ratio` is the mean over the window, None where nothing measured it.
    """

    subject: Subject
    node: NodeName
    pci_bus_id: str | None = None
    profile: str | None = None
    pods: tuple[Pod, ...] = ()
    old_pods: frozenset[Pod] = frozenset()
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
    """A server with what it counted; `is_asleep` says that the engine sleeps and holds no weights or no cache.

    `ended` says, as a clause, why what it counted belongs to no device of now: the server has gone, or has moved since.
    A server that moved in the window is told twice, as it is and as it was. `read_s` is the time of the window in which
    any of its counters was read, None for that of the model that was read longest. `rate_s` is the time over which its
    counts are spread in a rate of the whole fleet, None for `counted_s`. `is_read_once` says that counters were read,
    and never a second time.
    """

    fact: ServingFact
    traffic: tuple[EngineTraffic, ...] = ()
    is_asleep: bool = False
    ended: str | None = None
    read_s: float | None = None
    rate_s: float | None = None
    is_read_once: bool = False

    @property
    def counted_s(self) -> float:
        """How much of the window its counters were read over, whichever model they were of."""
        if self.read_s is not None:
            return self.read_s
        return max((one.covered_s for one in self.traffic), default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    """What a gateway or trace store totals over the window for one model, of one owner or of nobody in particular.

    `owner` is "" for what is told of the model as a whole and no owner's part is known. `unpriced_requests` are those
    of spans for which no cost is told while it is for others: `cost_usd` is then of a part of the use only. None where
    every span has its cost or none has.
    """

    model: str
    provider: str = ""
    owner: str = ""
    requests: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    cost_usd: float | None = None
    unpriced_requests: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinFacts:
    """One cluster over one window.

    `nodes`, `pods` and `claims` are None where nobody reads Kubernetes or may not read that. `uses` are parts that add
    up: no total stands beside its parts. `aliases` maps a gateway's names of models to those of servers. `strays`
    are endpoints that counted and of which nothing else was ever told.
    """

    start: datetime
    end: datetime
    devices: tuple[DeviceFacts, ...] = ()
    servers: tuple[ServerFacts, ...] = ()
    strays: Mapping[str, tuple[EngineTraffic, ...]] = field(default_factory=dict)
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
