"""Readings from before the first sight are followed too, and whatever the order, nothing is counted twice or lost."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from planner.readings import Batch
from store.latency_queries import counted_histograms
from store.roll_up import KEEP_RAW_MS, roll_up
from store.samples import to_ms
from store.serving_queries import count_resets, counted
from tests.store.batches import after, rows, source_of_new_cluster, write
from tests.store.serving_batches import counter, histogram

DAY = 86_400.0
OLD = -30 * DAY


def tell(
    engine: Engine,
    source_id: int,
    *readings: tuple[float, float],
    started: float | None = None,
    now: float | None = None,
) -> None:
    """What a counter and a histogram held at these seconds, in one batch; `now` is our clock."""
    told = Batch(
        counters=tuple(counter(at, value, started=started) for at, value in readings),
        histograms=tuple(histogram(at, (value, value, value), value / 2, started=started) for at, value in readings),
    )
    write(engine, source_id, told, at=after(max(at for at, _ in readings) if now is None else now))


def added(engine: Engine, start: float, end: float, cluster: str | None = None) -> tuple[float, float, float]:
    """What was added from `start` to `end` by the counter, the histogram and its sum."""
    counters = counted(engine, after(start), after(end), cluster=cluster)
    histograms = counted_histograms(engine, ["ttft_s"], after(start), after(end), cluster=cluster)
    return (
        sum(one.increment for one in counters),
        sum(one.histogram.count for one in histograms),
        sum(one.histogram.total for one in histograms),
    )


def test_a_day_that_a_second_road_reads_later_is_counted(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, (0, 8_640.0))
    for hour in range(24):  # as a window of an hour each, oldest first
        moments = [-DAY + 3600 * hour + 60 * minute for minute in range(60)]
        tell(engine, source_id, *((at, (at + DAY) / 10) for at in moments), now=30 * hour)
        tell(engine, source_id, (30 * (hour + 1), 8_640 + 3.0 * (hour + 1)))  # the other road goes on meanwhile
    assert added(engine, -DAY, 0) == (8_640.0, 8_640.0, 4_320.0)
    assert added(engine, -DAY + 1800, -DAY + 3600) == (180.0, 180.0, 90.0)
    assert added(engine, 0, 720) == (72.0, 72.0, 36.0)
    [whole] = counted(engine, after(-DAY), after(720))
    assert whole.covered_s == DAY + 720


def test_a_restart_before_the_first_sight_is_found(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, (0, 50.0))
    tell(engine, source_id, (-7200, 900.0), (-5400, 1000.0), now=30)
    tell(engine, source_id, (-3600, 10.0), (-1800, 30.0), now=60)
    assert added(engine, -DAY, 0)[0] == 100 + 10 + 20 + 20
    assert [(one.observed_at, one.before) for one in count_resets(engine, after(-DAY), after(60)) if not one.label][
        :1
    ] == [(after(-3600), 1000.0)]


def test_a_young_series_keeps_its_beginning(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, (0, 600.0), started=-600)
    assert added(engine, -600, -300)[0] == 300.0
    tell(engine, source_id, (-300, 100.0), (-60, 580.0), started=-600)
    assert added(engine, -600, -300)[0] == 100.0
    assert added(engine, -DAY, 60) == (600.0, 600.0, 300.0)


def test_a_quiet_beginning_is_not_covered_twice(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, (0, 0.0), started=-600)
    tell(engine, source_id, (-300, 0.0), (-60, 0.0), started=-600)
    tell(engine, source_id, (60, 0.0), (120, 5.0), started=-600)
    [found] = counted(engine, after(-DAY), after(DAY))
    assert (found.increment, found.covered_s) == (5.0, 720.0)


def test_what_was_merged_meanwhile_is_not_counted_again(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, (0, 600.0), started=-600)
    tell(engine, source_id, *((30.0 * at, 600.0 + at) for at in range(1, 60)), started=-600)
    roll_up(engine, to_ms(after(1200)) + KEEP_RAW_MS)
    tell(engine, source_id, (-300, 100.0), started=-600)
    assert added(engine, -DAY, DAY)[0] == 659.0


def test_a_clock_of_ours_that_was_a_day_ahead_for_one_round_costs_nothing(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, (-30, 0.0))
    tell(engine, source_id, (DAY, 100.0))
    for at in range(40):
        tell(engine, source_id, (30.0 * at, 100.0 + 300 * at))
    [found] = counted(engine, after(0), after(1170))
    assert (found.increment, found.covered_s) == (39 * 300.0, 1170.0)
    assert added(engine, -DAY, 2 * DAY) == (100 + 39 * 300.0, 100 + 39 * 300.0, 50 + 39 * 150.0)


def test_the_same_moment_told_with_and_without_a_start_is_one_reading(engine: Engine, source_id: int) -> None:
    told = (counter(0, 5.0), counter(0, 5.0, started=-100))
    write(engine, source_id, Batch(counters=told))
    assert len(rows(engine, "counter_state")) == 1


@given(
    steps=st.lists(st.tuples(st.integers(1, 4000), st.integers(0, 50)), min_size=1, max_size=12),
    is_young=st.booleans(),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=40, deadline=None)
def test_whatever_the_order_one_life_adds_up_to_the_same(
    shared_engine: Engine, steps: list[tuple[int, int]], is_young: bool, seed: int
) -> None:
    source_id, cluster = source_of_new_cluster(shared_engine)
    readings, at, value = [(0.0, 7.0)], 0, 7
    for seconds, tokens in steps:
        at, value = at + seconds, value + tokens
        readings.append((float(at), float(value)))
    dice = random.Random(seed)
    dice.shuffle(readings)
    started = -60.0 if is_young else OLD
    while readings:
        size = dice.randint(1, 4)
        told = tuple(counter(when, count, started=started) for when, count in readings[:size])
        write(shared_engine, source_id, Batch(counters=told), at=after(at))
        readings = readings[size:]
    truth = value if is_young else value - 7
    [found] = counted(shared_engine, after(-DAY), after(DAY), cluster=cluster)
    assert found.increment == pytest.approx(truth)
    assert found.covered_s == at + (60 if is_young else 0)


@given(
    lives=st.lists(
        st.lists(st.tuples(st.integers(1, 900), st.integers(0, 50)), min_size=1, max_size=6), min_size=1, max_size=4
    ),
    tells_start=st.booleans(),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=40, deadline=None)
def test_a_backfill_beside_a_live_road_adds_up_as_if_all_came_in_order(
    shared_engine: Engine, lives: list[list[tuple[int, int]]], tells_start: bool, seed: int
) -> None:
    readings, at = [], 0.0
    for steps in lives:
        started, value = at + 10, 0
        at = started
        for seconds, tokens in steps:
            at, value = at + seconds + 6, value + tokens
            readings.append((at, float(value), started))
    dice = random.Random(seed)
    split = dice.randint(0, len(readings) - 1)
    backfill, live = readings[:split], readings[split:]
    ordered: list[list[tuple[float, float, float]]] = [[one] for one in readings]
    mixed = [[live.pop(0)]]  # the live road comes first
    while backfill or live:
        source = backfill if backfill and (not live or dice.random() < 0.5) else live
        size = dice.randint(1, 3) if source is backfill else 1
        mixed.append(source[:size])
        del source[:size]
    answers = []
    for batches in (ordered, mixed):
        source_id, cluster = source_of_new_cluster(shared_engine)
        for batch in batches:
            told = tuple(counter(when, count, started=start if tells_start else None) for when, count, start in batch)
            write(shared_engine, source_id, Batch(counters=told), at=after(at))
        windows = ((-10.0, at), (0.0, at / 2), (at / 2, at))
        answers.append(
            [
                [(one.increment, one.covered_s) for one in counted(shared_engine, after(a), after(b), cluster=cluster)]
                for a, b in windows
                if b > a
            ]
        )
    for one, other in zip(*answers, strict=True):
        assert [number for pair in other for number in pair] == pytest.approx([n for pair in one for n in pair])
