"""The order of a hand-over can be carried out, and on small ones no order has a smaller peak."""

from heapq import heappop, heappush

from hypothesis import given, settings
from hypothesis import strategies as st

from planner.mig.handover import Handover, Order, in_order
from planner.mig.handover_search import Budget


@st.composite
def handovers(draw: st.DrawFn, most_units: int = 5) -> Handover:
    count = draw(st.integers(1, most_units))
    weights = draw(st.lists(st.sampled_from([1, 1, 1, 2, 3, 0]), min_size=count, max_size=count))
    kinds = draw(st.lists(st.integers(0, draw(st.integers(0, 3))), min_size=count, max_size=count))
    movers = [unit for unit in range(count) if weights[unit]]
    blockers = [
        tuple(sorted(draw(st.sets(st.sampled_from(movers), max_size=3)))) if movers else () for _ in range(count)
    ]
    return Handover(weights=tuple(weights), kinds=tuple(kinds), blockers=tuple(blockers))


def check(handover: Handover, order: Order) -> int:
    """Whether it can be carried out; its peak."""
    left: set[int] = set()
    down: set[int] = set()
    taken: dict[int, int] = {}
    peak = 0
    for unit, slot in order.events:
        if slot is None:
            assert unit not in left
            left.add(unit)
            down.add(unit)
        else:
            assert set(handover.blockers[slot]) <= left
            assert handover.kinds[slot] == handover.kinds[unit]
            assert slot not in taken
            assert unit not in taken.values()
            taken[slot] = unit
            left.add(unit)
            down.discard(unit)
        peak = max(peak, sum(handover.weights[one] for one in down))
    assert len(taken) == len(handover.weights)
    return peak


def least_peak(handover: Handover) -> int:
    """By trying everything: states are who has left, and which slots are taken by whom."""
    units = range(len(handover.weights))
    first: tuple[frozenset[int], tuple[int, ...]] = (frozenset(), (-1,) * len(units))
    best = {first: 0}
    queue = [(0, 0, first)]
    tick = 0
    while True:
        peak, _, state = heappop(queue)
        left, slots = state
        if -1 not in slots:
            return peak
        following = [(left | {unit}, slots) for unit in units if unit not in left and handover.weights[unit]]
        for unit in units:
            if slots[unit] == -1:
                following += [
                    (left | {unit}, (*slots[:unit], slot, *slots[unit + 1 :]))
                    for slot in units
                    if slot not in slots
                    and handover.kinds[slot] == handover.kinds[unit]
                    and set(handover.blockers[slot]) <= left
                ]
        for one in following:
            down = sum(handover.weights[unit] for unit in units if unit in one[0] and one[1][unit] == -1)
            cost = max(peak, down)
            if cost < best.get(one, cost + 1):
                best[one] = cost
                tick += 1
                heappush(queue, (cost, tick, one))


@settings(max_examples=250, deadline=None)
@given(handovers())
def test_small_ones_have_the_least_peak_and_it_is_proven(handover: Handover) -> None:
    order = in_order(handover)
    assert check(handover, order) == order.peak
    assert order.peak == order.lower_bound == least_peak(handover)


@settings(max_examples=30, deadline=None)
@given(handovers(most_units=60))
def test_large_ones_can_be_carried_out_and_are_honest(handover: Handover) -> None:
    order = in_order(handover)
    assert check(handover, order) == order.peak
    assert order.lower_bound <= order.peak


@settings(max_examples=200, deadline=None)
@given(handovers())
def test_an_exhausted_search_proves_nothing_that_is_not_so(handover: Handover) -> None:
    order = in_order(handover, Budget(moves=3))
    assert check(handover, order) == order.peak
    assert order.lower_bound <= least_peak(handover) <= order.peak


def test_planned_slots_are_kept_where_nobody_needs_to_be_down() -> None:
    chain = Handover(weights=(1, 1, 1), kinds=(0, 0, 0), blockers=((1,), (2,), ()))
    assert in_order(chain).events == ((2, 2), (1, 1), (0, 0))


def test_a_long_circle_takes_down_one() -> None:
    count = 500
    circle = Handover(
        weights=(1,) * count, kinds=tuple(range(count)), blockers=tuple(((i + 1) % count,) for i in range(count))
    )
    order = in_order(circle)
    assert check(circle, order) == order.peak == order.lower_bound == 1
    assert sum(slot is None for _, slot in order.events) == 1
