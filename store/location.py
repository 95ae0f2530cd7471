"""Where the store is, for a program that was told nothing else."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from store.errors import StoreUnavailable

STORE_URL_VARIABLE = "GPUFLEET_STORE_URL"
CONFIGURATION_FILE = "gpufleet.toml"
DEFAULT_URL = "sqlite:///gpufleet.db"


def store_url(environ: Mapping[str, str], directory: Path) -> str:
    """URL of the store: $GPUFLEET_STORE_URL, else `[store] url` of gpufleet.toml in `directory`, else the default.

    A relative SQLite path of the file or the default is taken from `directory`. Raises StoreUnavailable when the file
    is there and cannot be understood; what else is wrong with it, `gpufleet check-config` says.
    """
    told = environ.get(STORE_URL_VARIABLE, "").strip()
    if told:
        return told
    return _anchored(_configured(directory / CONFIGURATION_FILE) or DEFAULT_URL, directory)


def _configured(file: Path) -> str | None:
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StoreUnavailable(f"{file} cannot be read, so the store's place is unknown: {error}") from error
    section = settings.get("store", {})
    url = section.get("url") if isinstance(section, dict) else None
    return url if isinstance(url, str) and url else None


def _anchored(url: str, directory: Path) -> str:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreUnavailable(f"{url!r} is no store URL, write for example {DEFAULT_URL}") from error
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return url
    return parsed.set(database=str(directory / parsed.database)).render_as_string(hide_password=False)
