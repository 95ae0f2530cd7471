"""Several processes behind one address are noticed, and what they counted is not mixed up."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import pytest

from collectors.serving.gaps import GapBook
from collectors.serving.processes import LOOKS, REASON, Processes
from tests.collectors.serving.pages import AT, ENDPOINT, told

START = AT - timedelta(days=1)


def page(value: float, start: datetime | None) -> str:
    lines = [f'vllm:generation_tokens_total{{engine="0",model_name="m"}} {value}']
    lines += ['vllm:num_requests_running{engine="0",model_name="m"} 1']
    lines += [] if start is None else [f"process_start_time_seconds {start.timestamp()}"]
    return "\n".join(lines) + "\n"


def counts(looks: Iterable[tuple[float, datetime | None]]) -> list[tuple[float | None, bool]]:
    """Of each scrape of one address: its counter if it was handed over, and whether the gap was told."""
    return [(values[-1] if values else None, is_told) for values, is_told in handed_over(looks)]


def handed_over(looks: Iterable[tuple[float, datetime | None]]) -> list[tuple[list[float], bool]]:
    """The counters of each scrape, with those that an earlier one had held back, and whether the gap was told."""
    processes = Processes()
    found: list[tuple[list[float], bool]] = []
    for at, (value, start) in enumerate(looks):
        understood = told(page(value, start), at=AT + timedelta(seconds=30 * at)).understood
        gaps = GapBook(ENDPOINT)
        processes.look(understood, gaps)
        assert understood.gauges  # what one process says of itself is true of that process
        assert [one.observed_at for one in understood.counters] == sorted(
            one.observed_at for one in understood.counters
        )
        found.append(([one.value for one in understood.counters], any(gap.reason == REASON for gap in gaps.gaps())))
    return found


def test_a_process_that_started_before_the_one_of_the_last_look_is_another() -> None:
    later = START + timedelta(hours=1)
    found = counts([(1e6, START), (4e5, later), (1e6 + 5, START), (4e5 + 5, later)])
    assert found == [(1e6, False), (4e5, False), (None, True), (None, True)]


def test_without_starts_it_is_a_count_that_falls_and_comes_back_twice() -> None:
    found = counts([(at + (1_000_000 if at % 2 else 400_000), None) for at in range(8)])
    # falls at the third and fifth look, is back at the fourth and sixth
    assert [is_told for _, is_told in found] == [False] * 5 + [True] * 3
    # a fall waits for the next look, so none of them is stored as a restart
    assert [kept is None for kept, _ in found] == [False, False, True, False, True, True, True, True]


def test_a_restart_without_a_start_is_stored_one_look_later() -> None:
    found = handed_over([(100.0, None), (120.0, None), (5.0, None), (9.0, None), (20.0, None)])
    assert found == [([100.0], False), ([120.0], False), ([], False), ([5.0, 9.0], False), ([20.0], False)]


def test_a_second_restart_right_after_the_first_loses_neither() -> None:
    found = handed_over([(120.0, None), (50.0, None), (9.0, None), (20.0, None)])
    assert [values for values, _ in found] == [[120.0], [], [50.0, 9.0], [20.0]]


@pytest.mark.parametrize("tells_start", [True, False])
def test_a_restart_is_not_several_processes(tells_start: bool) -> None:
    lives = [(float(value), START if tells_start else None) for value in (100, 110, 120)]
    lives += [(float(value), AT if tells_start else None) for value in (0, 50, 130, 140)]
    assert [is_told for _, is_told in counts(lives)] == [False] * 7


def test_a_clock_that_is_read_in_whole_seconds_is_one_process() -> None:
    found = counts([(1.0, START), (2.0, START + timedelta(seconds=0.7)), (3.0, START)])
    assert [is_told for _, is_told in found] == [False] * 3


def test_counts_come_back_when_one_process_answers_alone() -> None:
    later = START + timedelta(hours=1)
    found = counts([(9.0, later), (5.0, START), *((6.0 + at, START) for at in range(LOOKS + 1))])
    assert [is_told for _, is_told in found] == [False] + [True] * LOOKS + [False] * 2
    assert found[-1][0] == 6.0 + LOOKS


def test_the_first_of_several_ranks_keeps_its_name_when_the_second_appears() -> None:
    alone = 'vllm:generation_tokens_total{engine="0",model_name="m"} 5\n'
    both = alone + 'vllm:generation_tokens_total{engine="1",model_name="m"} 7\n'
    assert told(alone).counters == {("generation_tokens", "", ""): 5}
    assert told(both).counters == {("generation_tokens", "", ""): 5, ("generation_tokens", "1", ""): 7}
