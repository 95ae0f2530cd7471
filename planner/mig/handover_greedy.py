"""A good order of a hand-over, found step by step; `planner/mig/handover.py` says what the words mean."""

from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from random import Random

_Rank = tuple[int, int, float]
_Entry = tuple[int, int, float, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """An order and what it costs."""

    events: tuple[tuple[int, int | None], ...]
    peak: int  # most weight down at once
    interrupted: int  # weight that is down at all


def settle(
    weights: Mapping[int, int],
    kinds: Mapping[int, int],
    blockers: Mapping[int, tuple[int, ...]],
    *,
    restarts_first: bool,
    first: Sequence[tuple[int, bool]] = (),
    dice: Random | None = None,
) -> Settled:
    """Fill open slots as long as there are any, and stop somebody when there are none.

    An open slot goes to the unit that opens the next one soonest; to one that is down before all others, or only after
    those that open a slot at once. `first` are (unit, whether it starts or stops) that are done before all else.
    `dice` decide between what looks equally good.
    """
    luck = {unit: dice.random() if dice else 0.0 for unit in weights}
    run = _Run(weights, kinds, blockers, restarts_first, luck)
    for unit, starts in first:
        if starts:
            run.start(unit)
        else:
            run.stop(unit)
    while True:
        run.fill()
        if not run.waiting:
            return Settled(events=tuple(run.events), peak=run.peak, interrupted=run.interrupted)
        run.stop(run.whom_to_stop())


class _Run:
    """The state on the way. Heaps hold outdated entries, which are recognised when they come up."""

    def __init__(
        self,
        weights: Mapping[int, int],
        kinds: Mapping[int, int],
        blockers: Mapping[int, tuple[int, ...]],
        restarts_first: bool,
        luck: Mapping[int, float],
    ) -> None:
        self._weights = weights
        self._kinds = kinds
        self._blockers = blockers
        self._restarts_first = restarts_first
        self._luck = luck
        self.waiting = set(weights)  # units that have not started in a slot
        self.events: list[tuple[int, int | None]] = []
        self.peak = self.interrupted = 0
        self._down: set[int] = set()
        self._down_weight = 0
        self._left: set[int] = set()
        self._movers = Counter(kinds[unit] for unit in weights if weights[unit])  # that have not started, by kind
        self._closed = {slot: len(found) for slot, found in blockers.items()}  # blockers that have not left
        self._closed_weight = {slot: sum(weights[unit] for unit in found) for slot, found in blockers.items()}
        self._blocks: dict[int, list[int]] = defaultdict(list)
        self._blocks_of_kind: dict[int, set[int]] = defaultdict(set)
        for slot, found in blockers.items():
            for unit in found:
                self._blocks[unit].append(slot)
                self._blocks_of_kind[kinds[slot]].add(unit)
        self._open: dict[int, deque[int]] = defaultdict(deque)
        for slot, count in self._closed.items():
            if not count:
                self._open[kinds[slot]].append(slot)
        self._taken: set[int] = set()
        self._rank = {unit: self._rank_of(unit) for unit in weights}
        self._units: dict[int, list[tuple[_Rank, int]]] = defaultdict(list)
        for unit, rank in self._rank.items():
            self._units[kinds[unit]].append((rank, unit))
        for heap in self._units.values():
            heapify(heap)
        self._next: list[tuple[_Rank, int]] = []  # the best unit of each kind with an open slot
        for kind in self._open:
            self._offer(kind)
        self._slots: dict[int | None, list[_Entry]] = defaultdict(list)  # by kind; None: all
        for slot in blockers:
            self._watch(slot)

    def fill(self) -> None:
        """Start units as long as a slot is open to one."""
        while self._next:
            rank, kind = heappop(self._next)
            best = self._best(kind)
            if best is not None and best[0] == rank and self._has_open(kind):
                self.start(best[1])
                self._offer(kind)

    def start(self, unit: int) -> None:
        """Start the unit in its planned slot if that is open, else in the one that is open longest."""
        kind = self._kinds[unit]
        slot = unit if not self._closed[unit] and unit not in self._taken else self._longest_open(kind)
        self._taken.add(slot)
        self.events.append((unit, slot))
        self.waiting.remove(unit)
        if unit in self._down:
            self._down.remove(unit)
            self._down_weight -= self._weights[unit]
        else:
            self._leave(unit)
        if self._weights[unit]:
            self._movers[kind] -= 1
            if not self._movers[kind]:
                for other in self._blocks_of_kind[kind]:
                    self._judge(other)
        self._offer(kind)

    def stop(self, unit: int) -> None:
        """Stop the unit where it runs; it is down from now on."""
        self.events.append((unit, None))
        self._down.add(unit)
        self._down_weight += self._weights[unit]
        self.interrupted += self._weights[unit]
        self.peak = max(self.peak, self._down_weight)
        self._leave(unit)
        self._judge(unit)

    def whom_to_stop(self) -> int:
        """One of those that block the slot which opens at least cost; a slot for somebody who is down goes first."""
        kinds = sorted({self._kinds[unit] for unit in self._down})
        tops = [top for kind in kinds if (top := self._cheapest(kind)) is not None]
        top = min(tops) if tops else self._cheapest(None)
        if top is None:
            raise AssertionError("units wait, and no slot of theirs is closed")
        candidates = [unit for unit in self._blockers[top[3]] if unit not in self._left]
        return min(candidates, key=lambda unit: (self._rank[unit], self._weights[unit], unit))

    def _leave(self, unit: int) -> None:
        self._left.add(unit)
        for slot in self._blocks[unit]:
            self._closed[slot] -= 1
            self._closed_weight[slot] -= self._weights[unit]
            if not self._closed[slot]:
                self._open[self._kinds[slot]].append(slot)
                self._offer(self._kinds[slot])
                continue
            self._watch(slot)
            for other in self._blockers[slot]:
                self._judge(other)

    def _rank_of(self, unit: int) -> _Rank:
        """The smaller, the sooner an open slot goes to the unit."""
        if not self._weights[unit]:
            return (4, 0, 0)
        if unit in self._down:
            return (0, 0, 0) if self._restarts_first else (1, 1, 1)
        closed = [
            self._closed[slot]
            for slot in self._blocks[unit]
            if self._closed[slot] and self._movers[self._kinds[slot]] > (self._kinds[slot] == self._kinds[unit])
        ]
        if not closed:
            return (2, 0, 0)
        soonest = min(closed)
        return (1, soonest, self._luck[unit] or -closed.count(soonest))

    def _judge(self, unit: int) -> None:
        if unit not in self.waiting:
            return
        rank = self._rank_of(unit)
        if rank != self._rank[unit]:
            self._rank[unit] = rank
            heappush(self._units[self._kinds[unit]], (rank, unit))
            self._offer(self._kinds[unit])

    def _best(self, kind: int) -> tuple[_Rank, int] | None:
        heap = self._units[kind]
        while heap:
            rank, unit = heap[0]
            if unit in self.waiting and self._rank[unit] == rank:
                return heap[0]
            heappop(heap)
        return None

    def _offer(self, kind: int) -> None:
        best = self._best(kind)
        if best is not None and self._has_open(kind):
            heappush(self._next, (best[0], kind))

    def _has_open(self, kind: int) -> bool:
        slots = self._open[kind]
        while slots and slots[0] in self._taken:
            slots.popleft()
        return bool(slots)

    def _longest_open(self, kind: int) -> int:
        if not self._has_open(kind):
            raise AssertionError("a unit starts although no slot is open to it")
        return self._open[kind].popleft()

    def _watch(self, slot: int) -> None:
        if self._closed[slot]:
            own_kind = all(self._kinds[unit] == self._kinds[slot] for unit in self._blockers[slot])
            entry = (2 * self._closed_weight[slot] + (not own_kind), self._closed[slot], self._luck[slot], slot)
            heappush(self._slots[self._kinds[slot]], entry)
            heappush(self._slots[None], entry)

    def _cheapest(self, kind: int | None) -> _Entry | None:
        """The entry of the closed slot, of that kind or of any, whose blockers weigh least, if somebody needs it."""
        heap = self._slots[kind]
        while heap:
            weight, closed, _, slot = heap[0]
            if self._closed[slot] == closed and weight // 2 == self._closed_weight[slot] and self._is_wanted(slot):
                return heap[0]
            heappop(heap)
        return None

    def _is_wanted(self, slot: int) -> bool:
        return self._movers[self._kinds[slot]] > 0
