"""`gpufleet mig boards` and `gpufleet mig layouts`: what they print, and what they say to wrong questions."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gpufleet.cli import app
from planner.catalog import load_catalog

BASE = ["--profile", "1g.5gb", "--profile", "2g.10gb", "--profile", "3g.20gb", "--profile", "4g.20gb"]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "json.md"


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["mig", *arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def document(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def keys(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*(keys(item) for item in value))
    if isinstance(value, dict):
        return set(value).union(*(keys(item) for item in value.values()))
    return set()


def test_the_json_page_names_every_key() -> None:
    page = PAGE.read_text(encoding="utf-8")
    named = {word for quoted in re.findall(r"`([^`]+)`", page) for word in re.findall(r"[a-z_0-9]+", quoted)}
    printed = keys(document("boards")) | keys(document("layouts", "A30", "--maximal"))
    assert printed >= {"compute_instances", "stranded_compute_slices", "drivers_below"}
    assert sorted(printed - named) == []


def test_boards_lists_the_whole_catalogue_with_null_for_what_is_not_known() -> None:
    listed = document("boards")["boards"]
    assert [board["board"] for board in listed] == [board.name for board in load_catalog().boards]
    by_name = {board["board"]: board for board in listed}
    a100 = by_name["A100-40GB"]
    assert a100["placement_grid"] == 8
    assert a100["exclusions"][0]["drivers_below"] == "510"
    assert by_name["GB300-278GB"]["exclusions"][0]["drivers_from"] == "595.58.03"
    double = next(one for one in a100["profiles"] if one["profile"] == "1g.10gb")
    assert double["placements"] == [{"start": start, "size": 2} for start in (0, 2, 4, 6)]
    assert double["evidence"]["placements"] == "captured"
    assert by_name["RTX-PRO-5000-48GB"]["placement_grid"] is None
    assert "No source states" in by_name["RTX-PRO-5000-48GB"]["not_plannable"]
    assert by_name["T4"]["mig_capable"] is False
    assert by_name["T4"]["profiles"] == []
    assert by_name["H20-141GB"]["profiles"][0]["memory_bytes"] is None


def test_boards_tells_people_placements_evidence_cautions_and_exceptions() -> None:
    printed = run("boards").stdout
    assert "0:2 2:2 4:2 6:2" in printed
    assert "12 placement units" in printed
    assert re.search(r"3g\.139gb .*ids documented.*placements derived.*memory unknown", printed)
    assert "note: If the machine is a DGX Station GB300" in printed
    assert "exception: 4g.20gb and 3g.20gb cannot exist together" in printed
    assert "Without MIG: T4, L4" in printed


def test_boards_say_which_profiles_exclude_each_other_wherever_they_lie() -> None:
    (a30,) = document("boards", "A30")["boards"]
    excludes = {one["profile"]: one["excludes"] for one in a30["profiles"] if one["excludes"]}
    assert excludes == {"1g.6gb+me": ["2g.12gb+me"], "2g.12gb+me": ["1g.6gb+me"]}
    assert "excluded: 1g.6gb+me cannot exist beside 2g.12gb+me: they claim" in run("boards", "A30").stdout
    (rtx,) = document("boards", "RTX-PRO-6000-96GB")["boards"]
    everything = next(one["excludes"] for one in rtx["profiles"] if one["profile"] == "1g.24gb+me.all")
    assert "2g.48gb+me.all" in everything
    assert not [name for name in everything if name.endswith("-me")]


def test_one_board_can_be_asked_for_by_the_name_its_driver_prints() -> None:
    (board,) = document("boards", "NVIDIA H100 80GB HBM3")["boards"]
    assert board["board"] == "H100-80GB-SXM"


@pytest.mark.parametrize(
    ("arguments", "legal", "maximal", "listed"),
    [
        (["A100-40GB", *BASE, "--profile", "7g.40gb"], 297, 19, 297),
        (["A100-40GB", *BASE, "--profile", "7g.40gb", "--maximal"], 297, 19, 19),
        (["A100-40GB", *BASE, "--profile", "7g.40gb", "--maximal", "--driver", "470.57.02"], 296, 18, 18),
        (["A30", "--profile", "1g.6gb", "--profile", "2g.12gb", "--profile", "4g.24gb"], 25, 5, 25),
        (["RTX-PRO-6000-96GB", "--maximal"], 716, 302, 302),
    ],
)
def test_layouts_have_the_published_counts(arguments: list[str], legal: int, maximal: int, listed: int) -> None:
    told = document("layouts", *arguments)
    assert (told["legal_layouts"], told["maximal_layouts"], len(told["layouts"])) == (legal, maximal, listed)
    assert sum(layout["maximal"] for layout in told["layouts"]) == maximal


def test_a_layout_says_what_it_strands() -> None:
    told = document("layouts", "A100-40GB", "--maximal", *BASE)
    placed = {
        tuple((one["profile"], one["start"]) for one in layout["instances"]): layout for layout in told["layouts"]
    }
    halves = placed[("3g.20gb", 0), ("3g.20gb", 4)]
    assert (halves["free_units"], halves["stranded_compute_slices"], halves["sm_count"]) == ([], 1, 84)
    ones = placed[tuple(("1g.5gb", start) for start in range(7))]
    assert (ones["stranded_units"], ones["stranded_compute_slices"]) == ([7], 0)


def test_layouts_name_what_the_machine_refuses_and_what_is_not_captured() -> None:
    station = ["layouts", "GB300", "--maximal", "--driver", "615.1", "--machine", "NVIDIA DGX Station GB300"]
    told = document(*station)
    assert len(told["exclusions"]) == 2
    assert not [
        layout
        for layout in told["layouts"]
        if sum(one["profile"] == "2g.70gb" for one in layout["instances"]) == 2
        and any(one["profile"] == "3g.139gb" for one in layout["instances"])
    ]
    assert any("carried over from the same chip" in caveat for caveat in told["caveats"])
    assert "refused: 3g.139gb and 2 of 2g.70gb" in run(*station).stdout
    unknown = document("layouts", "GB300", "--maximal")
    assert unknown["exclusions"] == []
    assert sum("If the machine is a DGX Station" in caveat for caveat in unknown["caveats"]) == 2
    assert document("layouts", "A30")["caveats"] == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["boards", "A100"], "no board 'A100'. Nearest: A100-40GB, A100-80GB"),
        (["layouts", "a100_80"], "Nearest: A100-80GB"),
        (["layouts", "H1OO-80GB-SXM"], "Nearest: H100-80GB-SXM"),
        (["layouts", ""], "no board ''. Known:"),
        (["layouts", "\x1b[31mB200\u202e"], r"no board '\x1b[31mB200\u202e'"),
        (["layouts", "[bold]"], "no board '[bold]'"),
        (["layouts", "../../etc/passwd"], "no board '../../etc/passwd'"),
        (["layouts", "A" * 100_000], "...'"),
        (["layouts", "T4"], "T4 cannot be cut into GPU instances."),
        (["layouts", "RTX-PRO-4500-32GB"], "No source states where the profiles of RTX-PRO-4500-32GB can lie"),
        (["layouts", "A30", "--profile", "2g.10gb"], "A30-24GB has no profile '2g.10gb'. Nearest: 2g.12gb"),
        (["layouts", "A30", "--driver", "latest"], "'latest' is no driver version"),
        (["layouts", "A30", "--driver", "9" * 100_000], "is no driver version"),
    ],
)
def test_a_wrong_question_is_answered_with_a_sentence(arguments: list[str], told: str) -> None:
    printed = run(*arguments, code=2).stderr
    assert printed.startswith("gpufleet: ")
    assert told in printed
    assert len(printed) < 1000
    assert not set(printed) & {"\x1b", "\u202e"}


def test_every_board_that_can_be_planned_lists_its_layouts() -> None:
    for board in load_catalog().boards:
        if board.placement_grid:
            assert f"{board.name}: " in run("layouts", board.name, "--maximal").stdout
