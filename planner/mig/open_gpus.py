"""Which GPU ends as which column: the counts of a solution handed out to GPUs, and the names of those that are new."""

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from planner.hardware import Board
from planner.mig.columns import Column, Row
from planner.mig.model import GpuClass, Model
from planner.mig.order import natural_key
from planner.mig.problem import Spread
from planner.mig.state import PresentGpu, PresentInstance


@dataclass(slots=True)
class Item:
    """What is placed as one: a unit that moves, or a workload that waits."""

    row: Row
    workloads: tuple[str, ...]
    compute_instances: tuple[str, ...]
    services: tuple[str, ...]


@dataclass(slots=True)
class OpenGpu:
    """One GPU while it is filled: the column it ends as, and how much of its extras is still open."""

    id: str
    node: str
    board: Board
    present: PresentGpu | None
    number: int  # of its class
    column: Column
    names: tuple[str, ...]
    kept: tuple[PresentInstance, ...]
    services: set[str]
    open: Counter[str]
    placed: list[tuple[str, Item | None]] = field(default_factory=list)  # profile and who; None is held free


def open_gpus(model: Model, values: Sequence[int]) -> Iterator[OpenGpu]:
    choice_of = _single_choices(model, values)
    loads: Counter[str] = Counter()  # GPUs in use by node
    for number, gpu_class in enumerate(model.classes):
        ways = deque(
            column for variable, column in gpu_class.variables() for _ in range(values[variable]) if column.used
        )
        if gpu_class.is_elastic:
            for position, column in enumerate(ways):
                node = gpu_class.node or _elastic_node(model, number, gpu_class, position, len(ways))
                yield _open(number, gpu_class, None, column, f"{number}/{position}", node)
            continue
        if gpu_class.single is None:
            idle = [c for variable, c in gpu_class.variables() for _ in range(values[variable]) if not c.used]
            gpus = _evenly(gpu_class.gpus, loads) if model.state.problem.evens_nodes else gpu_class.gpus
            loads.update(present.gpu.node for present in gpus[: len(ways)])
            for present, column in zip(gpus, [*ways, *idle], strict=True):
                yield _open(number, gpu_class, present, column, present.gpu.id, present.gpu.node)
            continue
        by_choice: dict[str, deque[Column]] = defaultdict(deque)
        for variable, column in gpu_class.variables():
            by_choice[column.only or ""].extend([column] * values[variable])
        for present in gpu_class.gpus:
            column = by_choice[choice_of[present.gpu.node]].popleft()
            yield _open(number, gpu_class, present, column, present.gpu.id, present.gpu.node)


def _evenly(gpus: Sequence[PresentGpu], loads: Counter[str]) -> list[PresentGpu]:
    """The GPUs in an order in which any beginning of it loads the nodes evenly."""
    now = Counter(loads)
    order: list[tuple[int, int, PresentGpu]] = []
    for present in gpus:
        order.append((now[present.gpu.node], len(order), present))
        now[present.gpu.node] += 1
    return [present for _, _, present in sorted(order, key=lambda entry: entry[:2])]


def _elastic_node(model: Model, number: int, gpu_class: GpuClass, position: int, count: int) -> str:
    """A node for an elastic GPU where that matters for watched services: enough of them for every replica."""
    elastic = model.state.problem.elastic
    replicas = Counter(
        service for service in model.state.watched_service.values() if model.state.watched[service] is Spread.NODE
    )
    if elastic is None or not replicas or gpu_class.single is not None:
        return ""
    nodes = max(math.ceil(count / elastic.gpus_per_node), min(count, max(replicas.values())))
    return f"elastic {number} {position % nodes}"


def _single_choices(model: Model, values: Sequence[int]) -> dict[str, str]:
    """The profile of every node with strategy `single`; "" where it ends without MIG."""
    found: dict[str, str] = {}
    for single in model.singles:
        nodes = iter(sorted(single.nodes, key=natural_key))
        for choice, variable in single.chosen.items():
            for _ in range(values[variable]):
                node = next(nodes, None)
                if node is not None:
                    found[node] = choice
    return found


def _open(number: int, gpu_class: GpuClass, present: PresentGpu | None, column: Column, id: str, node: str) -> OpenGpu:
    kept = tuple(present.units[index][1] for index in column.kept) if present else ()
    services = {s for index in column.kept for s in gpu_class.units[index].row.services}
    open_extras = Counter(dict(zip(gpu_class.names, column.extra, strict=True)))
    return OpenGpu(
        id=id,
        node=node,
        board=gpu_class.board,
        present=present,
        number=number,
        column=column,
        names=gpu_class.names,
        kept=kept,
        services=services,
        open=open_extras,
    )


def name_elastic(model: Model, open_gpus: Sequence[OpenGpu]) -> None:
    """Names for the GPUs and nodes that do not exist yet; where nodes do not matter they are filled one by one."""
    elastic = model.state.problem.elastic
    if elastic is None:
        return
    taken = {present.gpu.id for present in model.state.gpus}
    taken_nodes = {present.gpu.node for present in model.state.gpus}
    numbers: Counter[str] = Counter()
    in_node: Counter[str] = Counter()
    nodes: dict[tuple[str, str], str] = {}
    ordered = sorted(
        (gpu for gpu in open_gpus if gpu.present is None and gpu.placed),
        key=lambda gpu: (gpu.board.name, natural_key(gpu.node), gpu.column.only or ""),
    )
    for gpu in ordered:
        board = gpu.board.name
        group = (board, gpu.node or (gpu.column.only or ""))
        name = nodes.get(group)
        if name is None or (not gpu.node and in_node[name] == elastic.gpus_per_node):
            while True:
                name = f"elastic-{board}-node-{numbers['node ' + board]}"
                numbers["node " + board] += 1
                if name not in taken_nodes:
                    break
            nodes[group] = name
        in_node[name] += 1
        gpu.node = name
        while True:
            gpu.id = f"elastic-{board}-{numbers[board]}"
            numbers[board] += 1
            if gpu.id not in taken:
                break
