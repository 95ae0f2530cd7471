"""Lines of a foreign log and the numbers in them: bounded, without colours, never more than a start may hold.

Every pattern that reads such lines uses bounded repeats, and a number is only looked for where one begins, so that no
line can keep them busy.
"""

import math
import re
from collections.abc import Iterator
from typing import Final

from planner.units import GIB, MIB

MAX_CHARS: Final = 8 * MIB
MAX_LINES: Final = 400_000
MAX_LINE: Final = 16_000  # vLLM prints its whole configuration on one line
_LARGEST_BYTES: Final = 1 << 50
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]{0,20}[A-Za-z]|#033\[[0-9;]{0,20}m")
_POWERS: Final = {"": 1, "K": 1024, "M": MIB, "G": GIB, "T": 1024 * GIB}
_UNITS: Final = {"BYTES": 1} | {letter + end: size for letter, size in _POWERS.items() for end in ("B", "IB")}

NUMBER: Final = r"((?<![\d.])-?\d{1,12}(?:\.\d{1,12})?)"
SIZE: Final = NUMBER + r" {0,2}(bytes|[KMGT]i?B|B)\b"


def lines_of(text: str, start: int = 0, end: int | None = None) -> Iterator[str]:
    """The lines from `start` on, cut to a length and to a number that a start-up log never reaches."""
    position = start
    limit = min(len(text) if end is None else end, start + MAX_CHARS)
    for _ in range(MAX_LINES):
        if position >= limit:
            return
        stop = text.find("\n", position, limit)
        stop = limit if stop < 0 else stop
        line = text[position : min(stop, position + MAX_LINE)]
        position = stop + 1
        yield _COLOUR.sub("", line).rstrip("\r")


def bytes_of(number: str, unit: str) -> int | None:
    """Bytes of a printed size. vLLM's old "GB" and Ollama's and llama.cpp's units are all binary."""
    factor = _UNITS.get(unit.strip().upper())
    try:
        value = float(number.replace(",", ""))
    except ValueError:
        return None
    if factor is None or not math.isfinite(value) or abs(value) * factor > _LARGEST_BYTES:
        return None
    return round(value * factor)


def count_of(text: str) -> int | None:
    """A printed count ("1,048,576"), None when it is none or absurd."""
    digits = text.replace(",", "").replace("_", "").strip()
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= 15 else None


def ratio_of(text: str) -> float | None:
    """A printed decimal number."""
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
