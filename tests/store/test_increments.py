"""Increments add up to what was counted, whatever the order, the repeats and the restarts."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.increments import NEW_SERIES_MS, Reset, Series, Stretch

HOUR = NEW_SERIES_MS
AT = 100 * HOUR
OLD = -2 * HOUR  # a start of which the first reading says nothing


def told(*readings: tuple[int, float] | tuple[int, float, int]) -> Series:
    """A counter that was read at these times (milliseconds after AT): value, and since when it says to count."""
    series = Series()
    for at, value, *started in readings:
        series.see((value,), 0.0, AT + at, AT + started[0] if started else None)
    return series


def added(series: Series) -> list[tuple[int, int, float]]:
    return [(one.since_ms - AT, one.observed_at_ms - AT, one.counts[0]) for one in series.added]


def test_what_was_added_between_two_readings_is_an_increment() -> None:
    assert added(told((0, 100.0), (30, 110.0), (60, 125.0))) == [(0, 30, 10.0), (30, 60, 15.0)]


def test_the_first_sight_of_an_old_series_adds_nothing() -> None:
    assert added(told((0, 100.0))) == []
    assert added(told((0, 100.0, -HOUR))) == []  # began an hour ago: too long to be counted from its beginning


def test_a_series_that_began_a_short_while_ago_counts_from_there() -> None:
    assert added(told((0, 100.0, 1 - HOUR))) == [(1 - HOUR, 0, 100.0)]
    assert added(told((0, 100.0, -5_000), (30, 110.0, -5_000))) == [(-5_000, 0, 100.0), (0, 30, 10.0)]


def test_an_engine_whose_clock_is_ahead_of_ours_has_begun_just_now() -> None:
    assert added(told((0, 100.0, 4_000))) == [(-60_000, 0, 100.0)]  # a minute, not a moment: a rate is made of it


def test_a_smaller_value_is_a_new_count() -> None:
    series = told((0, 100.0), (30_000, 110.0), (60_000, 4.0), (90_000, 9.0))
    assert added(series) == [(0, 30_000, 10.0), (30_000, 60_000, 4.0), (60_000, 90_000, 5.0)]
    assert series.resets == [Reset(AT + 60_000, (110.0,))]


def test_a_later_start_is_a_new_count_although_the_value_is_larger() -> None:
    series = told((0, 100.0, OLD), (30_000, 300.0, 10_000))
    assert added(series) == [(10_000, 30_000, 300.0)]
    assert series.resets == [Reset(AT + 30_000, (100.0,))]


def test_the_same_start_told_in_whole_seconds_is_no_new_count() -> None:
    assert added(told((0, 100.0, OLD - 400), (30, 110.0, OLD), (60, 120.0, OLD - 400))) == [
        (0, 30, 10.0),
        (30, 60, 10.0),
    ]


def test_an_earlier_start_by_another_road_is_no_new_count() -> None:
    assert added(told((0, 100.0, OLD), (30, 110.0, OLD - 60_000), (60, 120.0, OLD))) == [(0, 60, 20.0)]


def test_a_start_that_is_told_after_the_reset_does_not_count_twice() -> None:
    series = told((0, 100.0, OLD), (30_000, 5.0), (60_000, 8.0, 20_000))
    assert added(series) == [(0, 30_000, 5.0), (30_000, 60_000, 3.0)]
    assert len(series.resets) == 1


def test_late_and_repeated_readings_are_left_out_without_loss() -> None:
    assert added(told((0, 100.0), (60, 130.0), (30, 110.0), (60, 130.0), (60, 131.0), (90, 140.0))) == [
        (0, 60, 30.0),
        (60, 90, 10.0),
    ]


def test_last_digits_that_a_sum_over_processes_loses_are_no_reset() -> None:
    series = told((0, 0.1 + 0.2 + 0.3), (30, 0.3 + 0.2 + 0.1), (60, 0.1 + 0.2 + 0.3), (90, 1.0))
    assert 0.1 + 0.2 + 0.3 > 0.3 + 0.2 + 0.1
    assert added(series) == [(0, 60, 0.0), (60, 90, pytest.approx(0.4))]
    assert series.resets == []


def test_a_quiet_stretch_is_one_row_and_open_until_it_ends() -> None:
    quiet = told((0, 100.0), (30, 100.0), (60, 100.0))
    assert (added(quiet), quiet.quiet_since_ms, quiet.observed_at_ms) == ([], AT, AT + 60)
    ended = told((0, 100.0), (30, 100.0), (60, 100.0), (90, 101.0), (120, 101.0))
    assert (added(ended), ended.quiet_since_ms) == ([(0, 60, 0.0), (60, 90, 1.0)], AT + 90)


def test_a_quiet_stretch_does_not_reach_into_the_time_when_the_engine_was_down() -> None:
    series = told((0, 100.0, OLD), (10_000, 100.0, OLD), (60_000, 0.0, 40_000), (90_000, 7.0, 40_000))
    assert added(series) == [(0, 10_000, 0.0), (40_000, 60_000, 0.0), (60_000, 90_000, 7.0)]


def test_buckets_are_followed_together() -> None:
    series = Series()
    series.see((2.0, 3.0, 3.0), 4.5, AT, None)
    series.see((2.0, 5.0, 6.0), 16.0, AT + 30_000, None)
    series.see((1.0, 1.0, 1.0), 0.5, AT + 60_000, None)
    assert series.added == [
        Stretch(AT, AT + 30_000, (0.0, 2.0, 3.0), 11.5),
        Stretch(AT + 30_000, AT + 60_000, (1.0, 1.0, 1.0), 0.5),
    ]
    assert series.resets == [Reset(AT + 60_000, (2.0, 5.0, 6.0))]


lives = st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=8), min_size=1, max_size=5)


def as_read(steps: list[list[int]]) -> list[tuple[int, float, int]]:
    """Readings of engines that live one after another, each counting from 0: moment, value, start of its life."""
    readings: list[tuple[int, float, int]] = []
    at = 0
    for life in steps:
        started, value = at + 2_000, 0
        at = started
        for step in life:
            at, value = at + 10_000, value + step
            readings.append((at, float(value), started))
    return readings


@given(steps=lives, tell_start=st.booleans(), repeats=st.integers(0, 20), seed=st.integers(0, 1000))
def test_increments_add_up_over_restarts_and_repeats(
    steps: list[list[int]], tell_start: bool, repeats: int, seed: int
) -> None:
    readings = as_read(steps)
    dice = random.Random(seed)
    sent = list(readings)
    for _ in range(repeats):  # any reading comes again at any later time
        at = dice.randrange(len(sent))
        sent.insert(dice.randint(at + 1, len(sent)), sent[at])
    series = told(*(one if tell_start else one[:2] for one in sent))
    if tell_start:
        # The first life is seen from its beginning, as it is young; every later one counts whole.
        expected = sum(sum(life) for life in steps)
    else:
        # Nobody says where a life ends: only a smaller value does.
        expected = sum(
            int(later[1] - earlier[1] if later[1] >= earlier[1] else later[1]) for earlier, later in pairwise(readings)
        )
    assert sum(value for _, _, value in added(series)) == expected


@given(steps=st.lists(st.integers(0, 50), min_size=1, max_size=20), seed=st.integers(0, 1000))
def test_in_whatever_order_one_life_is_told_nothing_is_lost_after_the_first(steps: list[int], seed: int) -> None:
    readings = [(at, value) for at, value, _ in as_read([steps])]
    random.Random(seed).shuffle(readings)
    series = told(*readings)
    newest = max(readings)
    seen = sum(value for _, _, value in added(series))
    assert seen == (newest[1] - readings[0][1] if newest[0] > readings[0][0] else 0)


@given(steps=lives, seed=st.integers(0, 1000))
def test_stretches_follow_each_other_and_never_overlap(steps: list[list[int]], seed: int) -> None:
    readings = as_read(steps)
    dice = random.Random(seed)
    sent = [readings[dice.randrange(len(readings))] if dice.random() < 0.3 else one for one in readings]
    series = told(*sent)
    stretches = added(series)
    assert all(since < observed for since, observed, _ in stretches)
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(stretches))
    assert all(value >= 0 for _, _, value in stretches)
    if series.quiet_since_ms is not None and stretches:
        assert series.quiet_since_ms - AT >= stretches[-1][1]


def test_an_older_look_by_another_road_is_no_new_count() -> None:
    # A slow answer asked for at 0 holds what was counted until 0.3 s; the other road's is of 0.1 s.
    for start in ((), (OLD,)):
        series = told((-30_000, 1000.0, *start), (0, 1030.0, *start), (100, 1010.0, *start), (30_000, 1060.0, *start))
        assert added(series) == [(-30_000, 0, 30.0), (0, 30_000, 30.0)]
        assert series.resets == []


def test_a_fall_of_the_same_process_is_an_older_look_whenever_it_comes() -> None:
    series = told((0, 1000.0, OLD), (30_000, 900.0, OLD), (60_000, 1100.0, OLD))
    assert (added(series), series.resets) == ([(0, 60_000, 100.0)], [])


def test_a_restart_within_seconds_that_tells_its_start_counts_at_once() -> None:
    series = told((0, 1000.0, OLD), (4_000, 7.0, 2_000))
    assert added(series) == [(2_000, 4_000, 7.0)]
    assert len(series.resets) == 1


def test_a_restart_within_seconds_without_a_start_counts_with_the_next_reading() -> None:
    series = told((0, 1000.0), (4_000, 7.0), (30_000, 20.0))
    assert added(series) == [(0, 30_000, 20.0)]
    assert len(series.resets) == 1


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("apart_ms", [2_000, 60_000, 40 * HOUR])
def test_processes_that_answer_in_turn_are_not_added_to_each_other(first: int, apart_ms: int) -> None:
    replicas = [(1_000_000, 50 * -HOUR), (400_000, 50 * -HOUR + apart_ms)]
    readings = []
    for turn in range(40):
        base, start = replicas[(turn + first) % 2]
        readings.append((30_000 * turn, base + 300.0 * turn, start))
    counted = sum(value for _, _, value in added(told(*readings)))
    assert 0 < counted <= 2 * 300 * 39  # each of them counts 300 in 30 s


def test_the_older_of_two_processes_is_followed_when_it_is_left_alone() -> None:
    newer = [(0, 50.0, -3 * HOUR), (30_000, 60.0, -3 * HOUR)]
    older = [(30_000 * at, 1000.0 + at, -9 * HOUR) for at in range(2, 40)]
    assert sum(value for _, _, value in added(told(*newer, *older))) == pytest.approx(10 + 39 - 21)
    # silent for 10 min at 630 s, which is number 21


def test_a_rolling_update_counts_the_new_process_from_its_start() -> None:
    series = told((0, 1000.0, -9 * HOUR), (60_000, 1100.0, -9 * HOUR), (90_000, 40.0, 45_000), (120_000, 50.0, 45_000))
    assert added(series) == [(0, 60_000, 100.0), (60_000, 90_000, 40.0), (90_000, 120_000, 10.0)]


def test_two_roads_that_date_a_start_differently_lose_nothing_over_an_outage() -> None:
    for first, second in ((OLD, OLD + 60_000), (OLD + 60_000, OLD)):
        assert added(told((0, 100.0, first), (8 * HOUR, 900.0, second))) == [(0, 8 * HOUR, 800.0)]


def test_a_restart_with_a_clock_ahead_of_ours_is_no_burst() -> None:
    series = told((0, 1000.0, OLD), (300_000, 2000.0, 300_040))
    assert added(series) == [(240_000, 300_000, 2000.0)]
