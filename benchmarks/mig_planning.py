"""How fast MIG plans are made and how good they are, beside what people use today.

The planner is timed as a user runs it: `gpufleet mig plan` in a process of its own, from the file of the problem to the
file of the plan with all its steps. The rivals (`benchmarks/mig_rivals.py`) get the same instances in memory and only
place; everyone's GPUs, moves and unplaced requests are counted by the same code from the placements.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from benchmarks.mig_instances import (
    FLEETS,
    SEEDS,
    SIZES,
    Instance,
    initial,
    own_initial,
    own_running,
    reference_instances,
    running,
    slots,
)
from benchmarks.mig_masks import Slots
from benchmarks.mig_rivals import SPREAD_FACTOR, Outcome, add_rivals, initial_rivals, replan_rivals
from benchmarks.mig_runs import Command, OwnProcess, Planned, plan
from benchmarks.mig_seeded import section
from benchmarks.results import keep, machine, table

MIX = "serving"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing that must be fast."""

    label: str
    instance: Callable[[], Instance]
    mode: str
    bar_s: float
    options: tuple[str, ...] = ()
    rounds: int = 1


def cases(*, is_quick: bool) -> tuple[Case, ...]:
    """What is timed; the quick ones are small, for tests of this program itself."""
    requests, fleet, large, rounds = (200, 16, 40, 1) if is_quick else (10_000, 800, 10_000, 3)
    return (
        Case(
            label=f"{requests:,} requests, no GPU yet",
            instance=lambda: initial(requests, MIX, 0),
            mode="initial",
            bar_s=2,
            rounds=rounds,
        ),
        *(
            Case(
                label=f"{fleet:,} GPUs, 70 % full, {mode}",
                instance=lambda: running(fleet, MIX, 0.7, 0),
                mode=mode,
                bar_s=5,
                rounds=rounds,
            )
            for mode in ("compact", "reconfigure", "add")
        ),
        Case(
            label=f"{large:,} GPUs, 70 % full, reconfigure",
            instance=lambda: running(large, MIX, 0.7, 0),
            mode="reconfigure",
            bar_s=60,
            options=("--time-limit", "40"),
        ),
        Case(
            label=f"{large:,} GPUs, all in use, 70 % full, reconfigure",
            instance=lambda: running(large, MIX, 0.7, 0, is_spread=True),
            mode="reconfigure",
            bar_s=60,
            options=("--time-limit", "40"),
        ),
    )


def measure(board: Slots, case: Case, folder: Path, command: Command) -> tuple[Planned, tuple[Outcome, ...]]:
    """The planner's answer with its median seconds, and what the rivals make of the same instance."""
    instance = case.instance()
    answers = [plan(board, instance, case.mode, folder, command, case.options) for _ in range(case.rounds)]
    if case.mode == "initial":
        rivals = initial_rivals(board, instance, fleet=SPREAD_FACTOR * answers[0].gpus_lower_bound)
    elif case.mode == "add":
        rivals = add_rivals(board, instance)
    else:
        rivals = replan_rivals(board, instance)
        greedy = next(rival for rival in rivals if rival.method == "greedy vacate")
        options = (*case.options, "--max-moves", str(greedy.moves))
        as_few_moves = plan(board, instance, case.mode, folder, command, options).outcome
        rivals = (replace(as_few_moves, method=f"gpufleet --max-moves {greedy.moves}"), *rivals)
    answers.sort(key=lambda answer: answer.outcome.seconds)
    return answers[len(answers) // 2], rivals


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="small instances only, to see that it works; keeps nothing"
    )
    parser.add_argument("--dry-run", action="store_true", help="print only, leave RESULTS.md as it is")
    parser.add_argument("--only", choices=("speed", "quality"), help="only this part")
    chosen = parser.parse_args(arguments)
    board = slots()
    parts = {"speed": (_SPEED, _speed), "quality": (_QUALITY, _quality)}
    for name, (heading, measured) in parts.items():
        if chosen.only in (None, name):
            text = f"{heading}\n\n{measured(board, is_quick=chosen.quick)}\n\n{_machine()}."
            print(text, end="\n\n", flush=True)
            if not (chosen.dry_run or chosen.quick):
                keep(f"mig {name}", text)


