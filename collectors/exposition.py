"""Prometheus text format to samples, in which one bad line costs that line and nothing else.

Labels are read once per distinct label block: an exporter repeats the same block on every family of a device, and from
scrape to scrape. What is not written in the plainest form is left to prometheus-client's parser, which takes 0.1 ms for
a block of dcgm-exporter's length. `# TYPE` is not read: that parser renames counters by it, and exporters change a
family's type between versions.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from collectors.plain_text import plain_text

MAX_LINE = 16_384
"""Longest line that is looked at, in characters; a dcgm-exporter line with every label has about 1,000."""
MAX_BAD_LINES = 20
"""How many bad lines are kept to be shown; all are counted."""
MAX_REMEMBERED = 1_024
"""Longest label block that is remembered between scrapes, in characters: bounds what a hostile exporter can occupy."""

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\}[ \t]*|[ \t]+)(\S.*)")
_PLAIN_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="([^"\\]*)"(?:,|$)')
_UNESCAPED_LABEL = re.compile(
    r'([a-zA-Z_][a-zA-Z0-9_]{0,127})="(.*?)"(?:,(?=[a-zA-Z_][a-zA-Z0-9_]{0,127}=")|,?$)',
)


class Sample(NamedTuple):  # made for every line: a dataclass takes three times as long
    """One value of one family. `value` is None where `text` is not a number; `at` is the line's own timestamp."""

    name: str
    value: float | None
    text: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledSamples:
    """All samples that carry one label set, in the order of the text; `block` is the set as it is written."""

    block: str
    labels: Mapping[str, str]
    samples: list[Sample]


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """A line that could not be read; `text` is clipped and printable."""

    number: int
    text: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposition:
    """One answer, read. `is_cut` when it ends in the middle of a line, which is then not read."""

    groups: tuple[LabelledSamples, ...]
    bad_lines: tuple[BadLine, ...]
    bad_line_count: int
    is_cut: bool


def parse_exposition(text: str) -> Exposition:
    """Every readable line of a text, grouped by label set."""
    lines = text.split("\n")
    # The format ends every line with a line feed. Without it the last number may have lost its last digits.
    last = lines.pop()
    groups: dict[str, LabelledSamples] = {}
    unreadable: dict[str, str] = {}
    bad_lines: list[BadLine] = []
    bad_line_count = 0
    for number, raw in enumerate(lines, start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        reason = _read_line(line, groups, unreadable)
        if reason is not None:
            bad_line_count += 1
            if len(bad_lines) < MAX_BAD_LINES:
                bad_lines.append(BadLine(number=number, text=plain_text(line, 120), reason=reason))
    return Exposition(
        groups=tuple(groups.values()),
        bad_lines=tuple(bad_lines),
        bad_line_count=bad_line_count,
        is_cut=bool(last.strip()),
    )


def split_line(line: str) -> tuple[str, str, str] | None:
    """Name, label block and what follows them; None when the line is not of the form `name{labels} value`."""
    match = _LINE.fullmatch(line)
    return None if match is None else (match[1], match[2] or "", match[3])


def _split_plain_line(line: str) -> tuple[str, str, str]:
    """As `split_line` for a line in the plainest form, of which nearly all are; an empty name for any other."""
    begin, end = line.find("{"), line.rfind("}")
    name = line[:begin]
    if begin > 0 and line[end + 1 : end + 2] == " " and not line[end + 2 : end + 3].isspace() and _is_name(name):
        return name, line[begin + 1 : end], line[end + 2 :]
    return "", "", ""


@lru_cache(maxsize=4_096)
def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def _read_line(line: str, groups: dict[str, LabelledSamples], unreadable: dict[str, str]) -> str | None:
    """Add the line to its group; returns why not when it cannot be read."""
    if len(line) > MAX_LINE:
        return f"longer than {MAX_LINE} characters"
    name, block, rest = _split_plain_line(line)
    if not name:
        parts = split_line(line)
        if parts is None:
            return "not of the form name{labels} value"
        name, block, rest = parts
    group = groups.get(block)
    if group is None:
        if block in unreadable:
            return unreadable[block]
        labels = read_labels(block)
        if labels is None:
            unreadable[block] = "its labels cannot be told apart"
            return unreadable[block]
        group = groups[block] = LabelledSamples(block=block, labels=labels, samples=[])
    group.samples.append(_read_value(name, rest))
    return None


def read_labels(block: str) -> Mapping[str, str] | None:
    """The labels between the braces of a line; None where they cannot be told apart."""
    return _remembered_labels(block) if len(block) <= MAX_REMEMBERED else parse_labels(block)


@lru_cache(maxsize=131_072)  # a thousand nodes of eight GPUs have about 35,000; a cache that is too small is useless
def _remembered_labels(block: str) -> Mapping[str, str] | None:
    """As `parse_labels`: the labels of a device are the same from scrape to scrape, for a thousand nodes at once."""
    return parse_labels(block)


def parse_labels(block: str) -> Mapping[str, str] | None:
    """As `read_labels`, for callers that remember by themselves."""
    plain = _read_plain_labels(block)
    if plain is not None:
        return MappingProxyType(plain)
    try:
        (family,) = text_string_to_metric_families(f"block{{{block}}} 1\n")
        (sample,) = family.samples
    except ValueError:
        return _read_unescaped_labels(block)
    if sample.timestamp is not None:  # the block held a closing brace of its own, and a value after it
        return None
    return MappingProxyType(sample.labels)


def _read_plain_labels(block: str) -> dict[str, str] | None:
    """Labels without anything escaped, without blanks, each once: what nearly all blocks consist of."""
    labels: dict[str, str] = {}
    position = 0
    while position < len(block):
        match = _PLAIN_LABEL.match(block, position)
        if match is None or match[1] in labels:
            return None
        labels[match[1]] = match[2]
        position = match.end()
    return labels


def _read_unescaped_labels(block: str) -> Mapping[str, str] | None:
    """Labels of a block whose values hold unescaped quotes or backslashes, as dcgm-exporter's template writes them.

    A value ends at a quote that is followed by another `name="` or by the end. That is unique unless a value itself
    holds `",name="`; such a value shows as a label given twice, and the line is refused.
    """
    labels: dict[str, str] = {}
    position = 0
    while position < len(block):
        match = _UNESCAPED_LABEL.match(block, position)
        if match is None or match.group(1) in labels:
            return None
        labels[match.group(1)] = match.group(2)
        position = match.end()
    return MappingProxyType(labels)


def _read_value(name: str, rest: str) -> Sample:
    if " " not in rest and "_" not in rest and "\t" not in rest:
        try:
            return Sample(name, float(rest), rest)
        except ValueError:
            pass
    words = rest.split()
    value = _number(words[0])
    if value is None or len(words) > 2:
        return Sample(name=name, value=None, text=plain_text(rest, 80))
    if len(words) == 1:
        return Sample(name=name, value=value, text=words[0])
    at = _moment(words[1])
    if at is None:
        return Sample(name=name, value=None, text=plain_text(rest, 80))
    return Sample(name=name, value=value, text=words[0], at=at)


def _number(word: str) -> float | None:
    if "_" in word:  # Python reads 1_000 as a number, Prometheus does not
        return None
    try:
        return float(word)
    except ValueError:
        return None


def _moment(word: str) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(word) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
