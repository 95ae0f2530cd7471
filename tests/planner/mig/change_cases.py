"""Random present states and random targets for the same work, made without the planner, and the least downtime of
small ones by trying everything."""

from collections import defaultdict
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import count
from random import Random

from planner.catalog import load_catalog
from planner.hardware import Board, PlacedInstance
from planner.mig.plan import Mode, Status, Target, TargetGpu, TargetInstance
from planner.mig.problem import Elastic, Problem, ProblemGpu, RunningInstance, Workload
from planner.mig.state import with_starts
from planner.mig_geometry import is_legal, ordered, possible_placements

BOARDS = [load_catalog().board(name) for name in ("A100-40GB", "A30", "RTX-PRO-6000-96GB", "H100-80GB-SXM")]
SPLITS = {"3g": ((1, 2), (1, 1, 1), (2,)), "2g": ((1, 1),), "4g": ((2, 2), (1, 3)), "7g": ((4, 3), (1, 2, 3))}

Unit = tuple[str, tuple[str, ...], tuple[str, ...]]
"""Profile, workloads, compute instances."""


@dataclass(frozen=True)
class Case:
    problem: Problem
    target: Target
    kept: frozenset[str]  # workloads that stay where they are

    @property
    def boards(self) -> dict[str, Board]:
        return {gpu.id: gpu.board for gpu in self.target.gpus}


def make_target(
    gpus: list[TargetGpu], groups: dict[str, int] | None = None, assumed: frozenset[str] = frozenset()
) -> Target:
    return Target(
        mode=Mode.ADD,
        status=Status.FEASIBLE,
        levels=(),
        gpus=tuple(gpus),
        unplaced=(),
        gpus_used=0,
        gpus_lower_bound=0,
        moves=0,
        moves_lower_bound=0,
        groups=groups or {},
        assumed_gpus=assumed,
    )


def random_case(
    seed: int, *, most_gpus: int = 5, most_movers: int | None = None, compute_instances: bool = True, fill: float = 0.8
) -> Case:
    """A fleet of one board or two, some GPUs without MIG mode, some without known starts; and somewhere to get to."""
    rng = Random(seed)
    names = (f"w{number}" for number in count())
    boards = rng.sample(BOARDS, rng.choice([1, 1, 1, 2]))
    gpus = [
        _random_gpu(rng, f"g{i}", f"n{i // 2}", rng.choice(boards), names, compute_instances, fill)
        for i in range(rng.randint(1, most_gpus))
    ]
    units = [(gpu.id, one) for gpu in gpus for one in with_starts(gpu) if one.workloads]
    new = [
        (rng.choice(rng.choice(gpus).board.profiles).name, (next(names),), ())
        for _ in range(rng.choice([0, 0, 1, 2, 3]))
    ]
    extra = [
        ProblemGpu(id=f"x{number}", node="elastic-0", board=boards[0]) for number in range(rng.choice([0, 0, 0, 1]))
    ]
    movers = list(range(len(units)))
    rng.shuffle(movers)
    movers = movers[: most_movers if most_movers is not None else rng.randint(0, len(units))]
    for _ in range(30):
        placed = _random_target(rng, [*gpus, *extra], units, set(movers), new)
        if placed is not None:
            break
        if rng.random() < 0.3:
            new = new[:-1]
    else:
        new, movers = [], []
        placed = _random_target(rng, gpus, units, set(), new)
        assert placed is not None
    workloads = [Workload(id=name, profile=one.profile) for _, one in units for name in one.workloads]
    further = [Workload(id=name, profile=profile) for profile, ids, _ in new for name in ids]
    problem = Problem(
        gpus=tuple(gpus), elastic=Elastic(boards=(boards[0],)), workloads=tuple(workloads), new=tuple(further)
    )
    kept = frozenset(name for i, (_, one) in enumerate(units) if i not in movers for name in one.workloads)
    grouped = [
        *((one.profile, one.workloads) for number, (_, one) in enumerate(units) if number in movers),
        *((profile, ids) for profile, ids, _ in new),
    ]
    kinds = rng.choice([1, 1, 2, 5])
    groups: dict[str, int] = {}
    numbers: dict[tuple[str, int], int] = {}
    for profile, ids in grouped:
        if len(ids) == 1 and rng.random() < 0.9:
            groups[ids[0]] = numbers.setdefault((profile, rng.randrange(kinds)), len(numbers))
    assumed = frozenset(gpu.id for gpu in gpus if any(one.start is None for one in gpu.instances))
    target = make_target(placed, groups, assumed)
    return Case(problem=problem, target=target, kept=kept)


