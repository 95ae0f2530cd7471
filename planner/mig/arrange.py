"""Where instances of given profiles lie on one GPU, beside those that stay: the choice that disturbs least.

Which counts fit together was decided before (`columns.py`), so only overlap has to be looked at here.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from planner.hardware import Board

Spot = tuple[str, int]
"""Profile and start of one instance."""


@lru_cache(maxsize=200_000)
def arrange(
    board: Board, kept: tuple[Spot, ...], names: tuple[str, ...], existing: tuple[Spot, ...]
) -> tuple[Spot, ...]:
    """Spots for `names` (sorted) beside `kept`, in the order of `names`.

    Of all arrangements the one that uses most of the free instances that exist already (`existing`), then the one that
    leaves most placements open, largest profiles first, then the one with the lowest starts.
    """
    table = _table(board)
    taken = 0
    for spot in kept:
        taken |= table.masks[spot]
    order = sorted(range(len(names)), key=lambda index: (-table.sizes[names[index]], names[index]))
    there = frozenset(existing)
    best: tuple[tuple[object, ...], tuple[int, ...]] | None = None

    def place(position: int, taken: int, starts: tuple[int, ...]) -> None:
        nonlocal best
        if position == len(order):
            reused = sum((names[order[i]], start) in there for i, start in enumerate(starts))
            score = (-reused, tuple(-count for count in table.room(taken)), starts)
            if best is None or score < best[0]:
                best = (score, starts)
            return
        name = names[order[position]]
        again = position > 0 and names[order[position - 1]] == name  # equal ones in ascending order only
        for start in table.starts[name]:
            mask = table.masks[name, start]
            if not taken & mask and not (again and start <= starts[-1]):
                place(position + 1, taken | mask, (*starts, start))

    place(0, taken, ())
    if best is None:
        raise AssertionError(f"{', '.join(names)} do not fit beside {kept} on {board.name}")  # a column said they do
    placed: list[Spot] = [("", 0)] * len(names)
    for index, start in zip(order, best[1], strict=True):
        placed[index] = (names[index], start)
    return tuple(placed)


def not_in_the_way(board: Board, present: Iterable[Spot], existing: Sequence[Spot]) -> tuple[Spot, ...]:
    """Those of the existing free instances that overlap nothing of `present`."""
    table = _table(board)
    taken = 0
    for spot in present:
        taken |= table.masks[spot]
    return tuple(spot for spot in existing if not taken & table.masks[spot])


class _Table:
    """A board's placements as bit masks of memory slices."""

    def __init__(self, board: Board) -> None:
        self.sizes = {p.name: p.memory_slices or 0 for p in board.profiles}
        self.starts = {p.name: tuple(where.start for where in p.placements) for p in board.profiles}
        self.masks = {
            (p.name, where.start): ((1 << where.size) - 1) << where.start
            for p in board.profiles
            for where in p.placements
        }
        plain = [p for p in board.profiles if not p.variant]
        self._largest_first = [
            [self.masks[p.name, where.start] for where in p.placements]
            for p in sorted(plain, key=lambda p: (-self.sizes[p.name], -p.compute_slices, p.name))
        ]
        self._room: dict[int, tuple[int, ...]] = {}

    def room(self, taken: int) -> tuple[int, ...]:
        """Open placements by profile, largest first."""
        if taken not in self._room:
            self._room[taken] = tuple(sum(not taken & mask for mask in masks) for masks in self._largest_first)
        return self._room[taken]


@lru_cache(maxsize=256)
def _table(board: Board) -> _Table:
    return _Table(board)
