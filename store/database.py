"""How the store is opened: one engine for the collector, a read-only one for everything that only looks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from store.errors import StoreMissing, StoreOutdated, StoreReadOnly, StoreUrlInvalid
from store.errors import mapped_errors as mapped_errors
from store.schema import BEGIN_OPTION, SchemaState, schema_state

BUSY_TIMEOUT_MS = 10_000
"""How long a connection waits for the write lock; a batch of a thousand devices is written in well under a second."""

_WAL_LIMIT_BYTES = 64 * 1024 * 1024  # a log that a long reader let grow is cut back to this


def open_engine(url: str, *, read_only: bool = False, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> Engine:
    """An engine on the store; dispose of it when done.

    With `read_only` the store must exist and have this version's tables: raises StoreMissing, StoreOutdated. Raises
    StoreUrlInvalid.
    Without it the folder of an SQLite file is created; call `store.schema.migrate` before writing.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreUrlInvalid("the store's URL is not understood; write it as in sqlite:///gpufleet.db") from error
    _require_driver(parsed)
    if parsed.get_backend_name() != "sqlite":
        engine = create_engine(parsed)
    elif parsed.database in (None, "", ":memory:"):
        raise StoreUrlInvalid("an SQLite store is a file, shared by collector and dashboard: sqlite:///gpufleet.db")
    else:
        engine = _sqlite_engine(parsed, Path(parsed.database), read_only=read_only, busy_timeout_ms=busy_timeout_ms)
    if read_only:
        try:
            _require_current_schema(engine, parsed.render_as_string(hide_password=True))
        except BaseException:
            engine.dispose()
            raise
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that holds the write lock from its start: all of it is stored, or nothing.

    On SQLite a transaction that first reads and then writes can fail although it waited its turn; taking the lock
    at once (BEGIN IMMEDIATE) rules that out. https://www.sqlite.org/lang_transaction.html
    """
    with mapped_errors(engine), engine.execution_options(**{BEGIN_OPTION: "BEGIN IMMEDIATE"}).begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent view of the store; never waits for a writer, never blocks one."""
    with mapped_errors(engine), engine.connect() as connection:
        yield connection


def upsert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert that can say what to do on a conflict."""
    return dialect_insert(connection.dialect.name, table)


def dialect_insert(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """The same by name of the dialect; SQLite and PostgreSQL spell it alike, each with a class of its own."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def _require_current_schema(engine: Engine, place: str) -> None:
    state = schema_state(engine)
    if state is SchemaState.MISSING:
        raise StoreMissing(f"the store {place} has no tables yet: start the collector (`gpufleet run`)")
    if state is SchemaState.OUTDATED:
        raise StoreOutdated(f"the store {place} is of an older gpufleet: start the collector once, it migrates")
    if state is SchemaState.NEWER:
        raise StoreOutdated(f"the store {place} is of a newer gpufleet than this one: update gpufleet")


def _require_driver(url: URL) -> None:
    try:
        url.get_dialect().import_dbapi()
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise StoreUrlInvalid(
            f"no driver for a store of kind {url.drivername!r} is installed ({error}); install one, or use "
            "sqlite:///gpufleet.db"
        ) from error


def _sqlite_engine(url: URL, path: Path, *, read_only: bool, busy_timeout_ms: int) -> Engine:
    path = path.absolute()
    if read_only:
        if not path.is_file():
            raise StoreMissing(f"there is no store at {path}: start the collector (`gpufleet run`)")
        # Opened anew for each reader: a file that was replaced or removed is noticed, nothing is held over threads.
        engine = create_engine(
            url.set(database=_read_only_uri(path), query={**url.query, "uri": "true"}), poolclass=NullPool
        )
    else:
        _make_folder(path.parent)
        engine = create_engine(url.set(database=str(path)))

    def set_pragmas(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # The driver's own transaction handling would commit before DDL and start late; BEGIN is ours (below).
        connection.isolation_level = None
        cursor = connection.cursor()
        try:
            cursor.execute(f"PRAGMA busy_timeout={busy_timeout_ms}")
            if read_only:
                cursor.execute("PRAGMA query_only=ON")
            else:
                cursor.execute("PRAGMA journal_mode=WAL")
                cursor.execute("PRAGMA synchronous=NORMAL")  # after a power cut the newest batches may be gone, no more
                cursor.execute("PRAGMA foreign_keys=ON")
                cursor.execute(f"PRAGMA journal_size_limit={_WAL_LIMIT_BYTES}")
        finally:
            cursor.close()

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(BEGIN_OPTION, "BEGIN"))

    event.listen(engine, "connect", set_pragmas)
    event.listen(engine, "begin", begin)
    return engine


def _read_only_uri(path: Path) -> str:
    # A WAL database in a folder we may not write, with no log beside it, has no writer either: without `immutable`
    # SQLite would refuse to read it. https://www.sqlite.org/wal.html#read_only_databases
    log = path.with_name(path.name + "-wal")
    frozen = not os.access(path.parent, os.W_OK) and not log.exists()
    return f"file:{quote(str(path))}?mode=ro{'&immutable=1' if frozen else ''}"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except PermissionError as error:
        raise StoreReadOnly(f"the store's folder {folder} cannot be made: {error.strerror}") from error
    except OSError as error:
        raise StoreMissing(f"the store's folder {folder} is not there and cannot be made: {error.strerror}") from error
