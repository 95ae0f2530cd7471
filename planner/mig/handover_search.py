"""The best order of a small hand-over by exhaustive search; `planner/mig/handover.py` says what the words mean."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from heapq import heappop, heappush

LARGEST = 48
"""Units up to which the smallest peak is searched; how far it gets is a matter of the budget."""

LARGEST_FOR_COST = 10
"""Units up to which, with the smallest peak known, the least interruption is searched."""


@dataclass(slots=True)
class Budget:
    """Moves that may still be looked at, over all circles of a plan: a limit that every machine reaches alike."""

    moves: int = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """`events` are (unit, whether it starts or stops) until nobody blocks anything; None when nothing better exists,
    or was not found within the budget."""

    events: tuple[tuple[int, bool], ...] | None
    lower_bound: int


def fewest_down(
    weights: Mapping[int, int],
    kinds: Mapping[int, int],
    slots: Sequence[tuple[int, AbstractSet[int]]],
    *,
    bound: int,
    known: tuple[int, int],
    budget: Budget,
) -> Searched:
    """Smallest peak first, then least weight interrupted; only orders better than the known (peak, interrupted).

    `slots` are (kind, units that block it); `bound` is a lower bound of the peak.
    """
    if not weights or len(weights) > (LARGEST if bound < known[0] else LARGEST_FOR_COST):
        return Searched(events=None, lower_bound=bound)
    circle = _Circle(weights, kinds, slots)
    for limit in range(bound, known[0] + 1):
        cheaper_than = known[1] if limit == known[0] else None
        found = circle.cheapest_within(limit, cheaper_than, budget)
        if budget.moves <= 0 and found is None:
            return Searched(events=None, lower_bound=limit)
        if found is not None:
            return Searched(events=found, lower_bound=limit)
    return Searched(events=None, lower_bound=known[0])


class _Circle:
    """States are bit sets: who has left, and who of those has started in a slot. All others of those are down."""

    def __init__(
        self, weights: Mapping[int, int], kinds: Mapping[int, int], slots: Sequence[tuple[int, AbstractSet[int]]]
    ) -> None:
        self._units = sorted(weights)
        self._weights = [weights[unit] for unit in self._units]
        self._kinds = [kinds[unit] for unit in self._units]
        bit = {unit: 1 << number for number, unit in enumerate(self._units)}
        self._of_kind: dict[int, int] = dict.fromkeys(self._kinds, 0)
        for unit in self._units:
            self._of_kind[kinds[unit]] |= bit[unit]
        self._masks: dict[int, list[int]] = {kind: [] for kind in self._of_kind}
        for kind, found in slots:
            if kind in self._masks:
                self._masks[kind].append(sum(bit[unit] for unit in found))
        self._open_after: dict[int, dict[int, int]] = {}

    def cheapest_within(
        self, limit: int, cheaper_than: int | None, budget: Budget
    ) -> tuple[tuple[int, bool], ...] | None:
        """The order that interrupts least of those with no more down at once; None if there is none (cheaper)."""
        everyone = (1 << len(self._units)) - 1
        queue: list[tuple[int, int, int, int]] = [(0, 0, 0, 0)]  # interrupted, -started, left, started
        cost = {(0, 0): 0}
        came: dict[tuple[int, int], tuple[int, int, int]] = {}  # -> left, started before; unit
        while queue and budget.moves > 0:
            interrupted, _, left, started = heappop(queue)
            if cost[left, started] < interrupted:
                continue
            if left == everyone:
                return self._path(left, started, came)
            moves = self._moves(left, started, limit)
            budget.moves -= len(moves)
            for number, next_left, next_started in moves:
                price = interrupted + (self._weights[number] if next_started == started else 0)
                if cheaper_than is not None and price >= cheaper_than:
                    continue
                state = (next_left, next_started)
                if price < cost.get(state, price + 1):
                    cost[state] = price
                    came[state] = (left, started, number)
                    heappush(queue, (price, -next_started.bit_count(), *state))
        return None

    def _moves(self, left: int, started: int, limit: int) -> list[tuple[int, int, int]]:
        """(unit, left, started) after each possible move; one alone where it cannot be wrong."""
        room = self._open_slots(left)
        moves: list[tuple[int, int, int]] = []
        down = 0
        for number, kind in enumerate(self._kinds):
            bit = 1 << number
            if started & bit:
                continue
            of_kind = self._of_kind[kind]
            open_slots = room[kind] - (started & of_kind).bit_count()
            if open_slots > 0:
                move = (number, left | bit, started | bit)
                if open_slots >= (of_kind & ~started).bit_count():
                    return [move]  # there is room for all of the kind: starting only opens more
                moves.append(move)
            if left & bit:
                down += self._weights[number]
        for number, weight in enumerate(self._weights):
            if not left >> number & 1 and down + weight <= limit:
                moves.append((number, left | 1 << number, started))
        return moves

    def _open_slots(self, left: int) -> dict[int, int]:
        found = self._open_after.get(left)
        if found is None:
            found = {kind: sum(not mask & ~left for mask in masks) for kind, masks in self._masks.items()}
            self._open_after[left] = found
        return found

    def _path(
        self, left: int, started: int, came: Mapping[tuple[int, int], tuple[int, int, int]]
    ) -> tuple[tuple[int, bool], ...]:
        events = []
        while (left, started) in came:
            before_left, before_started, number = came[left, started]
            events.append((self._units[number], started != before_started))
            left, started = before_left, before_started
        return tuple(reversed(events))