def _speed(board: Slots, *, is_quick: bool) -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = OwnProcess(folder)
        told = [(case, *measure(board, case, folder, command)) for case in cases(is_quick=is_quick)]
    overview = table(
        (
            "case",
            "seconds",
            "bar",
            "processor s",
            "status",
            "GPUs",
            "bound",
            "gap",
            "moves",
            "moves bound",
            "steps",
            "most down",
        ),
        [
            (
                case.label,
                f"{planned.outcome.seconds:.2f}",
                f"{case.bar_s:.0f}",
                f"{planned.processor_s:.2f}",
                planned.status,
                f"{planned.outcome.gpus:,}",
                f"{planned.gpus_lower_bound:,}",
                f"{1 - planned.gpus_lower_bound / planned.outcome.gpus:.2%}",
                f"{planned.outcome.moves:,}",
                f"{planned.moves_lower_bound:,}",
                f"{planned.steps:,}",
                f"{planned.max_down:,}",
            )
            for case, planned, _ in told
        ],
    )
    tables = [overview, _where_seconds_go([(case, planned) for case, planned, _ in told])]
    for case, planned, rivals in told:
        rows = [_row(outcome) for outcome in (replace(planned.outcome, method="**gpufleet**"), *rivals)]
        tables.append(table((case.label, "GPUs", "moves", "unplaced", "seconds"), rows))
    return "\n\n".join(tables)


def _where_seconds_go(told: Sequence[tuple[Case, Planned]]) -> str:
    """Seconds by part as the plan states them; the rest is the interpreter's start, imports and writing the file."""
    names = list(dict.fromkeys(name for _, planned in told for name in planned.seconds if name != "total"))
    rows = [
        (
            case.label,
            *(f"{planned.seconds.get(name, 0):.2f}" for name in names),
            f"{planned.outcome.seconds - sum(planned.seconds.get(name, 0) for name in names):.2f}",
        )
        for case, planned in told
    ]
    return table(("seconds to", *names, "start, import and write"), rows)


def _row(outcome: Outcome) -> tuple[str, ...]:
    return (
        outcome.method,
        f"{outcome.gpus:,}",
        f"{outcome.moves:,}",
        f"{len(outcome.unplaced):,}",
        f"{outcome.seconds:.2f}",
    )


def _quality(board: Slots, *, is_quick: bool) -> str:
    sizes, fleets, seeds = ((10, 100), (8,), (0,)) if is_quick else (SIZES, FLEETS, SEEDS)
    reference = None if is_quick else reference_instances()
    text = section(board, own_initial(sizes, seeds), own_running(fleets, seeds))
    if reference is None:
        return text
    published = section(board, reference.initial(), reference.running(), reference)
    return f"### Own instances\n\n{text}\n\n### Reference instances\n\n{_REFERENCE}\n\n{published}"


def _machine() -> str:
    return machine(f"HiGHS {version('highspy')}")


_SPEED = """## MIG plans: seconds (`python -m benchmarks.mig_planning --only speed`)

From the file of the problem to the file of the plan with its steps, in a process of its own: `gpufleet mig plan
--problem FILE --mode MODE --json --output FILE`, A100 40GB, the median of three runs (one of 10,000 GPUs). The bar is
what it must not exceed on two cores. `Most down`: workloads that the steps leave without a place at one moment.

Fleets were left by arrivals and departures; where all are in use, arrivals had taken the emptiest GPU. Below, the same
instances placed by what people use today; those seconds are for placing alone, without files or steps."""

_QUALITY = """## MIG plans: quality (`python -m benchmarks.mig_planning --only quality`)

All seeded instances, five seeds of each mix of profiles, through the same command. Moves are workloads that run and
are not left at their GPU and start. A fleet's figures count GPUs on which something runs."""

_REFERENCE = """Instances with published exact answers, which are not part of this repository; without them this part is
left out."""


if __name__ == "__main__":
    main()
