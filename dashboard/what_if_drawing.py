"""GPUs before and after a plan, to scale, coloured by workload; GPUs that look alike are one drawing with a count."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dashboard.mig_drawing import Cell, LayoutDrawing
from dashboard.palette import WORKLOADS
from dashboard.what_if_figures import GpuChange, Spot, placement_of, stranded_units
from planner.catalog import find_profile
from planner.hardware import Board
from planner.mig.order import natural_key
from planner.mig.problem import Problem

MOVED, NEW, LEAVES = "→", "+", "↗"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How workloads are shown: the tone of each, and the profile each asked for."""

    names: Mapping[str, str]  # service of each workload, or its own name
    tones: Mapping[str, str]  # by workload
    legend: Mapping[str, str]  # tone by service, or by workload without one
    asked: Mapping[str, str]
    in_demand: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRow:
    """GPUs that look alike, as one row of the page."""

    ids: tuple[str, ...]
    board: str
    is_changed: bool
    before: LayoutDrawing | None  # None for GPUs that do not exist yet
    after: LayoutDrawing

    @property
    def title(self) -> str:
        """The GPU, or the first of them."""
        return self.ids[0]


def look_of(*problems: Problem) -> Look:
    """One tone per service (or per workload without one), the same in drawings of all these problems."""
    everything = {w.id: w for problem in problems for w in (*problem.workloads, *problem.new)}
    workloads = sorted(everything.values(), key=lambda workload: natural_key(workload.id))
    names = {w.id: w.service or w.id.rpartition(" #")[0] or w.id for w in workloads}
    legend = {name: _tone(index) for index, name in enumerate(sorted(set(names.values()), key=natural_key))}
    return Look(
        names=names,
        tones={workload: legend[name] for workload, name in names.items()},
        legend=legend,
        asked={workload.id: workload.profile for workload in workloads},
        in_demand=frozenset(workload.profile for workload in workloads),
    )


def _tone(index: int) -> str:
    """The colours one after another; every second time round with an edge."""
    tone = f"w{index % len(WORKLOADS)}"
    return f"{tone} edge" if index // len(WORKLOADS) % 2 else tone


def rows_of(changes: Sequence[GpuChange], look: Look) -> tuple[GpuRow, ...]:
    """GPUs in the order given, those that look alike together where the first of them stands."""
    was_at = {
        name: (change.id, spot.start) for change in changes for spot in change.before or () for name in spot.workloads
    }
    goes_to = {name: (change.id, spot.start) for change in changes for spot in change.after for name in spot.workloads}
    groups: dict[object, list[GpuChange]] = {}
    for change in changes:
        groups.setdefault(_appearance(change, look, was_at), []).append(change)
    return tuple(_row(group, look, was_at, goes_to) for group in groups.values())


def _appearance(change: GpuChange, look: Look, was_at: Mapping[str, tuple[str, int]]) -> object:
    """Equal for GPUs whose drawings differ only in names of replicas."""

    def spots(found: Iterable[Spot] | None) -> object:
        return (
            None
            if found is None
            else tuple(
                (spot.profile, spot.start, spot.is_reserve, tuple(_service(name, look) for name in spot.workloads))
                for spot in found
            )
        )

    signs = tuple(_sign_after(change.id, spot, was_at) for spot in change.after)
    whole = change.whole or change.was_whole
    return (
        change.board.name,
        spots(change.before),
        spots(change.after),
        signs,
        whole and _service(whole, look),
        change.is_assumed,
    )


def _service(workload: str, look: Look) -> str:
    return look.names.get(workload, workload)


def _row(
    group: Sequence[GpuChange],
    look: Look,
    was_at: Mapping[str, tuple[str, int]],
    goes_to: Mapping[str, tuple[str, int]],
) -> GpuRow:
    first = group[0]
    names = [change.id for change in group]
    before = None
    if first.before is not None:
        before = _drawing(first, first.before, group, look, first.was_whole or first.whole, _leaving(first, goes_to))
    arriving = {spot.start: _sign_after(first.id, spot, was_at) for spot in first.after}
    return GpuRow(
        ids=tuple(names),
        board=first.board.name,
        is_changed=first.is_changed,
        before=before,
        after=_drawing(first, first.after, group, look, first.whole, arriving),
    )


def _leaving(change: GpuChange, goes_to: Mapping[str, tuple[str, int]]) -> dict[int, str]:
    return {
        spot.start: LEAVES
        for spot in change.before or ()
        if any(goes_to.get(name) != (change.id, spot.start) for name in spot.workloads)
    }


def _sign_after(gpu: str, spot: Spot, was_at: Mapping[str, tuple[str, int]]) -> str:
    if not spot.workloads:
        return ""
    before = [was_at.get(name) for name in spot.workloads]
    if all(place == (gpu, spot.start) for place in before):
        return ""
    return NEW if all(place is None for place in before) else MOVED