def tight_case(seed: int, *, most_gpus: int = 3, most_profiles: int = 3, stay: float = 0.3) -> Case:
    """GPUs of one board, cut and used to the last slice, that trade their layouts: room is scarce everywhere."""
    rng = Random(seed)
    names = (f"w{number}" for number in count())
    board = rng.choice(BOARDS)
    profiles = {profile.name for profile in rng.sample(board.profiles, min(most_profiles, len(board.profiles)))}
    layouts: list[tuple[PlacedInstance, ...]] = []
    for _ in range(rng.randint(1, most_gpus)):
        layout = _filled(rng, board, (), 1.0, profiles)
        layouts.append(layout)
    gpus = tuple(
        ProblemGpu(
            id=f"g{number}",
            node=f"n{number}",
            board=board,
            instances=tuple(
                RunningInstance(
                    profile=one.profile,
                    start=one.placement.start,
                    workloads=(next(names),) if rng.random() < 0.9 else (),
                )
                for one in layout
            ),
        )
        for number, layout in enumerate(layouts)
    )
    there = {(gpu.id, one.profile, one.start or 0): one.workloads for gpu in gpus for one in gpu.instances}
    goals = list(layouts)
    rng.shuffle(goals)
    slots = [(f"g{i}", one.profile, one.placement.start) for i, goal in enumerate(goals) for one in goal]
    kept = {slot: there[slot] for slot in slots if slot in there and rng.random() < stay}
    homeless = defaultdict(list)
    for slot, workloads in there.items():
        if slot not in kept:
            homeless[slot[1]].append(workloads)
    for waiting in homeless.values():
        rng.shuffle(waiting)
    held = {slot: kept[slot] if slot in kept else homeless[slot[1]].pop() for slot in slots}
    targets = [
        TargetGpu(
            id=gpu.id,
            node=gpu.node,
            board=board,
            instances=tuple(
                TargetInstance(profile=profile, start=start, workloads=workloads)
                for (name, profile, start), workloads in sorted(held.items(), key=lambda one: one[0][2])
                if name == gpu.id
            ),
        )
        for gpu in gpus
    ]
    going = {name: slot for slot, workloads in held.items() for name in workloads if there.get(slot) != workloads}
    kinds = rng.choice([1, 1, 2, 9])
    numbers: dict[tuple[str, int], int] = {}
    groups = {
        name: numbers.setdefault((slot[1], rng.randrange(kinds)), len(numbers))
        for name, slot in sorted(going.items())
        if rng.random() < 0.9
    }
    workloads = tuple(Workload(id=name, profile=slot[1]) for slot, users in there.items() for name in users)
    staying = frozenset(name for users in there.values() for name in users if name not in going)
    return Case(problem=Problem(gpus=gpus, workloads=workloads), target=make_target(targets, groups), kept=staying)


