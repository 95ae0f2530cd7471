"""Measured runs that `gpufleet memory learn` keeps: a JSON lines file beside the user's other files.

Each line is one start of an engine: what it measured, and what was predicted for it with its own settings.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpufleet.errors import ShellError
from planner.memory.calibration import Calibration, CalibrationKey, TermComparison
from planner.memory.estimate import Engine

DEFAULT_FILE = "gpufleet-memory.jsonl"
_SIZE_LIMIT_BYTES = 64 * 2**20


class TermRow(BaseModel):
    """One term as predicted and as measured, in bytes."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    predicted: int
    low: int
    high: int
    measured: int = Field(ge=0)


class HistoryRow(BaseModel):
    """One line of the file; `measured` holds everything the log printed, for people and for later versions."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str
    engine: Engine
    engine_version: str | None = None
    device: str
    measured_at: datetime | None = None
    terms: tuple[TermRow, ...] = ()
    measured: dict[str, Any] = Field(default_factory=dict)

    def calibration(self) -> Calibration:
        """As the planner takes it."""
        key = CalibrationKey(model=self.model, engine=self.engine, version=self.engine_version, device=self.device)
        terms = tuple(TermComparison(**term.model_dump()) for term in self.terms)
        return Calibration(key=key, terms=terms, measured_at=self.measured_at)


def row_of(calibration: Calibration, measured: Mapping[str, Any]) -> HistoryRow:
    """The line of one measured run."""
    key = calibration.key
    return HistoryRow(
        model=key.model,
        engine=key.engine,
        engine_version=key.version,
        device=key.device,
        measured_at=calibration.measured_at,
        terms=tuple(
            TermRow(name=one.name, predicted=one.predicted, low=one.low, high=one.high, measured=one.measured)
            for one in calibration.terms
        ),
        measured=dict(measured),
    )


def history_path(given: Path | None) -> Path:
    """The file named with --calibration, else the one of this folder."""
    return given if given is not None else Path(DEFAULT_FILE)


def read_history(given: Path | None) -> tuple[HistoryRow, ...]:
    """Every line; none where nobody named a file and this folder has none. Raises ShellError naming the line."""
    path = history_path(given)
    if given is None and not path.is_file():
        return ()
    try:
        if path.stat().st_size > _SIZE_LIMIT_BYTES:
            raise ShellError(f"{str(path)!r} is too large for measured runs: at most {_SIZE_LIMIT_BYTES >> 20} MiB.")
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ShellError(f"the measured runs {str(path)!r} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ShellError(f"{str(path)!r} is no text file; name one that `gpufleet memory learn` wrote.") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(HistoryRow.model_validate_json(line))
        except ValidationError as error:
            raise ShellError(
                f"line {number} of {str(path)!r} is no measured run ({error.errors()[0]['msg']}); remove the line."
            ) from error
    return tuple(rows)


def keep(row: HistoryRow, given: Path | None) -> bool:
    """Append the run; False where the same measurement is there already, so that a log can be read twice."""
    path = history_path(given)
    before = read_history(path) if path.is_file() else ()
    if any(_same(row, other) for other in before):
        return False
    line = json.dumps(row.model_dump(mode="json"), ensure_ascii=False, sort_keys=True)
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
    except OSError as error:
        raise ShellError(
            f"the measured run cannot be written to {str(path)!r}: {error.strerror}; name another file with "
            "--calibration FILE."
        ) from error
    return True


def _same(row: HistoryRow, other: HistoryRow) -> bool:
    def identity(one: HistoryRow) -> tuple[object, ...]:
        return one.model, one.engine, one.engine_version, one.device, one.measured

    return identity(row) == identity(other)
