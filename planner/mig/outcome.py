"""What a solution, or the lack of one, is worth: the planner's answer with its counts, levels and bounds."""

from collections.abc import Iterable, Sequence

from planner.mig.model import Model
from planner.mig.plan import Level, Status, Target, TargetGpu, Unplaced
from planner.mig.plan_notes import notes
from planner.mig.problem import Problem, Rules
from planner.mig.realise import Realised, unchanged
from planner.mig.state import State


def solved_target(model: Model, solved: Sequence[Level], realised: Realised, gpus_bound: int) -> Target:
    """The answer that a solution stands for; `gpus_bound` counts GPUs that are not frozen."""
    state = model.state
    frozen_used = sum(present.is_frozen and present.is_used for present in state.gpus)
    used = {gpu.id for gpu in realised.gpus if _is_used(gpu)}
    occupied = {present.gpu.id for present in state.gpus if present.gpu.occupied_whole}
    gpus_used = len(used | occupied)
    moves = _count_moves(state, realised.gpus)
    levels = tuple(_with_frozen(level, state, gpus_used, moves) for level in solved)
    by_name = {level.name: level for level in levels}
    gpus_bound = min(gpus_used, gpus_bound + frozen_used)
    moves_bound = int(min(moves, by_name["moves"].lower_bound)) if "moves" in by_name else 0
    reason, limit = "No GPU of the problem has room for it beside the rest.", "gpus"
    if not by_name["unplaced"].is_proven:
        reason, limit = "The time limit struck before it was placed; raise it.", "time"
    unplaced = tuple(Unplaced(workload=name, reason=reason, limit=limit) for name in realised.unplaced)
    if unplaced:
        status = Status.INFEASIBLE
    else:
        status = Status.OPTIMAL if all(level.is_proven for level in levels) else Status.FEASIBLE
    return Target(
        mode=state.mode,
        status=status,
        levels=levels,
        gpus=realised.gpus,
        unplaced=unplaced,
        gpus_used=gpus_used,
        gpus_lower_bound=gpus_bound,
        moves=moves,
        moves_lower_bound=moves_bound,
        groups=realised.groups,
        is_cut_short=not by_name["unplaced"].is_proven,
        assumed_gpus=frozenset(present.gpu.id for present in state.gpus if present.is_assumed),
        notes=notes(state, realised.gpus),
        cost_usd_per_hour=_cost(state.problem, realised.gpus, occupied),
    )


def _is_used(gpu: TargetGpu) -> bool:
    return any(instance.workloads or instance.is_reserve for instance in gpu.instances)


def _cost(problem: Problem, gpus: Iterable[TargetGpu], occupied: Iterable[str]) -> float | None:
    if not problem.prices:
        return None
    occupied = set(occupied)
    return sum(problem.prices[gpu.board.name] for gpu in gpus if gpu.id in occupied or _is_used(gpu))


def _count_moves(state: State, gpus: Iterable[TargetGpu]) -> int:
    now = {w: (p.gpu.id, i.start) for p in state.gpus for i in p.instances for w in i.workloads}
    then = {w: (gpu.id, i.start) for gpu in gpus for i in gpu.instances for w in i.workloads}
    return sum(then[workload] != place for workload, place in now.items())


def _with_frozen(level: Level, state: State, gpus_used: int, moves: int) -> Level:
    """The level as a plan counts it: what is frozen costs too, and names may have turned out better than counts."""
    constant = 0.0
    if level.name in ("gpus", "cost"):
        prices = state.problem.prices
        for present in state.gpus:
            if present.is_frozen and present.is_used:
                constant += prices[present.gpu.board.name] if prices else 1.0
        upsizing = {(u.profile, to): u.price for u in state.problem.rules.upsizes for to in u.to}
        constant += sum(
            upsizing.get((kind.row.profile, kind.profile), 0.0)
            for present in state.gpus
            if present.is_frozen
            for kind, _ in present.units
        )
    if level.name == "upsized":
        constant = sum(k.row.profile != k.profile for p in state.gpus if p.is_frozen for k, _ in p.units)
    value = level.value + constant
    if level.name == "moves":
        value = float(moves)
    elif level.name == "gpus" and not state.problem.rules.upsizes:
        value = float(gpus_used)
    bound = min(level.lower_bound + constant, value)
    return Level(name=level.name, value=value, lower_bound=bound, is_proven=level.is_proven)


def present_target(state: State, reason: str, limit: str) -> Target:
    """Nothing changes and nothing that waits is placed, for the reason given."""
    waiting = [workload.id for found in state.waiting.values() for workload in found]
    gpus = unchanged(state.gpus)
    used = sum(present.is_used for present in state.gpus)
    occupied = [present.gpu.id for present in state.gpus if present.gpu.occupied_whole]
    return Target(
        mode=state.mode,
        status=Status.FEASIBLE
        if limit == "time" and not waiting and _is_as_ruled(state.problem.rules)
        else Status.INFEASIBLE,
        levels=_present_levels(state, len(waiting), used, gpus),
        gpus=gpus,
        unplaced=tuple(Unplaced(workload=workload, reason=reason, limit=limit) for workload in waiting),
        gpus_used=used,
        gpus_lower_bound=0,
        moves=0,
        moves_lower_bound=0,
        groups={},
        is_cut_short=limit == "time",
        assumed_gpus=frozenset(present.gpu.id for present in state.gpus if present.is_assumed),
        notes=(reason, *notes(state, gpus)),
        cost_usd_per_hour=_cost(state.problem, gpus, occupied),
    )


def _present_levels(state: State, waiting: int, used: int, gpus: Sequence[TargetGpu]) -> tuple[Level, ...]:
    """What the present state is worth; nothing is known of what could be better."""
    occupied = [present.gpu.id for present in state.gpus if present.gpu.occupied_whole]
    spent = _cost(state.problem, gpus, occupied)
    upsizing = {(u.profile, to): u.price for u in state.problem.rules.upsizes for to in u.to}
    kinds = [kind for present in state.gpus for kind, _ in present.units]
    values = {
        "unplaced": float(waiting),
        "gpus" if spent is None else "cost": (float(used) if spent is None else spent)
        + sum(upsizing.get((kind.row.profile, kind.profile), 0.0) for kind in kinds),
        "moves": 0.0,
    }
    if upsizing:
        values["upsized"] = float(sum(kind.row.profile != kind.profile for kind in kinds))
    return tuple(Level(name=n, value=v, lower_bound=0.0, is_proven=v == 0) for n, v in values.items())


def _is_as_ruled(rules: Rules) -> bool:
    """Whether no rule is there that the present state could break."""
    return not (
        rules.single_nodes or rules.spread or rules.isolated_tenants or rules.reserves or rules.survive_node_loss
    )
