"""How long to be silent after a 429, in every form that Langfuse and proxies write."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.langfuse.rate_limit import LONGEST, UNTOLD, silent_until

NOW = datetime(2026, 11, 16, 10, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "120"}, 120),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "Mon, 16 Nov 2026 11:00:00 GMT"}, 1800),
        ({"retry-after": "Mon, 16 Nov 2026 09:00:00 GMT"}, 0),  # already over
        # as Langfuse Cloud writes it: JavaScript's Date.toString()
        ({"x-ratelimit-reset": "Mon Nov 16 2026 12:30:00 GMT+0000 (Coordinated Universal Time)"}, 7200),
        ({"x-ratelimit-reset": "Mon Nov 16 2026 13:30:00 GMT+0200 (CEST)"}, 3600),
        ({"x-ratelimit-reset": str(int(NOW.timestamp()) + 90)}, 90),
        ({"retry-after": "60", "x-ratelimit-reset": "Mon Nov 16 2026 12:30:00 GMT+0000"}, 60),
        ({"retry-after": "soon", "x-ratelimit-reset": str(int(NOW.timestamp()) + 90)}, 90),
        ({}, UNTOLD.total_seconds()),
        ({"retry-after": "later"}, UNTOLD.total_seconds()),
        ({"retry-after": "-5"}, UNTOLD.total_seconds()),
        ({"retry-after": "999999999"}, LONGEST.total_seconds()),
        ({"retry-after": "99999999999999"}, UNTOLD.total_seconds()),
        # in UTC these lie after the last moment that can be written
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 -1200"}, UNTOLD.total_seconds()),
        ({"x-ratelimit-reset": "Fri Dec 31 9999 23:59:59 GMT-1200"}, UNTOLD.total_seconds()),
    ],
)
def test_when_to_ask_again(headers: dict[str, str], wait_s: float) -> None:
    assert silent_until(headers, NOW) == NOW + timedelta(seconds=wait_s)


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_header_brings_it_down_or_silences_for_long(retry_after: str, reset: str) -> None:
    until = silent_until({"retry-after": retry_after, "x-ratelimit-reset": reset}, NOW)
    assert NOW <= until <= NOW + LONGEST
