"""What `gpufleet memory` says of its own options."""

import re

import pytest
from typer.testing import CliRunner

from gpufleet.cli import app


def shown(*words: str) -> str:
    result = CliRunner().invoke(app, ["memory", *words, "--help"], env={"COLUMNS": "80", "TERM": "dumb"})
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("words", [("Llama-3.1-8B",), ("options",), ("learn",)])
def test_every_option_has_its_whole_name_and_a_text_on_a_narrow_terminal(words: tuple[str, ...]) -> None:
    text = shown(*words)
    assert "…" not in text
    for line in text.splitlines():
        if option := re.match(r"│ [* ] ?(--[a-z-]+) +(.*?) *│$", line):
            assert re.search(r"[a-z]{2}", option.group(2).partition("  ")[2] or option.group(2)), line


def test_defaults_of_the_engine_are_told() -> None:
    text = re.sub(r"[│\s]+", " ", shown("Llama-3.1-8B"))
    for words in ("by default 0.92, and 0.9 before 0.22", "default is 256, or 1024 from 70 GiB", "by default 16"):
        assert words in text


def test_the_group_says_where_its_options_are_listed() -> None:
    text = re.sub(r"[│\s]+", " ", shown())
    assert "gpufleet memory MODEL --help" in text
    assert "--device-memory-bytes" in text
