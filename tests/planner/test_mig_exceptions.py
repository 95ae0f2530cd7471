"""What drivers and machines refuse beside the placement table: where it holds, and that every question honours it."""

import json
import shutil
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.catalog import DATA, Catalog, load_catalog, read_catalog
from planner.errors import CatalogError, IllegalLayout
from planner.hardware import Board, PlacedInstance, Placement
from planner.mig_exceptions import board_under, driver_numbers
from planner.mig_geometry import (
    assume_arrangement,
    is_legal,
    legal_layouts,
    maximal_layouts,
    possible_placements,
    stranded_memory_slices,
    undominated_counts,
    why_illegal,
)

STATION = "NVIDIA DGX Station GB300"


def old_a100(name: str = "A100-40GB") -> Board:
    return board_under(load_catalog().board(name), driver_version="470.57.02")


def station(driver: str = "615.23") -> Board:
    return board_under(load_catalog().board("GB300"), driver_version=driver, product=STATION)


def kinds(board: Board, *wanted: str) -> list[str]:
    return [profile.name for profile in board.profiles if profile.kind in wanted]


BASE = ("1g", "2g", "3g", "4g", "7g")


@pytest.mark.parametrize("name", ["A100-40GB", "A100-80GB", "A800-40GB"])
def test_before_r510_an_a100_has_18_maximal_layouts_instead_of_the_19_published(name: str) -> None:
    now, before = load_catalog().board(name), old_a100(name)
    assert len(maximal_layouts(now, kinds(now, *BASE))) == 19
    assert len(maximal_layouts(before, kinds(before, *BASE))) == 18
    lost = set(legal_layouts(now, kinds(now, *BASE))) - set(legal_layouts(before, kinds(before, *BASE)))
    assert [[one.profile[:2] for one in layout] for layout in lost] == [["4g", "3g"]]


def test_exactly_the_boards_that_ran_mig_before_r510_with_4g_and_3g_are_concerned(catalog: Catalog) -> None:
    concerned = {board.name for board in catalog.boards if board_under(board, driver_version="509.99").exclusions}
    could_be = set()
    for board in catalog.boards:
        lowest = driver_numbers(board.minimum_driver)
        kinds_there = {profile.kind for profile in board.profiles}
        if lowest is not None and lowest < (510,) and {"4g", "3g"} <= kinds_there:
            could_be.add(board.name)
    assert concerned == could_be == {"A100-40GB", "A100-80GB"}
    nowhere_told = {board.architecture for board in catalog.boards if board.is_mig_capable and not board.minimum_driver}
    assert nowhere_told <= {"Hopper", "Blackwell"}, "these need R525 or later, so R510 does not matter to them"


@pytest.mark.parametrize(
    ("driver", "is_refused"),
    [
        ("450.80.02", True),
        ("495.29.05", True),
        ("R470", True),
        ("509.999", True),
        ("510", False),
        ("R510", False),
        ("510.39.01", False),
        ("535.104.05", False),
        ("1000.1", False),
        (None, False),
        ("", False),
        ("garbage", False),
        ("470.57.02-beta; rm -rf /", False),
        ("4" * 100_000, False),
        ("٤٧٠.57", False),
    ],
)
def test_the_driver_decides_and_an_unreadable_one_counts_as_not_known(driver: str | None, is_refused: bool) -> None:
    board = load_catalog().board("A100-40GB")
    under = board_under(board, driver_version=driver)
    assert bool(under.exclusions) is is_refused
    assert (under is board) is not is_refused


def test_the_refusal_is_a_sentence_with_the_profiles_and_the_reason() -> None:
    board = old_a100()
    layout = [PlacedInstance("4g.20gb", Placement(0, 4)), PlacedInstance("3g.20gb", Placement(4, 4))]
    told = "4g.20gb and 3g.20gb cannot exist together on this A100-40GB: drivers before R510 refuse"
    assert str(why_illegal(board, layout)).startswith(told)
    assert told in " ".join(board.cautions), "a plan for it must say why it keeps them apart"
    with pytest.raises(IllegalLayout, match="before R510"):
        assume_arrangement(board, ["3g.20gb", "4g.20gb"])
    assert assume_arrangement(load_catalog().board("A100-40GB"), ["3g.20gb", "4g.20gb"])


def test_every_question_of_the_geometry_honours_it() -> None:
    board = old_a100()
    layout = (PlacedInstance("4g.20gb", Placement(0, 4)),)
    assert possible_placements(board, layout, "3g.20gb") == ()
    assert stranded_memory_slices(board, layout, ["3g.20gb"]) == (4, 5, 6, 7)
    assert (1, 1) not in undominated_counts(board, ["3g.20gb", "4g.20gb"])
    assert undominated_counts(board, ["3g.20gb", "4g.20gb"]) == ((0, 1), (2, 0))


