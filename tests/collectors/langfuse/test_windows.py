"""Which spans are read: nothing between the watermark and now is left out, and late data is looked for again."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.langfuse.windows import Window, ceil_day, floor_day, floor_hour, plan

NOW = datetime(2026, 11, 16, 10, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

MOMENTS = st.integers(min_value=1_735_700_000, max_value=1_798_700_000).map(lambda s: datetime.fromtimestamp(s, UTC))


def _plan(watermark: datetime | None, now: datetime = NOW, **keys: object) -> list[Window]:
    settings = {
        "overlap": 2 * HOUR,
        "reread_days": 3,
        "backfill_days": 3,
        "longest": DAY,
        "whole_days": False,
        **keys,
    }
    return plan(now, watermark, **settings)  # type: ignore[arg-type]


def test_at_first_it_reads_from_a_midnight_some_days_back_in_whole_days() -> None:
    days = [datetime(2026, 11, day, tzinfo=UTC) for day in (13, 14, 15, 16)]
    assert _plan(None) == [Window(day, day + DAY) for day in days[:3]] + [
        Window(days[3], datetime(2026, 11, 16, 11, tzinfo=UTC))
    ]


def test_then_the_overlap_up_to_the_end_of_this_hour() -> None:
    assert _plan(NOW - timedelta(minutes=15)) == [
        Window(datetime(2026, 11, 16, 8, tzinfo=UTC), datetime(2026, 11, 16, 11, tzinfo=UTC))
    ]


def test_on_the_full_hour_the_hour_that_begins_is_read_too() -> None:
    now = datetime(2026, 11, 16, 10, tzinfo=UTC)
    assert _plan(now - timedelta(minutes=15), now)[-1].end == datetime(2026, 11, 16, 11, tzinfo=UTC)


def test_once_a_day_the_days_before_are_read_again_after_what_is_new_newest_first() -> None:
    windows = _plan(NOW - 12 * HOUR)  # the watermark lies in yesterday: this is the first round of the day
    assert windows == [
        Window(datetime(2026, 11, 15, 20, tzinfo=UTC), datetime(2026, 11, 16, 11, tzinfo=UTC)),
        Window(datetime(2026, 11, 15, tzinfo=UTC), datetime(2026, 11, 15, 20, tzinfo=UTC)),
        Window(datetime(2026, 11, 14, tzinfo=UTC), datetime(2026, 11, 15, tzinfo=UTC)),
        Window(datetime(2026, 11, 13, tzinfo=UTC), datetime(2026, 11, 14, tzinfo=UTC)),
    ]
    assert len(_plan(NOW - HOUR)) == 1  # and no more on that day


def test_days_can_be_left_alone() -> None:
    assert len(_plan(NOW - timedelta(hours=11), reread_days=0)) == 1


def test_an_endpoint_of_days_is_asked_for_days() -> None:
    today, *again = _plan(datetime(2026, 11, 16, tzinfo=UTC), whole_days=True)
    assert today == Window(datetime(2026, 11, 16, tzinfo=UTC), datetime(2026, 11, 16, 11, tzinfo=UTC))
    assert again[-1].start == datetime(2026, 11, 13, tzinfo=UTC)
    assert _plan(NOW - HOUR, whole_days=True)[0].start == datetime(2026, 11, 16, tzinfo=UTC)


def test_a_watermark_at_midnight_has_no_overlap() -> None:
    midnight = datetime(2026, 11, 16, tzinfo=UTC)
    assert _plan(midnight)[0].start == midnight


def test_a_watermark_in_the_future_is_not_waited_for() -> None:
    assert _plan(NOW + DAY) == [Window(datetime(2026, 11, 16, 8, tzinfo=UTC), datetime(2026, 11, 16, 11, tzinfo=UTC))]


def test_halves_are_full_hours_and_one_hour_has_none() -> None:
    window = Window(datetime(2026, 11, 16, 8, tzinfo=UTC), datetime(2026, 11, 16, 11, tzinfo=UTC))
    assert window.halves() == (
        Window(window.start, window.start + HOUR),
        Window(window.start + HOUR, window.end),
    )
    assert Window(window.start, window.start + HOUR).halves() is None


@given(MOMENTS, st.integers(min_value=0, max_value=200), st.integers(min_value=1, max_value=48), st.booleans())
def test_nothing_since_the_watermark_is_left_out_and_nothing_is_read_twice(
    now: datetime, behind_h: int, longest_h: int, whole_days: bool
) -> None:
    watermark = now - behind_h * HOUR
    windows = _plan(watermark, now, longest=longest_h * HOUR, whole_days=whole_days)
    ordered = sorted(windows)
    for window, following in pairwise(ordered):
        assert window.end == following.start  # without a hole and without an overlap
    assert ordered[0].start <= (watermark if watermark == floor_day(watermark) else watermark - 2 * HOUR)
    assert ordered[-1].end >= now
    for window in windows:
        assert window.start < window.end
        assert window.start.minute == window.end.minute == 0
    if floor_day(watermark) < floor_day(now):
        assert ordered[0].start <= now - 3 * DAY


@given(MOMENTS, st.integers(min_value=0, max_value=200), st.integers(min_value=1, max_value=48), st.booleans())
def test_every_first_window_gets_ahead_of_the_watermark(
    now: datetime, behind_h: int, longest_h: int, whole_days: bool
) -> None:
    watermark = now - behind_h * HOUR
    first, *_ = _plan(watermark, now, longest=longest_h * HOUR, whole_days=whole_days)
    assert min(first.end, now) > watermark or behind_h == 0


@given(MOMENTS)
def test_floors_and_ceilings(now: datetime) -> None:
    assert floor_hour(now) <= now < floor_hour(now) + HOUR
    assert floor_day(now) <= now <= ceil_day(now)
    assert ceil_day(floor_day(now)) == floor_day(now)


@pytest.mark.parametrize("offset_h", [-8, 0, 5])
def test_hours_are_those_of_utc_wherever_now_was_read(offset_h: int) -> None:
    now = NOW.astimezone(timezone(timedelta(hours=offset_h)))
    assert _plan(None, now.astimezone(UTC)) == _plan(None, NOW)
