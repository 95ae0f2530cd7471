"""Spans of time on the command line."""

from datetime import timedelta

import pytest

from gpufleet.errors import ShellError
from gpufleet.window import parse_window


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("30m", timedelta(minutes=30)),
        ("6h", timedelta(hours=6)),
        ("7d", timedelta(days=7)),
        (" 1h ", timedelta(hours=1)),
    ],
)
def test_a_window_is_a_whole_number_and_a_unit(text: str, window: timedelta) -> None:
    assert parse_window(text) == window


@pytest.mark.parametrize("text", ["", "0h", "-1h", "1.5h", "1w", "h", "367d", "999999d", "1h30m"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ShellError, match="such as 6h"):
        parse_window(text)