def test_equal_names_with_different_exclusions_are_never_confused() -> None:
    now, before = load_catalog().board("A100-40GB"), old_a100()
    assert now.name == before.name
    assert now != before
    names = tuple(kinds(now, "3g", "4g"))
    for board, most in ((now, ((1, 1), (2, 0))), (before, ((0, 1), (2, 0))), (now, ((1, 1), (2, 0)))):
        assert undominated_counts(board, names) == most
    assert len({now: 1, before: 2}) == 2


def test_drivers_with_the_same_outcome_give_the_same_object() -> None:
    assert old_a100() is board_under(load_catalog().board("A100-40GB"), driver_version="460.106.00")
    assert station("615.1") is station("620")


def test_a_board_can_be_asked_again_under_another_driver() -> None:
    now = load_catalog().board("A100-40GB")
    assert board_under(old_a100(), driver_version="535.1") == now
    assert board_under(old_a100(), driver_version="470.1") is old_a100()
    gb300 = load_catalog().board("GB300")
    assert board_under(station(), driver_version=None) == gb300
    assert board_under(station(), driver_version="595.58.03", product=STATION) == station("595.58.03")


@pytest.mark.parametrize("machine", [STATION, "dgx_station", "DGX Server for GALAXY-GB300", "NVIDIA-DGX-Station-GB300"])
def test_a_dgx_station_gb300_refuses_two_2g_beside_a_3g(machine: str) -> None:
    board = board_under(load_catalog().board("GB300"), driver_version="595.58.03", product=machine)
    assert [exclusion.name for exclusion in board.exclusions] == ["3g-beside-two-2g-on-dgx-station"]
    with pytest.raises(IllegalLayout, match=r"3g.139gb and 2 of 2g.70gb cannot exist together.*DGX Station"):
        assume_arrangement(board, ["3g.139gb", "2g.70gb", "2g.70gb"])
    for good in (
        ["2g.70gb"] * 3,
        ["3g.139gb"] * 2,
        ["1g.35gb"] * 7,
        ["1g.70gb"] * 4,
        ["3g.139gb", "2g.70gb", "1g.35gb"],
    ):
        assert assume_arrangement(board, good)


def test_under_driver_61x_a_dgx_station_holds_three_1g() -> None:
    board = station()
    assert assume_arrangement(board, ["1g.35gb"] * 3)
    assert assume_arrangement(board, ["3g.126gb", "1g.70gb", "1g.70gb"]), "NVIDIA's own suggestion, in either spelling"
    with pytest.raises(IllegalLayout, match=r"4 of 1g.35gb or 1g.35gb\+me cannot exist together.*only three 1g"):
        assume_arrangement(board, ["1g.35gb"] * 3 + ["1g.35gb+me"])


def test_a_gb300_of_an_unknown_machine_stays_usable_and_every_plan_says_what_may_not_hold(catalog: Catalog) -> None:
    board = catalog.board("GB300")
    assert board.exclusions == ()
    assert board_under(board, driver_version=None) is board
    assert sum("If the machine is a DGX Station" in caution for caution in board.cautions) == 2
    # The GPU's own name says nothing about the machine.
    assert board_under(board, driver_version=None, product="NVIDIA GB300") is board
    old = board_under(board, driver_version="600.1", product="NVIDIA-GB300")
    assert sum("If the machine is a DGX Station" in caution for caution in old.cautions) == 1
    # The branch alone does not tell 595.58.03 from an earlier release.
    assert board_under(board, driver_version="R595").cautions == old.cautions


@pytest.mark.parametrize(
    ("driver", "machine"), [(None, "GB300 NVL72"), ("615.1", "GB300 NVL72"), ("580.126.20", None), ("580.1", STATION)]
)
def test_another_machine_or_an_earlier_driver_is_not_concerned(driver: str | None, machine: str | None) -> None:
    board = board_under(load_catalog().board("GB300"), driver_version=driver, product=machine)
    assert board.exclusions == ()
    assert not [caution for caution in board.cautions if "DGX Station" in caution]
    assert assume_arrangement(board, ["3g.139gb", "2g.70gb", "2g.70gb"])


def test_a_driver_below_the_lowest_with_mig_is_told() -> None:
    h100 = load_catalog().board("H100-80GB-SXM")
    assert "older than 525.85.12" in board_under(h100, driver_version="470.57.02").cautions[-1]
    assert board_under(h100, driver_version="525.85.12") is h100
    assert board_under(h100, driver_version="R525") is h100


@settings(deadline=None, max_examples=100)
@given(driver=st.text() | st.none(), machine=st.text() | st.none(), name=st.sampled_from(["GB300", "A100-40GB", "T4"]))
def test_no_text_breaks_it(driver: str | None, machine: str | None, name: str) -> None:
    board = load_catalog().board(name)
    under = board_under(board, driver_version=driver, product=machine)
    assert under.name == board.name
    assert under.profiles is board.profiles


