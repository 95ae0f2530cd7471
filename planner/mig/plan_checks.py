"""Whether a plan file agrees with itself: its GPUs, layouts, placements and steps belong to the problem inside it."""

from collections.abc import Mapping, Sequence

from planner.catalog import find_profile
from planner.compute_instances import why_illegal_compute
from planner.errors import InvalidPlan
from planner.hardware import Board, PlacedInstance, Placement
from planner.mig.file_shape import Mistakes, shortened
from planner.mig.plan import Mode, Status
from planner.mig.plan_rows import LayoutRow, PlanRow, StepRow
from planner.mig.problem import Problem
from planner.mig.state import PresentInstance, with_starts
from planner.mig_geometry import planning_obstacle, why_illegal

_NEEDED = {
    "create": ("profile", "start"),
    "destroy": ("profile", "start"),
    "start": ("workload", "profile", "start"),
    "stop": ("workload", "profile", "start"),
}

_STILL = (Mode.INITIAL, Mode.ADD_WITHOUT_MOVES)
_ROUNDING = 1e-6

_Present = Mapping[str, Sequence[PresentInstance]]
"""The instances that exist now, by GPU."""


def new_boards(problem: Problem) -> dict[str, Board]:
    """Boards of GPUs that do not exist yet, by name."""
    return {board.name: board for board in problem.elastic.boards} if problem.elastic else {}


def check_plan(row: PlanRow, problem: Problem) -> None:
    """Raises InvalidPlan for a plan that does not belong to its problem, or that no driver could carry out."""
    mistakes = Mistakes(InvalidPlan)
    boards = _check_layouts(row, problem, mistakes)
    mistakes.raise_if_any()
    _check_placements(row, problem, mistakes)
    _check_unplaced(row, problem, mistakes)
    present = {gpu.id: with_starts(gpu) for gpu in problem.gpus}
    _check_what_stays(row, problem, present, mistakes)
    _check_figures(row, problem, present, mistakes)
    for key, steps in (("steps", row.steps), ("rollback", row.rollback)):
        _check_steps(key, steps, boards, problem, mistakes)
    mistakes.raise_if_any()


def _check_layouts(row: PlanRow, problem: Problem, mistakes: Mistakes) -> dict[str, tuple[str, Board]]:
    """Node and board of every GPU of the plan."""
    known = {gpu.id: (gpu.node, gpu.board) for gpu in problem.gpus}
    elastic = new_boards(problem)
    found: dict[str, tuple[str, Board]] = {}
    legal: dict[tuple[int, tuple[tuple[str, int], ...]], str | None] = {}
    for number, layout in enumerate(row.layouts):
        place = f"layouts[{number}]"
        if layout.gpu in found:
            mistakes.add(f"{place}.gpu", f"{shortened(layout.gpu)} has a layout already.")
            continue
        if layout.new and layout.gpu not in known and layout.board in elastic:
            found[layout.gpu] = (layout.node, elastic[layout.board])
        elif not layout.new and known.get(layout.gpu, ("", None))[0] == layout.node:
            found[layout.gpu] = known[layout.gpu]
        else:
            mistakes.add(place, f"the problem has no such GPU {shortened(layout.gpu)} on {shortened(layout.node)}.")
            continue
        board = found[layout.gpu][1]
        key = (id(board), tuple((one.profile, one.start) for one in layout.instances))
        if key not in legal:
            legal[key] = _why_illegal(board, layout)
        wrong = legal[key] or _why_illegal_inside(board, layout)
        if wrong is not None:
            mistakes.add(f"{place}.instances", wrong)
    missing = [gpu.id for gpu in problem.gpus if gpu.id not in found]
    if missing:
        mistakes.add("layouts", f"GPU {shortened(missing[0])} of the problem has none.")
    return found


def _why_illegal(board: Board, layout: LayoutRow) -> str | None:
    if planning_obstacle(board) is not None and not layout.instances:
        return None
    placed = []
    for one in layout.instances:
        profile = find_profile(board, one.profile)
        sizes = {placement.start: placement.size for placement in profile.placements} if profile else {}
        placed.append(PlacedInstance(one.profile, Placement(one.start, sizes.get(one.start, 0))))
    return why_illegal(board, placed)


