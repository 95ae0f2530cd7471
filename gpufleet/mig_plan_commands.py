"""`gpufleet mig plan`, `frontier`, `export` and `replay`: from a problem file to a plan file, and on from there."""

import gc
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpufleet.clear_errors import clear_errors
from gpufleet.errors import ShellError
from gpufleet.mig_commands import JsonOption, mig_app
from planner.errors import PlanningCancelled
from planner.mig.exports import Format, export
from planner.mig.plan import Mode, Status

if TYPE_CHECKING:
    from planner.mig.problem import Problem

__all__ = ["mig_app"]

_LONGEST_TIME_LIMIT_S = 7 * 24 * 3600.0

ProblemOption = Annotated[
    str,
    typer.Option("--problem", metavar="FILE", help="Problem file (docs/mig-planning.md); - reads stdin."),
]
PlanArgument = Annotated[str, typer.Argument(metavar="PLAN", help="Plan file; - reads stdin.")]
TimeLimitOption = Annotated[
    float, typer.Option("--time-limit", metavar="SECONDS", help="After this long the best plan so far is given.")
]


@mig_app.command("plan")
@clear_errors
def plan(
    problem: ProblemOption,
    mode: Annotated[
        Mode | None,
        typer.Option(
            help="By default initial when nothing runs, add when something waits beside what runs, else reconfigure."
        ),
    ] = None,
    max_moves: Annotated[
        int | None, typer.Option("--max-moves", min=0, help="Move no more workloads; replaces the rule of the file.")
    ] = None,
    time_limit: TimeLimitOption = 60.0,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write the plan file, which export and replay take.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the best MIG layouts for a problem, and the steps that lead there and back.

    The exit code is 1 when not everything could be placed or the rules cannot be met; the plan is given all the same.
    """
    _check_time_limit(time_limit)
    with _few_collections():
        began = time.perf_counter()
        read = _read_problem(problem)
        if max_moves is not None:
            read = replace(read, rules=replace(read.rules, max_moves=max_moves))
        seconds = {"read": time.perf_counter() - began}
        from planner.mig.change import change_plan  # late: the solver takes longer to load than help takes to print
        from planner.mig.plan_file import plan_document
        from planner.mig.planning import plan_target

        start = time.perf_counter()
        with _until_interrupted() as stopping:
            target = plan_target(read, mode or default_mode(read), time_limit_s=time_limit, stopping=stopping)
        seconds["plan"] = time.perf_counter() - start
        start = time.perf_counter()
        change = change_plan(read, target)
        seconds["change"] = time.perf_counter() - start
        seconds["total"] = time.perf_counter() - began
        if output is not None or as_json:
            document = plan_document(read, change, seconds=seconds)
            if output is not None:
                _write(output, _json_bytes(document) + b"\n")
            if as_json:
                _print_json(document)
        if not as_json:
            from gpufleet import mig_plan_text

            mig_plan_text.print_plan(read, change, seconds)
            if output is not None:
                typer.echo(f"Written to {output}; `gpufleet mig export {output} --format ...` makes files of it.")
    if change.target.status is Status.INFEASIBLE:
        raise typer.Exit(1)


@mig_app.command("frontier")
@clear_errors
def frontier_command(problem: ProblemOption, time_limit: TimeLimitOption = 60.0, as_json: JsonOption = False) -> None:
    """Show how many moves it takes to free how many GPUs of what runs."""
    _check_time_limit(time_limit)
    with _few_collections():
        began = time.perf_counter()
        read = _read_problem(problem)
        from planner.mig.frontier import frontier

        with _until_interrupted() as stopping:
            points = frontier(read, time_limit_s=time_limit, stopping=stopping)
        seconds = {"total": time.perf_counter() - began}
    if as_json:
        rows = [
            {
                "gpus": point.gpus,
                "moves": point.moves,
                "moves_lower_bound": point.moves_lower_bound,
                "proven": point.is_proven,
            }
            for point in points
        ]
        _print_json({"points": rows, "seconds": seconds})
        return
    from gpufleet import mig_plan_text

    mig_plan_text.print_frontier(points)


@mig_app.command("export")
@clear_errors
def export_command(
    plan_file: PlanArgument,
    to: Annotated[Format, typer.Option("--format", help="What to make of the plan.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="PATH", help="A file; for formats of several files a new or empty folder."),
    ] = None,
) -> None:
    """Write a plan in the form that mig-parted, the GPU Operator, nvidia-smi or a program of your own takes.

    Its steps and its rollback are run on the simulated driver first; what `gpufleet mig replay` refuses is not written.
    """
    from gpufleet import mig_replay
    from planner.mig.plan_file import SIZE_LIMIT_BYTES, read_plan

    with _few_collections():
        stored = read_plan(_read(plan_file, SIZE_LIMIT_BYTES, "plan"))
        refusal = mig_replay.replay_both_ways(stored).refusal
        if refusal is not None:
            raise ShellError(f"the plan is not exported, as `gpufleet mig replay` refuses it: {refusal}")
        files = export(to, stored.problem, stored.change)
    if to.is_one_file:
        text = next(iter(files.values()))
        if output is None:
            typer.echo(text, nl=False)
        else:
            _write(output, text.encode())
        return
    if output is None:
        raise ShellError(f"{to.value} makes {len(files)} files; name a folder for them with --output FOLDER.")
    _write_all(output, files)


@mig_app.command("replay")
@clear_errors
def replay_command(plan_file: PlanArgument, as_json: JsonOption = False) -> None:
    """Run the steps of a plan, and then its rollback, on a simulated driver; print the states in between.

    The exit code is 1 when the driver refuses a step or the end is not what the plan says.
    """
    from gpufleet import mig_replay
    from planner.mig.plan_file import SIZE_LIMIT_BYTES, read_plan

    with _few_collections():
        stored = read_plan(_read(plan_file, SIZE_LIMIT_BYTES, "plan"))
        outcome = mig_replay.replay_both_ways(stored)
    if as_json:
        _print_json(mig_replay.document(outcome))
    else:
        mig_replay.print_outcome(outcome)
    if outcome.refusal is not None:
        raise typer.Exit(1)


def default_mode(problem: "Problem") -> Mode:
    """What is most likely meant: place what waits, beside what runs if anything does; else tidy up what runs."""
    running = problem.running_ids()
    if not running:
        return Mode.INITIAL
    waits = bool(problem.new) or any(workload.id not in running for workload in problem.workloads)
    return Mode.ADD if waits else Mode.RECONFIGURE


def _read_problem(name: str) -> "Problem":
    from planner.mig.problem_file import SIZE_LIMIT_BYTES, read_problem

    return read_problem(_read(name, SIZE_LIMIT_BYTES, "problem"))


def _read(name: str, limit_bytes: int, what: str) -> bytes:
    """At most `limit_bytes` of a file, or of stdin for `-`; a larger file is refused before it is read."""
    shown = "stdin" if name == "-" else repr(name)
    try:
        if name == "-":
            content = sys.stdin.buffer.read(limit_bytes + 1)
        else:
            with Path(name).open("rb") as file:
                size = Path(name).stat().st_size
                content = b"" if size > limit_bytes else file.read(limit_bytes + 1)
                if size > limit_bytes:
                    raise ShellError(_too_large(shown, what, limit_bytes, f" ({size / 2**20:.0f} MiB)"))
    except OSError as error:
        raise ShellError(f"the {what} {shown} cannot be read: {error.strerror}.") from error
    if len(content) > limit_bytes:
        raise ShellError(_too_large(shown, what, limit_bytes, ""))
    return content


def _too_large(shown: str, what: str, limit_bytes: int, size: str) -> str:
    limit = limit_bytes // 2**20
    return f"the {what} {shown} is too large{size}: at most {limit} MiB are read. Split it, or leave out what can be."


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ShellError(f"{str(path)!r} cannot be written: {error.strerror}.") from error


def _write_all(folder: Path, files: Mapping[str, str]) -> None:
    """Into a folder of their own: files of another plan beside them would be run with them."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ShellError(f"the folder {str(folder)!r} is not empty; name another, so that two plans cannot mix.")
    except OSError as error:
        raise ShellError(f"the folder {str(folder)!r} cannot be used: {error.strerror}.") from error
    for name, text in files.items():
        _write(folder / name, text.encode())
    typer.echo(f"{len(files)} files written to {folder}; the simulated driver took every step of the plan.")


def _check_time_limit(seconds: float) -> None:
    if not math.isfinite(seconds) or not 0 < seconds <= _LONGEST_TIME_LIMIT_S:
        raise ShellError(f"--time-limit {seconds} makes no sense; give seconds, more than 0 and at most a week.")


def _json_bytes(document: Mapping[str, Any], indent: int | None = None) -> bytes:
    """Like `json.dumps`, and many times as fast: plans for large fleets have tens of megabytes."""
    from pydantic_core import to_json

    return to_json(document, indent=indent)


def _print_json(document: Mapping[str, Any]) -> None:
    typer.echo(_json_bytes(document, indent=2))


@contextmanager
def _until_interrupted() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, for the solver to ask: no exception gets through it. A second one ends it at once."""
    is_interrupted = False

    def interrupt(number: int, frame: object) -> None:
        nonlocal is_interrupted
        is_interrupted = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    catches = threading.current_thread() is threading.main_thread()  # elsewhere no handler can be set
    before = signal.signal(signal.SIGINT, interrupt) if catches else None
    try:
        yield lambda: is_interrupted
    except PlanningCancelled as error:
        raise KeyboardInterrupt from error
    finally:
        if catches:
            signal.signal(signal.SIGINT, before)
    if is_interrupted:  # after the solver last asked
        raise KeyboardInterrupt


@contextmanager
def _few_collections() -> Iterator[None]:
    """Look for garbage rarely: a large problem is a million objects that stay, and each look costs as much again."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, 50, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
