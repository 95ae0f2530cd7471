"""Whether a plan file agrees with itself: its GPUs, layouts, placements and steps belong to the problem inside it."""

from collections.abc import Mapping, Sequence

from planner.catalog import find_profile
from planner.compute_instances import why_illegal_compute
from planner.errors import InvalidPlan
from planner.hardware import Board, PlacedInstance, Placement
from planner.mig.file_shape import Mistakes, shortened
from planner.mig.plan_rows import LayoutRow, PlanRow, StepRow
from planner.mig.problem import Problem
from planner.mig_geometry import planning_obstacle, why_illegal

_NEEDED = {
    "create": ("profile", "start"),
    "destroy": ("profile", "start"),
    "start": ("workload", "profile", "start"),
    "stop": ("workload", "profile", "start"),
}


def new_boards(problem: Problem) -> dict[str, Board]:
    """Boards of GPUs that do not exist yet, by name."""
    return {board.name: board for board in problem.elastic.boards} if problem.elastic else {}


def check_plan(row: PlanRow, problem: Problem) -> None:
    """Raises InvalidPlan for a plan that does not belong to its problem, or that no driver could carry out."""
    mistakes = Mistakes(InvalidPlan)
    boards = _check_layouts(row, problem, mistakes)
    mistakes.raise_if_any()
    _check_placements(row, problem, mistakes)
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
