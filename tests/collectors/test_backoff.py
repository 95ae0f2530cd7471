"""When a failing target is tried again."""

import random
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from collectors.backoff import LONGEST_S, Backoff

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


class Highest(random.Random):
    """Draws the longest pause that is allowed."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_what_works_is_due_at_every_interval() -> None:
    backoff = Backoff(interval_s=30)
    backoff.succeeded("a")
    assert backoff.due(["a", "b"], START) == backoff.due(["a", "b"], START) == ["a", "b"]


def test_the_first_failure_is_tried_again_at_the_next_interval() -> None:
    backoff = Backoff(interval_s=30, rng=Highest())
    backoff.failed("a", START)
    assert backoff.due(["a"], START + seconds(30)) == ["a"]


def test_the_longest_pause_doubles_with_every_failure_up_to_its_bound() -> None:
    backoff = Backoff(interval_s=30, rng=Highest())
    pauses = []
    for _ in range(7):
        backoff.failed("a", START)
        pauses.append(next(s for s in range(1000) if backoff.due(["a"], START + seconds(s))))
    assert pauses == [0, 60, 120, 240, 300, 300, 300]


def test_pauses_are_drawn_at_random_over_the_whole_range() -> None:
    backoff = Backoff(interval_s=30, rng=random.Random(1))
    names = [f"t{number}" for number in range(1000)]
    for _ in range(5):
        for name in names:
            backoff.failed(name, START)
    due_after = [len(backoff.due(names, START + seconds(s))) for s in (75, 150, 225, 300)]
    # a quarter of them per quarter of the bound; sqrt(1000 x 1/4 x 3/4) = 14 is the spread of each count
    for found, expected in zip(due_after, (250, 500, 750, 1000), strict=True):
        assert abs(found - expected) <= 60


def test_success_ends_it_at_once() -> None:
    backoff = Backoff(interval_s=30, rng=Highest())
    for _ in range(5):
        backoff.failed("a", START)
    backoff.succeeded("a")
    assert backoff.due(["a"], START) == ["a"]
    assert backoff.failures("a") == 0


def test_failing_targets_come_last_the_longest_untried_of_them_first() -> None:
    backoff = Backoff(interval_s=30)
    backoff.failed("a", START + seconds(2))
    backoff.failed("b", START + seconds(1))
    assert backoff.due(["a", "b", "c"], START + seconds(30)) == ["c", "b", "a"]


def test_a_clock_that_is_set_back_does_not_keep_a_target_waiting() -> None:
    backoff = Backoff(interval_s=30, rng=Highest())
    for _ in range(5):
        backoff.failed("a", START)
    assert backoff.due(["a"], START - timedelta(hours=1)) == ["a"]


def test_a_target_that_asks_to_be_left_alone_is_left_alone_for_at_least_that_long() -> None:
    backoff = Backoff(interval_s=30, rng=Highest())
    backoff.failed("a", START, retry_after=seconds(3600))
    assert backoff.due(["a"], START + seconds(3599)) == []
    assert backoff.due(["a"], START + seconds(3600)) == ["a"]


def test_a_target_that_asks_for_less_than_its_pause_waits_its_pause() -> None:
    backoff = Backoff(interval_s=30, rng=Highest())
    backoff.failed("a", START)
    backoff.failed("a", START, retry_after=seconds(5))
    assert backoff.due(["a"], START + seconds(59)) == []
    assert backoff.due(["a"], START + seconds(60)) == ["a"]


def test_what_a_target_asked_for_ends_with_the_next_failure() -> None:
    backoff = Backoff(interval_s=30, rng=Highest())
    backoff.failed("a", START, retry_after=seconds(3600))
    backoff.failed("a", START + seconds(3600))
    assert backoff.due(["a"], START + seconds(3660)) == ["a"]


def test_an_interval_longer_than_the_bound_is_kept() -> None:
    backoff = Backoff(interval_s=3600, rng=Highest())
    for _ in range(5):
        backoff.failed("a", START)
    assert backoff.due(["a"], START + seconds(3600)) == ["a"]


def test_a_target_that_is_gone_is_forgotten() -> None:
    backoff = Backoff(interval_s=30)
    backoff.failed("a", START)
    backoff.due(["b"], START)
    assert backoff.failures("a") == 0


@given(
    failures=st.integers(1, 5000),
    interval_s=st.floats(1, 86_400),
    seed=st.integers(0, 2**32),
)
def test_no_target_is_ever_given_up(failures: int, interval_s: float, seed: int) -> None:
    backoff = Backoff(interval_s=interval_s, rng=random.Random(seed))
    for _ in range(failures):
        backoff.failed("a", START)
    assert backoff.due(["a"], START + seconds(max(LONGEST_S, interval_s))) == ["a"]
