"""Answers built by hand from layouts, with levels and figures that are right: where the tests of the tools start."""

from collections.abc import Iterable, Mapping

from planner.mig.plan import Level, Mode, Status, Target, TargetGpu, TargetInstance, Unplaced
from planner.mig.problem import Problem, ProblemGpu


def present_gpu(gpu: ProblemGpu) -> TargetGpu:
    """The GPU left as it is; its starts must be known."""
    instances = (
        TargetInstance(
            profile=one.profile,
            start=one.start or 0,
            workloads=one.workloads,
            compute_instances=one.compute_instances,
        )
        for one in gpu.instances
    )
    return TargetGpu(
        id=gpu.id, node=gpu.node, board=gpu.board, instances=tuple(sorted(instances, key=lambda one: one.start))
    )


def answer(
    problem: Problem,
    mode: Mode,
    gpus: Iterable[TargetGpu],
    *,
    status: Status | None = None,
    groups: Mapping[str, int] | None = None,
) -> Target:
    """A target of these GPUs that counts itself correctly and calls every level proven."""
    gpus = tuple(gpus)
    placed = {name: one for gpu in gpus for one in gpu.instances for name in one.workloads}
    running = problem.running_ids()
    asked = {one.id: one.profile for one in (*problem.workloads, *problem.new)}
    left_out = [name for name in asked if name not in placed and mode.places_new and name not in running]
    whole = {gpu.id for gpu in problem.gpus if gpu.occupied_whole}
    used = [gpu for gpu in gpus if gpu.id in whole or any(one.workloads or one.is_reserve for one in gpu.instances)]
    before = {
        (n, gpu.id, one.profile, one.start) for gpu in problem.gpus for one in gpu.instances for n in one.workloads
    }
    after = {(n, gpu.id, one.profile, one.start) for gpu in gpus for one in gpu.instances for n in one.workloads}
    moves = len(before - after)
    price = {(rule.profile, name): rule.price for rule in problem.rules.upsizes for name in rule.to}
    upsized = [
        (asked.get(name, one.profile), one.profile)
        for name, one in placed.items()
        if one.profile != asked.get(name, one.profile)
    ]
    usd = sum(problem.prices[gpu.board.name] for gpu in used) if problem.prices else None
    spent = (len(used) if usd is None else usd) + sum(price.get(pair, 0.0) for pair in upsized)
    levels = [
        ("unplaced", len(left_out)),
        ("gpus" if usd is None else "cost", spent),
        ("moves", moves),
        *([("upsized", len(upsized))] if problem.rules.upsizes else []),
    ]
    return Target(
        mode=mode,
        status=status or (Status.INFEASIBLE if left_out else Status.OPTIMAL),
        levels=tuple(Level(name=name, value=value, lower_bound=value, is_proven=True) for name, value in levels),
        gpus=gpus,
        unplaced=tuple(Unplaced(workload=name, reason="There is no room.", limit="gpus") for name in left_out),
        gpus_used=len(used),
        gpus_lower_bound=len(used),
        moves=moves,
        moves_lower_bound=moves,
        groups=groups or {},
        assumed_gpus=frozenset(gpu.id for gpu in problem.gpus if any(one.start is None for one in gpu.instances)),
        notes=("Some workloads do not run and are left out.",) if set(asked) - running else (),
        cost_usd_per_hour=usd,
    )