def _drawing(
    change: GpuChange,
    spots: Sequence[Spot],
    group: Sequence[GpuChange],
    look: Look,
    whole: str | None,
    signs: Mapping[int, str],
) -> LayoutDrawing:
    board = change.board
    is_before = spots is change.before
    caption = change.id if len(group) == 1 else f"{change.id} and {len(group) - 1} more"
    assumed = change.is_assumed and is_before
    note = "No source tells where these instances lie: one arrangement in which they can exist together."
    if whole is not None:
        cell = Cell(
            start=0,
            size=1,
            title="whole GPU",
            detail=f"{LEAVES} {short(whole)}" if is_before and change.was_whole else short(whole),
            tooltip=f"{whole} holds the whole GPU, without MIG",
            tone=look.tones.get(whole, "quiet"),
        )
        return LayoutDrawing(caption=caption, units=1, cells=(cell,), count=len(group))
    cells = [_cell(board, spot, look, signs.get(spot.start, ""), len(group)) for spot in spots]
    lost = stranded_units(board, spots, look.in_demand)
    cells += _uncovered(board, spots, lost)
    return LayoutDrawing(
        caption=caption,
        units=board.placement_grid,
        cells=tuple(sorted(cells, key=lambda cell: cell.start)),
        assumed=assumed,
        note=note if assumed else None,
        count=len(group),
    )


def _cell(board: Board, spot: Spot, look: Look, sign: str, alike: int) -> Cell:
    where = placement_of(board, spot)
    profile = find_profile(board, spot.profile)
    detail = ", ".join(_label(name, spot, look, alike) for name in spot.workloads)
    tooltip = f"{', '.join(spot.workloads)}: {spot.profile} at {where}"
    tone = look.tones.get(spot.workloads[0], "quiet") if spot.workloads else "quiet"
    asked = {look.asked.get(name, spot.profile) for name in spot.workloads} - {spot.profile}
    if asked:
        tooltip += f", asked for {', '.join(sorted(asked))}"
    if alike > 1 and spot.workloads:
        tooltip += f", and others like it on {alike - 1} more GPUs"
    if spot.is_reserve:
        tone, detail, tooltip = "reserve", "reserve", f"{spot.profile} at {where}, kept free: a rule asks for it"
    elif not spot.workloads:
        detail, tooltip = "free", f"{spot.profile} at {where}: nothing is on it"
    return Cell(
        start=where.start,
        size=where.size,
        title=spot.profile + (" ↑" if asked else ""),
        detail=f"{sign} {detail}" if sign else detail,  # not before the profile, which must stay legible
        tooltip=tooltip + (f" ({_SIGNS[sign]})" if sign else ""),
        tone=tone,
        compute_slices=profile.compute_slices if profile else None,
    )


_SIGNS = {MOVED: "moves here", NEW: "placed here", LEAVES: "goes elsewhere"}


def _label(workload: str, spot: Spot, look: Look, alike: int) -> str:
    """The workload, or what it has in common with those on GPUs that look alike; the profile stands above it."""
    return short(look.names.get(workload, workload) if alike > 1 else workload).removeprefix(f"{spot.profile} ")


def _uncovered(board: Board, spots: Sequence[Spot], lost: frozenset[int]) -> list[Cell]:
    covered = {unit for spot in spots for unit in placement_of(board, spot).span}
    free = [unit for unit in range(board.placement_grid) if unit not in covered]
    cells = []
    for start, size, is_lost in _runs((unit, unit in lost) for unit in free):
        slices = f"placement units {start} to {start + size - 1}" if size > 1 else f"placement unit {start}"
        why = "stranded: no profile in demand can use it" if is_lost else "covered by no GPU instance"
        cells.append(
            Cell(
                start=start,
                size=size,
                title="stranded" if is_lost and size > 1 else "",
                detail="",
                tooltip=f"{slices}: {why}",
                tone="stranded" if is_lost else "empty",
            )
        )
    return cells


def _runs(units: Iterable[tuple[int, bool]]) -> Iterator[tuple[int, int, bool]]:
    """Neighbours that are alike, as (first, how many, like what)."""
    begun: tuple[int, int, bool] | None = None
    for unit, kind in units:
        if begun is not None and (unit, kind) == (begun[0] + begun[1], begun[2]):
            begun = (begun[0], begun[1] + 1, kind)
            continue
        if begun is not None:
            yield begun
        begun = (unit, 1, kind)
    if begun is not None:
        yield begun


def short(workload: str) -> str:
    """The name without its namespace: a cell is narrow, and its tooltip has both."""
    return workload.partition("/")[2] or workload
