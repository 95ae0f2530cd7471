"""Scenarios in the store: read through the read-only engine of the pages, written through one that lives a moment."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Engine

from dashboard.scenario import Scenario, ScenarioInvalid
from dashboard.scenario_codec import VERSION, from_json, to_json
from store import scenarios
from store.database import open_engine
from store.scenarios import SavedScenario as SavedScenario

_PATIENCE_MS = 2_000  # somebody waits for the answer; a collector's transaction takes some tenths of a second


def listed(engine: Engine) -> tuple[SavedScenario, ...]:
    """Every saved scenario, the newest first. Raises StoreError."""
    return scenarios.saved_scenarios(engine)


def load(engine: Engine, name: str) -> Scenario:
    """The scenario of that name, titled so. Raises StoreError, ScenarioInvalid."""
    found = scenarios.load_scenario(engine, name)
    if found.version > VERSION:
        raise ScenarioInvalid(f"The scenario {name!r} was saved by a newer gpufleet than this one: update gpufleet.")
    return replace(from_json(found.body), title=found.name)


def save(url: str, name: str, scenario: Scenario, now: datetime, *, overwrite: bool = False) -> Scenario:
    """Keep the scenario; returns it titled by its name. Raises StoreError, also where the store may not be written."""
    name = scenarios.checked_name(name)
    titled = replace(scenario, title=name)
    with _writable(url) as engine:
        body = to_json(titled)
        scenarios.save_scenario(engine, name=name, version=VERSION, body=body, now=now, replace=overwrite)
    return titled


def delete(url: str, name: str) -> None:
    """Forget the scenario. Raises StoreError."""
    with _writable(url) as engine:
        scenarios.delete_scenario(engine, name)


@contextmanager
def _writable(url: str) -> Iterator[Engine]:
    open_engine(url, read_only=True).dispose()  # a page must not make a store, nor write to one of another version
    engine = open_engine(url, busy_timeout_ms=_PATIENCE_MS)
    try:
        yield engine
    finally:
        engine.dispose()
