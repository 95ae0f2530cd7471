"""The day's calls are never exceeded in any 24 hours, and spread over them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.langfuse.call_budget import BudgetSpent, CallBudget

NOW = datetime(2026, 11, 16, 10, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def _taken(budget: CallBudget, moments: list[datetime]) -> list[datetime]:
    """The moments at which a call was granted."""
    granted = []
    for at in moments:
        try:
            budget.take(at)
        except BudgetSpent:
            continue
        granted.append(at)
    return granted


def test_a_quarter_of_the_day_can_be_spent_at_once_and_not_more() -> None:
    assert len(_taken(CallBudget(100), [NOW] * 60)) == 25


@given(
    st.integers(min_value=4, max_value=2_000),
    st.lists(st.integers(min_value=0, max_value=7_200), min_size=1, max_size=300),
)
def test_no_24_hours_see_more_than_the_days_calls(per_day: int, pauses_s: list[int]) -> None:
    moments, at = [], NOW
    for pause in pauses_s:
        at += timedelta(seconds=pause)
        moments += [at] * 3
    granted = _taken(CallBudget(per_day), moments)
    for index, first in enumerate(granted):
        assert sum(first <= other < first + DAY for other in granted[index:]) <= per_day


def test_over_days_nearly_all_of_it_can_be_used() -> None:
    moments = [NOW + timedelta(minutes=5 * step) for step in range(288 * 4)]
    granted = _taken(CallBudget(96), moments)
    assert 3 * 72 <= len(granted) <= 24 + 4 * 72 + 1  # a burst, and three quarters of the day's calls a day


def test_it_says_when_there_is_a_call_again_and_that_is_so() -> None:
    budget = CallBudget(100)
    _taken(budget, [NOW] * 25)
    with pytest.raises(BudgetSpent) as spent:
        budget.take(NOW)
    until = spent.value.until
    assert until > NOW
    budget.take(until + timedelta(milliseconds=1))


def test_a_round_is_afforded_whole_or_waits_for_a_full_bucket() -> None:
    budget = CallBudget(40)  # holds 10
    assert budget.affords(10, NOW)
    assert budget.affords(99, NOW)  # more than it ever holds: a full bucket has to do
    budget.take(NOW)
    assert not budget.affords(10, NOW)
    assert budget.affords(9, NOW)
    assert budget.ready_at(10, NOW) == NOW + timedelta(days=1) / 30


def test_without_a_bound_everything_is_afforded() -> None:
    budget = CallBudget(None)
    assert len(_taken(budget, [NOW] * 1_000)) == 1_000
    assert budget.affords(10**6, NOW)


@pytest.mark.parametrize("per_day", [None, 100])
def test_silence_holds_whatever_is_left(per_day: int | None) -> None:
    budget = CallBudget(per_day)
    budget.be_silent(NOW + timedelta(minutes=5))
    assert not budget.affords(1, NOW + timedelta(minutes=4))
    assert budget.affords(1, NOW + timedelta(minutes=5))


def test_a_clock_that_is_set_back_gives_nothing_away() -> None:
    budget = CallBudget(100)
    _taken(budget, [NOW] * 25)
    assert _taken(budget, [NOW - timedelta(hours=5), NOW - timedelta(hours=4, minutes=59)]) == []
