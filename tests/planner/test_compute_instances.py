"""What a GPU instance can be divided into, against published listings, and the rules that hold for every one."""

from collections import Counter
from itertools import combinations_with_replacement

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.catalog import Catalog, load_catalog
from planner.compute_instances import (
    compute_layouts,
    compute_profiles,
    find_compute_profile,
    idle_compute_slices,
    read_rows,
    why_illegal_compute,
)
from planner.errors import UnknownProfile
from planner.hardware import Board, Evidence, Profile

EVERY = [(board, profile) for board in load_catalog().boards for profile in board.profiles]


def test_an_a100_has_the_devices_and_counts_that_mig_parted_lists(catalog: Catalog) -> None:
    """Most devices of a kind on one GPU, as mig-parted's known configurations of the A100 40GB give them."""
    board = catalog.board("A100-40GB")
    listed = {
        "1g.5gb": 7, "1g.5gb+me": 1, "1c.2g.10gb": 6, "2g.10gb": 3, "1c.3g.20gb": 6, "2c.3g.20gb": 2, "3g.20gb": 2,
        "1c.4g.20gb": 4, "2c.4g.20gb": 2, "4g.20gb": 1, "1c.7g.40gb": 7, "2c.7g.40gb": 3, "3c.7g.40gb": 2,
        "4c.7g.40gb": 1, "7g.40gb": 1,
    }  # fmt: skip
    ours = {
        one.name: one.max_instances * profile.max_instances
        for profile in board.profiles
        if profile.kind != "1g2x"
        for one in compute_profiles(board, profile.name)
    }
    assert ours == listed


@pytest.mark.parametrize(
    ("board", "profile", "printed"),
    [
        ("A100-40GB", "2g.10gb", [("1c.2g.10gb", 2, 14), ("2g.10gb", 1, 28)]),
        ("A100-80GB", "3g.40gb", [("1c.3g.40gb", 3, 14), ("2c.3g.40gb", 1, 28), ("3g.40gb", 1, 42)]),
        ("A100-40GB", "4g.20gb", [("1c.4g.20gb", 4, 14), ("2c.4g.20gb", 2, 28), ("4g.20gb", 1, 56)]),
        ("A30", "2g.12gb", [("1c.2g.12gb", 2, 14), ("2g.12gb", 1, 28)]),
        ("RTX-PRO-6000-96GB", "2g.48gb", [("1c.2g.48gb", 2, 46), ("2g.48gb", 1, 94)]),
    ],
)
def test_a_gpu_instance_has_the_rows_that_lcip_printed(
    catalog: Catalog, board: str, profile: str, printed: list[tuple[str, int, int]]
) -> None:
    ours = compute_profiles(catalog.board(board), profile)
    assert [(one.name, one.max_instances, one.sm_count) for one in ours] == printed
    assert {one.evidence for one in ours} == {one.sm_evidence for one in ours} == {Evidence.CAPTURED}


def test_what_was_not_seen_on_that_board_says_so(catalog: Catalog) -> None:
    part, *_, whole = compute_profiles(catalog.board("H100-80GB-SXM"), "7g.80gb")
    assert (part.name, part.sm_count) == ("1c.7g.80gb", None)  # 132 SMs are no seven times anything
    assert (part.evidence, part.sm_evidence) == (Evidence.DERIVED, Evidence.UNKNOWN)
    assert (whole.sm_count, whole.evidence, whole.sm_evidence) == (132, Evidence.DOCUMENTED, Evidence.CAPTURED)
    (alone,) = compute_profiles(catalog.board("H20-141GB"), "1g.18gb")
    assert alone.sm_count is None
    seen_elsewhere = compute_profiles(catalog.board("A100-40GB"), "7g.40gb")[0]
    assert (seen_elsewhere.sm_count, seen_elsewhere.sm_evidence) == (14, Evidence.DERIVED)


@pytest.mark.parametrize(
    ("board", "profile", "names"),
    [
        ("A100-40GB", "7g.40gb", ["1c.7g.40gb", "2c.7g.40gb", "3c.7g.40gb"]),  # the guide's nvidia-smi -L
        ("A100-40GB", "7g.40gb", ["4c.7g.40gb", "3c.7g.40gb"]),
        ("H100-80GB-SXM", "3g.40gb", ["1c.3g.40gb"] * 3),
        ("H200-141GB", "3g.71gb", ["1c.3g.71gb", "2c.3g.71gb"]),
        ("A100-40GB", "3g.20gb", []),
        ("A100-40GB", "3g.20gb", ["3g.20gb"]),
        ("A100-40GB", "3g.20gb", ["MIG 3c.3g.20gb"]),
        ("GB200", "3g.95gb", ["1c.3g.93gb", "1c.3g.95gb"]),  # either driver's spelling
        ("H100-80GB-SXM", "1g.10gb+me", ["1c.1g.10gb.me"]),
    ],
)
def test_published_divisions_are_legal(catalog: Catalog, board: str, profile: str, names: list[str]) -> None:
    assert why_illegal_compute(catalog.board(board), profile, names) is None


