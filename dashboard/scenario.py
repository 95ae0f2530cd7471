"""One what-if scenario: the measured fleet or none, what is changed of it, what is asked for, rules, prices and mode.

A frozen value: pages change it with `dataclasses.replace`, cache by it, put it into addresses (`scenario_codec`) and
hand its problem to the planner.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from planner.catalog import load_catalog
from planner.hardware import Board, Layout, PlacedInstance
from planner.mig.fleet_problem import FleetDemand, FleetProblem, fleet_problem
from planner.mig.measured_fleet import MeasuredFleet
from planner.mig.order import natural_key
from planner.mig.plan import Mode
from planner.mig.problem import EVERY, Elastic, Problem, ProblemGpu, Rules, RunningInstance, Upsize, Workload
from planner.mig_geometry import planning_obstacle

GPU_LIMIT = 20_000
REQUEST_LIMIT = 50_000
"""More than anybody has, and little enough that an address somebody sent cannot exhaust the machine."""

TIME_LIMITS_S = (10.0, 60.0, 300.0)


class ScenarioInvalid(ValueError):
    """The scenario cannot be planned, or is none at all; the message says what, why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGroup:
    """So many equal empty nodes: `name-1`, `name-2`, ..."""

    name: str
    board: str
    nodes: int
    gpus_per_node: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """So many GPU instances that are asked for, beside what runs."""

    profile: str
    count: int
    service: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Everything a plan depends on. `fleet` is None for a scenario that was begun empty."""

    title: str = ""
    mode: Mode = Mode.INITIAL
    fleet: MeasuredFleet | None = None
    demand: FleetDemand = FleetDemand.AS_IT_RUNS
    without_nodes: frozenset[str] = frozenset()  # measured nodes that are taken out
    groups: tuple[NodeGroup, ...] = ()  # nodes that are added
    elastic_boards: tuple[str, ...] = ()  # boards of which as many more as needed may be taken
    elastic_gpus_per_node: int = 8
    requests: tuple[Request, ...] = ()
    by_hand: Mapping[str, Layout] = field(
        default_factory=dict
    )  # GPU -> how it is cut at the start, instead of measured
    pinned: frozenset[str] = frozenset()  # workloads
    rules: Rules = field(default_factory=Rules)  # without those that come from the demand
    prices: Mapping[str, float] = field(default_factory=dict)
    time_limit_s: float = 60.0

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing to plan yet."""
        return not (self.fleet and self.fleet.gpus) and not self.groups and not self.elastic_boards


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioProblem:
    """The problem of a scenario and the sentences that must stand beside its plan."""

    problem: Problem
    cautions: tuple[str, ...]


def live_scenario(fleet: MeasuredFleet) -> Scenario:
    """Where a look at the live fleet begins: the same work on the fewest GPUs."""
    return Scenario(mode=Mode.RECONFIGURE, fleet=fleet, rules=Rules(stay_on_board=True))


def empty_scenario() -> Scenario:
    """Where a plan for hardware that is not there begins: one node to be changed, and a few requests."""
    return Scenario(
        groups=(NodeGroup(name="node", board="H100-80GB-SXM", nodes=1, gpus_per_node=8),),
        requests=(Request(profile="3g.40gb", count=4), Request(profile="1g.10gb", count=10)),
    )


def plannable_boards() -> tuple[Board, ...]:
    """Boards of the catalogue that can be planned, in its order."""
    return tuple(board for board in load_catalog().boards if planning_obstacle(board) is None)


def boards_of(scenario: Scenario) -> tuple[Board, ...]:
    """Every board that occurs in the scenario, in the order of the catalogue; unknown names are passed over."""
    measured = {gpu.board.name: gpu.board for gpu in scenario.fleet.gpus} if scenario.fleet else {}
    named = {group.board for group in scenario.groups} | set(scenario.elastic_boards)
    return tuple(measured.get(b.name, b) for b in plannable_boards() if b.name in named or b.name in measured)


