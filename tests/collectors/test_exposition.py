import string
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from collectors.exposition import (
    MAX_BAD_LINES,
    MAX_LINE,
    MAX_REMEMBERED,
    Exposition,
    _split_plain_line,
    parse_exposition,
    read_labels,
    split_line,
)

LINE = 'DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-1",modelName="NVIDIA L4"} 31\n'


def values(exposition: Exposition) -> list[tuple[str, dict[str, str], float | None]]:
    return [(sample.name, dict(group.labels), sample.value) for group in exposition.groups for sample in group.samples]


def test_a_line_is_read_with_its_labels() -> None:
    assert values(parse_exposition(LINE)) == [
        ("DCGM_FI_DEV_GPU_TEMP", {"gpu": "0", "UUID": "GPU-1", "modelName": "NVIDIA L4"}, 31.0)
    ]


def test_a_line_without_labels_is_read() -> None:
    assert values(parse_exposition("DCGM_FI_DEV_FAN_SPEED 0\n")) == [("DCGM_FI_DEV_FAN_SPEED", {}, 0.0)]


def test_lines_with_one_label_set_are_one_group() -> None:
    exposition = parse_exposition('A{gpu="0"} 1\nA{gpu="1"} 2\nB{gpu="0"} 3\n')
    assert [[sample.name for sample in group.samples] for group in exposition.groups] == [["A", "B"], ["A"]]


def test_a_declared_counter_keeps_its_name() -> None:
    # prometheus-client's parser would make it ..._COUNTER_total
    text = f"# TYPE DCGM_FI_DEV_PCIE_REPLAY_COUNTER counter\n{LINE.replace('GPU_TEMP', 'PCIE_REPLAY_COUNTER')}"
    assert values(parse_exposition(text))[0][0] == "DCGM_FI_DEV_PCIE_REPLAY_COUNTER"


@pytest.mark.parametrize(
    "bad",
    [
        'A{gpu="0" 1',
        "{} 1",
        "A{gpu=0} 1",
        'A{gpu="0"}',
        "A",
        "<html>",
        'A{gpu="0",gpu="1"} 1',
        'A{gpu="0"} 1 {gpu="1"} 2',
        "A" * (MAX_LINE + 1) + " 1",
        "\x00\x01\x02 1",
        '-A{gpu="0"} 1',
    ],
)
def test_one_bad_line_costs_that_line_only(bad: str) -> None:
    exposition = parse_exposition(LINE + bad + "\n" + LINE.replace("GPU-1", "GPU-2"))
    assert [labels["UUID"] for _, labels, _ in values(exposition)] == ["GPU-1", "GPU-2"]
    assert exposition.bad_line_count == 1
    assert exposition.bad_lines[0].number == 2


def test_bad_lines_are_counted_and_only_some_are_kept_clipped_and_printable() -> None:
    exposition = parse_exposition(("\x1b[2J" + "x" * 500 + "\n") * 1000)
    assert exposition.bad_line_count == 1000
    assert len(exposition.bad_lines) == MAX_BAD_LINES
    assert all(len(bad.text) <= 120 and bad.text.isprintable() for bad in exposition.bad_lines)


@pytest.mark.parametrize("text", ["ERROR - FAILED TO CONVERT TO STRING", "<<<NOT_SUPPORTED>>>", "1_000", "--", "1 2 3"])
def test_a_value_that_is_no_number_keeps_its_labels(text: str) -> None:
    (group,) = parse_exposition(f'A{{UUID="GPU-1"}} {text}\n').groups
    assert group.labels == {"UUID": "GPU-1"}
    assert [(sample.value, sample.text) for sample in group.samples] == [(None, text)]


def test_a_timestamp_is_read() -> None:
    (group,) = parse_exposition('A{UUID="GPU-1"} 1 1700000000000\n').groups
    assert group.samples[0].at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


@pytest.mark.parametrize("timestamp", ["99999999999999999999", "soon", "1e400"])
def test_a_timestamp_that_is_none_voids_the_value(timestamp: str) -> None:
    (group,) = parse_exposition(f'A{{UUID="GPU-1"}} 1 {timestamp}\n').groups
    assert group.samples[0].value is None


