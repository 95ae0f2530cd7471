import csv
import io
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from dashboard import data
from dashboard.csv_tables import CsvTable
from dashboard.report import Report, build_report, write_report
from tests.dashboard.fleets import HOSTILE


def built(url: str, name: str = "weekly", at: datetime | None = None) -> Report:
    return build_report(data.open_store(url), at or datetime.now(UTC), name)


@pytest.mark.parametrize("kind", ["demo", "empty", "stale", "broken", "hostile"])
def test_a_report_can_be_made_of_every_kind_of_store(stores: dict[str, str], kind: str) -> None:
    html = built(stores[kind]).html
    assert "GPU fleet report: weekly" in html
    assert ("No GPU has been seen yet" in html) == (kind == "empty")
    assert ("Stale: nothing newer" in html) == (kind in ("stale", "broken"))


def test_the_page_asks_nobody_for_anything(stores: dict[str, str]) -> None:
    html = built(stores["demo"]).html
    assert "<script" not in html
    assert "<link" not in html
    assert re.findall(r"""(?:src|href)\s*=|url\(|@import""", html) == []
    assert "default-src 'none'" in html


def test_names_from_the_cluster_never_become_markup(stores: dict[str, str]) -> None:
    html = built(stores["hostile"], name="<script>weekly</script>").html
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;weekly" in html


def test_the_style_sheet_arrives_unescaped(stores: dict[str, str]) -> None:
    style = built(stores["empty"]).html.split("<style>")[1].split("</style>")[0]
    assert "&#34;" not in style
    assert "light-dark(" in style


def test_the_tables_hold_the_numbers_of_the_page(stores: dict[str, str]) -> None:
    report = built(stores["demo"])
    tables = {table.name: list(csv.DictReader(io.StringIO(table.csv()))) for table in report.tables}
    assert [row["step"] for row in tables["funnel"]] == ["Total", "Allocated", "Active", "Effective"]
    assert float(tables["funnel"][0]["gpus"]) == 48
    assert sum(float(row["gpus"]) for row in tables["states"]) == pytest.approx(48)
    assert {row["board"] for row in tables["advice"]} == {board.board.name for board in report.advice.boards}
    assert len(tables["assignments"]) == sum(len(board.assignments) for board in report.advice.boards)
    assert len(tables["sources"]) == 6


def test_a_cell_that_a_spreadsheet_would_run_is_defused_and_numbers_stay_numbers() -> None:
    table = CsvTable(
        name="t",
        header=("name", "value"),
        rows=(("=1+1", -1.5), ("+x", None), ("-x", 0), ("@x", True), ("\tx", 2), ('a,"b"', 3), ("fine", 4)),
    )
    rows = list(csv.reader(io.StringIO(table.csv())))[1:]
    assert rows == [
        ["'=1+1", "-1.5"],
        ["'+x", ""],
        ["'-x", "0"],
        ["'@x", "True"],
        ["'\tx", "2"],
        ['a,"b"', "3"],
        ["fine", "4"],
    ]


def test_files_are_named_after_report_and_utc_moment(stores: dict[str, str], tmp_path: Path) -> None:
    moment = datetime(2026, 11, 23, 9, 0, tzinfo=timezone(timedelta(hours=2)))
    paths = write_report(built(stores["demo"], at=moment), tmp_path / "new" / "folder")
    assert paths[0].name == "weekly-2026-11-23T0700Z.html"
    assert {path.name for path in paths[1:]} == {
        f"weekly-2026-11-23T0700Z-{table}.csv"
        for table in ("funnel", "states", "waste", "busiest", "sources", "advice", "layouts", "assignments")
    }
    assert set(paths) == set((tmp_path / "new" / "folder").iterdir())


def test_a_report_name_cannot_leave_its_folder(stores: dict[str, str], tmp_path: Path) -> None:
    paths = write_report(built(stores["empty"], name="../../etc/pass wd"), tmp_path / "reports")
    assert {path.parent for path in paths} == {tmp_path / "reports"}


def test_a_write_that_fails_leaves_neither_half_a_report_nor_rubbish(
    stores: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = built(stores["empty"])
    before = write_report(report, tmp_path)[0].read_text()

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    files = set(tmp_path.iterdir())
    with pytest.raises(OSError, match="No space left"):
        write_report(report, tmp_path)
    assert set(tmp_path.iterdir()) == files
    assert next(path for path in files if path.suffix == ".html").read_text() == before


def test_writing_again_in_the_same_minute_replaces_the_files(stores: dict[str, str], tmp_path: Path) -> None:
    report = built(stores["empty"])
    assert write_report(report, tmp_path) == write_report(report, tmp_path)


def test_hostile_names_reach_the_tables_as_they_are(stores: dict[str, str]) -> None:
    tables = {table.name: table.csv() for table in built(stores["hostile"]).tables}
    assert any(name in tables["busiest"] for name in HOSTILE)
