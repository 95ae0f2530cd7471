"""How `gpufleet mig plan`, `frontier` and `replay` answer people in a terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console

from dashboard.formatting import ABSENT
from gpufleet.text_output import literal, new_console, new_table
from planner.mig.plan import Action, ChangePlan, FrontierPoint, Level, Status, Step, Target, TargetGpu
from planner.mig.problem import Problem
from planner.sentences import spelled_count

_LONGEST_LIST = 20

_STATUS = {
    Status.OPTIMAL: "proven best",
    Status.FEASIBLE: "everything is placed; not proven best",
    Status.INFEASIBLE: "not everything could be met",
}


def print_plan(problem: Problem, change: ChangePlan, seconds: Mapping[str, float]) -> None:
    """The answer, what is not placed, the layouts, and the way there."""
    console = new_console()
    target = change.target
    console.print(f"[bold]{target.mode.value}[/bold]: {_STATUS[target.status]}")
    placed = sum(len(one.workloads) for gpu in target.gpus for one in gpu.instances)
    console.print(
        f"  {spelled_count(target.gpus_used, 'GPU')} in use for {spelled_count(placed, 'workload')}"
        f" (no plan needs fewer than {target.gpus_lower_bound}), {spelled_count(target.moves, 'move')}"
        f" (at least {target.moves_lower_bound})"
    )
    if target.cost_usd_per_hour is not None:
        console.print(f"  {target.cost_usd_per_hour:.2f} USD per hour")
    for level in target.levels:
        if not level.is_proven:
            console.print(f"  {literal(level.name)}: {_gap(level)}")
    _print_unplaced(console, target)
    _print_layouts(console, target.gpus)
    _print_change(console, change)
    for note in target.notes:
        console.print(f"  note: {literal(note)}")
    if problem.gpus or target.gpus:
        console.print("  " + ", ".join(f"{part} {value:.2f} s" for part, value in seconds.items()))


def print_frontier(points: Sequence[FrontierPoint]) -> None:
    """One line per number of GPUs."""
    console = new_console()
    if not points:
        console.print("There is no such plan: the rules cannot be met with what runs.")
        return
    table = new_table("GPUs", "Moves", "At least", "")
    for point in points:
        proof = "proven" if point.is_proven else "not proven"
        table.add_row(str(point.gpus), str(point.moves), str(point.moves_lower_bound), proof)
    console.print(table)


def layout_text(instances: Sequence[tuple[str, int]]) -> str:
    """Profiles with their starts."""
    return " + ".join(f"{profile} at {start}" for profile, start in instances) or "no instance"


def _gap(level: Level) -> str:
    return f"{level.value:g}, and at least {level.lower_bound:g} (gap {level.gap_ratio:.1%})"


def _print_unplaced(console: Console, target: Target) -> None:
    if target.unplaced:
        console.print(f"  not placed: {spelled_count(len(target.unplaced), 'workload')}")
    for rest in target.unplaced[:_LONGEST_LIST]:
        console.print(f"    {literal(rest.workload)}: {literal(rest.reason)}")
    if len(target.unplaced) > _LONGEST_LIST:
        console.print(f"    and {len(target.unplaced) - _LONGEST_LIST} more")
    for remedy in target.remedies:
        parts = [f"without the rule {rule}" for rule in remedy.drop_rules]
        parts += [f"with {spelled_count(count, 'GPU')} more of {board}" for board, count in remedy.add_gpus.items()]
        console.print(f"  everything fits {literal(' and '.join(parts))}")


def _print_layouts(console: Console, gpus: Sequence[TargetGpu]) -> None:
    counts = Counter((gpu.board.name, layout_text([(i.profile, i.start) for i in gpu.instances])) for gpu in gpus)
    if not counts:
        return
    table = new_table("GPUs", "Board", "Layout")
    listed = sorted(counts.items(), key=lambda item: (item[0][0], -item[1], item[0][1]))
    for (board, layout), count in listed[:_LONGEST_LIST]:
        table.add_row(str(count), literal(board), layout)
    console.print(table)
    if len(listed) > _LONGEST_LIST:
        console.print(f"  and {spelled_count(len(listed) - _LONGEST_LIST, 'layout')} more")


def _print_change(console: Console, change: ChangePlan) -> None:
    if not change.steps:
        console.print("  nothing has to change")
        return
    fewest = "" if change.max_down_is_proven else ", not proven to be the fewest"
    console.print(
        f"  {spelled_count(len(change.steps), 'step')} in {spelled_count(change.steps[-1].wave, 'wave')}; "
        f"{spelled_count(len(change.down), 'workload')} interrupted, at most {change.max_down} at one moment{fewest}"
    )
    table = new_table("Wave", "Nodes", "Stop", "Destroy", "Create", "Start", "MIG mode")
    waves: dict[int, list[Step]] = {}
    for step in change.steps:
        waves.setdefault(step.wave, []).append(step)
    for wave, steps in list(waves.items())[:_LONGEST_LIST]:
        did = Counter(step.action for step in steps)
        switched = did[Action.ENABLE_MIG] + did[Action.DISABLE_MIG]
        numbers = (did[Action.STOP], did[Action.DESTROY], did[Action.CREATE], did[Action.START], switched)
        row = [str(number) if number else ABSENT for number in numbers]
        table.add_row(str(wave), str(len({step.node for step in steps})), *row)
    console.print(table)
    if len(waves) > _LONGEST_LIST:
        console.print(f"  and {spelled_count(len(waves) - _LONGEST_LIST, 'wave')} more")