def _random_gpu(
    rng: Random, id: str, node: str, board: Board, names: object, compute_instances: bool, fill: float
) -> ProblemGpu:
    layout: tuple[PlacedInstance, ...] = ()
    if rng.random() < 0.85:
        layout = _filled(rng, board, layout, fill)
    kinds = {profile.name: profile for profile in board.profiles}
    instances = []
    for one in layout:
        slices: tuple[int, ...] = ()
        if compute_instances and rng.random() < 0.3:
            slices = rng.choice(SPLITS.get(kinds[one.profile].kind, ((),)))
        cis = tuple(f"{number}c.{one.profile}" for number in slices)
        users = rng.randint(0, max(1, len(cis))) if rng.random() < 0.8 else 0
        workloads = tuple(next(names) for _ in range(users))  # type: ignore[call-overload]
        instances.append(
            RunningInstance(profile=one.profile, start=one.placement.start, workloads=workloads, compute_instances=cis)
        )
    if rng.random() < 0.2:
        instances = [replace(one, start=None) for one in instances]
    mode = rng.choice([True, None]) if instances else rng.choice([True, False, None])
    return ProblemGpu(id=id, node=node, board=board, instances=tuple(instances), mig_enabled=mode)


def _filled(
    rng: Random, board: Board, layout: tuple[PlacedInstance, ...], fill: float, names: set[str] | None = None
) -> tuple[PlacedInstance, ...]:
    small = names is None and rng.random() < 0.6
    while rng.random() < fill:
        choices = [
            PlacedInstance(profile.name, placement)
            for profile in board.profiles
            if names is None or profile.name in names
            for placement in possible_placements(board, layout, profile.name)
            if not small or profile.compute_slices <= 3
        ]
        if not choices:
            break
        layout = ordered((*layout, rng.choice(choices)))
    return layout


def _random_target(
    rng: Random, gpus: list[ProblemGpu], units: list[tuple[str, object]], movers: set[int], new: list[Unit]
) -> list[TargetGpu] | None:
    """Movers and new work at random places beside what stays; None when the dice leave no room for all."""
    layouts: dict[str, tuple[PlacedInstance, ...]] = {gpu.id: () for gpu in gpus}
    holds: dict[str, list[TargetInstance]] = defaultdict(list)
    boards = {gpu.id: gpu.board for gpu in gpus}

    def add(gpu: str, placed: PlacedInstance, workloads: tuple[str, ...], cis: tuple[str, ...]) -> None:
        layouts[gpu] = ordered((*layouts[gpu], placed))
        holds[gpu].append(
            TargetInstance(
                profile=placed.profile, start=placed.placement.start, workloads=workloads, compute_instances=cis
            )
        )

    def size(profile: str) -> int:
        return max(p.memory_slices or 0 for board in boards.values() for p in board.profiles if p.name == profile)

    going: list[Unit] = list(new)
    for number, (gpu, one) in enumerate(units):
        if number in movers:
            going.append((one.profile, one.workloads, one.compute_instances))  # type: ignore[attr-defined]
        else:
            profile = next(p for p in boards[gpu].profiles if p.name == one.profile)  # type: ignore[attr-defined]
            placement = next(p for p in profile.placements if p.start == one.start)  # type: ignore[attr-defined]
            add(gpu, PlacedInstance(profile.name, placement), one.workloads, one.compute_instances)  # type: ignore[attr-defined]
    rng.shuffle(going)
    going.sort(key=lambda unit: -size(unit[0]))
    where = list(boards)
    if rng.random() < 0.5:  # few GPUs, so that it gets tight
        rng.shuffle(where)
    for profile_name, workloads, cis in going:
        choices = [
            (gpu, PlacedInstance(profile_name, placement))
            for gpu in where
            if any(p.name == profile_name for p in boards[gpu].profiles)
            for placement in possible_placements(boards[gpu], layouts[gpu], profile_name)
        ]
        if not choices:
            return None
        gpu, placed = rng.choice(choices)
        add(gpu, placed, workloads, cis)
    for gpu in where:
        if rng.random() < 0.3:
            for placed in set(_filled(rng, boards[gpu], layouts[gpu], 0.5)) - set(layouts[gpu]):
                add(gpu, placed, (), ())
    return [
        TargetGpu(
            id=gpu.id,
            node=gpu.node,
            board=gpu.board,
            instances=tuple(sorted(holds[gpu.id], key=lambda one: one.start)),
            is_new=gpu.id.startswith("x"),
        )
        for gpu in gpus
        if holds[gpu.id] or not gpu.id.startswith("x")
    ]


