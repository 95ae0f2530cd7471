"""How a layout is drawn: cells on the board's own placement units, to scale, for pages and reports alike.

A drawing is data; `templates/page_parts.html.j2` turns it into a grid of as many columns as the board has placement
units, so a cell is as wide as the memory it holds and an uncovered unit is visibly empty.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dashboard.palette import STATES, WORKLOADS
from planner.advice import Assignment, BoardAdvice, CurrentGpu
from planner.catalog import find_profile
from planner.fleet import Device, Gpu, GpuInstance, Pod
from planner.hardware import Board, Layout, PlacedInstance


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One instance, one whole GPU, or one run of placement units that nothing covers."""

    start: int
    size: int
    title: str
    detail: str
    tooltip: str
    tone: str  # class suffix of the style sheet: "serving", "w3", "empty", "quiet"
    sign: str = ""
    compute_slices: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutDrawing:
    """One GPU drawn to scale; `note` says what of it was not measured."""

    caption: str
    units: int  # columns: placement units of the board, 1 for a GPU that is drawn whole
    cells: tuple[Cell, ...]
    assumed: bool = False
    note: str | None = None
    count: int = 1  # GPUs that look exactly like this
    to_scale: bool = True

    @property
    def alt(self) -> str:
        """The drawing in words, for those who cannot see it."""
        parts = [f"{cell.title} at {cell.start}:{cell.size} {cell.detail}".strip() for cell in self.cells]
        assumed = " (assumed arrangement)" if self.assumed else ""
        return f"{self.caption}{assumed}: " + "; ".join(parts)


def pods_text(pods: tuple[Pod, ...]) -> str:
    """`namespace/pod`, several separated by commas; "no pod" where nobody holds the device."""
    names = dict.fromkeys(f"{pod.namespace}/{pod.name}" for pod in pods)
    return ", ".join(names) or "no pod"


def _short(pods: tuple[Pod, ...]) -> str:
    """Pod names without their namespaces: a cell is narrow, and its tooltip has both."""
    return ", ".join(dict.fromkeys(pod.name for pod in pods))


def draw_gpu(gpu: Gpu, layout: Layout | None, *, assumed: bool, note: str | None) -> LayoutDrawing:
    """The GPU as it is cut now, each instance in the colour and sign of its state."""
    caption = Device(gpu=gpu, instance=None).name
    if not gpu.instances:
        return LayoutDrawing(caption=caption, units=1, cells=(_whole_cell(gpu),), note=note)
    if layout is None or gpu.board is None:
        return LayoutDrawing(
            caption=caption, units=len(gpu.instances), cells=_unplaced_cells(gpu), note=note, to_scale=False
        )
    queues: dict[str, list[GpuInstance]] = {}
    for instance in sorted(gpu.instances, key=lambda i: (i.start is None, i.start, i.gi_id)):
        queues.setdefault(_catalogued(gpu.board, instance.profile), []).append(instance)

    def cell(placed: PlacedInstance, compute_slices: int | None) -> Cell:
        waiting = queues.get(placed.profile) or []
        at_start = next((i for i in waiting if i.start == placed.placement.start), None)
        instance = at_start or next((i for i in waiting if i.start is None), None)
        if instance is None:
            return _plain_cell(placed, compute_slices)
        waiting.remove(instance)
        style = STATES[instance.verdict.state]
        return Cell(
            start=placed.placement.start,
            size=placed.placement.size,
            title=f"{placed.profile}#{instance.gi_id}",
            detail=_short(instance.pods) or style.label,
            tooltip=f"{pods_text(instance.pods)}: {style.label}. {instance.verdict.reason}",
            tone=instance.verdict.state.value,
            sign=style.sign,
            compute_slices=compute_slices,
        )

    return LayoutDrawing(
        caption=caption,
        units=gpu.board.placement_grid,
        cells=_cells(gpu.board, layout, cell),
        assumed=assumed,
        note=note,
    )


def workload_tones(advice: BoardAdvice) -> dict[str, str]:
    """One tone per workload (namespace and pod, or the device where no pod is known), the same on both sides."""
    names = sorted({_workload(item) for item in advice.assignments})
    return {name: f"w{index % len(WORKLOADS)}" for index, name in enumerate(names)}


def draw_current(advice: BoardAdvice, first: int, last: int) -> tuple[LayoutDrawing, ...]:
    """GPUs `first` to `last` (excluded) of the board as they are cut today, coloured by the workload on them."""
    tones = workload_tones(advice)
    by_gpu: dict[str, list[Assignment]] = {}
    for item in advice.assignments:
        by_gpu.setdefault(item.uuid, []).append(item)
    return tuple(
        _draw_current_gpu(advice.board, current, by_gpu.get(current.uuid, []), tones)
        for current in advice.current[first:last]
    )


def draw_proposed(advice: BoardAdvice, first: int, last: int) -> tuple[LayoutDrawing, ...]:
    """GPUs `first` to `last` (excluded) of the proposal in order of their numbers, coloured by workload."""
    tones = workload_tones(advice)
    by_number: dict[int, list[Assignment]] = {}
    for item in advice.assignments:
        by_number.setdefault(item.gpu_number, []).append(item)
    numbered = sorted((number, proposed.layout) for proposed in advice.layouts for number in proposed.gpu_numbers)
    return tuple(
        _draw_proposed_gpu(advice.board, number, layout, by_number.get(number, []), tones)
        for number, layout in numbered[first:last]
    )