def profiles_of(scenario: Scenario) -> tuple[str, ...]:
    """Names of the profiles that can be asked for, smallest first."""
    sizes: dict[str, tuple[float, int]] = {}
    for board in boards_of(scenario):
        for profile in board.profiles:
            share = (profile.memory_slices or 0) / board.placement_grid
            sizes.setdefault(profile.name, (share, profile.compute_slices))
    return tuple(sorted(sizes, key=lambda name: (sizes[name], natural_key(name))))


def problem_of(scenario: Scenario) -> ScenarioProblem:
    """The planning problem; raises ScenarioInvalid for what no problem file could say.

    Rules about what is no longer in the scenario are passed over, and prices until every board has one.
    """
    _check_sizes(scenario)
    measured = FleetProblem(problem=Problem(), placed_anew=(), cautions=())
    if scenario.fleet is not None:
        measured = fleet_problem(
            scenario.fleet,
            scenario.demand,
            without_nodes=scenario.without_nodes,
            pinned=scenario.pinned,
            places_anew=scenario.mode.places_new,
        )
    gpus = [*measured.problem.gpus, *_added_gpus(scenario)]
    repeated = [name for name, count in Counter(gpu.id for gpu in gpus).items() if count > 1]
    if repeated:
        raise ScenarioInvalid(
            f"The GPU {repeated[0]} is there twice: give every row of added nodes a name that no other node has."
        )
    workloads = measured.problem.workloads
    new = tuple(_requested(scenario.requests, {workload.id for workload in workloads}))
    own, passed_over = _rules_that_apply(scenario.rules, gpus, (*workloads, *new))
    boards = {gpu.board.name for gpu in gpus} | set(scenario.elastic_boards)
    has_prices = bool(scenario.prices) and boards <= set(scenario.prices)
    return ScenarioProblem(
        problem=Problem(
            gpus=tuple(_by_hand(gpu, scenario.by_hand[gpu.id]) if gpu.id in scenario.by_hand else gpu for gpu in gpus),
            elastic=_elastic(scenario),
            workloads=workloads,
            new=new,
            rules=replace(own, upsizes=_merged(own.upsizes, measured.problem.rules.upsizes)),
            prices={name: scenario.prices[name] for name in sorted(boards)} if has_prices else {},
        ),
        cautions=(
            *_own_cautions(scenario, passed_over, lacks_prices=bool(scenario.prices) and not has_prices),
            *measured.cautions,
            *(scenario.fleet.cautions if scenario.fleet else ()),
        ),
    )


def _rules_that_apply(
    rules: Rules, gpus: Sequence[ProblemGpu], workloads: Sequence[Workload]
) -> tuple[Rules, tuple[str, ...]]:
    """The rules without what they say of nodes, GPUs, services and tenants that are not there, and those names."""
    nodes = {gpu.node for gpu in gpus} | {EVERY}
    ids = {gpu.id for gpu in gpus}
    services = {workload.service for workload in workloads} | {EVERY}
    tenants = {workload.tenant for workload in workloads} | {EVERY}
    applied = replace(
        rules,
        single_nodes=rules.single_nodes & nodes,
        untouchable_nodes=rules.untouchable_nodes & nodes,
        untouchable_gpus=rules.untouchable_gpus & ids,
        spread={service: how for service, how in rules.spread.items() if service in services},
        isolated_tenants=frozenset(tenant for tenant in rules.isolated_tenants if tenant in tenants),
    )
    passed_over = {
        *(rules.single_nodes - nodes),
        *(rules.untouchable_nodes - nodes),
        *(rules.untouchable_gpus - ids),
        *(rules.spread.keys() - applied.spread.keys()),
        *(rules.isolated_tenants - applied.isolated_tenants),
    }
    return applied, tuple(sorted(passed_over, key=natural_key))


