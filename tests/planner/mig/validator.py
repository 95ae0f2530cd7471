"""Whether a plan keeps every rule, judged from the problem and the answer alone, apart from how the planner works.

`violations` says everything that is wrong, one sentence each. An infeasible answer that leaves the fleet as it is may
break rules: that is what it says.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from planner.mig.plan import Level, Mode, Status, Target, TargetGpu, TargetInstance
from planner.mig.problem import Problem, ProblemGpu, RunningInstance, Spread, Workload
from tests.planner.mig.placement_table import arrangements, faults

STILL = (Mode.INITIAL, Mode.ADD_WITHOUT_MOVES)
"""Modes in which nothing that runs moves."""

CLOSE = 1e-6


def violations(problem: Problem, mode: Mode, target: Target) -> list[str]:
    """Everything that is wrong with the answer; empty when nothing is."""
    identity = list(_identity_faults(problem, target))
    if identity:  # nothing else can be judged
        return identity
    answer = _Answer(problem, mode, target)
    broken_rules = broken(problem, mode, target)
    leaves_all = target.status is Status.INFEASIBLE and answer.is_the_present()
    found = [*answer.layout_faults(), *answer.workload_faults(), *answer.count_faults(), *answer.note_faults()]
    return found + ([] if leaves_all else broken_rules) + answer.status_faults(is_broken=bool(broken_rules))


def broken(problem: Problem, mode: Mode, target: Target) -> list[str]:
    """The rules that the plan itself breaks, whatever its status says."""
    answer = _Answer(problem, mode, target)
    return [*answer.rule_faults(), *answer.stay_faults()]


def swap_violations(problem: Problem, mode: Mode, target: Target) -> list[str]:
    """What breaks when two workloads of one group change places, which must be nothing; for small problems."""
    found = []
    members: dict[int, list[str]] = defaultdict(list)
    for workload, group in target.groups.items():
        members[group].append(workload)
    for group in members.values():
        for one, other in pairwise(sorted(group)):
            swapped = _with_places_exchanged(target, one, other)
            if swapped is not None:
                found += [f"{one} and {other} exchanged: {wrong}" for wrong in violations(problem, mode, swapped)]
    return found


def _identity_faults(problem: Problem, target: Target) -> Iterator[str]:
    present = {gpu.id: gpu for gpu in problem.gpus}
    ids = [gpu.id for gpu in target.gpus]
    yield from (f"GPU {who} is there {times} times" for who, times in Counter(ids).items() if times > 1)
    yield from (f"GPU {who} is missing" for who in present if who not in ids)
    if [gpu.is_new for gpu in target.gpus] != sorted(gpu.is_new for gpu in target.gpus):
        yield "an elastic GPU stands before one that exists"
    nodes = {gpu.node for gpu in problem.gpus}
    new_in_node: Counter[str] = Counter()
    for gpu in target.gpus:
        if not gpu.is_new:
            if gpu.id not in present:
                yield f"GPU {gpu.id} does not exist"
            elif (gpu.node, gpu.board) != (present[gpu.id].node, present[gpu.id].board):
                yield f"GPU {gpu.id} changed its node or board"
            continue
        new_in_node[gpu.node] += 1
        if problem.elastic is None or gpu.board not in problem.elastic.boards:
            yield f"{gpu.id} is a {gpu.board.name} that cannot be had"
        if gpu.node in nodes:
            yield f"elastic GPU {gpu.id} lies in node {gpu.node}, which exists"
        if not any(one.workloads or one.is_reserve for one in gpu.instances):
            yield f"elastic GPU {gpu.id} is not in use"
    if problem.elastic is not None:
        for node, count in new_in_node.items():
            if count > problem.elastic.gpus_per_node:
                yield f"elastic node {node} has {count} GPUs"


@dataclass(frozen=True, slots=True)
class _Unit:
    """What lives together on one running instance."""

    workloads: frozenset[str]
    compute_instances: tuple[str, ...]


class _Answer:
    def __init__(self, problem: Problem, mode: Mode, target: Target) -> None:
        self.problem, self.mode, self.target, self.rules = problem, mode, target, problem.rules
        self.present = {gpu.id: gpu for gpu in problem.gpus}
        self.known = {one.id: one for one in (*problem.workloads, *problem.new)}
        self.units = {
            who: _Unit(frozenset(one.workloads), tuple(sorted(one.compute_instances)))
            for gpu in problem.gpus
            for one in gpu.instances
            for who in one.workloads
        }
        self.waiting = set(self.known) - set(self.units)

    # -- the GPUs ----------------------------------------------------------------------------------------------------

    def layout_faults(self) -> Iterator[str]:
        for gpu in self.target.gpus:
            for wrong in faults(gpu.board, ((one.profile, one.start) for one in gpu.instances)):
                yield f"{gpu.id}: {wrong}"
            if [one.start for one in gpu.instances] != sorted(one.start for one in gpu.instances):
                yield f"{gpu.id}: the instances are not in the order of their starts"
            for one in gpu.instances:
                if one.is_reserve and one.workloads:
                    yield f"{gpu.id}: {one.profile} at {one.start} is a reserve and has workloads"
                if one.is_reserve and not self.asks_for_free_instances():
                    yield f"{gpu.id}: no rule asks for the reserve {one.profile} at {one.start}"
                if one.compute_instances and not one.workloads and not self.is_free_now(gpu, one):
                    yield f"{gpu.id}: {one.profile} at {one.start} has compute instances for nobody"
        for gpu, now in self.existing():
            if (self.rules.is_untouchable(now) or now.occupied_whole) and not _same(now, gpu):
                yield f"{gpu.id}: it must stay as it is and does not"

    def asks_for_free_instances(self) -> bool:
        rules = self.rules
        return bool(rules.reserves or rules.survive_node_loss or rules.single_nodes)

    def is_free_now(self, gpu: TargetGpu, instance: TargetInstance) -> bool:
        now = self.present.get(gpu.id)
        free = [] if now is None else [one for one in now.instances if not one.workloads]
        return any(one.profile == instance.profile and one.start in (None, instance.start) for one in free)

    def existing(self) -> Iterator[tuple[TargetGpu, ProblemGpu]]:
        for gpu in self.target.gpus:
            if gpu.id in self.present:
                yield gpu, self.present[gpu.id]

    # -- the workloads -----------------------------------------------------------------------------------------------

    def workload_faults(self) -> Iterator[str]:
        places = Counter(who for gpu in self.target.gpus for one in gpu.instances for who in one.workloads)
        left_out = Counter(one.workload for one in self.target.unplaced)
        for who in sorted(set(places) | set(left_out) | set(self.known)):
            if who not in self.known:
                yield f"{who} is no workload of the problem"
            elif who in self.units:
                if places[who] != 1 or left_out[who]:
                    yield f"{who} runs and has {places[who]} places in the plan, {left_out[who]} times unplaced"
            elif self.mode.places_new:
                if places[who] + left_out[who] != 1:
                    yield f"{who} has {places[who]} places in the plan, {left_out[who]} times unplaced"
            elif places[who] or left_out[who]:
                yield f"{who} does not run, and {self.mode} leaves it out"
        for gpu in self.target.gpus:
            for one in gpu.instances:
                if one.workloads:
                    yield from self.instance_faults(gpu, one)

    def instance_faults(self, gpu: TargetGpu, instance: TargetInstance) -> Iterator[str]:
        where = f"{gpu.id}: {instance.profile} at {instance.start}"
        unit = _Unit(frozenset(instance.workloads), tuple(sorted(instance.compute_instances)))
        first = instance.workloads[0]
        if unit != self.units.get(first, _Unit(frozenset({first}), ())):
            yield f"{where} holds {sorted(unit.workloads)} with {unit.compute_instances}, who did not live together so"
        for who in instance.workloads:
            if who in self.known and not self.may_sit_on(who, instance):
                yield f"{where} cannot serve {who}, which asks for {self.known[who].profile}"

    def may_sit_on(self, who: str, instance: TargetInstance) -> bool:
        asked = self.known[who].profile
        larger = {name for rule in self.rules.upsizes if rule.profile == asked for name in rule.to}
        return instance.profile == asked or instance.profile in larger

    # -- what stays and what moves -----------------------------------------------------------------------------------

    def stay_faults(self) -> Iterator[str]:
        """What must stay and does not; the arrangement of a GPU with unknown starts is whatever excuses it."""
        for gpu, now in self.existing():
            ways = list(self.kept_ways(gpu, now))
            running = {who for one in now.instances for who in one.workloads}
            pinned = {who for who in running if self.known[who].pinned}
            if not any(pinned <= kept for kept in ways):
                yield f"{gpu.id}: a pinned workload of {sorted(pinned)} moved"
            if self.mode in STILL and running not in ways:
                yield f"{gpu.id}: something moved, which {self.mode} does not allow"
            in_use = any(one.workloads or one.is_reserve for one in gpu.instances)
            if self.mode is Mode.COMPACT and running and in_use and running not in ways:
                yield f"{gpu.id}: it stays in use or is filled again, and does not keep all it runs"

    def kept_ways(self, gpu: TargetGpu, now: ProblemGpu) -> Iterator[set[str]]:
        """Workloads that stay on the GPU at their start, for every arrangement that it may have now."""
        after = {
            (one.profile, one.start, frozenset(one.workloads)): set(one.workloads)
            for one in gpu.instances
            if one.workloads
        }
        for starts in arrangements(now.board, tuple((one.profile, one.start) for one in now.instances)):
            kept: set[str] = set()
            for one, start in zip(now.instances, starts, strict=True):
                kept |= after.get((one.profile, start, frozenset(one.workloads)), set())
            yield kept

    def possible_moves(self) -> set[int]:
        """Moves that the plan makes; several where starts are unknown."""
        totals = {0}
        for gpu, now in self.existing():
            running = sum(len(one.workloads) for one in now.instances)
            here = {running - len(kept) for kept in self.kept_ways(gpu, now)}
            totals = {total + moved for total in totals for moved in here}
        return totals

    def is_the_present(self) -> bool:
        return all(_same(now, gpu) for gpu, now in self.existing()) and not any(gpu.is_new for gpu in self.target.gpus)

    # -- the rules ---------------------------------------------------------------------------------------------------

    def rule_faults(self) -> Iterator[str]:
        yield from self.company_faults()
        yield from self.single_faults()
        yield from self.board_faults()
        yield from self.reserve_faults()
        most = self.rules.max_moves
        if most is not None and min(self.possible_moves()) > most:
            yield f"{min(self.possible_moves())} moves are more than {most}"

    def board_faults(self) -> Iterator[str]:
        board = {who: gpu.board.name for gpu in self.problem.gpus for one in gpu.instances for who in one.workloads}
        for gpu in self.target.gpus if self.rules.stay_on_board else ():
            for who in [who for one in gpu.instances for who in one.workloads]:
                if board.get(who, gpu.board.name) != gpu.board.name:
                    yield f"{who} runs on {board[who]} and changes to {gpu.board.name}"

    def company_faults(self) -> Iterator[str]:
        in_node: dict[str, list[Workload]] = defaultdict(list)
        for gpu in self.target.gpus:
            here = [self.known[who] for one in gpu.instances for who in one.workloads if who in self.known]
            in_node[gpu.node] += here
            for service, count in Counter(one.service for one in here).items():
                if self.rules.spread_of(service) is not None and count > 1:
                    yield f"{gpu.id} holds {count} replicas of {service}"
            for one in here:
                tenant = self.rules.isolation_of(one.tenant)
                if tenant is not None and any(other.tenant != tenant for other in here):
                    yield f"{gpu.id}: tenant {tenant} is not alone"
        for node, here in in_node.items():
            for service, count in Counter(one.service for one in here).items():
                if self.rules.spread_of(service) is Spread.NODE and count > 1:
                    yield f"node {node} holds {count} replicas of {service}"

    def single_faults(self) -> Iterator[str]:
        nodes: dict[str, list[TargetGpu]] = defaultdict(list)
        for gpu in self.target.gpus:
            nodes[gpu.node].append(gpu)
        for node, gpus in nodes.items():
            names = {one.profile for gpu in gpus for one in gpu.instances}
            if self.rules.is_single(node) and names:
                if len(names) > 1:
                    yield f"node {node} has the profiles {sorted(names)}"
                for gpu in gpus:
                    if not gpu.instances:
                        yield f"node {node} is of one profile, and {gpu.id} has no instance"

    def reserve_faults(self) -> Iterator[str]:
        free: Counter[str] = Counter()
        busy: Counter[str] = Counter()
        by_node: dict[str, Counter[str]] = defaultdict(Counter)
        for gpu in self.target.gpus:
            for one in gpu.instances:
                by_node[gpu.node][one.profile] += 1
                busy[one.profile] += len(one.workloads)
                free[one.profile] += not one.workloads
        for reserve in self.rules.reserves:
            if free[reserve.profile] < reserve.count:
                yield f"{free[reserve.profile]} free {reserve.profile}, {reserve.count} are to be kept"
        if self.rules.survive_node_loss:
            existing = sum(by_node.values(), Counter())
            for node, lost in by_node.items():
                for name, count in busy.items():
                    if existing[name] - lost[name] < count:
                        yield f"without node {node}, {existing[name] - lost[name]} {name} for {count} workloads"

    # -- the figures -------------------------------------------------------------------------------------------------

    def used(self) -> list[TargetGpu]:
        whole = {gpu.id for gpu in self.problem.gpus if gpu.occupied_whole}
        return [
            gpu
            for gpu in self.target.gpus
            if gpu.id in whole or any(one.workloads or one.is_reserve for one in gpu.instances)
        ]

    def upsizing(self) -> tuple[int, float]:
        """Workloads on a larger profile than they ask for, and what that costs."""
        count, price = 0, 0.0
        for gpu in self.target.gpus:
            for one in gpu.instances:
                for who in one.workloads:
                    asked = self.known[who].profile if who in self.known else one.profile
                    if one.profile != asked:
                        count += 1
                        allowed = [r.price for r in self.rules.upsizes if r.profile == asked and one.profile in r.to]
                        price += min(allowed, default=0.0)
        return count, price

    def count_faults(self) -> Iterator[str]:
        target, used = self.target, self.used()
        if target.gpus_used != len(used):
            yield f"{target.gpus_used} GPUs are said to be used, {len(used)} are"
        if target.moves not in self.possible_moves():
            yield f"{target.moves} moves are said, {sorted(self.possible_moves())} are made"
        if target.gpus_lower_bound > target.gpus_used or target.moves_lower_bound > target.moves:
            yield "a lower bound is above the value"
        upsized, upsizing_price = self.upsizing()
        prices = self.problem.prices
        usd_per_hour = sum(prices[gpu.board.name] for gpu in used) if prices else None
        said = target.cost_usd_per_hour
        if (said is None) != (usd_per_hour is None) or (said is not None and abs(said - usd_per_hour) > CLOSE):
            yield f"{said} USD per hour are said, {usd_per_hour} is right"
        values = {
            "unplaced": len(target.unplaced),
            "moves": target.moves,
            "upsized": upsized,
            "gpus": len(used) + upsizing_price,
            "cost": (usd_per_hour or 0.0) + upsizing_price,
        }
        if target.mode is not self.mode:
            yield f"mode {target.mode} was not asked for"
        yield from self.level_faults(values)

    def level_faults(self, values: dict[str, float]) -> Iterator[str]:
        names = [level.name for level in self.target.levels]
        wanted = ["unplaced", "cost" if self.problem.prices else "gpus", "moves"]
        wanted += ["upsized"] if self.rules.upsizes else []
        if names != wanted:
            yield f"the levels are {names}, not {wanted}"
        for level in self.target.levels:
            if abs(level.value - values[level.name]) > CLOSE:
                yield f"level {level.name} says {level.value}, the plan has {values[level.name]}"
            yield from _bound_faults(level)

    def note_faults(self) -> Iterator[str]:
        target = self.target
        for one in target.unplaced:
            if not one.reason or not one.limit:
                yield f"nothing says why {one.workload} is not placed"
        unknown = {gpu.id for gpu in self.problem.gpus if any(one.start is None for one in gpu.instances)}
        if target.assumed_gpus != unknown:
            yield f"starts are said to be assumed on {sorted(target.assumed_gpus)}, not on {sorted(unknown)}"
        if self.waiting and not self.mode.places_new and not target.notes:
            yield f"nothing says that {self.mode} leaves out {len(self.waiting)} workloads"
        moving = set(self.known) - set(self.units)
        for gpu, now in self.existing():
            always = set.intersection(
                *self.kept_ways(gpu, now), {who for one in now.instances for who in one.workloads}
            )
            for who in sorted(always & set(target.groups)):
                yield f"{who} stays and is in a group"
            moving |= {who for one in now.instances for who in one.workloads} - always
        for who in sorted(set(target.groups) - moving - set(self.units)):
            yield f"{who} is in a group and no workload of the problem"

    def status_faults(self, *, is_broken: bool) -> list[str]:
        target, found = self.target, []
        all_proven = all(level.is_proven for level in target.levels)
        if is_broken and target.status is not Status.INFEASIBLE:
            found.append(f"{target.status} is said of a plan that breaks a rule")
        if target.unplaced and target.status is not Status.INFEASIBLE:
            found.append(f"{target.status} is said of a plan that leaves out {len(target.unplaced)}")
        if target.status is Status.OPTIMAL and not all_proven:
            found.append("optimal is said, and a level is not proven")
        if target.status is Status.FEASIBLE and all_proven:
            found.append("every level is proven, and only feasible is said")
        if target.status is Status.INFEASIBLE and not target.unplaced and not self.is_the_present():
            found.append("infeasible is said of a plan that leaves nothing out and changes the fleet")
        return found


def _bound_faults(level: Level) -> Iterator[str]:
    if level.lower_bound > level.value + CLOSE:
        yield f"level {level.name} has the bound {level.lower_bound} above its value {level.value}"
    if level.is_proven and level.lower_bound < level.value - CLOSE:
        yield f"level {level.name} is called proven with {level.value} against {level.lower_bound}"


def _same(now: ProblemGpu, then: TargetGpu) -> bool:
    """Whether the GPU has the same instances with the same workloads, in one of the arrangements it may have."""
    after = sorted(_seen(one, one.start) for one in then.instances)
    return any(
        sorted(_seen(one, start) for one, start in zip(now.instances, starts, strict=True)) == after
        for starts in arrangements(now.board, tuple((one.profile, one.start) for one in now.instances))
    )


def _seen(one: RunningInstance | TargetInstance, start: int) -> tuple[str, int, tuple[str, ...], tuple[str, ...]]:
    return (one.profile, start, tuple(sorted(one.workloads)), tuple(sorted(one.compute_instances)))


def _with_places_exchanged(target: Target, one: str, other: str) -> Target | None:
    """The target with the two in each other's place; None when either has no place or shares its instance."""
    placed: Iterable[TargetInstance] = (
        i for gpu in target.gpus for i in gpu.instances if {one, other} & {*i.workloads}
    )
    if sorted(len(instance.workloads) for instance in placed) != [1, 1]:
        return None
    names = {one: other, other: one}

    def exchanged(gpu: TargetGpu) -> TargetGpu:
        instances = (replace(i, workloads=tuple(names.get(who, who) for who in i.workloads)) for i in gpu.instances)
        return replace(gpu, instances=tuple(instances))

    return replace(target, gpus=tuple(exchanged(gpu) for gpu in target.gpus))
