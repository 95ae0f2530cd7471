"""Typed lists of requests: the ways people write them, and words for what is none."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.demand_text import read_requests
from dashboard.scenario import Request, ScenarioInvalid

KNOWN = ("1g.5gb", "1g.5gb+me", "1g.10gb", "2g.10gb", "3g.20gb", "7g.40gb")


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("3 x 3g.20gb, 1g.5gb*4", {"3g.20gb": 3, "1g.5gb": 4}),
        ("3x3g.20gb", {"3g.20gb": 3}),
        ("3 × 3g.20gb", {"3g.20gb": 3}),
        ("3*3g.20gb", {"3g.20gb": 3}),
        ("3 3g.20gb", {"3g.20gb": 3}),
        ("3g.20gb x 3", {"3g.20gb": 3}),
        ("3g.20gbx3", {"3g.20gb": 3}),
        ("3g.20gb 3", {"3g.20gb": 3}),
        ("7g.40gb", {"7g.40gb": 1}),
        ("1g.5gb+me * 1; 1g.5gb\n\n2 X 1G.5GB,", {"1g.5gb+me": 1, "1g.5gb": 3}),
        ("mig-1g.5gb.me*2", {"1g.5gb+me": 2}),
        ("0 x 1g.5gb", {"1g.5gb": 0}),
    ],
)
def test_lists_as_people_type_them(typed: str, found: dict[str, int]) -> None:
    assert read_requests(typed, KNOWN) == tuple(Request(profile=name, count=count) for name, count in found.items())


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("", "Nothing was typed"),
        (" ,;\n", "Nothing was typed"),
        ("3 x", "“3 x” is not understood"),
        ("three 1g.5gb", "not understood"),
        ("1g.5gb*-4", "not understood"),
        ("2 x 1g.50gb", r"no board .* 1g.50gb\. Nearest: .*1g.5gb"),
        ("2 x 9g.999gb", "has a profile 9g.999gb"),
        ("99999999 x 1g.5gb", "more than the 50,000"),
        ("x" * 200, "…"),
        ("<script>", "“<script>” is not understood"),
    ],
)
def test_what_is_no_request_is_told(typed: str, why: str) -> None:
    with pytest.raises(ScenarioInvalid, match=f"(?i){why}"):
        read_requests(typed, KNOWN)


def test_without_boards_a_board_comes_first() -> None:
    with pytest.raises(ScenarioInvalid, match="Add a board first"):
        read_requests("1g.5gb", ())


@given(st.text(max_size=60))
def test_any_text_is_a_list_or_refused(typed: str) -> None:
    with contextlib.suppress(ScenarioInvalid):
        assert {one.profile for one in read_requests(typed, KNOWN)} <= set(KNOWN)
