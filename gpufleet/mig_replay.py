"""`gpufleet mig replay`: a plan and its rollback on the simulated driver, and what they left behind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from gpufleet.mig_plan_text import layout_text
from gpufleet.text_output import literal, new_console, new_table
from planner.errors import DriverRefusal
from planner.mig.driver import Driver, Replay, WaveState
from planner.mig.plan import TargetGpu
from planner.mig.plan_file import StoredPlan
from planner.mig.simulated_gpu import GpuState, InstanceState

_LONGEST_LIST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the driver did. `refusal` is the first thing that went wrong; what came before it is there."""

    change: Replay | None
    rollback: Replay | None
    refusal: str | None


def replay_both_ways(stored: StoredPlan) -> Outcome:
    """Run the steps, compare with the target, run the rollback, compare with the beginning."""
    plan, target = stored.change, stored.change.target
    boards = {gpu.id: gpu.board for gpu in target.gpus if gpu.is_new}
    driver = Driver(stored.problem, (*plan.steps, *plan.rollback), new_boards=boards)
    began = {name: _instances(state.instances) for name, state in driver.states().items()}
    change: Replay | None = None
    try:
        change = driver.run(plan.steps)
        wrong = _difference({gpu.id: _planned(gpu) for gpu in target.gpus}, change.final)
        if wrong is not None:
            return Outcome(change=change, rollback=None, refusal=f"The steps do not end in the target: {wrong}")
        if change.max_down != plan.max_down:
            wrong = f"The steps have {change.max_down} workloads down at one moment, the plan says {plan.max_down}."
            return Outcome(change=change, rollback=None, refusal=wrong)
        rollback = driver.run(plan.rollback)
    except DriverRefusal as error:
        return Outcome(change=change, rollback=None, refusal=str(error))
    wrong = _difference(began, rollback.final)
    refusal = None if wrong is None else f"The rollback does not end where the plan began: {wrong}"
    return Outcome(change=change, rollback=rollback, refusal=refusal)


def document(outcome: Outcome) -> dict[str, Any]:
    """`gpufleet mig replay --json`."""
    return {
        "ends_in_target": outcome.rollback is not None,
        "ends_where_it_began": outcome.rollback is not None and outcome.refusal is None,
        "refusal": outcome.refusal,
        "change": _replay_document(outcome.change),
        "rollback": _replay_document(outcome.rollback),
    }


def print_outcome(outcome: Outcome) -> None:
    """The states after every wave, and whether both ends are right."""
    console = new_console()
    for title, run in (("change", outcome.change), ("rollback", outcome.rollback)):
        if run is None:
            continue
        console.print(f"[bold]{title}[/bold]: {len(run.waves)} waves, at most {run.max_down} workloads down")
        for wave in run.waves:
            _print_wave(console, wave)
    if outcome.refusal is not None:
        console.print(f"[bold]failed[/bold]: {literal(outcome.refusal)}")
    else:
        console.print("The steps end in the target, and the rollback where the plan began.")


def _print_wave(console: Console, wave: WaveState) -> None:
    down = f", down: {literal(', '.join(wave.down[:_LONGEST_LIST]))}" if wave.down else ""
    console.print(f"  wave {wave.number}: {len(wave.steps)} steps{down}")
    table = new_table("Node", "GPU", "MIG", "Instances", "Workloads")
    for state in wave.changed[:_LONGEST_LIST]:
        table.add_row(
            literal(state.node),
            literal(state.id),
            "on" if state.mig_enabled else "off",
            layout_text([(one.profile, one.start) for one in state.instances]),
            literal(", ".join(name for one in state.instances for name in one.workloads)),
        )
    console.print(table)
    if len(wave.changed) > _LONGEST_LIST:
        console.print(f"    and {len(wave.changed) - _LONGEST_LIST} more")


_Layout = tuple[tuple[str, int, tuple[str, ...], tuple[str, ...]], ...]


def _instances(instances: Sequence[InstanceState]) -> _Layout:
    found = [(one.profile, one.start, tuple(sorted(one.workloads)), one.compute_instances) for one in instances]
    return tuple(sorted(found))


def _planned(gpu: TargetGpu) -> _Layout:
    found = [(one.profile, one.start, tuple(sorted(one.workloads)), one.compute_instances) for one in gpu.instances]
    return tuple(sorted(found))


def _difference(wanted: Mapping[str, _Layout], found: Mapping[str, GpuState]) -> str | None:
    for name, layout in wanted.items():
        there = _instances(found[name].instances) if name in found else ()
        if there != layout:
            expected = layout_text([(one[0], one[1]) for one in layout])
            held = layout_text([(one[0], one[1]) for one in there])
            work = "" if expected != held else ", with other workloads"
            return f"GPU {name} should hold {expected}, and holds {held}{work}."
    return None


def _replay_document(run: Replay | None) -> dict[str, Any] | None:
    if run is None:
        return None
    return {
        "max_down": run.max_down,
        "interrupted": list(run.interrupted),
        "waves": [
            {
                "wave": wave.number,
                "steps": len(wave.steps),
                "down": list(wave.down),
                "most_down": wave.most_down,
                "gpus": [_state_document(state) for state in wave.changed],
            }
            for wave in run.waves
        ],
    }


def _state_document(state: GpuState) -> dict[str, Any]:
    return {
        "gpu": state.id,
        "node": state.node,
        "board": state.board,
        "mig_enabled": state.mig_enabled,
        "instances": [
            {
                "profile": one.profile,
                "start": one.start,
                "workloads": list(one.workloads),
                "compute_instances": list(one.compute_instances),
            }
            for one in state.instances
        ],
    }