def _why_illegal_inside(board: Board, layout: LayoutRow) -> str | None:
    for one in layout.instances:
        if one.compute_instances:
            wrong = why_illegal_compute(board, one.profile, one.compute_instances)
            if wrong is not None:
                return wrong
        if len(one.workloads) > max(1, len(one.compute_instances)):
            return f"{one.profile} at {one.start} has more workloads than compute instances."
    return None


def _check_placements(row: PlanRow, problem: Problem, mistakes: Mistakes) -> None:
    workloads = {workload.id for workload in (*problem.workloads, *problem.new)}
    placed = {
        (workload, layout.gpu, one.profile, one.start)
        for layout in row.layouts
        for one in layout.instances
        for workload in one.workloads
    }
    unknown = [workload for workload, _, _, _ in placed if workload not in workloads]
    if unknown:
        mistakes.add("layouts", f"the problem has no workload {shortened(min(unknown))}.")
    if len({workload for workload, _, _, _ in placed}) != sum(
        len(one.workloads) for layout in row.layouts for one in layout.instances
    ):
        mistakes.add("layouts", "a workload lies on two instances.")
    if {(one.workload, one.gpu, one.profile, one.start) for one in row.placements} != placed:
        mistakes.add("placements", "they are not those of `layouts`.")


def _check_unplaced(row: PlanRow, problem: Problem, mistakes: Mistakes) -> None:
    """What runs has a place; what waits has one or is in `unplaced`, in modes that place it, and else neither."""
    running = problem.running_ids()
    placed = {workload for layout in row.layouts for one in layout.instances for workload in one.workloads}
    left_out: set[str] = set()
    for number, rest in enumerate(row.unplaced):
        if rest.workload in left_out:
            mistakes.add(f"unplaced[{number}].workload", f"{shortened(rest.workload)} is listed already.")
        left_out.add(rest.workload)
    places_new = Mode(row.mode).places_new
    for workload in (*problem.workloads, *problem.new):
        name, is_placed, is_left_out = workload.id, workload.id in placed, workload.id in left_out
        if name in running:
            if not is_placed or is_left_out:
                mistakes.add("layouts", f"workload {shortened(name)} runs, and is on no instance or in `unplaced`.")
        elif not places_new:
            if is_placed or is_left_out:
                mistakes.add("layouts", f"workload {shortened(name)} waits, and mode {row.mode} places nothing new.")
        elif is_placed == is_left_out:
            where = "both on an instance and" if is_placed else "neither on an instance nor"
            mistakes.add("layouts", f"workload {shortened(name)} is {where} in `unplaced`.")
    unknown = left_out - {workload.id for workload in (*problem.workloads, *problem.new)}
    if unknown:
        mistakes.add("unplaced", f"the problem has no workload {shortened(min(unknown))}.")


def _check_what_stays(row: PlanRow, problem: Problem, present: _Present, mistakes: Mistakes) -> None:
    """GPUs that must not be touched are as the problem has them, and nothing pinned has moved."""
    frozen = {gpu.id for gpu in problem.gpus if gpu.occupied_whole or problem.rules.is_untouchable(gpu)}
    pinned = {workload.id for workload in problem.workloads if workload.pinned}
    for number, layout in enumerate(row.layouts):
        now = present.get(layout.gpu, ())
        if layout.gpu in frozen:
            before = sorted((i.profile, i.start, sorted(i.workloads), i.compute_instances) for i in now)
            after = [(i.profile, i.start, sorted(i.workloads), tuple(i.compute_instances)) for i in layout.instances]
            if sorted(after) != before:
                mistakes.add(f"layouts[{number}].instances", f"GPU {shortened(layout.gpu)} is to stay as it is.")
        there = {(workload, one.start) for one in layout.instances for workload in one.workloads}
        for name, start in ((name, one.start) for one in now for name in one.workloads if name in pinned):
            if (name, start) not in there:
                sentence = f"{shortened(name)} is pinned to GPU {shortened(layout.gpu)} at {start}, and moves."
                mistakes.add(f"layouts[{number}].instances", sentence)
    for key, steps in (("steps", row.steps), ("rollback", row.rollback)):
        for number, step in enumerate(steps):
            if step.gpu in frozen and step.action != "check":
                mistakes.add(f"{key}[{number}]", f"GPU {shortened(step.gpu)} is to stay as it is.")


