"""The store, writable for a moment: pages read through a read-only engine and write only what somebody asks to keep."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from store.database import open_engine

_PATIENCE_MS = 2_000  # somebody waits for the answer; a collector's transaction takes some tenths of a second


@contextmanager
def writable(url: str) -> Iterator[Engine]:
    """Raises StoreError, also where there is no store or one of another version: a page makes and migrates none."""
    open_engine(url, read_only=True).dispose()
    engine = open_engine(url, busy_timeout_ms=_PATIENCE_MS)
    try:
        yield engine
    finally:
        engine.dispose()
