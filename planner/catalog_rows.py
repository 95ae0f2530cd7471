"""How a file of `planner/data` is read: unknown keys are refused, and errors name the file and the row."""

import tomllib
from collections.abc import Container
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from planner.errors import CatalogError


class Row(BaseModel):
    """One row of a catalogue file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; raises CatalogError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CatalogError(f"{path.name} cannot be read: {error}") from error


def refused(where: str, error: ValidationError) -> CatalogError:
    """What pydantic says about a row, as one sentence."""
    details = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
    return CatalogError(f"{where}: {details}")


def check_sources(keys: tuple[str, ...], known: Container[str], where: str) -> None:
    """Raises CatalogError when sources.toml does not explain one of the keys."""
    missing = [key for key in keys if key not in known]
    if missing:
        raise CatalogError(f"{where}: sources.toml does not explain {', '.join(missing)}.")
