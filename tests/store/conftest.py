"""Fresh stores for tests: the tables are made once and copied."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from store.database import open_engine
from store.schema import migrate
from store.writes import register_source
from tests.store.batches import NOW


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "empty.db"
    engine = open_engine(f"sqlite:///{path}")
    migrate(engine)
    engine.dispose()
    return path


@pytest.fixture
def path(empty_store: Path, tmp_path: Path) -> Path:
    """File of a store with tables and nothing in them."""
    return Path(shutil.copy(empty_store, tmp_path / "gpufleet.db"))


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{path}")
    yield engine
    engine.dispose()


@pytest.fixture
def source_id(engine: Engine) -> int:
    return register_source(engine, cluster="default", name="dcgm", kind="dcgm", interval_s=30, now=NOW)


@pytest.fixture(scope="module")
def shared_engine(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One store for all examples of a property; each takes a cluster of its own."""
    engine = open_engine(f"sqlite:///{shutil.copy(empty_store, tmp_path_factory.mktemp('shared') / 'shared.db')}")
    yield engine
    engine.dispose()
