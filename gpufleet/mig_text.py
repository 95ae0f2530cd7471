"""How `gpufleet mig boards` and `gpufleet mig layouts` answer people in a terminal."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console

from dashboard.formatting import ABSENT, bytes_text, number
from gpufleet.text_output import literal, new_console, new_table
from planner.hardware import Board, Evidence, Profile
from planner.mig_exceptions import exclusion_sentence
from planner.mig_geometry import media_exclusions, planning_obstacle


def print_boards(boards: Sequence[Board]) -> None:
    """Per board with MIG its profiles and what to know of it; the others in one line."""
    console = new_console()
    for board in boards:
        if board.is_mig_capable:
            _print_board(console, board)
    without = [board.name for board in boards if not board.is_mig_capable]
    if without:
        console.print(f"Without MIG: {', '.join(without)}")


def print_layouts(document: dict[str, Any]) -> None:
    """One line per layout of the JSON document, after the counts and before the caveats."""
    console = new_console()
    console.print(
        f"[bold]{literal(document['board'])}[/bold]: {document['legal_layouts']} legal layouts "
        f"({document['legal_multisets']} without regard to places), {document['maximal_layouts']} of them maximal "
        f"({document['maximal_multisets']}); the empty GPU is not counted"
    )
    console.print(f"Profiles: {literal(', '.join(document['profiles']))}")
    for sentence in document["exclusions"]:
        console.print(f"refused: {literal(sentence)}")
    table = new_table("Layout", "Free units", "Stranded units", "Free compute", "Stranded compute", "Memory", "SMs")
    for layout in document["layouts"]:
        table.add_row(
            " + ".join(f"{placed['profile']} at {placed['start']}" for placed in layout["instances"]),
            _units(layout["free_units"]),
            _units(layout["stranded_units"]),
            str(layout["free_compute_slices"]),
            str(layout["stranded_compute_slices"]),
            bytes_text(layout["memory_bytes"]),
            number(layout["sm_count"]),
        )
    console.print(table)
    for caveat in document["caveats"]:
        if caveat not in document["exclusions"]:
            console.print(f"note: {literal(caveat)}")


def _print_board(console: Console, board: Board) -> None:
    grid = f"{board.placement_grid} placement units" if board.placement_grid else "placement units not known"
    driver = f", driver {board.minimum_driver} or later" if board.minimum_driver else ""
    console.print(
        f"[bold]{literal(board.name)}[/bold] ({literal(board.architecture)}): {grid}, "
        f"{board.compute_slices} compute slices, {bytes_text(board.memory_total_bytes)}, "
        f"{number(board.sm_count)} SMs{driver}"
    )
    table = new_table("Profile", "Id", "Placements", "Most", "Compute slices", "Memory", "SMs", "Not captured")
    for profile in board.profiles:
        table.add_row(
            profile.name,
            number(profile.profile_id),
            " ".join(map(str, profile.placements)) or ABSENT,
            str(profile.max_instances),
            str(profile.compute_slices),
            bytes_text(profile.memory_bytes),
            number(profile.sm_count),
            _weak(profile),
        )
    console.print(table)
    console.print(f"  {literal(board.verification)}")
    obstacle = planning_obstacle(board)
    for sentence in (*board.cautions, *board.notes, *([obstacle] if obstacle else ())):
        console.print(f"  note: {literal(sentence)}")
    for sentence in _media_exclusions(board):
        console.print(f"  excluded: {literal(sentence)}")
    for exclusion in board.conditional_exclusions:
        console.print(f"  exception: {literal(exclusion_sentence(board, exclusion))}")
    console.print()


def _media_exclusions(board: Board) -> Iterator[str]:
    """Who cannot stand beside whom because of media engines, each pair once: those that exclude most come first."""
    excluded = {profile.name: media_exclusions(board, profile) for profile in board.profiles}
    told: set[str] = set()
    for name, others in sorted(excluded.items(), key=lambda item: -len(item[1])):
        told.add(name)
        left = [other for other in others if other not in told]
        if left:
            yield f"{name} cannot exist beside {', '.join(left)}: they claim the same media engines."


def _weak(profile: Profile) -> str:
    """Groups of values that no real board printed, and how they are known instead."""
    weak = [f"{group} {known.value}" for group, known in profile.evidence if known is not Evidence.CAPTURED]
    return ", ".join(weak) or ABSENT


def _units(units: Sequence[int]) -> str:
    return " ".join(map(str, units)) or ABSENT
