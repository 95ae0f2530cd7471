"""GPUs as bit masks: which memory slices are taken, where a profile still fits, and the lowest GPU that has room.

Own bookkeeping for generator and rivals, apart from the planner's geometry; a test holds both against each other.
Only plain profiles are known here: their placements alone say what can lie beside what, media engines play no part.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

from planner.hardware import Board


class Spot(NamedTuple):
    """Where a workload runs."""

    gpu: int
    profile: str
    start: int


@dataclass(frozen=True, kw_only=True)
class Slots:
    """What one GPU of a board offers; `profiles` from small to large."""

    board: Board

    @cached_property
    def profiles(self) -> tuple[str, ...]:
        plain = (profile for profile in self.board.profiles if profile.variant == "")
        return tuple(p.name for p in sorted(plain, key=lambda p: (p.memory_slices or 0, p.compute_slices)))

    @cached_property
    def size(self) -> Mapping[str, int]:
        """Memory slices that an instance takes."""
        return {p.name: p.memory_slices or 0 for p in self.board.profiles if p.name in self.profiles}

    @cached_property
    def full(self) -> int:
        """The mask of a GPU that has no room."""
        return (1 << self.board.placement_grid) - 1

    @cached_property
    def open_starts(self) -> Mapping[str, tuple[tuple[int, ...], ...]]:
        """Per profile and mask: the starts at which one more instance can lie, lowest first."""
        starts = {p.name: sorted(where.start for where in p.placements) for p in self.board.profiles}
        return {
            name: tuple(
                tuple(start for start in starts[name] if not mask & self.mask(name, start))
                for mask in range(self.full + 1)
            )
            for name in self.profiles
        }

    def mask(self, profile: str, start: int) -> int:
        return ((1 << self.size[profile]) - 1) << start

    def free(self, mask: int) -> int:
        """Memory slices that are not taken."""
        return self.board.placement_grid - mask.bit_count()

    def largest_free_run(self, mask: int) -> int:
        bits = ((self.full & ~mask) >> unit & 1 for unit in range(self.board.placement_grid))
        return max((sum(run) for is_free, run in groupby(bits) if is_free), default=0)

    def open_placements(self, mask: int) -> int:
        """In how many ways one more instance of any profile can be created."""
        return sum(len(self.open_starts[name][mask]) for name in self.profiles)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A rule that places one request: the GPU of the lowest rank, of those the lowest index, there the best start.

    Both functions take the mask of a GPU; `start_rank` that after placing, which is to be least.
    """

    slots: Slots
    rank: Callable[[int], int]
    start_rank: Callable[[int], tuple[int, ...]] = lambda mask: ()  # equal: the lowest start

    @cached_property
    def choices(self) -> Mapping[str, tuple[tuple[tuple[int, int], ...], ...]]:
        """Per profile: groups of equal rank, best first, of masks with room and the start to take there."""
        found = {}
        for name in self.slots.profiles:
            roomy = [(mask, starts) for mask, starts in enumerate(self.slots.open_starts[name]) if starts]
            roomy.sort(key=lambda choice: self.rank(choice[0]))
            found[name] = tuple(
                tuple((mask, self._start(name, mask, starts)) for mask, starts in group)
                for _, group in groupby(roomy, key=lambda choice: self.rank(choice[0]))
            )
        return found

    def _start(self, name: str, mask: int, starts: tuple[int, ...]) -> int:
        return min(starts, key=lambda start: (self.start_rank(mask | self.slots.mask(name, start)), start))


class Fleet:
    """GPUs of one board with what runs on them. `size` None: as many GPUs as are needed, used ones first."""

    def __init__(self, slots: Slots, size: int | None) -> None:
        self.slots = slots
        self.is_elastic = size is None
        self.masks = [0] * (size or 0)
        self.placed: dict[str, Spot] = {}
        # GPU indexes by mask; one that changed since is skipped when it comes up.
        self._by_mask: list[list[int]] = [[] for _ in range(slots.full + 1)]
        self._by_mask[0] = list(range(size or 0))

    def place(self, workload: str, profile: str, policy: Policy) -> Spot | None:
        """Where the policy puts the request, done; None when no GPU has room."""
        for group in policy.choices[profile]:
            heads = [(gpu, start) for mask, start in group if (gpu := self._lowest(mask)) is not None]
            if heads:
                gpu, start = min(heads)
                return self.put(workload, Spot(gpu, profile, start))
        if not self.is_elastic:
            return None
        self.masks.append(0)
        self._remember(len(self.masks) - 1)
        return self.place(workload, profile, policy)

    def put(self, workload: str, spot: Spot) -> Spot:
        self.placed[workload] = spot
        self._set(spot.gpu, self.masks[spot.gpu] | self.slots.mask(spot.profile, spot.start))
        return spot

    def remove(self, workload: str) -> Spot:
        spot = self.placed.pop(workload)
        self._set(spot.gpu, self.masks[spot.gpu] & ~self.slots.mask(spot.profile, spot.start))
        return spot

    def close(self, gpu: int) -> int:
        """Let nothing more be placed there; returns the mask with which `reopen` undoes it."""
        mask = self.masks[gpu]
        self._set(gpu, self.slots.full)
        return mask

    def reopen(self, gpu: int, mask: int) -> None:
        self._set(gpu, mask)

    def _set(self, gpu: int, mask: int) -> None:
        self.masks[gpu] = mask
        self._remember(gpu)

    def _remember(self, gpu: int) -> None:
        heapq.heappush(self._by_mask[self.masks[gpu]], gpu)

    def _lowest(self, mask: int) -> int | None:
        heap = self._by_mask[mask]
        while heap and self.masks[heap[0]] != mask:
            heapq.heappop(heap)
        return heap[0] if heap else None


def used_gpus(spots: Iterable[Spot]) -> int:
    """GPUs on which something runs."""
    return len({spot.gpu for spot in spots})
