"""How the commands answer people in a terminal; names from clusters are hostile input and are shown literally."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dashboard.formatting import (
    ABSENT,
    CERTAINTY_MARKS,
    age,
    bytes_text,
    number,
    percent,
    served_text,
    tokens_per_s_text,
)

if TYPE_CHECKING:  # the types alone would load the solver
    from datetime import datetime

    from planner.advice import Advice, BoardAdvice, ProposedLayout
    from planner.fleet import Device, Fleet, Observation, Pod


def literal(text: str) -> str:
    """The text as it is: no terminal control characters, no rich markup."""
    return escape("".join(letter if unicodedata.category(letter)[0] != "C" else "�" for letter in text))


def print_fleet(fleet: Fleet) -> None:
    """One line per device."""
    console = new_console()
    if not fleet.nodes:
        console.print("No GPU has been seen yet. Is a collector running? `gpufleet collect --once` tries every source.")
        return
    console.print(f"Fleet at {fleet.taken_at:%Y-%m-%d %H:%M:%S} UTC")
    table = new_table("Device", "Board", "State", "Active", "Memory", "Age", "Model", "Tokens/s", "Pods")
    for device in fleet.devices():
        table.add_row(
            literal(device.name),
            literal(device.gpu.board_label or ABSENT),
            device.verdict.state.value,
            _activity(device),
            _memory(device),
            age(_newest(device), fleet.taken_at),
            literal(served_text(device.engines)),
            tokens_per_s_text(device.tokens_per_s),
            literal(_pods(device.pods)),
        )
    console.print(table)
    marks = {device.certainty for device in fleet.devices()} & CERTAINTY_MARKS.keys()
    if marks:
        listed = ", ".join(f"{mark} {one.value}" for one, mark in CERTAINTY_MARKS.items() if one in marks)
        console.print(f"How sure it is that the model is on the device: {listed}; without a mark certain.")


def print_advice(advice: Advice) -> None:
    """Per board: the counts, the layouts to cut, and what is not placed."""
    console = new_console()
    if not advice.boards and not advice.not_advised:
        console.print("No GPU has been seen in the window, so there is nothing to advise.")
    for board in advice.boards:
        _print_board(console, board)
    for rest in advice.not_advised:
        console.print(f"[bold]{literal(rest.board)}[/bold]: {rest.gpus} GPUs, no advice: {literal(rest.reason)}")


def print_collection(document: Sequence[dict[str, Any]]) -> None:
    """One line per target, with the reasons of its gaps."""
    console = new_console()
    table = new_table("Source", "Target", "", "Readings", "GPUs", "Gaps", "Seconds")
    for target in document:
        table.add_row(
            literal(target["source"]),
            literal(target["target"]),
            "ok" if target["ok"] else "failed",
            str(target["readings"]),
            str(target["facts"]),
            str(len(target["gaps"])),
            f"{target['seconds']:.2f}",
        )
    console.print(table)
    for target in document:
        if target["error"]:
            console.print(f"{literal(target['target'])}: {literal(target['error'])}")
    for reason in sorted({gap["reason"] for target in document for gap in target["gaps"]}):
        console.print(f"gap: {literal(reason)}")


def _print_board(console: Console, board: BoardAdvice) -> None:
    proof = "proven least" if board.is_optimal else f"at least {board.lower_bound}"
    console.print(
        f"[bold]{literal(board.board.name)}[/bold]: {board.gpus_now} of {board.gpus_total} GPUs hold something now, "
        f"{board.gpus_needed} would do ({proof})"
    )
    for proposed in board.layouts:
        console.print(f"  {proposed.gpus} x {_layout(proposed)}")
    if board.assignments:
        console.print(_assignments(board))
    for held in board.released:
        console.print(f"  released: {literal(held.device)} ({literal(_pods(held.pods))}): {literal(held.reason)}")
    for rest in board.unplaced:
        console.print(f"  not placed: {literal(rest.device)}: {literal(rest.reason)}")
    for caveat in board.caveats:
        console.print(f"  note: {literal(caveat)}")
    console.print()


def _assignments(board: BoardAdvice) -> Table:
    """Where each device's work goes; the sentences behind it are in --json and on the page."""
    table = new_table("To GPU", "Profile", "Start", "From", "Was", "Memory needed", "SMs needed", "Pods")
    for one in sorted(board.assignments, key=lambda one: (one.gpu_number, one.placement is not None, one.placement)):
        table.add_row(
            str(one.gpu_number),
            one.to_profile or "whole GPU",
            ABSENT if one.placement is None else str(one.placement.start),
            literal(one.device),
            one.from_profile or "whole GPU",
            bytes_text(one.need.memory_bytes),
            number(one.need.sm_count),
            literal(_pods(one.pods)),
        )
    return table


def new_table(*headings: str) -> Table:
    """A table without lines, so that it can be read, copied and searched."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _layout(proposed: ProposedLayout) -> str:
    if proposed.is_whole:
        return "whole GPU, MIG off"
    return " + ".join(f"{placed.profile} at {placed.placement.start}" for placed in proposed.layout)


def _pods(pods: Sequence[Pod]) -> str:
    return ", ".join(f"{pod.namespace}/{pod.name}" for pod in pods) or ABSENT


def _activity(device: Device) -> str:
    for metric in ("sm_active_ratio", "gr_engine_active_ratio", "gpu_busy_ratio"):
        if metric in device.metrics:
            return percent(device.metrics[metric].value)
    return percent(None)


def _memory(device: Device) -> str:
    used: Observation | None = device.metrics.get("memory_used_bytes")
    return bytes_text(used.value if used else None)


def _newest(device: Device) -> datetime | None:
    return max((observation.observed_at for observation in device.metrics.values()), default=None)


def new_console() -> Console:
    """As wide as the terminal; a file or a pipe gets whole lines."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=240)
