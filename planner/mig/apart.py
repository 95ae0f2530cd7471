"""Replicas kept apart while workloads get their places: what the programme counted together is told apart here.

Most replicas find places apart by themselves, as most instances could serve most requests. Those that do not are named
to the programme, which is then solved again (`naming.py`).
"""

from collections import defaultdict, deque
from collections.abc import Sequence

from planner.errors import PlanContradiction
from planner.mig.model import Model
from planner.mig.open_gpus import Item, OpenGpu
from planner.mig.problem import Spread


class Apart:
    """Who is where among the watched services, and who still shares what it must not."""

    def __init__(self, model: Model, open_gpus: Sequence[OpenGpu]) -> None:
        self._watched = model.state.watched
        self._there: dict[tuple[str, str], int] = defaultdict(int)  # service and place -> replicas
        self._unsettled: list[tuple[Item, str, OpenGpu]] = []
        self._placed: dict[tuple[object, str], list[tuple[OpenGpu, int]]] = defaultdict(list)
        if not self._watched:
            return
        service_of = model.state.watched_service
        for present in model.state.gpus:
            if present.is_frozen:
                for instance in present.instances:
                    for name in instance.workloads:
                        if name in service_of:
                            self._there[
                                service_of[name], self._place(service_of[name], present.gpu.id, present.gpu.node)
                            ] += 1
        for gpu in open_gpus:
            for kept in gpu.kept:
                for name in kept.workloads:
                    if name in service_of:
                        self._there[service_of[name], self._place(service_of[name], gpu.id, gpu.node)] += 1

    def place(self, item: Item, profile: str, queue: deque[OpenGpu]) -> None:
        """Give the item the first open instance where none of its services is; else any, to be settled later."""
        first = None
        for gpu in queue:
            if gpu.open[profile]:
                first = first or gpu
                if not self._clashes(item, gpu):
                    self._put(item, profile, gpu)
                    return
        if first is None:
            raise PlanContradiction(f"No instance of {profile} is left for a request that was counted.")
        self._put(item, profile, first)
        self._unsettled.append((item, profile, first))

    def settle(self) -> None:
        """Exchange places until no replicas share one; raises PlanContradiction with the services that still do."""
        stuck: list[str] = []
        for item, profile, gpu in self._unsettled:
            if self._still_clashes(item, gpu) and not self._exchange(item, profile, gpu):
                stuck += item.services
        if stuck:
            names = frozenset(stuck)
            raise PlanContradiction(f"Replicas of {', '.join(sorted(names))} found no places apart.", names)

    def _exchange(self, item: Item, profile: str, gpu: OpenGpu) -> bool:
        """Swap the item with one of the same row and profile elsewhere, so that both lie well."""
        for other_gpu, index in self._placed[item.row, profile]:
            other = other_gpu.placed[index][1]
            if other is None or other_gpu is gpu or other is item:
                continue
            self._count(item, gpu, -1)
            self._count(other, other_gpu, -1)
            fits = not self._clashes(item, other_gpu)
            self._count(item, other_gpu, 1)  # before the other is looked at: both may come to share a node
            if fits and not self._clashes(other, gpu):
                position = next(i for i, (_, who) in enumerate(gpu.placed) if who is item)
                gpu.placed[position] = (profile, other)
                other_gpu.placed[index] = (profile, item)
                self._count(other, gpu, 1)
                return True
            self._count(item, other_gpu, -1)
            self._count(item, gpu, 1)
            self._count(other, other_gpu, 1)
        return False

    def _put(self, item: Item, profile: str, gpu: OpenGpu) -> None:
        gpu.open[profile] -= 1
        gpu.placed.append((profile, item))
        self._placed[item.row, profile].append((gpu, len(gpu.placed) - 1))
        self._count(item, gpu, 1)

    def _count(self, item: Item, gpu: OpenGpu, change: int) -> None:
        for service in item.services:
            self._there[service, self._place(service, gpu.id, gpu.node)] += change

    def _clashes(self, item: Item, gpu: OpenGpu) -> bool:
        return any(self._there[service, self._place(service, gpu.id, gpu.node)] for service in item.services)

    def _still_clashes(self, item: Item, gpu: OpenGpu) -> bool:
        return any(self._there[service, self._place(service, gpu.id, gpu.node)] > 1 for service in item.services)

    def _place(self, service: str, gpu: str, node: str) -> str:
        return f"gpu {gpu}" if self._watched[service] is Spread.GPU else f"node {node}"
