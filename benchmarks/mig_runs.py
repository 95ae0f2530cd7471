"""The planner's command on an instance: from the file of the problem to the file of the plan, then counted anew."""

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.mig_instances import BOARD, Instance
from benchmarks.mig_masks import Slots, Spot
from benchmarks.mig_rivals import Outcome, outcome
from gpufleet.cli import app

ROOT = Path(__file__).resolve().parent.parent

Command = Callable[[Sequence[str]], float]
"""Runs `gpufleet` with these arguments and tells the processor seconds; what it prints is not kept."""

_PLANNED = (0, 1)
"""Exit codes with a plan; 1 says that not everything could be placed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What the planner made of an instance: figures counted from its placements, and what it says of them."""

    outcome: Outcome
    processor_s: float
    status: str
    gpus_lower_bound: int
    moves_lower_bound: int
    max_down: int
    steps: int
    seconds: Mapping[str, float]  # as the plan says where they went
    is_proven: bool  # every objective, also where not everything can be placed


class OwnProcess:
    """As a user starts it: the start of the interpreter and all imports are part of what is measured.

    Modules are compiled beforehand into `folder`, as every run but the first finds them.
    """

    def __init__(self, folder: Path) -> None:
        self._environment = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._environment["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
        warm_up(self, folder)

    def __call__(self, arguments: Sequence[str]) -> float:
        before = _processor_s(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "gpufleet", *arguments]
        code = subprocess.run(
            command, cwd=ROOT, env=self._environment, stdout=subprocess.DEVNULL, check=False
        ).returncode
        _check(arguments, code)
        return _processor_s(resource.RUSAGE_CHILDREN) - before


def warm_up(command: Command, folder: Path) -> None:
    """A first run, which is not measured: it compiles or imports what later ones find."""
    problem, answer = folder / "first.json", folder / "first-plan.json"
    problem.write_text(json.dumps({"version": 1, "elastic": {"board": BOARD}, "new": []}), encoding="utf-8")
    command(("mig", "plan", "--problem", str(problem), "--json", "--output", str(answer)))


def this_process(arguments: Sequence[str]) -> float:
    """The same command, without the start of the interpreter: for hundreds of instances in a row."""
    before = _processor_s(resource.RUSAGE_SELF)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        code = app(list(arguments), standalone_mode=False)
    _check(arguments, code or 0)
    return _processor_s(resource.RUSAGE_SELF) - before


def _check(arguments: Sequence[str], code: int) -> None:
    if code not in _PLANNED:
        raise SystemExit(f"gpufleet {' '.join(arguments)} ended with {code}")


def _processor_s(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def plan(
    slots: Slots, instance: Instance, mode: str, folder: Path, command: Command, options: Sequence[str] = ()
) -> Planned:
    """The planner's answer; raises SystemExit when it is no legal answer, for then its figures mean nothing."""
    problem, answer = folder / "problem.json", folder / "plan.json"
    problem.write_text(json.dumps(instance.document()), encoding="utf-8")
    answer.unlink(missing_ok=True)
    arguments = ("mig", "plan", "--problem", str(problem), "--mode", mode, "--json", "--output", str(answer), *options)
    started = time.perf_counter()
    processor_s = command(arguments)
    seconds = time.perf_counter() - started
    told = json.loads(answer.read_text(encoding="utf-8"))
    return counted(slots, instance, mode, told, seconds=seconds, processor_s=processor_s)


def counted(
    slots: Slots, instance: Instance, mode: str, told: Mapping[str, Any], *, seconds: float, processor_s: float
) -> Planned:
    """GPUs, moves and what is left out, counted from the placements and held against the plan's own figures."""
    places_new = mode in ("initial", "add", "add-without-moves")
    wanted = {name: spot.profile for name, spot in instance.running.items()}
    if places_new:
        wanted |= instance.requests
    placed = _spots(instance, told["placements"])
    result = outcome("gpufleet", instance, wanted, placed, seconds)
    wrong = _fault(slots, instance, wanted, result)
    said, is_so = (
        (told["gpus_used"], told["moves"], len(told["unplaced"])),
        (result.gpus, result.moves, len(result.unplaced)),
    )
    if wrong is None and said != is_so:
        wrong = f"GPUs, moves and unplaced are {is_so}, and it says {said}"
    if wrong is not None:
        raise SystemExit(f"The plan of {instance.name} ({mode}) is wrong: {wrong}")
    return Planned(
        outcome=result,
        processor_s=processor_s,
        status=told["status"],
        gpus_lower_bound=told["gpus_lower_bound"],
        moves_lower_bound=told["moves_lower_bound"],
        max_down=told["max_down"],
        steps=len(told["steps"]),
        seconds=told["seconds"],
        is_proven=bool(told["levels"]) and all(level["proven"] for level in told["levels"]),
    )


def _spots(instance: Instance, placements: Sequence[Mapping[str, Any]]) -> dict[str, Spot]:
    indexes = {f"gpu-{index}": index for index in range(instance.gpus)}
    found: dict[str, Spot] = {}
    for placement in placements:
        gpu = indexes.setdefault(placement["gpu"], len(indexes))  # one the plan adds gets the next index
        found[placement["workload"]] = Spot(gpu, placement["profile"], placement["start"])
    return found


def _fault(slots: Slots, instance: Instance, wanted: Mapping[str, str], result: Outcome) -> str | None:
    """The first thing that no placement may do, of planner or rival."""
    lost = [name for name in result.unplaced if name in instance.running]
    if lost:
        return f"{lost[0]} runs and is placed nowhere"
    taken: dict[int, int] = {}
    for name, spot in result.placed.items():
        if wanted.get(name) != spot.profile:
            return f"{name} asks for {wanted.get(name)} and is on {spot.profile}"
        if instance.gpus and spot.gpu >= instance.gpus:
            return f"{name} is on a GPU that the fleet does not have"
        if spot.start not in slots.open_starts[spot.profile][taken.get(spot.gpu, 0)]:
            return f"{name} has no room at {spot}"
        taken[spot.gpu] = taken.get(spot.gpu, 0) | slots.mask(spot.profile, spot.start)
    return None