@pytest.mark.parametrize(
    ("profile", "names", "complaint"),
    [
        ("3g.20gb", ["2c.3g.20gb"] * 2, "take 4 compute slices, and 3g.20gb on A100-40GB has 3"),
        ("3g.20gb", ["3g.20gb", "1c.3g.20gb"], "take 4 compute slices"),
        ("4g.20gb", ["3c.4g.20gb"], "has no compute instance '3c.4g.20gb'; it has 1c.4g.20gb, 2c.4g.20gb, 4g.20gb"),
        ("7g.40gb", ["5c.7g.40gb"], "has no compute instance"),
        ("7g.40gb", ["0c.7g.40gb"], "has no compute instance"),
        ("3g.20gb", ["1c.4g.20gb"], "3g.20gb on A100-40GB has no compute instance '1c.4g.20gb'"),
        ("3g.20gb", ["2g.10gb"], "has no compute instance"),
        ("3g.20gb", ["", "garbage", "1c.", "-1c.3g.20gb", "1c.3g.20gb\n1c.3g.20gb"], "has no compute instance ''"),
        ("3g.20gb", ["\x1b[31m1c.3g.20gb"], r"has no compute instance '\x1b"),
    ],
)
def test_an_impossible_division_is_told_why(catalog: Catalog, profile: str, names: list[str], complaint: str) -> None:
    assert complaint in str(why_illegal_compute(catalog.board("A100-40GB"), profile, names))


def test_a_gpu_instance_that_the_board_does_not_have_is_refused(catalog: Catalog) -> None:
    for ask in (compute_profiles, compute_layouts):
        with pytest.raises(UnknownProfile, match="A100-40GB has no profile '9g'"):
            ask(catalog.board("A100-40GB"), "9g")
    assert find_compute_profile(catalog.board("A100-40GB"), "1c.9g.20gb") is None
    assert find_compute_profile(catalog.board("T4"), "1c.3g.20gb") is None


def test_the_whole_instance_is_spelled_without_a_number_of_its_slices(catalog: Catalog) -> None:
    board = catalog.board("A100-40GB")
    for spelling in ("3g.20gb", "3c.3g.20gb", "MIG 3g.20gb", "mig-3c.3g.20gb", " 3G.20GB "):
        found = find_compute_profile(board, spelling)
        assert found is not None
        assert found.name == "3g.20gb"


def test_slices_without_a_compute_instance_are_idle(catalog: Catalog) -> None:
    board = catalog.board("A100-40GB")
    assert idle_compute_slices(board, "7g.40gb", ["1c.7g.40gb", "2c.7g.40gb", "3c.7g.40gb"]) == 1
    assert idle_compute_slices(board, "7g.40gb", []) == 0
    assert idle_compute_slices(board, "3g.20gb", ["3c.3g.20gb"]) == 0


@pytest.mark.parametrize(("board", "profile"), EVERY, ids=lambda one: one.name)
def test_every_instance_offers_itself_and_parts_that_share_its_memory(board: Board, profile: Profile) -> None:
    offered = compute_profiles(board, profile.name)
    assert offered[-1].name == profile.name
    assert offered[-1].max_instances == 1
    assert [one.compute_slices for one in offered] == sorted({one.compute_slices for one in offered})
    for one in offered:
        assert find_compute_profile(board, one.name) == one
        assert one.memory_bytes == profile.memory_bytes
        assert why_illegal_compute(board, profile.name, [one.name] * one.max_instances) is None
        assert why_illegal_compute(board, profile.name, [one.name] * (one.max_instances + 1)) is not None
        if one.sm_count is not None and profile.sm_count is not None:
            assert one.sm_count * one.max_instances <= profile.sm_count


@pytest.mark.parametrize("name", ["1g.5gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"])
def test_the_sets_are_those_of_a_brute_force_over_slices(catalog: Catalog, name: str) -> None:
    board = catalog.board("A100-40GB")
    slices = int(name[0])
    widths = [width for width in (1, 2, 3, 4, 7) if width <= slices and not (slices == 4 and width == 3)]
    expected = {
        chosen
        for size in range(1, slices + 1)
        for chosen in combinations_with_replacement(widths, size)
        if sum(chosen) <= slices
    }
    found = compute_layouts(board, name)
    as_widths = [tuple(sorted(int(one[0]) for one in names)) for names in found]  # "3g" is three slices wide too
    assert Counter(as_widths) == Counter(expected)


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_any_names_are_answered_and_what_a_legal_set_loses_leaves_it_legal(data: st.DataObject) -> None:
    board, profile = data.draw(st.sampled_from(EVERY))
    known = [one.name for one in compute_profiles(board, profile.name)]
    names = data.draw(st.lists(st.sampled_from(known) | st.text(max_size=12), max_size=8))
    wrong = why_illegal_compute(board, profile.name, names)
    assert idle_compute_slices(board, profile.name, names) <= profile.compute_slices
    if wrong is None:
        for index in range(len(names)):
            assert why_illegal_compute(board, profile.name, names[:index] + names[index + 1 :]) is None
    else:
        assert wrong.endswith(".")


def test_the_rows_name_boards_and_sources_that_exist(catalog: Catalog) -> None:
    rows = read_rows()
    names = {board.name for board in catalog.boards}
    for offered in rows.offered:
        assert offered.widths[-1] == offered.compute_slices
        assert set(offered.sources) <= set(catalog.sources)
    for row in (*rows.evidence, *rows.sm):
        assert set(row.boards) <= names
        assert set(row.sources) <= set(catalog.sources)
