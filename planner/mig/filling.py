"""Which request goes to which GPU, and which instances are held free because a rule asks for it."""

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from planner.errors import PlanContradiction
from planner.mig.apart import Apart
from planner.mig.columns import Row
from planner.mig.model import Model
from planner.mig.open_gpus import Item, OpenGpu
from planner.mig.order import natural_key


def items_of(
    model: Model, values: Sequence[int], open_gpus: Sequence[OpenGpu]
) -> tuple[dict[Row, deque[Item]], tuple[str, ...], dict[str, int]]:
    """Everything to be placed by row, movers first; workloads that stay out; and the interchangeable groups."""
    service_of = model.state.watched_service
    items: dict[Row, list[Item]] = defaultdict(list)
    for gpu in open_gpus:
        if gpu.present is None:
            continue
        kept = set(gpu.column.kept)
        for index, (kind, instance) in enumerate(gpu.present.units):
            if index not in kept:
                row = kind.row
                watched = tuple(service_of[name] for name in instance.workloads if name in service_of)
                items[row].append(Item(row, instance.workloads, instance.compute_instances, watched))
    for found in items.values():
        found.sort(key=lambda item: tuple(map(natural_key, item.workloads)))
    unplaced: list[str] = []
    for row, waiting in model.state.waiting.items():
        out = values[model.unplaced[row]]
        placed = waiting[: len(waiting) - out]
        unplaced += [workload.id for workload in waiting[len(waiting) - out :]]
        for workload in placed:
            watched = (service_of[workload.id],) if workload.id in service_of else ()
            items[row].append(Item(row, (workload.id,), (), watched))
    alike = {(row, item.services) for row, found in items.items() for item in found}
    number_of = {key: number for number, key in enumerate(sorted(alike))}
    groups = {
        item.workloads[0]: number_of[row, item.services]
        for row, found in items.items()
        for item in found
        if not item.compute_instances
    }
    return {row: deque(items[row]) for row in sorted(items)}, tuple(unplaced), groups


def fill_named(
    model: Model, values: Sequence[int], open_gpus: Sequence[OpenGpu], items: dict[Row, deque[Item]]
) -> None:
    """Replicas that must be spread: most numerous service first, each to the GPU of its class with most room."""
    wanted = [(values[variable], key) for key, variable in model.named.items() if values[variable]]
    by_class: dict[int, list[OpenGpu]] = defaultdict(list)
    for gpu in open_gpus:
        by_class[gpu.number].append(gpu)
    for amount, (number, row, profile) in sorted(wanted, key=lambda entry: (-entry[0], entry[1])):
        candidates = [g for g in by_class[number] if g.column.used and g.column.tenant == row.tenant]
        for _ in range(amount):
            item = items[row].popleft()
            able = [gpu for gpu in candidates if gpu.open[profile] and not gpu.services & set(row.services)]
            if not able:
                raise PlanContradiction(
                    f"Replicas of {', '.join(row.services)} found no GPU of their own.", row.services
                )
            gpu = max(able, key=lambda gpu: gpu.open[profile])
            gpu.open[profile] -= 1
            gpu.services.update(row.services)
            gpu.placed.append((profile, item))


def fill_pooled(
    model: Model, values: Sequence[int], open_gpus: Sequence[OpenGpu], items: dict[Row, deque[Item]]
) -> None:
    """All other requests, GPU by GPU; those that already hold something first, so that the last ones stay empty.

    Raises PlanContradiction with the services whose replicas found no places apart.
    """
    room: dict[tuple[str, str, str], deque[OpenGpu]] = defaultdict(deque)
    for gpu in sorted(open_gpus, key=lambda gpu: not (gpu.kept or gpu.placed)):
        if gpu.column.used:
            for name, count in gpu.open.items():
                if count:
                    room[name, gpu.column.tenant, gpu.board.name].append(gpu)
    apart = Apart(model, open_gpus)
    for (row, profile, board), variable in model.pooled.items():
        queue = room[profile, row.tenant, board]
        chosen = [items[row].popleft() for _ in range(values[variable])]
        free = []
        for item in chosen:
            if item.services:
                apart.place(item, profile, queue)
            else:
                free.append(item)
        for item in free:
            while queue and not queue[0].open[profile]:
                queue.popleft()
            if not queue:
                raise PlanContradiction(f"No instance of {profile} is left for a request that was counted.")
            queue[0].open[profile] -= 1
            queue[0].placed.append((profile, item))
    apart.settle()


def hold_reserves(model: Model, open_gpus: Sequence[OpenGpu]) -> None:
    """Keep instances free where a rule asks for it, on GPUs that work anyway before others."""
    wanted: dict[str, int] = {}
    for reserve in model.state.problem.rules.reserves:
        wanted[reserve.profile] = max(reserve.count, wanted.get(reserve.profile, 0))
    for profile in sorted(wanted):
        missing = wanted[profile] - sum(
            instance.profile == profile and not instance.workloads
            for present in model.state.gpus
            if present.is_frozen
            for instance in present.instances
        )
        there = Counter(gpu.node or gpu.id for gpu in open_gpus for name, _ in gpu.placed if name == profile)
        there.update(gpu.node or gpu.id for gpu in open_gpus for kept in gpu.kept if kept.profile == profile)
        able = [
            (not (gpu.kept or gpu.placed), there[gpu.node or gpu.id], number)
            for number, gpu in enumerate(open_gpus)
            if gpu.column.used and gpu.open[profile]
        ]
        heapify(able)
        while missing > 0 and able:  # on the node that has fewest of them, as far as that takes no further GPU
            is_idle, count, number = heappop(able)
            gpu = open_gpus[number]
            now = there[gpu.node or gpu.id]
            if count < now:
                heappush(able, (is_idle, now, number))
                continue
            gpu.open[profile] -= 1
            gpu.placed.append((profile, None))
            there[gpu.node or gpu.id] += 1
            missing -= 1
            if gpu.open[profile]:
                heappush(able, (False, there[gpu.node or gpu.id], number))


def hold_for_node_loss(model: Model, open_gpus: Sequence[OpenGpu]) -> None:
    """Hold what the loss of a node needs: everything that was counted, then again without what is not missed."""
    counts: Counter[tuple[str, str]] = Counter()  # instances that count, by node and profile
    work: Counter[str] = Counter()
    for present in model.state.gpus:
        if present.is_frozen:
            for instance in present.instances:
                counts[present.gpu.node, instance.profile] += 1
                work[instance.profile] += bool(instance.workloads)
    for gpu in open_gpus:
        for instance in gpu.kept:
            counts[gpu.node, instance.profile] += 1
            work[instance.profile] += 1
        for profile, item in gpu.placed:
            counts[gpu.node, profile] += 1
            work[profile] += item is not None
    spare: list[tuple[OpenGpu, str]] = []
    for gpu in open_gpus:
        if gpu.column.used:
            for profile in gpu.names:
                for _ in range(gpu.open[profile]):
                    counts[gpu.node, profile] += 1
                    spare.append((gpu, profile))
    totals: Counter[str] = Counter()
    most: dict[str, Counter[str]] = defaultdict(Counter)
    for (node, profile), count in counts.items():
        totals[profile] += count
        most[profile][node] = count
    for gpu, profile in reversed(spare):
        most[profile][gpu.node] -= 1
        if totals[profile] - 1 - max(most[profile].values()) >= work[profile]:
            totals[profile] -= 1
        else:
            most[profile][gpu.node] += 1
            gpu.open[profile] -= 1
            gpu.placed.append((profile, None))