def test_every_layout_that_nvidia_documents_is_judged_as_documented(catalog: Catalog, reference: Path) -> None:
    told = json.loads((reference / "mig" / "mig_layouts_documented.json").read_text(encoding="utf-8"))
    refused = []
    judged = 0
    for row in told["layouts"]:
        if "instances" not in row:
            continue
        board = catalog.board(row["gpu"])
        if row["source"] == "playbook_gb300":
            board = station("615.1" if "61x" in row.get("note", "") else "595.58.03")
        names = [spelled.partition("@")[0] for spelled in row["instances"]]
        judged += 1
        if "expected" in row:
            with pytest.raises(IllegalLayout):
                assume_arrangement(board, names)
            refused.append(names)
        else:
            layout = assume_arrangement(board, names)
            assert len(layout) == len(names)
            if all("@" in spelled for spelled in row["instances"]):
                starts = {profile.name: profile.memory_slices or 0 for profile in board.profiles}
                placed = [spelled.partition("@") for spelled in row["instances"]]
                assert is_legal(board, [PlacedInstance(n, Placement(int(at), starts[n])) for n, _, at in placed])
    assert judged > 40
    assert refused == [["3g.139gb", "2g.70gb", "2g.70gb"]]


def brute_force(board: Board) -> set[frozenset[tuple[str, int]]]:
    """Every legal layout of four kinds, by other means: the subsets of their places that break no rule spelled out."""
    places = [
        (profile, placement.start, placement.size)
        for profile in board.profiles
        if profile.kind in {"1g", "2g", "3g", "4g"}
        for placement in profile.placements
    ]
    found = set()
    for size in range(8):
        for chosen in combinations(places, size):
            units = [unit for _, start, length in chosen for unit in range(start, start + length)]
            counts = Counter(profile.kind for profile, _, _ in chosen)
            refused = {
                "A100-40GB": counts["4g"] > 0 and counts["3g"] > 0,
                "GB300-278GB": (counts["3g"] > 0 and counts["2g"] > 1) or counts["1g"] > 3,
            }[board.name]
            if len(set(units)) == len(units) and not refused:
                found.add(frozenset((profile.name, start) for profile, start, _ in chosen))
    return found


@pytest.mark.parametrize("board", [old_a100(), station()], ids=["A100 before R510", "DGX Station GB300"])
def test_the_layouts_are_those_of_a_brute_force_with_the_rules_spelled_out(board: Board) -> None:
    ours = {
        frozenset((one.profile, one.placement.start) for one in layout)
        for layout in legal_layouts(board, kinds(board, "1g", "2g", "3g", "4g"))
    }
    assert ours == brute_force(board)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), board=st.sampled_from([old_a100(), station(), station("600")]))
def test_what_a_legal_layout_loses_leaves_it_legal_and_what_can_be_added_too(data: st.DataObject, board: Board) -> None:
    layout = data.draw(st.sampled_from(legal_layouts(board)))
    kept = [one for one in layout if data.draw(st.booleans())]
    assert is_legal(board, kept)
    for profile in board.profiles:
        placements = possible_placements(board, kept, profile.name)
        for placement in profile.placements:
            grown = [*kept, PlacedInstance(profile.name, placement)]
            assert is_legal(board, grown) is (placement in placements)


@pytest.mark.parametrize(
    ("found", "put", "complaint"),
    [
        ('drivers_below = "510"', 'drivers_below = "R510"', r"exclusion 1 \(4g-beside-3g.*drivers_below"),
        ('boards = ["A100-40GB", "A100-80GB"]', 'boards = ["A101"]', "boards.toml has no board 'A101'"),
        ('boards = ["A100-40GB", "A100-80GB"]', 'boards = ["A30-24GB"]', "A30-24GB has no profile of kind 3g"),
        ("count = 2", "count = 0", "exclusion 2 .*count"),
        ('sources = ["gb300-playbook"]', 'sources = ["hearsay"]', "exclusion 3 .*does not explain hearsay"),
        ("reason =", "because =", "exclusion 1 .*because"),
        ("three-1g-on-dgx-station-since-610", "3g-beside-two-2g-on-dgx-station", "is taken"),
        ("[[exclusion]]", "[[exclusion", "mig_exceptions.toml cannot be read"),
    ],
)
def test_a_file_that_contradicts_itself_names_the_row(tmp_path: Path, found: str, put: str, complaint: str) -> None:
    folder = tmp_path / "data"
    shutil.copytree(DATA, folder)
    path = folder / "mig_exceptions.toml"
    text = path.read_text(encoding="utf-8")
    assert found in text
    path.write_text(text.replace(found, put), encoding="utf-8")
    with pytest.raises(CatalogError, match=complaint):
        read_catalog(folder)
