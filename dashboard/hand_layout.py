"""One GPU cut by hand: what can be added, what cannot and why, and what is left over."""

from dataclasses import dataclass

from dashboard.mig_drawing import Cell, LayoutDrawing
from planner.catalog import find_profile
from planner.hardware import Board, Layout, PlacedInstance, Placement
from planner.mig_geometry import (
    free_compute_slices,
    free_memory_slices,
    ordered,
    possible_placements,
    stranded_memory_slices,
    why_illegal,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What came of a change by hand: the layout, changed or as it was, and why it was refused."""

    layout: Layout
    refusal: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """One profile and the starts at which one more instance of it could lie."""

    profile: str
    starts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HandFigures:
    """What a layout leaves."""

    free_memory: int
    free_compute: int
    stranded: int
    room: tuple[Room, ...]


def add(board: Board, layout: Layout, profile_name: str, start: int) -> Tried:
    """One more instance of the profile at that start, where the board allows it."""
    profile = find_profile(board, profile_name)
    if profile is None or profile.memory_slices is None:
        return Tried(layout=layout, refusal=f"{board.name} has no profile {profile_name} with known placements.")
    wanted = ordered((*layout, PlacedInstance(profile.name, Placement(start, profile.memory_slices))))
    refusal = why_illegal(board, wanted)
    return Tried(layout=wanted if refusal is None else layout, refusal=refusal)


def remove(layout: Layout, gone: PlacedInstance) -> Layout:
    """The layout without that instance; as it was where it does not lie there (any more)."""
    return tuple(placed for placed in layout if placed != gone)


def figures(board: Board, layout: Layout, in_demand: frozenset[str]) -> HandFigures:
    """What is left over, and what else fits."""
    names = [profile.name for profile in board.profiles if profile.name in in_demand]
    return HandFigures(
        free_memory=len(free_memory_slices(board, layout)),
        free_compute=free_compute_slices(board, layout),
        stranded=len(stranded_memory_slices(board, layout, names or None)),
        room=tuple(
            Room(profile=p.name, starts=tuple(one.start for one in possible_placements(board, layout, p.name)))
            for p in board.profiles
        ),
    )


def draw(board: Board, layout: Layout, caption: str) -> LayoutDrawing:
    """The layout to scale."""
    covered: set[int] = set()
    cells: list[Cell] = []
    for index, placed in enumerate(layout):
        covered.update(placed.placement.span)
        profile = find_profile(board, placed.profile)
        cells.append(
            Cell(
                start=placed.placement.start,
                size=placed.placement.size,
                title=placed.profile,
                detail=f"at {placed.placement}",
                tooltip=f"{placed.profile} at {placed.placement}",
                tone=f"w{index % 8}",
                compute_slices=profile.compute_slices if profile else None,
            )
        )
    cells += [
        Cell(start=unit, size=1, title="", detail="", tooltip=f"placement unit {unit}: not covered", tone="empty")
        for unit in range(board.placement_grid)
        if unit not in covered
    ]
    ordered_cells = tuple(sorted(cells, key=lambda cell: cell.start))
    return LayoutDrawing(caption=caption, units=board.placement_grid, cells=ordered_cells)
