"""The way from the present layouts to the target: ordered steps with the least downtime, and the exact way back.

The parts, each of which answers one question: what differs (`differences`), who takes which slot in which order
(`handover`), what happens side by side (`waves`), and what that is in steps (`steps`). On the way, as in the target, no
tenant that a rule isolates shares a GPU; the other rules hold in the target only.
"""

from collections.abc import Mapping
from dataclasses import replace

from planner.mig.differences import Differences, differences
from planner.mig.handover import Handover, in_order
from planner.mig.order import natural_key
from planner.mig.places import Place, Unit
from planner.mig.plan import ChangePlan, Target
from planner.mig.problem import Problem
from planner.mig.steps import write_steps
from planner.mig.waves import schedule


def change_plan(problem: Problem, target: Target) -> ChangePlan:
    """The steps from the problem's present state to the target, and back; raises ChangeImpossible.

    Every workload starts on its new instance before it stops on the old one wherever an order allows that, exchanging
    workloads of one group for it. Where none does, as few workloads as possible are down at one moment.
    """
    found = differences(problem, target)
    order = in_order(
        Handover(
            weights=tuple(unit.weight for unit in found.units),
            kinds=tuple(unit.kind for unit in found.units),
            blockers=tuple(slot.blockers for slot in found.slots),
        )
    )
    slot_of = {unit: slot for unit, slot in order.events if slot is not None}
    planned = schedule(found, order.events, order.peak)
    steps, rollback = write_steps(found, planned.waves, slot_of, target.assumed_gpus)
    down = [workload for unit in planned.interrupted for workload in found.units[unit].workloads]
    return ChangePlan(
        steps=steps,
        rollback=rollback,
        max_down=planned.max_down,
        max_down_is_proven=planned.max_down == 0 or (planned.max_down <= order.lower_bound and found.is_exact),
        down=tuple(sorted(down, key=natural_key)),
        target=_reached(target, found, slot_of),
    )


def _reached(target: Target, found: Differences, slot_of: Mapping[int, int]) -> Target:
    """The target with the workloads where they really go, and without the moves that exchanging saved."""
    instead: dict[str, str] = {}  # where the first was planned, the second runs
    saved = 0
    staying = [(planned, unit, unit.old) for planned, unit in found.stays]
    going = [(found.planned[slot], found.units[unit], found.slots[slot].place) for unit, slot in slot_of.items()]
    for planned, unit, place in [*staying, *going]:
        if planned is not unit:
            instead.update(zip(planned.workloads, unit.workloads, strict=True))
            saved += _moves(planned, place) - _moves(unit, place)
    if not instead:
        return target
    gpus = tuple(
        replace(
            gpu,
            instances=tuple(
                replace(instance, workloads=tuple(instead.get(one, one) for one in instance.workloads))
                for instance in gpu.instances
            ),
        )
        for gpu in target.gpus
    )
    levels = tuple(
        replace(level, value=level.value - saved, lower_bound=min(level.lower_bound, level.value - saved))
        if level.name == "moves"
        else level
        for level in target.levels
    )
    return replace(target, gpus=gpus, moves=target.moves - saved, levels=levels)


def _moves(unit: Unit, place: Place | None) -> int:
    if unit.old is None or place is None or (unit.old.gpu, unit.old.start) == (place.gpu, place.start):
        return 0
    return len(unit.workloads)
