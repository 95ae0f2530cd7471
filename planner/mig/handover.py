"""Who takes which slot, in which order, so that as few workloads as possible are down at one moment.

Units leave instances and go to slots. A slot opens when all units that block it have left, and units of one kind can
take each other's slots. A unit that finds an open slot starts there before it stops where it was. When nobody who is
left finds one, somebody must stop first and is down until a slot of his kind opens. With kinds of one unit each, the
smallest possible peak is the process number of a digraph (Coudert and Sereni, "Characterization of graphs and digraphs
with small process number", Discrete Applied Mathematics 159, 2011), which is hard to compute; as there, whatever does
not depend on each other in a circle can be settled one after the other, so the peak is that of the worst circle.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from planner.mig.handover_greedy import Settled, settle
from planner.mig.handover_search import Budget, fewest_down


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """Units and slots by number; slot i is planned for unit i, and both are of kind i.

    A unit of weight 0 does not run yet: it blocks nothing.
    """

    weights: tuple[int, ...]
    kinds: tuple[int, ...]
    blockers: tuple[tuple[int, ...], ...]


Event = tuple[int, int | None]
"""A unit starts in a slot (and then leaves where it was); without a slot, it stops and is down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Everything that happens, one after the other; every unit starts in one slot."""

    events: tuple[Event, ...]
    peak: int  # most weight down at once
    lower_bound: int  # no order has a smaller peak


def in_order(handover: Handover, budget: Budget | None = None) -> Order:
    """A good order, which keeps the planned slots wherever nobody needs to be down with them."""
    events: list[Event] = []
    peak = bound = 0
    budget = budget or Budget()
    for members in _circles(handover):
        part = _planned_order(handover, members)
        if part is None:
            found = _settle_circle(handover, members, budget)
            peak, bound = max(peak, found.peak), max(bound, found.lower_bound)
            part = list(found.events)
        events += part
    return Order(events=tuple(events), peak=peak, lower_bound=bound)


def _settle_circle(handover: Handover, members: Sequence[int], budget: Budget) -> Order:
    """The order within one circle of kinds that depend on each other; whatever it depends on beside them has left."""
    inside = set(members)
    blockers = {slot: tuple(unit for unit in handover.blockers[slot] if unit in inside) for slot in members}
    weights = {unit: handover.weights[unit] for unit in members}
    kinds = {unit: handover.kinds[unit] for unit in members}
    core = _active_units(weights, kinds, blockers)
    bound = _lower_bound(core, weights, kinds, blockers)
    best = _best_settled(weights, kinds, blockers, bound)
    if best.peak > 0:
        exact = fewest_down(
            {unit: weights[unit] for unit in core},
            kinds,
            [(kinds[slot], core.intersection(found)) for slot, found in blockers.items()],
            bound=bound,
            known=(best.peak, best.interrupted),
            budget=budget,
        )
        bound = exact.lower_bound
        if exact.events is not None:
            best = settle(weights, kinds, blockers, restarts_first=True, first=exact.events)
    return Order(events=best.events, peak=best.peak, lower_bound=min(bound, best.peak))


def _best_settled(
    weights: dict[int, int], kinds: dict[int, int], blockers: dict[int, tuple[int, ...]], bound: int
) -> Settled:
    """The best of both ways to treat those who are down, and of some throws of dice while the bound is not met."""
    best = min(
        (settle(weights, kinds, blockers, restarts_first=restarts_first) for restarts_first in (True, False)),
        key=lambda result: (result.peak, result.interrupted),
    )
    dice = Random(len(weights))
    for attempt in range(min(100, 4_000 // len(weights))):
        if best.peak <= bound:
            break
        other = settle(weights, kinds, blockers, restarts_first=attempt % 2 == 0, dice=dice)
        best = min(best, other, key=lambda result: (result.peak, result.interrupted))
    return best


def _active_units(weights: dict[int, int], kinds: dict[int, int], blockers: dict[int, tuple[int, ...]]) -> set[int]:
    """The running units that somebody waits for. The others can go last, when everything is open to them."""
    active = {unit for unit, weight in weights.items() if weight}
    while True:
        relevant = {kinds[unit] for unit in active}
        needed = {unit for slot, found in blockers.items() if kinds[slot] in relevant for unit in found}
        if active <= needed:
            return active
        active &= needed


def _lower_bound(
    core: set[int], weights: dict[int, int], kinds: dict[int, int], blockers: dict[int, tuple[int, ...]]
) -> int:
    """0, or the least weight among units that could not leave even if every open slot had room for all."""
    closed_by: dict[int, set[int]] = {slot: set(found) & core for slot, found in blockers.items()}
    blocked_by: dict[int, list[int]] = defaultdict(list)
    for slot, found in closed_by.items():
        for unit in found:
            blocked_by[unit].append(slot)
    units_of: dict[int, list[int]] = defaultdict(list)
    for unit in core:
        units_of[kinds[unit]].append(unit)
    stuck = set(core)
    ready = deque(kinds[slot] for slot, found in closed_by.items() if not found)
    while ready:
        for unit in units_of.pop(ready.popleft(), ()):
            stuck.discard(unit)
            for slot in blocked_by[unit]:
                closed_by[slot].discard(unit)
                if not closed_by[slot]:
                    ready.append(kinds[slot])
    return min((weights[unit] for unit in stuck), default=0)


def _planned_order(handover: Handover, members: Sequence[int]) -> list[Event] | None:
    """Everyone into the planned slot with nobody down; None when that is a circle."""
    inside = set(members)
    waits_for = {slot: sum(unit in inside for unit in handover.blockers[slot]) for slot in members}
    waiting: dict[int, list[int]] = defaultdict(list)
    for slot in members:
        for unit in handover.blockers[slot]:
            waiting[unit].append(slot)
    ready = deque(slot for slot in members if not waits_for[slot])
    events: list[Event] = []
    while ready:
        unit = ready.popleft()
        events.append((unit, unit))
        for slot in waiting[unit]:
            if slot in waits_for:
                waits_for[slot] -= 1
                if not waits_for[slot]:
                    ready.append(slot)
    return events if len(events) == len(members) else None


def _circles(handover: Handover) -> Iterable[list[int]]:
    """The units whose kinds depend on each other, circle by circle; whatever a circle depends on comes before it."""
    units_of: dict[int, list[int]] = defaultdict(list)
    for unit, kind in enumerate(handover.kinds):
        units_of[kind].append(unit)
    needs: dict[int, list[int]] = {
        kind: list(dict.fromkeys(handover.kinds[unit] for slot in units for unit in handover.blockers[slot]))
        for kind, units in units_of.items()
    }
    for component in _strongly_connected(needs):
        yield sorted(unit for kind in component for unit in units_of[kind])


def _strongly_connected(needs: dict[int, list[int]]) -> Iterable[list[int]]:
    """Tarjan's algorithm without recursion: components, each after all that it needs."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    for root in needs:
        if root in index:
            continue
        work = [(root, iter(needs[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, rest = work[-1]
            for other in rest:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, iter(needs[other])))
                    break
                if other in on_stack:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component = []
                    while True:
                        member = stack.pop()
                        on_stack.remove(member)
                        component.append(member)
                        if member == node:
                            break
                    yield component
