"""The present state as the planner sees it: which units may move, who waits, and what stays as it is."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from planner.hardware import Board, PlacedInstance, Placement
from planner.mig.columns import Row, UnitKind
from planner.mig.order import natural_key
from planner.mig.plan import Mode
from planner.mig.problem import EVERY, Problem, ProblemGpu, Rules, RunningInstance, Spread, Workload
from planner.mig_geometry import assume_arrangement, planning_obstacle


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentInstance:
    """A GPU instance with the start that is known, or assumed, for it."""

    profile: str
    start: int
    workloads: tuple[str, ...]
    compute_instances: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentGpu:
    """One GPU with its instances by start. `units` are those with workloads, in the order of their kinds."""

    gpu: ProblemGpu
    instances: tuple[PresentInstance, ...]
    units: tuple[tuple[UnitKind, PresentInstance], ...]
    is_frozen: bool  # nothing changes here
    is_assumed: bool  # a start was not known

    @property
    def is_used(self) -> bool:
        """Whether anything works on it."""
        return self.gpu.occupied_whole or bool(self.units)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything the programme is built from; GPUs by node and id."""

    problem: Problem
    mode: Mode
    gpus: tuple[PresentGpu, ...]
    waiting: Mapping[Row, tuple[Workload, ...]]  # what the mode places
    running: Mapping[Row, int]  # units on GPUs that are not frozen
    left_out: int  # workloads that wait and that the mode does not place
    spread: Mapping[str, Spread]  # services whose replicas the programme itself keeps apart
    watched: Mapping[str, Spread]  # those that are kept apart when workloads get their places
    ruled_service: Mapping[str, str]  # workload -> its service, where a spread rule holds for it
    watched_service: Mapping[str, str]  # the same, where the service is watched

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every row with a request, in a fixed order."""
        return tuple(sorted({*self.waiting, *self.running}))

    def demand(self, row: Row) -> int:
        """Requests of a row: units that run and may move, and workloads that wait."""
        return self.running.get(row, 0) + len(self.waiting.get(row, ()))


def present_state(problem: Problem, mode: Mode, named: frozenset[str] | None = None) -> State:
    """The state of the problem, with assumed starts where none is known; raises IllegalLayout when none fits.

    `named`: services whose replicas the programme is to tell apart; None stands for all that have a spread rule.
    """
    workloads = {workload.id: workload for workload in (*problem.workloads, *problem.new)}
    running_ids = problem.running_ids()
    waiting = [workload for workload in workloads.values() if workload.id not in running_ids]
    placed_now = waiting if mode.places_new else []
    considered = [*(workloads[running] for running in running_ids), *placed_now]
    rules = spread_services(problem.rules, considered)
    spread = {service: kind for service, kind in rules.items() if named is None or service in named}
    watched = {service: kind for service, kind in rules.items() if service not in spread}
    ordered = sorted(problem.gpus, key=lambda gpu: (natural_key(gpu.node), natural_key(gpu.id)))
    gpus = [_present_gpu(gpu, workloads, problem.rules, spread) for gpu in ordered]
    running = Counter(kind.row for gpu in gpus if not gpu.is_frozen for kind, _ in gpu.units)
    by_row: dict[Row, list[Workload]] = defaultdict(list)
    for workload in sorted(placed_now, key=lambda workload: natural_key(workload.id)):
        by_row[_row([workload], workload.profile, (), problem.rules, spread)].append(workload)
    return State(
        problem=problem,
        mode=mode,
        gpus=tuple(gpus),
        waiting={row: tuple(found) for row, found in by_row.items()},
        running=running,
        left_out=len(waiting) - len(placed_now),
        spread=spread,
        watched=watched,
        ruled_service={w.id: w.service for w in considered if w.service is not None and w.service in rules},
        watched_service={w.id: w.service for w in considered if w.service is not None and w.service in watched},
    )


def broken_now(problem: Problem, mode: Mode) -> frozenset[str]:
    """Services of which two replicas share at present what they must not."""
    workloads = {workload.id: workload for workload in (*problem.workloads, *problem.new)}
    running_ids = problem.running_ids()
    waiting = [w for w in workloads.values() if mode.places_new and w.id not in running_ids]
    rules = spread_services(problem.rules, [*(workloads[running] for running in running_ids), *waiting])
    if not rules:
        return frozenset()
    seen: Counter[tuple[str, str]] = Counter()
    for gpu in problem.gpus:
        for instance in gpu.instances:
            for name in instance.workloads:
                service = workloads[name].service
                if service is not None and service in rules:
                    seen[service, gpu.id if rules[service] is Spread.GPU else f"node {gpu.node}"] += 1
    return frozenset(service for (service, _), count in seen.items() if count > 1)


def spread_services(rules: Rules, workloads: Iterable[Workload]) -> dict[str, Spread]:
    """Services with a spread rule and more than one replica among the workloads."""
    if not rules.spread:
        return {}
    replicas = Counter(workload.service for workload in workloads if workload.service is not None)
    found = {}
    for service, count in replicas.items():
        spread = rules.spread_of(service)
        if spread is not None and count > 1 and service != EVERY:
            found[service] = spread
    return found


def _row(
    workloads: list[Workload],
    profile: str,
    compute_instances: tuple[str, ...],
    rules: Rules,
    spread: Mapping[str, Spread],
    board: str = "",
) -> Row:
    tenants = {rules.isolation_of(workload.tenant) for workload in workloads}
    services = tuple(sorted(w.service for w in workloads if w.service is not None and w.service in spread))
    return Row(
        profile=profile,
        tenant=min(tenant or "" for tenant in tenants),
        is_mixed=len(tenants) > 1,
        services=services,
        compute_instances=compute_instances,
        board=board,
        weight=len(workloads),
    )


def _present_gpu(
    gpu: ProblemGpu, workloads: Mapping[str, Workload], rules: Rules, spread: Mapping[str, Spread]
) -> PresentGpu:
    instances = with_starts(gpu)
    board = gpu.board.name if rules.stay_on_board else ""
    units = []
    for instance in instances:
        if instance.workloads:
            held = [workloads[name] for name in instance.workloads]
            requested = instance.profile if instance.compute_instances else held[0].profile
            kind = UnitKind(
                start=instance.start,
                profile=instance.profile,
                row=_row(held, requested, instance.compute_instances, rules, spread, board),
                pinned=any(workload.pinned for workload in held),
            )
            units.append((kind, instance))
    return PresentGpu(
        gpu=gpu,
        instances=instances,
        units=tuple(sorted(units, key=lambda unit: unit[0])),
        is_frozen=gpu.occupied_whole or rules.is_untouchable(gpu) or planning_obstacle(gpu.board) is not None,
        is_assumed=any(instance.start is None for instance in gpu.instances),
    )


def with_starts(gpu: ProblemGpu) -> tuple[PresentInstance, ...]:
    """The GPU's instances by start; unknown starts are those of one arrangement in which all can exist together."""
    known = [i for i in gpu.instances if i.start is not None]
    unknown = sorted(
        (i for i in gpu.instances if i.start is None), key=lambda i: (i.profile, tuple(map(natural_key, i.workloads)))
    )
    starts = {id(i): i.start for i in known}
    if unknown:
        placed = [PlacedInstance(i.profile, _placement(gpu.board, i)) for i in known]
        arrangement = assume_arrangement(gpu.board, [i.profile for i in unknown], known=placed)
        free = defaultdict(list)
        for instance in arrangement:
            free[instance.profile].append(instance.placement.start)
        for i in known:
            free[i.profile].remove(i.start or 0)
        for i in unknown:
            starts[id(i)] = free[i.profile].pop(0)
    found = [
        PresentInstance(
            profile=i.profile,
            start=starts[id(i)] or 0,
            workloads=i.workloads,
            compute_instances=i.compute_instances,
        )
        for i in gpu.instances
    ]
    return tuple(sorted(found, key=lambda i: (i.start, i.profile)))


def _placement(board: Board, instance: RunningInstance) -> Placement:
    for profile in board.profiles:
        if profile.name == instance.profile:
            return next(placement for placement in profile.placements if placement.start == instance.start)
    raise AssertionError(f"{board.name} has no profile {instance.profile}")  # the problem was checked before