def _check_figures(row: PlanRow, problem: Problem, present: _Present, mistakes: Mistakes) -> None:
    """What the layouts can be counted for is counted, and no bound is above what it bounds."""
    occupied = {gpu.id for gpu in problem.gpus if gpu.occupied_whole}
    used = sum(
        layout.gpu in occupied or any(one.workloads or one.reserve for one in layout.instances)
        for layout in row.layouts
    )
    if row.gpus_used != used:
        mistakes.add("gpus_used", f"is {row.gpus_used}, and the layouts use {used}.")
    then = {
        (workload, layout.gpu, one.start)
        for layout in row.layouts
        for one in layout.instances
        for workload in one.workloads
    }
    now = ((name, gpu, one.start) for gpu, held in present.items() for one in held for name in one.workloads)
    moves = sum(place not in then for place in now)
    if row.moves != moves:
        mistakes.add("moves", f"is {row.moves}, and the layouts take {moves}.")
    most = problem.rules.max_moves
    if most is not None and moves > most:
        mistakes.add("moves", f"is {moves}, more than the {most} of `max_moves`.")
    if moves and Mode(row.mode) in _STILL:
        mistakes.add("moves", f"mode {row.mode} moves nothing.")
    bounded = [("gpus_used", row.gpus_used, row.gpus_lower_bound), ("moves", row.moves, row.moves_lower_bound)]
    for name, value, bound in bounded:
        if bound > value:
            mistakes.add(name, f"is {value}, below its lower bound of {bound}.")
    if row.unplaced and Status(row.status) is not Status.INFEASIBLE:
        mistakes.add("status", f"is {row.status}, and `unplaced` is not empty.")
    counted = {"unplaced": len(row.unplaced), "moves": moves}
    for number, level in enumerate(row.levels):
        if level.value != counted.get(level.name, level.value):
            mistakes.add(f"levels[{number}]", f"its value is {level.value:g}, and the plan has {counted[level.name]}.")
        if level.lower_bound is not None and level.lower_bound > level.value + _ROUNDING * max(1.0, abs(level.value)):
            mistakes.add(f"levels[{number}]", f"its value {level.value:g} is below its bound {level.lower_bound:g}.")


def _check_steps(
    key: str,
    steps: Sequence[StepRow],
    gpus: Mapping[str, tuple[str, Board]],
    problem: Problem,
    mistakes: Mistakes,
) -> None:
    workloads = {workload.id for workload in (*problem.workloads, *problem.new)}
    wave = 1
    for number, step in enumerate(steps):
        place = f"{key}[{number}]"
        node, board = gpus.get(step.gpu, ("", None))
        if board is None or node != step.node:
            mistakes.add(place, f"the plan has no GPU {shortened(step.gpu)} on node {shortened(step.node)}.")
            continue
        if step.wave < wave:
            mistakes.add(f"{place}.wave", f"wave {step.wave} comes after wave {wave}.")
        wave = step.wave
        missing = [name for name in _NEEDED.get(step.action, ()) if getattr(step, name) is None]
        if missing:
            mistakes.add(place, f"a step `{step.action}` needs {' and '.join(missing)}.")
            continue
        if step.workload is not None and step.workload not in workloads:
            mistakes.add(f"{place}.workload", f"the problem has no workload {shortened(step.workload)}.")
        wrong = _why_no_instance(board, step)
        if wrong is not None:
            mistakes.add(place, wrong)


def _why_no_instance(board: Board, step: StepRow) -> str | None:
    listed = [(one.profile, one.start) for one in step.expected]
    if step.profile is not None and step.start is not None:
        listed.append((step.profile, step.start))
    for name, start in listed:
        if not any(
            profile.name == name and any(placement.start == start for placement in profile.placements)
            for profile in board.profiles
        ):
            return f"{board.name} has no profile {shortened(name)} that starts at {start}."
    if step.compute_instances and step.profile is not None:
        return why_illegal_compute(board, step.profile, step.compute_instances)
    return None
