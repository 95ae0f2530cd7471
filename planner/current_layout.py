"""How one GPU is cut now, as far as the sources tell: they name profiles, but seldom where the instances lie."""

from dataclasses import dataclass

from planner.catalog import find_profile
from planner.errors import PlannerError
from planner.fleet import Gpu
from planner.hardware import Layout, PlacedInstance, Placement
from planner.mig_geometry import assume_arrangement


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentLayout:
    """The layout of one GPU; None without instances, and where none can be drawn, which `note` then explains."""

    layout: Layout | None
    is_assumed: bool  # at least one start is not measured: this is one consistent arrangement of several
    note: str | None


def current_layout(gpu: Gpu) -> CurrentLayout:
    """The layout of the GPU's instances: measured starts where there are any, else a consistent arrangement."""
    if not gpu.instances:
        return CurrentLayout(layout=None, is_assumed=False, note=None)
    if gpu.board is None:
        note = f"The catalogue does not know the board {gpu.model_name or 'of this GPU'}."
        return CurrentLayout(layout=None, is_assumed=False, note=note)
    known: list[PlacedInstance] = []
    unplaced: list[str] = []
    for instance in gpu.instances:
        profile = find_profile(gpu.board, instance.profile)
        if profile is None:
            note = f"The catalogue knows no profile {instance.profile} of {gpu.board.name}."
            return CurrentLayout(layout=None, is_assumed=False, note=note)
        if instance.start is None or profile.memory_slices is None:
            unplaced.append(profile.name)
        else:
            known.append(PlacedInstance(profile.name, Placement(instance.start, profile.memory_slices)))
    try:
        layout = assume_arrangement(gpu.board, unplaced, known=known)
    except PlannerError as error:
        return CurrentLayout(
            layout=None, is_assumed=False, note=f"The reported instances contradict the board: {error}"
        )
    if not unplaced:
        return CurrentLayout(layout=layout, is_assumed=False, note=None)
    note = "No source tells where the instances lie; this is one arrangement in which they can exist together."
    return CurrentLayout(layout=layout, is_assumed=True, note=note)