@pytest.mark.parametrize(
    ("block", "labels"),
    [
        ('a="x "y" z",b="1"', {"a": 'x "y" z', "b": "1"}),
        ('a="C:\\dir\\",b="1"', {"a": "C:\\dir\\", "b": "1"}),
        ('a="",b="""', {"a": "", "b": '"'}),
        ('a="x}",b="{"', {"a": "x}", "b": "{"}),
        ('a="x, y=z",b="1"', {"a": "x, y=z", "b": "1"}),
    ],
)
def test_unescaped_quotes_and_backslashes_in_labels_are_rescued(block: str, labels: dict[str, str]) -> None:
    assert values(parse_exposition(f"A{{{block}}} 1\n")) == [("A", labels, 1.0)]


def test_a_label_that_forges_another_label_is_refused() -> None:
    exposition = parse_exposition('A{UUID="GPU-1",pod="x" y",UUID="GPU-2"} 1\n')
    assert values(exposition) == []
    assert exposition.bad_lines[0].reason == "its labels cannot be told apart"


def test_a_body_that_ends_in_the_middle_of_a_line_loses_that_line() -> None:
    exposition = parse_exposition(LINE + 'A{UUID="GPU-2"} 12')
    assert exposition.is_cut
    assert [labels["UUID"] for _, labels, _ in values(exposition)] == ["GPU-1"]


def test_a_whole_body_is_not_cut() -> None:
    assert not parse_exposition(LINE).is_cut


def test_carriage_returns_and_odd_line_separators_are_no_line_ends() -> None:
    assert values(parse_exposition('A{pod="a\u2028b"} 1\r\n')) == [("A", {"pod": "a\u2028b"}, 1.0)]


def escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


label_names = st.text(string.ascii_letters, min_size=1, max_size=8)
label_values = st.text(max_size=20).filter(lambda text: "\r" not in text)
label_sets = st.dictionaries(label_names, label_values, min_size=1, max_size=4)


@settings(deadline=None)
@given(st.lists(st.tuples(label_sets, st.floats(allow_nan=False)), max_size=6))
def test_escaped_labels_are_read_as_the_library_reads_them(lines: list[tuple[dict[str, str], float]]) -> None:
    text = "".join(
        "A{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items()) + f"}} {number!r}\n"
        for labels, number in lines
    )
    expected = [
        (sample.name, sample.labels, float(sample.value))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    read = values(parse_exposition(text))
    assert sorted(read, key=repr) == sorted(expected, key=repr)


@settings(deadline=None)
@given(st.text(), st.text())
def test_no_text_breaks_the_parser(noise: str, more: str) -> None:
    exposition = parse_exposition(noise + "\n" + LINE + more)
    assert ("DCGM_FI_DEV_GPU_TEMP", 31.0) in [(name, value) for name, _, value in values(exposition)]


pieces = st.sampled_from(
    ["A", "b:c", "{", "}", '"', "=", ",", " ", "\t", "1", "_", "x}", '{a="1"}', "} 1", "9z", "\u2028"]
)


@given(st.lists(pieces, max_size=12).map("".join))
def test_the_short_way_to_split_a_line_never_differs_from_the_long_one(line: str) -> None:
    short = _split_plain_line(line.strip())
    assert not short[0] or short == split_line(line.strip())


def test_what_is_remembered_of_labels_is_bounded() -> None:
    # a hostile exporter: label sets that never repeat, and some that are very long
    for number in range(3):
        parse_exposition(f'A{{a="{number}{"x" * MAX_REMEMBERED}"}} 1\n')
    block = f'a="{"x" * MAX_REMEMBERED}"'
    assert read_labels(block) is not read_labels(block)
    assert read_labels('a="x"') is read_labels('a="x"')


def test_every_recorded_answer_is_read_as_the_library_reads_it(reference: Path) -> None:
    files = sorted((reference / "payloads" / "dcgm-exporter").rglob("*.prom"))
    assert files
    for file in files:
        text = file.read_text(encoding="utf-8")
        if not text.endswith("\n"):
            text += "\n"
        bare = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
        expected = [
            (sample.name, sample.labels, float(sample.value))
            for family in text_string_to_metric_families(bare)
            for sample in family.samples
        ]
        assert sorted(values(parse_exposition(text)), key=repr) == sorted(expected, key=repr), file.name
