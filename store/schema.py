"""Which version the store's tables are, and how they become this one."""

from enum import StrEnum
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from store.errors import StoreOutdated, mapped_errors

BEGIN_OPTION = "sqlite_begin"
"""Execution option of a connection: the statement that starts its transactions on SQLite."""

_MIGRATIONS = Path(__file__).parent / "migrations"


class SchemaState(StrEnum):
    """How the store's tables compare with this code."""

    MISSING = "missing"
    OUTDATED = "outdated"
    CURRENT = "current"
    NEWER = "newer"


def migrate(engine: Engine) -> None:
    """Create or upgrade the tables in one transaction; does nothing when they are current.

    Processes that start together wait for each other. Raises StoreOutdated when the store is newer than this code.
    """
    with mapped_errors(engine), engine.execution_options(**{BEGIN_OPTION: "BEGIN IMMEDIATE"}).begin() as connection:
        state = _state(connection)
        if state is SchemaState.NEWER:
            raise StoreOutdated("the store was written by a newer gpufleet than this one: update gpufleet")
        if state is not SchemaState.CURRENT:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def schema_state(engine: Engine) -> SchemaState:
    """How the store's tables compare with this code; needs no write access."""
    with mapped_errors(engine), engine.connect() as connection:
        return _state(connection)


def _state(connection: Connection) -> SchemaState:
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None:
        return SchemaState.MISSING
    scripts = ScriptDirectory.from_config(_config())
    if revision == scripts.get_current_head():
        return SchemaState.CURRENT
    known = {script.revision for script in scripts.walk_revisions()}
    return SchemaState.OUTDATED if revision in known else SchemaState.NEWER


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))  # % is interpolated there
    return config
