"""On how few GPUs of one board a set of profiles fits, and how each of them is cut.

A cutting-stock programme: a pattern is how many of each profile one GPU can hold, taken from the placement table; only
patterns that no other exceeds are needed. It is solved to proven optimality in milliseconds for thousands of requests.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from planner.catalog import find_profile
from planner.errors import UnknownProfile
from planner.hardware import Board, Layout
from planner.mig_geometry import assume_arrangement, undominated_counts
from planner.solve import cover


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """GPUs cut so that they hold exactly the requested instances; whole GPUs come on top of `layouts`."""

    layouts: tuple[Layout, ...]  # one per GPU in MIG mode, fullest patterns first, spare room in the last
    whole_gpus: int
    lower_bound: int  # GPUs in all that no packing can go below
    is_optimal: bool
    gap_ratio: float

    @property
    def gpus(self) -> int:
        """GPUs in all."""
        return len(self.layouts) + self.whole_gpus


def slice_bound(board: Board, requests: Mapping[str, int]) -> int:
    """GPUs needed by the sums of compute slices and memory slices alone; never more than the exact number."""
    compute_slices = memory_slices = 0
    for name, count in requests.items():
        profile = find_profile(board, name)
        if profile is not None:
            compute_slices += profile.compute_slices * count
            memory_slices += (profile.memory_slices or 0) * count
    return max(math.ceil(compute_slices / board.compute_slices), math.ceil(memory_slices / board.placement_grid))


def pack(board: Board, requests: Mapping[str, int], *, whole_gpus: int = 0, time_limit_s: float = 10.0) -> Packing:
    """The fewest GPUs that hold so many instances of each profile, and their layouts.

    The layouts are deterministic. Raises UnknownProfile, IllegalLayout when the board cannot be planned, SolverFailed.
    """
    demand = _by_catalogue_name(board, requests)
    names = tuple(demand)
    if not names:
        return Packing(layouts=(), whole_gpus=whole_gpus, lower_bound=whole_gpus, is_optimal=True, gap_ratio=0.0)
    patterns = undominated_counts(board, names)[::-1]
    covering = cover(patterns, tuple(demand.values()), time_limit_s=time_limit_s)
    layouts = _realised(board, names, dict(demand), patterns, covering.counts)
    gpus = len(layouts) + whole_gpus
    lower_bound = max(covering.lower_bound, slice_bound(board, demand)) + whole_gpus
    return Packing(
        layouts=layouts,
        whole_gpus=whole_gpus,
        lower_bound=lower_bound,
        is_optimal=gpus == lower_bound,
        gap_ratio=(gpus - lower_bound) / gpus,
    )


def _by_catalogue_name(board: Board, requests: Mapping[str, int]) -> dict[str, int]:
    """Requests by the catalogue's name of the profile, in catalogue order, without those of none."""
    counts = {profile.name: 0 for profile in board.profiles}
    for name, count in requests.items():
        profile = find_profile(board, name)
        if profile is None:
            raise UnknownProfile(f"{board.name} has no profile {name!r}.")
        counts[profile.name] += count
    return {name: count for name, count in counts.items() if count}


def _realised(
    board: Board,
    names: tuple[str, ...],
    left: dict[str, int],
    patterns: tuple[tuple[int, ...], ...],
    counts: tuple[int, ...],
) -> tuple[Layout, ...]:
    """Patterns as layouts of exactly the requested instances: what a pattern has too many of stays free at the end."""
    layouts: list[Layout] = []
    for pattern, count in zip(patterns, counts, strict=True):
        for _ in range(count):
            chosen: list[str] = []
            for name, amount in zip(names, pattern, strict=True):
                placed = min(amount, left[name])
                left[name] -= placed
                chosen += [name] * placed
            if chosen:  # an answer cut short by the time limit may hold a pattern too many
                layouts.append(assume_arrangement(board, chosen))
    return tuple(layouts)
