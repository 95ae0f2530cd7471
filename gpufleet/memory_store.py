"""The store that `gpufleet memory` reads measured runs from, and that `memory learn` writes them to."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from planner.memory.experience import NO_EXPERIENCE, Experience

if TYPE_CHECKING:
    from sqlalchemy import Engine


def known_experience(store: str | None, config: Path | None) -> Experience:
    """What the store holds of measured runs; nothing where there is none. A store is never made here.

    One that is there and cannot be read (of another version, damaged, out of reach) corrects nothing, and every answer
    says so; one that was named with `--store` raises StoreError instead.
    """
    if store is None and config is None and not _is_there():
        return NO_EXPERIENCE  # nobody has a store: its libraries need not be loaded
    from store import memory_runs
    from store.database import open_engine
    from store.errors import StoreError, StoreMissing

    try:
        engine = open_engine(store_place(store, config), read_only=True)
        try:
            return memory_runs.experience(engine)
        finally:
            engine.dispose()
    except StoreError as error:
        if store is not None:
            raise
        if isinstance(error, StoreMissing):
            return NO_EXPERIENCE
        return Experience(notes=(f"Nothing is corrected by measured runs, as {str(error).rstrip('.')}.",))


@contextmanager
def writable_store(store: str | None, config: Path | None) -> "Iterator[Engine]":
    """The store with this version's tables, made or migrated where need be. Raises StoreError."""
    from store.database import open_engine
    from store.schema import migrate

    engine = open_engine(store_place(store, config))
    try:
        migrate(engine)
        yield engine
    finally:
        engine.dispose()


def store_place(store: str | None, config: Path | None) -> str:
    """URL of the store: the one named, that of the named configuration, else where every command looks."""
    if store is not None:
        return store
    if config is not None:
        from gpufleet.config import load_config

        return load_config(config).store.url
    from store.location import store_url

    return store_url(os.environ, Path.cwd())


def _is_there() -> bool:
    """Whether anything says where a store is, or one lies at the default place; names of `store.location`."""
    here = Path.cwd()
    return bool(os.environ.get("GPUFLEET_STORE_URL", "").strip()) or any(
        (here / name).exists() for name in ("gpufleet.toml", "gpufleet.db")
    )
