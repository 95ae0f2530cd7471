"""Where measurements are kept: one section per benchmark in RESULTS.md, replaced by each run."""

import os
import platform
import sqlite3
from collections.abc import Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "RESULTS.md"

_TITLE = """# What was measured

Each section is written by the program that it names. Numbers of one section come from one run on one machine, rounds
of both sides interleaved; compare them with each other, not with other machines.
"""


def machine(library: str = f"SQLite {sqlite3.sqlite_version}") -> str:
    """What the numbers depend on, without naming the machine; `library` is the one that does most of the work."""
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {library}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, numbers to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (header, *rows)
    ]
    rule = "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def keep(name: str, text: str, file: Path = RESULTS) -> None:
    """Put `text` in the place of the section `name`, or at the end."""
    opening, closing = f"<!-- {name} -->", f"<!-- end of {name} -->"
    content = file.read_text(encoding="utf-8") if file.is_file() else _TITLE
    section = f"{opening}\n{text.strip()}\n{closing}"
    if opening in content and closing in content:
        before, rest = content.split(opening, 1)
        content = before + section + rest.split(closing, 1)[1]
    else:
        content = f"{content.rstrip()}\n\n{section}\n"
    file.write_text(content, encoding="utf-8")
