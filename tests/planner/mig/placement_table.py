"""What one GPU can hold, read a second time from the board's placement table: no line is shared with the planner.

Rules, from nvml.h and the MIG User Guide: no two instances on one memory slice, no profile more often than allowed,
one optical flow engine for all `+me` instances together, and beside `+me.all` only instances without media engines.
"""

from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import combinations, product

from planner.hardware import Board, Profile

Placed = tuple[str, int]
"""Profile name and start."""


def profile_of(board: Board, name: str) -> Profile | None:
    """The board's profile of exactly that name."""
    return next((profile for profile in board.profiles if profile.name == name), None)


def sizes_at(board: Board, name: str) -> dict[int, int]:
    """Start of every placement of the profile, and how many units it covers there."""
    profile = profile_of(board, name)
    return {} if profile is None else {place.start: place.size for place in profile.placements}


def faults(board: Board, placed: Iterable[Placed]) -> list[str]:
    """Everything that is wrong with these instances on one GPU of the board."""
    found: list[str] = []
    cells: Counter[int] = Counter()
    names: list[str] = []
    for name, start in placed:
        sizes = sizes_at(board, name)
        if start not in sizes:
            found.append(f"{board.name} has no {name} at {start}")
            continue
        names.append(name)
        cells.update(range(start, start + sizes[start]))
    found += [f"unit {cell} is covered {times} times" for cell, times in sorted(cells.items()) if times > 1]
    found += [f"unit {cell} lies outside the grid" for cell in cells if cell >= board.placement_grid]
    return found + company_faults(board, names)


def company_faults(board: Board, names: Iterable[str]) -> list[str]:
    """Which of these instances cannot exist beside each other, wherever they lie."""
    counts = Counter(names)
    found = [
        f"{count} of {name} are more than the board allows"
        for name, count in sorted(counts.items())
        if count > profile_of(board, name).max_instances
    ]
    claims_one = sum(count for name, count in counts.items() if name.endswith("+me"))
    claims_all = sum(count for name, count in counts.items() if name.endswith("+me.all"))
    without = sum(count for name, count in counts.items() if name.endswith("-me"))
    if claims_one > 1:
        found.append("two instances claim the optical flow engine")
    if claims_all > 1 or (claims_all and claims_all + without < counts.total()):
        found.append("+me.all leaves no media engine to its neighbours")
    kinds = Counter({profile_of(board, name).kind: count for name, count in counts.items()})
    found += [
        f"{exclusion.name}: {exclusion.reason}"
        for exclusion in board.exclusions
        if all(sum(kinds[kind] for kind in group) >= least for group, least in exclusion.needs)
    ]
    return found


def is_possible(board: Board, placed: Iterable[Placed]) -> bool:
    """Whether the instances can exist together."""
    return not faults(board, placed)


@cache
def room_beside(board: Board, names: tuple[str, ...], fixed: frozenset[Placed]) -> frozenset[tuple[int, ...]]:
    """How many more of each named profile can be created at once beside the fixed instances: every vector there is."""
    cells = 0
    for name, start in fixed:
        cells |= ((1 << sizes_at(board, name)[start]) - 1) << start
    company = [name for name, _ in fixed]
    found: set[tuple[int, ...]] = set()
    seen: set[tuple[int, tuple[int, ...]]] = set()

    def grow(taken: int, vector: tuple[int, ...]) -> None:
        if (taken, vector) in seen:
            return
        seen.add((taken, vector))
        found.add(vector)
        for index, name in enumerate(names):
            more = (*vector[:index], vector[index] + 1, *vector[index + 1 :])
            added = [name for name, count in zip(names, more, strict=True) for _ in range(count)]
            if profile_of(board, name) is None or company_faults(board, [*company, *added]):
                continue
            for start, size in sizes_at(board, name).items():
                mask = ((1 << size) - 1) << start
                if not taken & mask:
                    grow(taken | mask, more)

    if is_possible(board, fixed):
        grow(cells, (0,) * len(names))
    return frozenset(found)


def arrangements(board: Board, instances: tuple[tuple[str, int | None], ...]) -> list[tuple[int, ...]]:
    """Every way to give the instances without a start one, in their order, so that all can exist together."""
    choices = [tuple(sizes_at(board, name)) if start is None else (start,) for name, start in instances]
    names = [name for name, _ in instances]
    return [
        starts
        for starts in product(*choices)
        if len(set(starts)) == len(starts) and is_possible(board, zip(names, starts, strict=True))
    ]


def layouts(board: Board, names: tuple[str, ...]) -> list[frozenset[Placed]]:
    """All sets of placed instances of these profiles, by trying every set: for small boards."""
    places = [(name, start) for name in names for start in sizes_at(board, name)]
    return [
        frozenset(chosen)
        for count in range(board.placement_grid + 1)
        for chosen in combinations(places, count)
        if is_possible(board, chosen)
    ]
