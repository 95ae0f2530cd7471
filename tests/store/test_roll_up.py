"""Old increments take less room, and what they say about whole steps of ten minutes does not change."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from planner.readings import Batch
from store.latency_queries import counted_histograms
from store.retention import prune
from store.roll_up import KEEP_RAW_MS, STEP_MS, roll_up
from store.samples import to_ms
from store.serving_queries import count_resets, counted
from tests.store.batches import NOW, after, everything, rows, source_of_new_cluster, write
from tests.store.serving_batches import counter, histogram, who

STEP = STEP_MS / 1000
OLD_ENOUGH_MS = to_ms(after(10 * STEP)) + KEEP_RAW_MS


def tell(engine: Engine, source_id: int, at: float, value: float) -> None:
    told = Batch(counters=(counter(at, value),), histograms=(histogram(at, (value, 2 * value, 3 * value), value / 2),))
    write(engine, source_id, told, at=after(at))


def sums(engine: Engine, start: float, end: float, cluster: str | None = None) -> tuple[list[float], list[float]]:
    """What the counter and the histogram added, with the time they cover."""
    counters = counted(engine, after(start), after(end), cluster=cluster)
    histograms = counted_histograms(engine, ["ttft_s"], after(start), after(end), cluster=cluster)
    return (
        [number for one in counters for number in (one.increment, one.covered_s)],
        [n for one in histograms for n in (*one.histogram.counts, one.histogram.total, one.covered_s)],
    )


def test_twenty_scrapes_become_one_row_of_the_same_sum(engine: Engine, source_id: int) -> None:
    assert to_ms(NOW) % STEP_MS == 0
    for step in range(41):
        tell(engine, source_id, 30.0 * step, 2.0 * step)
    before = sums(engine, 0, STEP), sums(engine, STEP, 2 * STEP)
    assert roll_up(engine, OLD_ENOUGH_MS) == 2 * (40 - 2)
    found = [(row["since_ms"], row["observed_at_ms"], row["increment"]) for row in rows(engine, "counter_increment")]
    first, second, third = (to_ms(after(at)) for at in (0, STEP, 2 * STEP))
    assert found == [(first, second, 40.0), (second, third, 40.0)]
    assert [row["buckets"] for row in rows(engine, "histogram_increment")] == ["0,40,1,40,2,40"] * 2
    assert (sums(engine, 0, STEP), sums(engine, STEP, 2 * STEP)) == before


def test_what_is_young_stays_as_it_was_read(engine: Engine, source_id: int) -> None:
    for step in range(41):
        tell(engine, source_id, 30.0 * step, 2.0 * step)
    before = everything(engine)
    assert roll_up(engine, to_ms(after(30 * 40))) == 0
    after_it = everything(engine)
    assert {**after_it, "rolled_up": []} == {**before, "rolled_up": []}
    # Between two days and two days and a step ago lies one whole step.
    assert roll_up(engine, to_ms(after(STEP)) + KEEP_RAW_MS) == 2 * (20 - 1)


def test_rolling_up_again_changes_nothing(engine: Engine, source_id: int) -> None:
    for step in range(41):
        tell(engine, source_id, 30.0 * step + 7, 2.0 * step)
    roll_up(engine, OLD_ENOUGH_MS)
    before = everything(engine)
    assert roll_up(engine, OLD_ENOUGH_MS) == 0
    assert everything(engine) == before


def test_an_engine_that_goes_on_is_followed_exactly(engine: Engine, source_id: int) -> None:
    for step in range(41):
        tell(engine, source_id, 30.0 * step, 2.0 * step)
    roll_up(engine, OLD_ENOUGH_MS)
    tell(engine, source_id, 30.0 * 41, 90.0)
    assert sums(engine, 0, 3 * STEP)[0] == [90.0, 30.0 * 41]
    assert roll_up(engine, OLD_ENOUGH_MS + 10 * STEP_MS) == 0


def test_a_long_quiet_stretch_is_not_smeared_over_what_follows(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, 0, 0.0)
    for step in range(1, 11):
        tell(engine, source_id, 8 * STEP + 30 * step, 60.0 * step if step > 1 else 0.0)
    before = sums(engine, 0, 8 * STEP), sums(engine, 8 * STEP, 9 * STEP)
    roll_up(engine, OLD_ENOUGH_MS)
    assert (sums(engine, 0, 8 * STEP), sums(engine, 8 * STEP, 9 * STEP)) == before
    assert before[0][0][0] == 0.0


def test_resets_are_still_told(engine: Engine, source_id: int) -> None:
    for step in range(41):
        tell(engine, source_id, 30.0 * step, 2.0 * (step % 20))
    resets = count_resets(engine, NOW, after(2 * STEP))
    roll_up(engine, OLD_ENOUGH_MS)
    assert count_resets(engine, NOW, after(2 * STEP)) == resets != ()


def test_the_daily_run_merges_what_is_two_days_old(engine: Engine, source_id: int) -> None:
    for step in range(41):
        tell(engine, source_id, 30.0 * step, 2.0 * step)
    assert prune(engine, after(-86_400)).merged == 0
    write(engine, source_id, Batch(), at=after(3 * 86_400))
    assert prune(engine, after(-86_400)).merged == 2 * (40 - 2)


@given(
    steps=st.lists(st.tuples(st.integers(1, 1500), st.integers(0, 40), st.booleans()), min_size=1, max_size=40),
    windows=st.lists(st.tuples(st.integers(-1, 12), st.integers(1, 12)), min_size=1, max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_windows_of_whole_steps_say_the_same_before_and_after(
    shared_engine: Engine, steps: list[tuple[int, int, bool]], windows: list[tuple[int, int]]
) -> None:
    source_id, cluster = source_of_new_cluster(shared_engine)
    at, value = 0.0, 0.0
    tell(shared_engine, source_id, at, value)
    for seconds, tokens, is_restarted in steps:
        at, value = at + seconds, (0 if is_restarted else value) + tokens
        tell(shared_engine, source_id, at, value)
    asked = [(first * STEP, (first + length) * STEP) for first, length in windows]
    before = [sums(shared_engine, start, end, cluster) for start, end in asked]
    fewer = roll_up(shared_engine, OLD_ENOUGH_MS + 50 * STEP_MS)
    assert fewer >= 0
    for (start, end), (counters, histograms) in zip(asked, before, strict=True):
        now = sums(shared_engine, start, end, cluster)
        assert now[0] == pytest.approx(counters)
        assert now[1] == pytest.approx(histograms)
    shared_engine_rows = rows(shared_engine, "rolled_up")
    assert {row["name"] for row in shared_engine_rows} <= {"counter_increment", "histogram_increment"}
    with shared_engine.begin() as connection:  # the next example has times of its own
        connection.exec_driver_sql("DELETE FROM rolled_up")


def test_what_is_written_behind_the_mark_is_merged_by_the_next_run(engine: Engine, source_id: int) -> None:
    for step in range(41):
        tell(engine, source_id, 30.0 * step, 2.0 * step)
    assert roll_up(engine, OLD_ENOUGH_MS) == 2 * (40 - 2)
    late = who("10.0.0.9:8000")
    for step in range(41):
        told = Batch(counters=(counter(30.0 * step, 2.0 * step, subject=late),))
        write(engine, source_id, told, at=after(30.0 * step))
    before = sums(engine, 0, STEP), sums(engine, STEP, 2 * STEP)
    assert roll_up(engine, OLD_ENOUGH_MS) == 40 - 2
    assert (sums(engine, 0, STEP), sums(engine, STEP, 2 * STEP)) == before
