"""How a span of time is written on the command line: 30m, 6h, 7d."""

import re
from datetime import timedelta

from gpufleet.errors import ShellError

WINDOW_HELP = "Span of measurements to judge by, such as 30m, 6h or 7d."
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_LONGEST = timedelta(days=366)


def parse_window(text: str) -> timedelta:
    """The span; raises ShellError for anything but a positive whole number with m, h or d, up to a year."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text.strip())
    if match:
        window = timedelta(**{_UNITS[match[2]]: int(match[1])})
        if window <= _LONGEST:
            return window
    raise ShellError(f"{text!r} is no window; write a whole number with m, h or d, such as 6h, up to 366d.")
