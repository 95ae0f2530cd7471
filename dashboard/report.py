"""The scheduled report: one self-contained page and the tables on it as CSV, from the same functions as the pages."""

import os
import re
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from dashboard import csv_tables, data
from dashboard.csv_tables import CsvTable
from dashboard.html_parts import render, style_sheet
from dashboard.mig_drawing import LayoutDrawing, draw_current, draw_proposed
from dashboard.overview_figures import Overview
from planner.advice import Advice, BoardAdvice

OVERVIEW_WINDOW = timedelta(hours=1)  # as on the overview page
ADVICE_WINDOW = timedelta(hours=24)  # as the advice page opens with

DRAWN_GPUS = 4
"""Per board and side; a report is read, not browsed, and the CSV files have all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardPicture:
    """One board's advice with its drawings."""

    board: BoardAdvice
    now: tuple[LayoutDrawing, ...]
    proposed: tuple[LayoutDrawing, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A finished report: what it shows, the page, and its tables."""

    name: str
    written_at: datetime
    overview: Overview
    advice: Advice
    html: str
    tables: tuple[CsvTable, ...]


def build_report(engine: Engine, now: datetime, name: str) -> Report:
    """The report of this moment; nothing is written. Raises StoreError."""
    rows = data.sources(engine, now)
    fleet = data.joined(engine, now, OVERVIEW_WINDOW)
    overview = data.overview(fleet, rows, data.freshness(engine, rows, now), OVERVIEW_WINDOW)
    figures = data.advice(engine, now, ADVICE_WINDOW)
    advice = figures.advice
    pictures = tuple(
        BoardPicture(board=board, now=draw_current(board, 0, DRAWN_GPUS), proposed=draw_proposed(board, 0, DRAWN_GPUS))
        for board in advice.boards
    )
    html = render(
        "report.html.j2",
        {
            "name": name,
            "now": now.astimezone(UTC),
            "overview": overview,
            "figures": figures,
            "advice_window_s": ADVICE_WINDOW.total_seconds(),
            "pictures": pictures,
            "drawn": DRAWN_GPUS,
            "style": style_sheet(),
        },
    )
    return Report(
        name=name,
        written_at=now,
        overview=overview,
        advice=advice,
        html=html,
        tables=(*csv_tables.overview_tables(overview), *csv_tables.advice_tables(advice)),
    )


def write_report(report: Report, directory: Path) -> tuple[Path, ...]:
    """Write the page and its tables, each whole or not at all; the page comes last and first in the answer.

    Files are named after the report and its UTC moment: `weekly-2026-11-23T0700Z.html`, `…Z-waste.csv`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    stem = f"{_file_name(report.name)}-{report.written_at.astimezone(UTC):%Y-%m-%dT%H%MZ}"
    tables = [_write(directory / f"{stem}-{table.name}.csv", table.csv()) for table in report.tables]
    return (_write(directory / f"{stem}.html", report.html), *tables)


def _file_name(name: str) -> str:
    """The report's name with nothing in it that a file system or a shell reads as more than a letter."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip(".-") or "report"


def _write(path: Path, text: str) -> Path:
    """Through a file beside it and a rename, so that nobody ever reads half a report."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp makes it private; a report is there to be read
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
