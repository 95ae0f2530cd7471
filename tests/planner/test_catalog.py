"""The catalogue is complete, checked, and finds boards and profiles by the names that drivers use."""

import json
import shutil
from pathlib import Path

import pytest

from planner.catalog import DATA, Catalog, find_profile, read_catalog
from planner.errors import CatalogError, UnknownBoard, UnknownProfile
from planner.hardware import Evidence
from planner.mig_geometry import planning_obstacle
from planner.units import GIB, MIB


@pytest.mark.parametrize(
    ("printed", "board"),
    [
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A800-SXM4-80GB", "A100-80GB"),
        ("nvidia a100-pcie-40gb", "A100-40GB"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB"),
        ("NVIDIA H100 80GB HBM3", "H100-80GB-SXM"),
        ("H100 80GB HBM3", "H100-80GB-SXM"),
        ("NVIDIA H100 PCIe", "H100-80GB-PCIe"),
        ("NVIDIA H100 NVL", "H100-94GB"),
        ("NVIDIA H800", "H100-80GB-SXM"),
        ("NVIDIA H200", "H200-141GB"),
        ("NVIDIA GB200", "GB200-186GB"),
        ("NVIDIA-H100-80GB-HBM3", "H100-80GB-SXM"),
        ("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", "H100-80GB-SXM"),
        ("NVIDIA A100-SXM4-40GB MIG 1c.3g.20gb", "A100-40GB"),
        ("NVIDIA-L40S-SHARED", "L40S"),
        ("Tesla T4", "T4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA A30", "A30-24GB"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000-96GB"),
    ],
)
def test_a_board_is_found_by_the_name_its_driver_prints(catalog: Catalog, printed: str, board: str) -> None:
    found = catalog.board_for(printed)
    assert found is not None
    assert found.name == board


@pytest.mark.parametrize(
    "name", [None, "", "NVIDIA", "NVIDIA H100", "NVIDIA A100", "Tesla V100", "NVIDIA X999", "40GB"]
)
def test_a_name_that_does_not_tell_the_board_is_not_guessed(catalog: Catalog, name: str | None) -> None:
    assert catalog.board_for(name) is None


def test_memory_tells_boards_of_one_name_apart_and_refuses_a_contradiction(catalog: Catalog) -> None:
    def name_for(name: str, memory_bytes: float) -> str | None:
        board = catalog.board_for(name, memory_bytes)
        return board.name if board else None

    assert name_for("NVIDIA A100", 40 * GIB) == "A100-40GB"
    assert name_for("NVIDIA A100", 80 * GIB) == "A100-80GB"
    assert name_for("NVIDIA H100", 95830 * MIB) == "H100-94GB"
    assert name_for("NVIDIA H100", 81559 * MIB) is None
    assert name_for("NVIDIA A100-SXM4-40GB", 40384 * MIB) == "A100-40GB"  # older drivers report less
    assert name_for("NVIDIA A100-SXM4-40GB", 80 * GIB) is None
    assert name_for("NVIDIA RTX PRO 5000 Blackwell", 72 * GIB) is None
    assert name_for("NVIDIA GB300", 257_000 * MIB) == "GB300-278GB"  # DGX Station under driver 61x


def test_every_product_name_and_every_board_name_leads_back_to_its_board(catalog: Catalog) -> None:
    for board in catalog.boards:
        assert catalog.board(board.name) is board
        assert catalog.board(board.name.lower()) is board
        for name in board.product_names:
            assert catalog.board_for(name, board.memory_total_bytes) is board


def test_an_unknown_board_is_answered_with_the_nearest(catalog: Catalog) -> None:
    with pytest.raises(UnknownBoard, match=r"A100-40GBB.*Nearest: A100-40GB"):
        catalog.board("A100-40GBB")


@pytest.mark.parametrize(
    ("board", "spelled", "profile"),
    [
        ("GB200", "1g.24gb", "1g.23gb"),
        ("GB200", "7g.189gb", "7g.186gb"),
        ("GB300", "3g.126gb", "3g.139gb"),
        ("A100-80GB", "7g.79gb", "7g.80gb"),
        ("H100-80GB-SXM", "mig-1g.10gb.me", "1g.10gb+me"),
        ("RTX-PRO-6000-96GB", "1g.24gb.me.all", "1g.24gb+me.all"),
        ("RTX-PRO-6000-96GB", "1g.24gb-me", "1g.24gb-me"),
        ("A100-40GB", "1c.3g.20gb", "3g.20gb"),
    ],
)
def test_a_profile_is_found_as_any_driver_or_kubernetes_spells_it(
    catalog: Catalog, board: str, spelled: str, profile: str
) -> None:
    assert catalog.profile(catalog.board(board), spelled).name == profile


def test_an_unknown_profile_is_answered_with_the_nearest(catalog: Catalog) -> None:
    with pytest.raises(UnknownProfile, match=r"A100-40GB has no profile '2g.20gb'.*2g.10gb"):
        catalog.profile(catalog.board("A100-40GB"), "2g.20gb")
    with pytest.raises(UnknownProfile, match="L40S has no MIG profiles"):
        catalog.profile(catalog.board("L40S"), "1g.5gb")


def test_the_catalogue_says_what_the_reference_says(catalog: Catalog, reference: Path) -> None:
    told = json.loads((reference / "mig" / "mig_profiles.json").read_text(encoding="utf-8"))
    rows = 0
    for entry in told["gpus"]:
        board = catalog.board(entry["id"])
        assert board.placement_grid == (entry["placement_grid"] or 0)
        assert board.compute_slices == entry["compute_slices"]
        assert board.sm_count == entry["full_gpu_sms"]
        assert board.memory_total_bytes == (entry["memory_total_mib"] or 0) * MIB or board.memory_total_bytes is None
        assert len(board.profiles) == len(entry["profiles"])
        for row in entry["profiles"]:
            profile = find_profile(board, row["name"])
            assert profile is not None
            placements = row["placements"] or {"starts": [], "size": None}
            assert [placement.start for placement in profile.placements] == placements["starts"]
            assert profile.memory_slices == placements["size"]
            assert profile.memory_bytes == (None if row["memory_mib"] is None else row["memory_mib"] * MIB)
            assert profile.sm_count == row["sm_count"]
            assert profile.profile_id == row["gi_profile_id"]
            assert profile.max_instances == row["max_instances"]
            assert profile.compute_slices == row["slice_count"]
            for group, words in row["evidence"].items():
                if not words.startswith("partly"):
                    assert profile.evidence_of(group) == Evidence(words.split()[0]), (board.name, profile.name, group)
            rows += 1
    assert rows == 141


def test_boards_without_placements_say_that_they_cannot_be_planned(catalog: Catalog) -> None:
    obstacles = {board.name: planning_obstacle(board) for board in catalog.boards}
    unplannable = {board.name for board in catalog.boards if board.is_mig_capable and obstacles[board.name]}
    assert unplannable == {"RTX-PRO-5000-48GB", "RTX-PRO-4500-32GB", "THOR-IGPU"}
    assert "cannot be cut" in str(obstacles["L40S"])
    assert "where the profiles of THOR-IGPU can lie" in str(obstacles["THOR-IGPU"])


def test_the_dgx_station_exception_travels_with_every_plan_for_its_board(catalog: Catalog) -> None:
    assert any("DGX Station" in caution for caution in catalog.board("GB300").cautions)


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        (
            "mig_profiles.csv",
            "A100-40GB,2g.10gb,,2g,14,2,3,0 2 4,2",
            "A100-40GB,2g.10gb,,2g,14,2,3,0 2 7,2",
            "leaves the grid",
        ),
        ("mig_profiles.csv", "A100-40GB,2g.10gb,,2g,14,2", "A100-40GB,2g.10gb,,2g,14,two", r"line 5 .*compute_slices"),
        ("mig_profiles.csv", "A100-40GB,2g.10gb,,2g,14", "A100-40GB,2g.10gb,,2g,", r"line 5 .*ids is captured"),
        ("mig_profiles.csv", "A30-24GB,1g.6gb,", "A31,1g.6gb,", r"boards.toml does not name: \['A31'\]"),
        ("mig_profiles.csv", "A30-24GB,2g.12gb,", "A30-24GB,1g.6gb,", "two profiles share a name"),
        ("mig_profiles.csv", "capture-a30 ", "hearsay ", "does not explain hearsay"),
        ("boards.toml", 'name = "H200-141GB"', 'nome = "H200-141GB"', r"board 8 .*name: Field required"),
        ("boards.toml", '"NVIDIA H100 PCIe"', '"NVIDIA H200"', "both claim the name 'h200'"),
        ("boards.toml", 'name = "L4"', 'name = "L4', "boards.toml cannot be read"),
        ("sources.toml", 'revision = "R580"', "", r"sources.toml, \[mig-guide-profiles-r580\].*revision"),
    ],
)
def test_a_broken_catalogue_names_its_file_and_row(
    tmp_path: Path, file: str, old: str, new: str, complaint: str
) -> None:
    folder = Path(shutil.copytree(DATA, tmp_path / "data"))
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(CatalogError, match=complaint):
        read_catalog(folder)


def test_cautions_state_what_is_not_known_and_not_what_an_advice_makes_of_it(catalog: Catalog) -> None:
    for board in catalog.boards:
        for caution in board.cautions:
            assert " moved onto" not in caution
            assert "keeps the profile" not in caution
