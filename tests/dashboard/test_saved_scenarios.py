"""Scenarios in the store: saved and loaded whole, and kept by the visitor where the store cannot be written."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from dashboard import data, saved_scenarios, store_writing
from dashboard.scenario import ScenarioInvalid
from store import scenarios as stored
from store.database import open_engine, writing
from store.errors import ScenarioMissing, ScenarioRefused, StoreBusy, StoreMissing
from store.schema import migrate
from tests.dashboard.fleets import NOW
from tests.dashboard.scenarios import empty, full


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    engine = open_engine(url)
    migrate(engine)
    engine.dispose()
    return url


@pytest.fixture
def reader(url: str) -> Iterator[Engine]:
    engine = data.open_store(url)
    yield engine
    engine.dispose()


def test_a_scenario_comes_back_under_its_name(url: str, reader: Engine) -> None:
    saved = saved_scenarios.save(url, " peak ", full(), NOW)
    assert saved.title == "peak"
    assert saved_scenarios.load(reader, "peak") == saved
    assert [one.name for one in saved_scenarios.listed(reader)] == ["peak"]
    with pytest.raises(ScenarioRefused, match="saved already"):
        saved_scenarios.save(url, "peak", empty(), NOW)
    saved_scenarios.save(url, "peak", empty(), NOW, overwrite=True)
    assert saved_scenarios.load(reader, "peak").groups == empty().groups
    saved_scenarios.delete(url, "peak")
    with pytest.raises(ScenarioMissing):
        saved_scenarios.load(reader, "peak")


def test_saving_makes_no_store(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    with pytest.raises(StoreMissing):
        saved_scenarios.save(f"sqlite:///{path}", "a", empty(), NOW)
    assert not path.exists()


def test_a_store_that_somebody_else_writes_to_is_waited_for_only_so_long(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_writing, "_PATIENCE_MS", 50)
    other = open_engine(url)
    with writing(other), pytest.raises(StoreBusy, match="try again"):
        saved_scenarios.save(url, "a", empty(), NOW)
    other.dispose()


def test_what_a_newer_gpufleet_saved_is_not_guessed_at(url: str, reader: Engine) -> None:
    engine = open_engine(url)
    stored.save_scenario(engine, name="later", version=2, body="{}", now=NOW)
    stored.save_scenario(engine, name="damaged", version=1, body="{", now=NOW)
    engine.dispose()
    with pytest.raises(ScenarioInvalid, match="newer gpufleet"):
        saved_scenarios.load(reader, "later")
    with pytest.raises(ScenarioInvalid, match="damaged"):
        saved_scenarios.load(reader, "damaged")