def _draw_current_gpu(
    board: Board, current: CurrentGpu, mine: list[Assignment], tones: Mapping[str, str]
) -> LayoutDrawing:
    caption = f"{current.node}/{'?' if current.index is None else current.index}"
    if current.layout is None:
        whole = next((item for item in mine if item.gi_id is None), None)
        cell = Cell(
            start=0,
            size=1,
            title="cut, placements unknown" if current.note else "whole GPU",
            detail=", ".join(_name(item) for item in mine) or ("in use" if current.in_use else "free"),
            tooltip=current.note or "",
            tone=tones[_workload(whole)] if whole else ("quiet" if current.in_use else "empty"),
        )
        return LayoutDrawing(caption=caption, units=1, cells=(cell,), note=current.note)
    queues: dict[str, list[Assignment]] = {}
    for item in sorted(mine, key=lambda a: -1 if a.gi_id is None else a.gi_id):
        if item.from_profile is not None:
            queues.setdefault(_catalogued(board, item.from_profile), []).append(item)

    def cell_of(placed: PlacedInstance, compute_slices: int | None) -> Cell:
        waiting = queues.get(placed.profile)
        if not waiting:
            return _plain_cell(placed, compute_slices)
        return _workload_cell(placed, compute_slices, waiting.pop(0), tones)

    return LayoutDrawing(
        caption=caption,
        units=board.placement_grid,
        cells=_cells(board, current.layout, cell_of),
        assumed=current.assumed,
        note=current.note,
    )


def _draw_proposed_gpu(
    board: Board, number: int, layout: Layout, assignments: list[Assignment], tones: Mapping[str, str]
) -> LayoutDrawing:
    caption = f"GPU {number}"
    if not layout:
        item = next(iter(assignments), None)
        cell = Cell(
            start=0,
            size=1,
            title="whole GPU",
            detail=_name(item) if item else "free",
            tooltip=_why(item) if item else "",
            tone=tones[_workload(item)] if item else "empty",
        )
        return LayoutDrawing(caption=caption, units=1, cells=(cell,))
    by_start = {item.placement.start: item for item in assignments if item.placement is not None}

    def cell_of(placed: PlacedInstance, compute_slices: int | None) -> Cell:
        item = by_start.get(placed.placement.start)
        if item is None:
            return _plain_cell(placed, compute_slices)
        return _workload_cell(placed, compute_slices, item, tones)

    return LayoutDrawing(caption=caption, units=board.placement_grid, cells=_cells(board, layout, cell_of))


def _cells(board: Board, layout: Layout, cell: Callable[[PlacedInstance, int | None], Cell]) -> tuple[Cell, ...]:
    """Cells of a layout from left to right, and one empty cell for every run of units that nothing covers."""
    slices = {profile.name: profile.compute_slices for profile in board.profiles}
    cells: list[Cell] = []
    position = 0
    for placed in sorted(layout, key=lambda p: (p.placement.start, p.profile)):
        if placed.placement.start > position:
            cells.append(_empty_cell(position, placed.placement.start - position))
        cells.append(cell(placed, slices.get(placed.profile)))
        position = placed.placement.start + placed.placement.size
    if position < board.placement_grid:
        cells.append(_empty_cell(position, board.placement_grid - position))
    return tuple(cells)


def _catalogued(board: Board, name: str) -> str:
    """The catalogue's spelling of a profile; sources have their own for a few."""
    profile = find_profile(board, name)
    return name if profile is None else profile.name


def _empty_cell(start: int, size: int) -> Cell:
    tooltip = f"placement units {start} to {start + size - 1}: covered by no GPU instance"
    return Cell(start=start, size=size, title="", detail="", tooltip=tooltip, tone="empty")


def _plain_cell(placed: PlacedInstance, compute_slices: int | None) -> Cell:
    return Cell(
        start=placed.placement.start,
        size=placed.placement.size,
        title=placed.profile,
        detail="no work",
        tooltip=f"{placed.profile} at {placed.placement}: nothing is placed on it",
        tone="quiet",
        compute_slices=compute_slices,
    )


def _workload_cell(
    placed: PlacedInstance, compute_slices: int | None, item: Assignment, tones: Mapping[str, str]
) -> Cell:
    return Cell(
        start=placed.placement.start,
        size=placed.placement.size,
        title=placed.profile,
        detail=_name(item),
        tooltip=_why(item),
        tone=tones[_workload(item)],
        compute_slices=compute_slices,
    )


def _whole_cell(gpu: Gpu) -> Cell:
    style = STATES[gpu.verdict.state]
    return Cell(
        start=0,
        size=1,
        title="whole GPU",
        detail=_short(gpu.pods) or style.label,
        tooltip=f"{pods_text(gpu.pods)}: {style.label}. {gpu.verdict.reason}",
        tone=gpu.verdict.state.value,
        sign=style.sign,
    )


def _unplaced_cells(gpu: Gpu) -> tuple[Cell, ...]:
    """One cell of equal width per instance, where no arrangement can be drawn to scale."""
    return tuple(
        Cell(
            start=position,
            size=1,
            title=f"{instance.profile}#{instance.gi_id}",
            detail=_short(instance.pods) or STATES[instance.verdict.state].label,
            tooltip=instance.verdict.reason,
            tone=instance.verdict.state.value,
            sign=STATES[instance.verdict.state].sign,
        )
        for position, instance in enumerate(gpu.instances)
    )


def _workload(item: Assignment) -> str:
    return pods_text(item.pods) if item.pods else item.device


def _name(item: Assignment) -> str:
    return _short(item.pods) or item.device


def _why(item: Assignment) -> str:
    return " ".join((f"{_workload(item)} on {item.device}.", *item.reasons))
