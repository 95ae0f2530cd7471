"""What a MIG planning problem says: GPUs as they are cut now, workloads, rules and prices.

`planner/mig/problem_file.py` builds a `Problem` from a file and `planner/mig/fleet_problem.py` from the measured fleet;
both hand over a checked one: profiles spelled as the catalogue spells them, ids unique, running layouts legal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from planner.hardware import Board

EVERY = "*"
"""Stands for every node, service or tenant in a rule."""


class Spread(StrEnum):
    """What two replicas of one service must not share."""

    GPU = "gpu"
    NODE = "node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One thing that needs one GPU instance of `profile`; replicas of a `service` are workloads of their own."""

    id: str
    profile: str  # name of a GPU instance profile, as the catalogue spells it
    service: str | None = None
    tenant: str | None = None
    pinned: bool = False  # stays on its GPU at its start if it runs


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningInstance:
    """One GPU instance that exists now. Its workloads are more than one only where it holds several compute instances.

    `start` is None where no source tells it. `compute_instances` are profiles such as `1c.3g.20gb`, one per MIG device
    of the instance; empty means one compute instance over all of it. All of them share the instance's framebuffer.
    """

    profile: str
    start: int | None
    workloads: tuple[str, ...] = ()
    compute_instances: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemGpu:
    """One GPU as it is now. `board` is already what its driver allows (`planner.mig_exceptions.board_under`).

    `driver` and `product` are what `board` was derived from; `index` is the GPU's number on its node as NVML counts.
    """

    id: str
    node: str
    board: Board
    instances: tuple[RunningInstance, ...] = ()
    mig_enabled: bool | None = None  # None: not known; a GPU with instances is in MIG mode
    occupied_whole: bool = False  # something holds it without MIG: nothing can be planned on it, it counts as used
    driver: str | None = None
    product: str | None = None
    index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Elastic:
    """As many more empty GPUs of these boards as are needed, in nodes of `gpus_per_node`."""

    boards: tuple[Board, ...]
    gpus_per_node: int = 8
    driver: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """Keep so many free instances of the profile, ready to be taken."""

    profile: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Upsize:
    """A request for `profile` may be served by one of the larger profiles `to`, at `price` for each that is.

    The price is in the unit of the first objective: US dollars per hour when the problem has prices, else GPUs.
    """

    profile: str
    to: tuple[str, ...]
    price: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a plan must respect beside geometry. `EVERY` in a set stands for all."""

    single_nodes: frozenset[str] = frozenset()  # MIG strategy `single`: one profile on all GPUs of the node, or no MIG
    spread: Mapping[str, Spread] = field(default_factory=dict)  # service, or EVERY -> what its replicas do not share
    isolated_tenants: frozenset[str] = frozenset()  # share no GPU with any other tenant, nor with work of none
    reserves: tuple[Reserve, ...] = ()
    survive_node_loss: bool = False  # the free instances elsewhere can take, profile by profile, any one node's work
    upsizes: tuple[Upsize, ...] = ()
    untouchable_gpus: frozenset[str] = frozenset()  # nothing is created, destroyed, moved or placed there
    untouchable_nodes: frozenset[str] = frozenset()
    stay_on_board: bool = False  # what runs moves only between GPUs of its board, though others have the profile's name
    max_moves: int | None = None

    def spread_of(self, service: str | None) -> Spread | None:
        """What the replicas of the service must not share; None when nothing is asked."""
        if service is None:
            return None
        return self.spread.get(service, self.spread.get(EVERY))

    def isolation_of(self, tenant: str | None) -> str | None:
        """The tenant itself when it shares GPUs with no other, else None."""
        if tenant is not None and (tenant in self.isolated_tenants or EVERY in self.isolated_tenants):
            return tenant
        return None

    def is_single(self, node: str) -> bool:
        """Whether the node runs with MIG strategy `single`."""
        return node in self.single_nodes or EVERY in self.single_nodes

    def is_untouchable(self, gpu: ProblemGpu) -> bool:
        """Whether the GPU stays exactly as it is."""
        return gpu.id in self.untouchable_gpus or gpu.node in self.untouchable_nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A checked planning problem. `workloads` are all that exist or wait; one that an instance names is running.

    `new` are further requests, which `compact` and `reconfigure` leave out. `prices` is empty, or US dollars per hour
    for every board that occurs.
    """

    gpus: tuple[ProblemGpu, ...] = ()
    elastic: Elastic | None = None
    workloads: tuple[Workload, ...] = ()
    new: tuple[Workload, ...] = ()
    rules: Rules = field(default_factory=Rules)
    prices: Mapping[str, float] = field(default_factory=dict)
    evens_nodes: bool = False  # among equal plans one that loads the nodes evenly, not one that frees whole nodes

    def running_ids(self) -> frozenset[str]:
        """Ids of the workloads that an instance names."""
        return frozenset(name for gpu in self.gpus for instance in gpu.instances for name in instance.workloads)
