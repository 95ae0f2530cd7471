"""How rows with many columns are written, of which each time only some have a value."""

from collections.abc import Sequence
from functools import lru_cache

from sqlalchemy import Dialect, Table, func
from sqlalchemy.dialects import registry

from store.database import dialect_insert


@lru_cache(maxsize=512)
def wide_upsert(dialect: str, table: Table, key: str, metrics: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The driver's own statement, and the metrics in the order of its parameters after `key` and time.

    A row that is there keeps what is not told again. Given to the driver as it is: on wide rows, handling the
    parameters would cost SQLAlchemy more than the insert.
    """
    statement = dialect_insert(dialect, table).values(dict.fromkeys((key, "observed_at_ms", *metrics)))
    statement = statement.on_conflict_do_update(
        index_elements=[key, "observed_at_ms"],
        set_={name: func.coalesce(statement.excluded[name], table.c[name]) for name in metrics},
    )
    positional: Dialect = registry.load(dialect)(paramstyle="qmark" if dialect == "sqlite" else "format")
    compiled = statement.compile(dialect=positional)
    positions: Sequence[str] = getattr(compiled, "positiontup", None) or ()
    if tuple(positions[:2]) != (key, "observed_at_ms") or set(positions[2:]) != set(metrics):
        raise AssertionError(f"columns and parameters of the statement for {table.name} disagree: {positions}")
    return str(compiled), tuple(positions[2:])
