"""A layout by hand: legal choices are taken, others are refused with the board's own reason."""

import pytest

from dashboard import hand_layout
from planner.catalog import load_catalog
from planner.hardware import Layout
from planner.mig_geometry import is_legal

A100 = load_catalog().board("A100-40GB")


def built(*choices: tuple[str, int]) -> Layout:
    layout: Layout = ()
    for profile, start in choices:
        tried = hand_layout.add(A100, layout, profile, start)
        assert tried.refusal is None
        layout = tried.layout
    return layout


def test_instances_are_added_in_order_of_their_starts_and_taken_away() -> None:
    layout = built(("3g.20gb", 4), ("1g.5gb", 0))
    assert [(one.profile, one.placement.start) for one in layout] == [("1g.5gb", 0), ("3g.20gb", 4)]
    assert is_legal(A100, layout)
    assert hand_layout.remove(layout, layout[0]) == layout[1:]
    assert hand_layout.remove(layout[1:], layout[0]) == layout[1:]


@pytest.mark.parametrize(
    ("present", "profile", "start", "why"),
    [
        ((), "3g.20gb", 1, "cannot lie at 1:4"),
        ((("3g.20gb", 0),), "1g.5gb", 2, "overlaps"),
        ((("1g.5gb+me", 0),), "1g.5gb+me", 1, "allows 1 of"),
        ((), "1g.99gb", 0, "no profile 1g.99gb"),
        ((), "7g.40gb", 7, "cannot lie at"),
    ],
)
def test_what_the_board_refuses_is_refused_with_its_reason_and_changes_nothing(
    present: tuple[tuple[str, int], ...], profile: str, start: int, why: str
) -> None:
    layout = built(*present)
    tried = hand_layout.add(A100, layout, profile, start)
    assert tried.layout == layout
    assert tried.refusal is not None
    assert why in tried.refusal


def test_what_is_left_is_counted_and_what_fits_is_named() -> None:
    figures = hand_layout.figures(A100, built(("3g.20gb", 0)), frozenset({"4g.20gb"}))
    assert (figures.free_memory, figures.free_compute, figures.stranded) == (4, 4, 4)
    room = {one.profile: one.starts for one in figures.room}
    assert room["3g.20gb"] == (4,)
    assert room["4g.20gb"] == ()
    assert hand_layout.figures(A100, built(("3g.20gb", 0)), frozenset()).stranded == 0


def test_the_drawing_covers_the_whole_gpu_once() -> None:
    drawing = hand_layout.draw(A100, built(("2g.10gb", 2), ("1g.5gb", 6)), "g")
    assert sorted(unit for cell in drawing.cells for unit in range(cell.start, cell.start + cell.size)) == list(
        range(8)
    )
