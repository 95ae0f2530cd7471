"""What can go wrong with the store, and how a driver's error becomes one of ours.

StoreError
+-- StoreUrlInvalid     what is configured is no database URL, or one that cannot be a store
+-- StoreMissing        nothing is there: no file, or a file without tables
+-- StoreOutdated       tables of another version of gpufleet: older (migrate) or newer (update gpufleet)
+-- StoreReadOnly       file or folder may not be written
+-- StoreFull           no space left
+-- StoreBusy           another process held the write lock for too long
+-- StoreCorrupt        not a database, or a damaged one
+-- StoreUnavailable    anything else between us and the database: I/O error, refused connection
+-- ScenarioRefused     a scenario whose name or size is not one that is kept
+-- ScenarioMissing     no scenario is saved under that name
+-- MemoryRunRefused    a measured run that is too large, or one more than are kept
+-- MemoryRunMissing    the measured run is not in the store
+-- MemoryRunDamaged    a measured run in the store cannot be understood
+-- DiagnosisDamaged    a diagnosis in the store cannot be understood
+-- SourceUnknown       no source of that name was ever read into the store
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError


class StoreError(Exception):
    """Base of all store errors; the message says what, why and what to do."""


class StoreUrlInvalid(StoreError):
    """What is configured is no database URL, or one that cannot be a store."""


class StoreMissing(StoreError):
    """There is no store at that place."""


class StoreOutdated(StoreError):
    """The store's tables are of another version than this code."""


class StoreReadOnly(StoreError):
    """The store may be read but not written."""


class StoreFull(StoreError):
    """There is no space left for the store; nothing of the refused batch was written."""


class StoreBusy(StoreError):
    """Another process held the store's write lock for longer than we wait."""


class StoreCorrupt(StoreError):
    """The file is not a database, or a damaged one."""


class StoreUnavailable(StoreError):
    """The database could not be reached or read."""


class ScenarioRefused(StoreError):
    """The name or the size of a scenario is not one that is kept."""


class ScenarioMissing(StoreError):
    """No scenario is saved under that name."""


class MemoryRunRefused(StoreError):
    """A measured run is too large to be kept, or as many are kept as may be."""


class MemoryRunMissing(StoreError):
    """The measured run is not in the store."""


class MemoryRunDamaged(StoreError):
    """A measured run in the store cannot be understood."""


class DiagnosisDamaged(StoreError):
    """A diagnosis in the store cannot be understood."""


class SourceUnknown(StoreError):
    """No source of that name was ever read into the store."""


# Result codes: https://www.sqlite.org/rescode.html; the low byte is the primary code.
_BY_SQLITE_CODE: dict[int, tuple[type[StoreError], str]] = {
    sqlite3.SQLITE_READONLY: (
        StoreReadOnly,
        "the store may not be written: give this user write access to the file and its folder",
    ),
    sqlite3.SQLITE_FULL: (
        StoreFull,
        "no space left for the store: free disk space or prune old samples; the batch was not written",
    ),
    sqlite3.SQLITE_BUSY: (StoreBusy, "another process is writing to the store and did not finish in time: try again"),
    sqlite3.SQLITE_LOCKED: (StoreBusy, "another connection holds a table of the store: try again"),
    sqlite3.SQLITE_CORRUPT: (
        StoreCorrupt,
        "the store is damaged: move the file away, or recover it with `sqlite3 FILE .recover`",
    ),
    sqlite3.SQLITE_NOTADB: (StoreCorrupt, "the file is not an SQLite database: check the path, or move the file away"),
    sqlite3.SQLITE_CANTOPEN: (StoreMissing, "the store cannot be opened: check that file and folder exist"),
    sqlite3.SQLITE_IOERR: (StoreUnavailable, "the operating system refused to read or write the store: check the disk"),
}


@contextmanager
def mapped_errors(engine: Engine) -> Iterator[None]:
    """Turn what the database driver raises inside the block into a `StoreError` that names the store."""
    try:
        yield
    except DBAPIError as error:
        raise _mapped(error.orig, _place(engine)) from error
    except sqlite3.Error as error:
        raise _mapped(error, _place(engine)) from error


def _place(engine: Engine) -> str:
    """For SQLite the path, which a reader's URI wraps; else the URL without its password."""
    database = engine.url.database or ""
    if engine.dialect.name == "sqlite":
        return unquote(database.removeprefix("file:").partition("?")[0])
    return engine.url.render_as_string(hide_password=True)


def _mapped(error: BaseException | None, place: str) -> StoreError:
    code = getattr(error, "sqlite_errorcode", None)
    kind = _BY_SQLITE_CODE.get(code & 0xFF) if code is not None else None
    if kind is not None:
        return kind[0](f"{place}: {kind[1]} ({error})")
    text = str(error)
    if "no such table" in text or "no such column" in text or "has no column" in text:
        return StoreOutdated(
            f"{place}: the store lacks what this version of gpufleet needs: start the collector once ({text})"
        )
    return StoreUnavailable(f"{place}: the database refused: {text}")