def _check_sizes(scenario: Scenario) -> None:
    for group in scenario.groups:
        if group.nodes < 0 or group.gpus_per_node < 1:
            raise ScenarioInvalid(f"The added nodes {group.name!r} need a count of nodes, and of GPUs in each.")
    gpus = sum(group.nodes * group.gpus_per_node for group in scenario.groups)
    for name in (*(group.board for group in scenario.groups), *scenario.elastic_boards):
        obstacle = planning_obstacle(load_catalog().board(name))
        if obstacle is not None:
            raise ScenarioInvalid(obstacle)
    if gpus > GPU_LIMIT:
        raise ScenarioInvalid(f"{gpus:,} added GPUs are more than the {GPU_LIMIT:,} that are planned in one scenario.")
    for request in scenario.requests:
        if request.count < 0:
            raise ScenarioInvalid(f"A count of {request.count} for {request.profile} is no count.")
    requests = sum(request.count for request in scenario.requests)
    if requests > REQUEST_LIMIT:
        raise ScenarioInvalid(
            f"{requests:,} requests are more than the {REQUEST_LIMIT:,} that are planned in one scenario."
        )


def _added_gpus(scenario: Scenario) -> Iterator[ProblemGpu]:
    for group in scenario.groups:
        board = load_catalog().board(group.board)
        for number in range(1, group.nodes + 1):
            node = f"{group.name}-{number}"
            for index in range(group.gpus_per_node):
                yield ProblemGpu(id=f"{node}/{index}", node=node, board=board, index=index)


def _elastic(scenario: Scenario) -> Elastic | None:
    if not scenario.elastic_boards:
        return None
    boards = tuple(load_catalog().board(name) for name in scenario.elastic_boards)
    return Elastic(boards=boards, gpus_per_node=scenario.elastic_gpus_per_node)


def _requested(requests: tuple[Request, ...], taken: set[str]) -> Iterator[Workload]:
    """One workload per instance that is asked for, numbered within its service or profile."""
    numbers: Counter[str] = Counter()
    for request in requests:
        stem = request.service or request.profile
        for _ in range(request.count):
            numbers[stem] += 1
            while f"{stem} #{numbers[stem]}" in taken:
                numbers[stem] += 1
            yield Workload(
                id=f"{stem} #{numbers[stem]}",
                profile=request.profile,
                service=request.service,
                tenant=request.tenant,
            )


def _by_hand(gpu: ProblemGpu, layout: Layout) -> ProblemGpu:
    """The GPU cut like that at the start; workloads stay on an instance of their own profile, the others wait."""
    holders: dict[str, list[RunningInstance]] = {}
    for instance in gpu.instances:
        if instance.workloads:
            holders.setdefault(instance.profile, []).append(instance)

    def cut(placed: PlacedInstance) -> RunningInstance:
        waiting = holders.get(placed.profile, [])
        holder = next((one for one in waiting if one.start == placed.placement.start), None)
        holder = holder or (waiting[0] if waiting else None)
        if holder is not None:
            waiting.remove(holder)
        return RunningInstance(
            profile=placed.profile, start=placed.placement.start, workloads=holder.workloads if holder else ()
        )

    return replace(gpu, instances=tuple(cut(placed) for placed in layout), mig_enabled=gpu.mig_enabled or bool(layout))


def _merged(own: tuple[Upsize, ...], implied: tuple[Upsize, ...]) -> tuple[Upsize, ...]:
    """One upsize rule per profile: the scenario's with its price, and what the demand implies."""
    by_profile: dict[str, Upsize] = {}
    for upsize in (*own, *implied):
        known = by_profile.setdefault(upsize.profile, upsize)
        by_profile[upsize.profile] = replace(known, to=tuple(dict.fromkeys((*known.to, *upsize.to))))
    return tuple(by_profile.values())


def _own_cautions(scenario: Scenario, passed_over: tuple[str, ...], *, lacks_prices: bool) -> Iterator[str]:
    if passed_over:
        yield f"Rules about what is not in this scenario are passed over: {', '.join(passed_over[:10])}."
    if lacks_prices:
        yield "Prices are passed over until every board has one: the plan uses fewest GPUs instead of costing least."
    if scenario.by_hand:
        cut = ", ".join(sorted(scenario.by_hand, key=natural_key))
        yield f"The present layout was set by hand on {cut}: what it no longer holds waits to be placed."
