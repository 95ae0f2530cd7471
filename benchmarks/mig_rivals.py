"""What people use today to place MIG instances, written anew from public descriptions, to measure the planner against.

- First-fit and best-fit: the textbook rules; `descending` takes the largest requests first.
- Spread: the default `distributed` policy of the Kubernetes device plugin (NVIDIA/k8s-device-plugin, pull request
  1621), which takes the GPU with the least on it; once with instances cut on demand, once on the fixed layout
  `all-balanced` of the GPU Operator's default configuration.
- HAMi's scoring; its order within one request of several profiles plays no part here, where each asks for one.
- Pools: each GPU holds one profile only. Whole GPU: each request gets a GPU of its own.
- Vacate: empties GPUs from the least loaded on, each only if all it runs finds room on the others in use.
- From scratch: place everything again as if nothing ran, then give each new layout to the GPU that is most like it and
  leave there what it can; the rest has moved.
"""

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.mig_instances import Instance
from benchmarks.mig_masks import Fleet, Policy, Slots, Spot, used_gpus
from benchmarks.mig_policies import best_fit, first_fit, hami, spread
from planner.hardware import Board
from planner.mig_geometry import assume_arrangement

ALL_BALANCED: Mapping[str, tuple[str, ...]] = {"A100-40GB": ("3g.20gb", "2g.10gb", "1g.5gb", "1g.5gb")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a method made of an instance."""

    method: str
    placed: Mapping[str, Spot]
    unplaced: tuple[str, ...]
    gpus: int  # on which something runs
    moves: int  # workloads that ran and are not where they were
    seconds: float


Placing = Callable[[Slots, Instance, Sequence[tuple[str, str]]], Mapping[str, Spot]]
"""Places the requests beside what runs; what it leaves out is unplaced."""


def initial_rivals(slots: Slots, instance: Instance, *, fleet: int) -> tuple[Outcome, ...]:
    """Every method on requests for empty GPUs; those that spread get `fleet` GPUs, the others as many as they take."""
    requests = tuple(instance.requests.items())
    ways: tuple[tuple[str, Callable[[], Mapping[str, Spot]]], ...] = (
        ("first-fit", lambda: _placed(slots, None, requests, first_fit(slots))),
        ("best-fit descending", lambda: _placed(slots, None, _descending(slots, requests), best_fit(slots))),
        ("HAMi scoring", lambda: _placed(slots, None, requests, hami(slots))),
        ("one pool per profile", lambda: homogeneous_pools(slots, requests)),
        ("whole GPU each", lambda: whole_gpus(slots, requests)),
        (f"spread over {SPREAD_FACTOR} x the optimum", lambda: _placed(slots, fleet, requests, spread(slots))),
        (f"all-balanced on {SPREAD_FACTOR} x the optimum", lambda: fixed_layout(slots.board, fleet, requests)),
    )
    return tuple(_measured(method, instance, instance.requests, way) for method, way in ways)


SPREAD_FACTOR = 2
"""A policy that spreads uses every GPU it is given; twice what is needed is a common size."""


def replan_rivals(slots: Slots, instance: Instance) -> tuple[Outcome, ...]:
    """Every method that brings a running fleet onto fewer GPUs."""
    runs = tuple((workload, spot.profile) for workload, spot in instance.running.items())
    ways: tuple[tuple[str, Callable[[], Mapping[str, Spot]]], ...] = (
        ("as it runs", lambda: instance.running),
        ("greedy vacate", lambda: vacate(slots, instance)),
        ("first-fit from scratch", lambda: from_scratch(slots, instance, runs, first_fit(slots))),
        (
            "best-fit descending from scratch",
            lambda: from_scratch(slots, instance, _descending(slots, runs), best_fit(slots)),
        ),
    )
    return tuple(_measured(method, instance, instance.running, way) for method, way in ways)


def add_rivals(slots: Slots, instance: Instance) -> tuple[Outcome, ...]:
    """Every method that places further requests beside what runs, none of which moves anything."""
    requests = tuple(instance.requests.items())
    ways = (
        ("first-fit", requests, first_fit),
        ("best-fit descending", _descending(slots, requests), best_fit),
        ("HAMi scoring", requests, hami),
        ("spread", requests, spread),
    )
    return tuple(
        _measured(
            method,
            instance,
            [*instance.running, *instance.requests],
            lambda policy=policy, order=order: _placed(slots, instance.gpus, order, policy(slots), instance.running),
        )
        for method, order, policy in ways
    )


def homogeneous_pools(slots: Slots, requests: Sequence[tuple[str, str]]) -> dict[str, Spot]:
    """GPUs of one profile each, filled one after the other."""
    starts = {profile: _as_many_as_fit(slots, profile) for profile in slots.profiles}
    placed: dict[str, Spot] = {}
    served: Counter[str] = Counter()
    pools: dict[tuple[str, int], int] = {}
    for workload, profile in requests:
        number, position = divmod(served[profile], len(starts[profile]))
        served[profile] += 1
        gpu = pools.setdefault((profile, number), len(pools))
        placed[workload] = Spot(gpu, profile, starts[profile][position])
    return placed


def whole_gpus(slots: Slots, requests: Sequence[tuple[str, str]]) -> dict[str, Spot]:
    """Each request alone on a GPU."""
    return {
        workload: Spot(gpu, profile, slots.open_starts[profile][0][0])
        for gpu, (workload, profile) in enumerate(requests)
    }


def fixed_layout(board: Board, gpus: int, requests: Iterable[tuple[str, str]]) -> dict[str, Spot]:
    """Every GPU cut as `all-balanced`; a request takes its very profile from the GPU with the least on it, or waits."""
    layout = assume_arrangement(board, ALL_BALANCED[board.name])
    free = [{name: [] for name in ALL_BALANCED[board.name]} for _ in range(gpus)]
    for instances in free:
        for instance in reversed(layout):
            instances[instance.profile].append(instance.placement.start)
    taken = [0] * gpus
    # Per profile (taken, GPU); an entry whose number is no longer right is skipped when it comes up.
    queues = {name: [(0, gpu) for gpu in range(gpus)] for name in ALL_BALANCED[board.name]}
    placed: dict[str, Spot] = {}
    for workload, profile in requests:
        queue = queues.get(profile, [])
        while queue and (queue[0][0] != taken[queue[0][1]] or not free[queue[0][1]][profile]):
            heapq.heappop(queue)
        if not queue:
            continue
        gpu = queue[0][1]
        placed[workload] = Spot(gpu, profile, free[gpu][profile].pop())
        taken[gpu] += 1
        for name, starts in free[gpu].items():
            if starts:
                heapq.heappush(queues[name], (taken[gpu], gpu))
    return placed


def vacate(slots: Slots, instance: Instance) -> dict[str, Spot]:
    """GPUs in use by load, least first: each is emptied onto the others in use, as HAMi places, or left as it is."""
    fleet = Fleet(slots, instance.gpus)
    present: dict[int, list[str]] = {}
    for workload, spot in instance.running.items():
        fleet.put(workload, spot)
        present.setdefault(spot.gpu, []).append(workload)
    for gpu in range(instance.gpus):
        if gpu not in present:
            fleet.close(gpu)
    policy = hami(slots)
    for gpu in sorted(present, key=lambda gpu: (-slots.free(fleet.masks[gpu]), gpu)):
        workloads = sorted(present[gpu], key=lambda name: -slots.size[fleet.placed[name].profile])
        before = {name: fleet.placed[name] for name in workloads}
        mask = fleet.close(gpu)
        moved: list[str] = []
        for name in workloads:
            if fleet.place(name, before[name].profile, policy) is None:
                break
            moved.append(name)
        if len(moved) == len(workloads):
            for name in workloads:
                present[fleet.placed[name].gpu].append(name)
            del present[gpu]
            continue
        for name in moved:
            fleet.remove(name)
        fleet.reopen(gpu, mask)
        fleet.placed.update(before)
    return fleet.placed


def from_scratch(slots: Slots, instance: Instance, order: Iterable[tuple[str, str]], policy: Policy) -> dict[str, Spot]:
    """All that runs placed anew; then as much as layouts alike allow is left where it is."""
    wanted = _layouts(_placed(slots, instance.gpus, order, policy).values())
    present = _layouts(instance.running.values())
    chosen = dict(_most_alike(wanted, present))
    free = iter(sorted(set(range(instance.gpus)) - set(chosen.values())))
    # Same profile, same place: those stay. The others of a profile take its remaining places in order.
    at = {(spot.gpu, spot.profile, spot.start): workload for workload, spot in instance.running.items()}
    placed: dict[str, Spot] = {}
    open_spots: dict[str, list[Spot]] = {}
    for number, layout in wanted.items():
        gpu = chosen[number] if number in chosen else next(free)
        for start, profile in layout:
            spot = Spot(gpu, profile, start)
            if (gpu, profile, start) in at:
                placed[at[gpu, profile, start]] = spot
            else:
                open_spots.setdefault(profile, []).append(spot)
    for workload, spot in instance.running.items():
        if workload not in placed and open_spots.get(spot.profile):
            placed[workload] = open_spots[spot.profile].pop()
    return placed


_Layout = tuple[tuple[int, str], ...]


def _layouts(spots: Iterable[Spot]) -> dict[int, _Layout]:
    """What each GPU in use holds: start and profile, in order."""
    found: dict[int, list[tuple[int, str]]] = {}
    for spot in spots:
        found.setdefault(spot.gpu, []).append((spot.start, spot.profile))
    return {gpu: tuple(sorted(instances)) for gpu, instances in found.items()}


def _most_alike(wanted: Mapping[int, _Layout], present: Mapping[int, _Layout]) -> Iterator[tuple[int, int]]:
    """Pairs of GPUs, wanted and present, those first that have most instances in common."""
    by_wanted, by_present = _by_layout(wanted), _by_layout(present)
    pairs = [
        (-len(set(layout) & set(other)), layout, other)
        for layout in by_wanted
        for other in by_present
        if set(layout) & set(other)
    ]
    for _, layout, other in sorted(pairs):
        while by_wanted[layout] and by_present[other]:
            yield by_wanted[layout].pop(), by_present[other].pop()


def _by_layout(layouts: Mapping[int, _Layout]) -> dict[_Layout, list[int]]:
    found: dict[_Layout, list[int]] = {}
    for gpu in sorted(layouts, reverse=True):
        found.setdefault(layouts[gpu], []).append(gpu)
    return found


def _placed(
    slots: Slots,
    gpus: int | None,
    requests: Iterable[tuple[str, str]],
    policy: Policy,
    running: Mapping[str, Spot] | None = None,
) -> dict[str, Spot]:
    fleet = Fleet(slots, gpus)
    for workload, spot in (running or {}).items():
        fleet.put(workload, spot)
    for workload, profile in requests:
        fleet.place(workload, profile, policy)
    return fleet.placed


def _descending(slots: Slots, requests: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Largest first, by memory slices and then compute slices; equal ones as they came."""
    rank = {profile: index for index, profile in enumerate(slots.profiles)}
    return sorted(requests, key=lambda request: -rank[request[1]])


def _as_many_as_fit(slots: Slots, profile: str) -> list[int]:
    mask, starts = 0, []
    while slots.open_starts[profile][mask]:
        starts.append(slots.open_starts[profile][mask][0])
        mask |= slots.mask(profile, starts[-1])
    return starts


def _measured(method: str, instance: Instance, wanted: Iterable[str], way: Callable[[], Mapping[str, Spot]]) -> Outcome:
    started = time.perf_counter()
    placed = way()
    seconds = time.perf_counter() - started
    return outcome(method, instance, wanted, placed, seconds)


def outcome(
    method: str, instance: Instance, wanted: Iterable[str], placed: Mapping[str, Spot], seconds: float
) -> Outcome:
    """The figures of a placement, counted here for rivals and planner alike."""
    return Outcome(
        method=method,
        placed=placed,
        unplaced=tuple(name for name in wanted if name not in placed),
        gpus=used_gpus(placed.values()),
        moves=sum(placed.get(name) != spot for name, spot in instance.running.items()),
        seconds=seconds,
    )
