"""In which ways one GPU can end: which of its units stay, and what else it can then hold.

A column is one such way for all GPUs that are alike now. Its extras are counts of profiles, not placements: any subset
of a legal layout is legal, so the placements are chosen at the very end (`realise.py`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np

from planner.hardware import Board
from planner.mig.plan import Mode
from planner.mig_geometry import legal_layouts


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """What interchangeable requests have in common: one row of the programme."""

    profile: str
    tenant: str = ""  # an isolated tenant, else empty
    is_mixed: bool = False  # a unit of several tenants that must not share: no plan can part them
    services: tuple[str, ...] = ()  # services with a spread rule and more than one replica
    compute_instances: tuple[str, ...] = ()  # of a unit of several workloads
    board: str = ""  # the only board it may be served by, else empty
    weight: int = 1  # workloads of the unit


@dataclass(frozen=True, slots=True, order=True)
class UnitKind:
    """A GPU instance with workloads as the programme sees it: two alike may be swapped."""

    start: int
    profile: str  # of the instance; a rule may let it serve a smaller request (`row.profile`)
    row: Row
    pinned: bool


@dataclass(frozen=True, slots=True)
class Column:
    """One way in which GPUs of a class can end.

    `kept`: positions in the class's units that stay; `extra`: how many instances of each of the class's profiles can
    be created beside them at most; `moves`: workloads that must go elsewhere.
    """

    kept: tuple[int, ...]
    extra: tuple[int, ...]
    used: bool
    moves: int
    tenant: str = ""  # whose the GPU is, when tenants are isolated
    only: str | None = None  # the one profile of the node, under MIG strategy `single`; "" for a node without MIG


class LayoutTable:
    """What else fits beside given instances, over all legal layouts of a board from given profiles."""

    def __init__(self, board: Board, names: tuple[str, ...]) -> None:
        layouts = legal_layouts(board, names)
        self._choices: dict[tuple[str, int], int] = {}
        masks = []
        for layout in layouts:
            mask = 0
            for instance in layout:
                key = (instance.profile, instance.placement.start)
                mask |= 1 << self._choices.setdefault(key, len(self._choices))
            masks.append(mask)
        self._masks = np.array(masks, dtype=np.int64)
        position = {name: index for index, name in enumerate(names)}
        self._counts = np.zeros((len(layouts), len(names)), dtype=np.int64)
        for row, layout in enumerate(layouts):
            for instance in layout:
                self._counts[row, position[instance.profile]] += 1
        self._positions = position
        self._found: dict[int, tuple[tuple[int, ...], ...]] = {}

    def completions(self, kept: Iterable[tuple[str, int]]) -> tuple[tuple[int, ...], ...]:
        """Largest counts of further instances beside the kept (profile, start); empty when these are not legal."""
        mask = 0
        present = np.zeros(self._counts.shape[1], dtype=np.int64)
        for profile, start in kept:
            choice = self._choices.get((profile, start))
            if choice is None:
                return ()
            mask |= 1 << choice
            present[self._positions[profile]] += 1
        if mask not in self._found:
            fitting = (self._masks & mask) == mask
            vectors = np.unique(self._counts[fitting] - present, axis=0)
            best = vectors[~_dominated(vectors, np.zeros(len(vectors), dtype=np.int64))]
            self._found[mask] = tuple(tuple(int(count) for count in vector) for vector in best)
        return self._found[mask]


@lru_cache(maxsize=256)
def layout_table(board: Board, names: tuple[str, ...]) -> LayoutTable:
    """The table of that board and those profiles, made once."""
    return LayoutTable(board, names)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSettings:
    """What decides which columns there are, beside the class itself."""

    mode: Mode
    tenants: tuple[str, ...] = ("",)  # isolated tenants with requests, and "" for all others
    is_plain: bool = True  # no upsizing and no services: an instance that stays counts as one more of its profile


def columns(board: Board, units: Sequence[UnitKind], names: tuple[str, ...], settings: ColumnSettings) -> list[Column]:
    """Every column of a class of GPUs with these units that no other makes superfluous, in a fixed order."""
    table = layout_table(board, names)
    found: list[Column] = []
    for kept in _kept_subsets(units, settings.mode):
        tenants = {units[index].row.tenant for index in kept}
        if len(tenants) > 1 or _share_a_service(units[index] for index in kept):
            continue
        moves = _moves(units, kept)
        if not kept:
            found.append(Column((), (0,) * len(names), False, moves))
            if units and settings.mode is Mode.COMPACT:
                continue
        for extra in table.completions((units[index].profile, units[index].start) for index in kept):
            if kept or any(extra):
                found += [Column(kept, extra, True, moves, tenant) for tenant in tenants or settings.tenants]
    return _undominated(found, units, names, settings)


def single_columns(
    board: Board, units: Sequence[UnitKind], names: tuple[str, ...], settings: ColumnSettings, profiles: Sequence[str]
) -> list[Column]:
    """The columns of GPUs in a node whose instances must all have one profile, for each of the profiles, and for none.

    An unused GPU of a node with MIG is cut all the same, so every profile has such a column.
    """
    found: list[Column] = []
    for only in ("", *profiles):
        position = names.index(only) if only in names else -1
        for kept in _kept_subsets(units, settings.mode):
            tenants = {units[index].row.tenant for index in kept}
            if any(units[index].profile != only for index in kept) or len(tenants) > 1:
                continue
            if _share_a_service(units[index] for index in kept):
                continue
            moves = _moves(units, kept)
            if not kept:
                found.append(Column((), (0,) * len(names), False, moves, "", only))
                if position < 0 or (units and settings.mode is Mode.COMPACT):
                    continue
            table = layout_table(board, (only,))
            for (count,) in table.completions((units[index].profile, units[index].start) for index in kept):
                extra = tuple(count if index == position else 0 for index in range(len(names)))
                if kept or count:
                    found += [Column(kept, extra, True, moves, tenant, only) for tenant in tenants or settings.tenants]
    return _undominated(found, units, names, settings)


def _kept_subsets(units: Sequence[UnitKind], mode: Mode) -> Iterator[tuple[int, ...]]:
    """Which units may stay, the largest choice first."""
    everything = tuple(range(len(units)))
    pinned = {index for index in everything if units[index].pinned}
    if mode in (Mode.INITIAL, Mode.ADD_WITHOUT_MOVES):
        yield everything
        return
    if mode is Mode.COMPACT:
        yield everything
        if everything and not pinned:
            yield ()
        return
    for size in range(len(units), -1, -1):
        for kept in combinations(everything, size):
            if pinned <= set(kept):
                yield kept


def _moves(units: Sequence[UnitKind], kept: tuple[int, ...]) -> int:
    return sum(unit.row.weight for unit in units) - sum(units[index].row.weight for index in kept)


def _share_a_service(units: Iterable[UnitKind]) -> bool:
    services = [service for unit in units for service in unit.row.services]
    return len(set(services)) < len(services)


def _undominated(
    found: Sequence[Column], units: Sequence[UnitKind], names: tuple[str, ...], settings: ColumnSettings
) -> list[Column]:
    """Drop every column beside which another offers as much of everything for as few moves."""
    groups: dict[object, list[Column]] = {}
    for column in found:
        key: tuple[object, ...] = (column.used, column.tenant, column.only)
        if not settings.is_plain:  # which units stay matters to rules and to upsizing, not only how many
            key = (*key, tuple(sorted((units[i].row, units[i].profile) for i in column.kept)))
        groups.setdefault(key, []).append(column)
    left: list[Column] = []
    for group in groups.values():
        offers = np.zeros((len(group), len(names)), dtype=np.int64)
        for row, column in enumerate(group):
            offers[row] = column.extra
            for index in column.kept:
                offers[row, names.index(units[index].profile)] += 1
        dominated = _dominated(offers, np.array([column.moves for column in group], dtype=np.int64))
        left += [column for column, is_dominated in zip(group, dominated, strict=True) if not is_dominated]
    return left


def _dominated(offers: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Which rows another one equals or exceeds everywhere at no more cost; of equal ones the first stays."""
    at_least = (offers[None, :, :] >= offers[:, None, :]).all(axis=2) & (costs[None, :] <= costs[:, None])
    equal = at_least & at_least.T
    earlier = np.tril(np.ones(at_least.shape, dtype=bool), k=-1)
    return np.asarray((at_least & (~equal | earlier)).any(axis=1))