def least_down(case: Case) -> int:
    """The smallest peak of workloads down, over every order and every exchange within groups."""
    old: list[tuple[str, str, int]] = []
    movers: list[tuple[str, tuple[str, str, int]]] = []
    where_now: dict[str, tuple[str, str, int]] = {}
    for gpu in case.problem.gpus:
        for one in with_starts(gpu):
            old.append((gpu.id, one.profile, one.start))
            where_now |= dict.fromkeys(one.workloads, old[-1])
    goal: list[tuple[str, str, int]] = []
    slots: list[tuple[object, tuple[str, str, int]]] = []
    for target in case.target.gpus:
        for instance in target.instances:
            goal.append((target.id, instance.profile, instance.start))
            for name in instance.workloads:
                if where_now.get(name) != goal[-1]:
                    slots.append((case.target.groups.get(name, name), goal[-1]))
                    if name in where_now:
                        movers.append((name, where_now[name]))
    boards = case.boards
    sizes = {(g, p.name, at.start): at for g, board in boards.items() for p in board.profiles for at in p.placements}
    kinds = [case.target.groups.get(name, name) for name, _ in movers]
    doomed = set(old) - set(goal)
    wanted = sorted(set(goal) - set(old))

    def standing(running_old: frozenset[int]) -> set[tuple[str, str, int]]:
        """What exists once all that is vacated and doomed is destroyed, and all that fits is created."""
        there = {place for place in old if place not in doomed}
        there |= {movers[number][1] for number in running_old if movers[number][1] in doomed}
        for place in wanted:
            layout = [PlacedInstance(one[1], sizes[one]) for one in (*there, place) if one[0] == place[0]]
            if is_legal(boards[place[0]], layout):
                there.add(place)
        return there

    # state: movers that still run at the old place; per mover the slot it runs in, or -1
    everyone = frozenset(range(len(movers)))
    first = (everyone, (-1,) * len(movers))
    best = {first: 0}
    queue = [(0, 0, first)]
    tick = count(1)
    exists: dict[frozenset[int], set[tuple[str, str, int]]] = {}
    while queue:
        peak, _, state = heappop(queue)
        if best[state] < peak:
            continue
        at_old, at_slot = state
        taken = set(at_slot)
        if at_old not in exists:
            exists[at_old] = standing(at_old)
        there = exists[at_old]
        occupied = {movers[number][1] for number in at_old}
        own = [
            next((s for s, (kind, place) in enumerate(slots) if place == movers[n][1] and kind == kinds[n]), None)
            if n in at_old and at_slot[n] == -1
            else None
            for n in range(len(movers))
        ]
        if all(slot != -1 for slot in at_slot) and not at_old:
            return peak
        if all((at_slot[n] != -1 and n not in at_old) or own[n] is not None for n in range(len(movers))):
            return peak
        following = []
        for number in range(len(movers)):
            if at_slot[number] == -1:
                for slot, (kind, place) in enumerate(slots):
                    if kind == kinds[number] and slot not in taken and place in there and place not in occupied:
                        following.append((at_old, (*at_slot[:number], slot, *at_slot[number + 1 :])))
            if number in at_old:
                following.append((at_old - {number}, at_slot))
        for next_state in following:
            down = sum(n not in next_state[0] and next_state[1][n] == -1 for n in range(len(movers)))
            cost = max(peak, down)
            if cost < best.get(next_state, cost + 1):
                best[next_state] = cost
                heappush(queue, (cost, next(tick), next_state))
    raise AssertionError("no order reaches the target")
