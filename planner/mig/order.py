"""In which order GPUs and workloads are taken, so that the order of the input changes nothing."""

import re
from functools import lru_cache

_DIGITS = re.compile(r"(\d+)")


@lru_cache(maxsize=200_000)
def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """Sorts `g2` before `g10`; names that differ only in leading zeros are told apart by their spelling."""
    parts = _DIGITS.split(name)
    return (*((int(part), part) if part.isdecimal() else (-1, part) for part in parts), (-2, name))
