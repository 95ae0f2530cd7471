"""How long windows are and what they are expected to take, after what was seen of them."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from collectors.langfuse.pace import Pace
from collectors.langfuse.tally import DAY, HOUR

AT = datetime(2026, 11, 16, 10, 30, tzinfo=UTC)
STEPS = st.lists(st.sampled_from(["day", "halved", "out", "cut", "read"]), max_size=20)


@given(STEPS)
def test_windows_are_always_full_hours_of_at_most_a_day(steps: list[str]) -> None:
    pace, at = Pace(), AT
    for step in steps:
        at += DAY if step == "day" else HOUR
        pace.begin(at)
        if step == "halved":
            pace.was_too_much(pace.longest / 2, at)
        elif step in ("out", "cut"):
            pace.ran_out(made=3, was_full=step == "cut", at=at)
        else:
            pace.was_read(expected=1, made=2)
        assert HOUR <= pace.longest <= DAY
        assert pace.longest % HOUR == timedelta(0)


def test_what_was_too_much_is_tried_again_a_day_later() -> None:
    pace = Pace()
    pace.was_too_much(3 * HOUR, AT)
    pace.begin(AT + 23 * HOUR)
    assert pace.longest == 3 * HOUR
    pace.begin(AT + DAY)
    assert pace.longest == 6 * HOUR


def test_windows_that_took_more_calls_than_expected_will_again() -> None:
    pace = Pace()
    assert pace.calls(3) == 3
    pace.was_read(expected=3, made=8)
    assert pace.calls(3) == 8
    pace.was_read(expected=3, made=2)  # ended early, as where a measure is not known
    assert pace.calls(3) == 3


def test_a_window_that_was_lost_is_tried_with_all_the_calls_there_can_be() -> None:
    pace = Pace()
    pace.ran_out(made=0, was_full=False, at=AT)
    assert (pace.calls_before_a_round(3), pace.longest) == (3, DAY)
    pace.ran_out(made=2, was_full=False, at=AT)
    assert pace.calls_before_a_round(3) > 1_000_000
    assert pace.longest == DAY
    pace.ran_out(made=9, was_full=True, at=AT)
    assert pace.longest == 12 * HOUR
    pace.was_read(expected=3, made=3)
    assert pace.calls_before_a_round(3) == 3
