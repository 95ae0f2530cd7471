"""Scenarios in the store: read through the read-only engine of the pages, written through one that lives a moment."""

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Engine

from dashboard.scenario import Scenario, ScenarioInvalid
from dashboard.scenario_codec import VERSION, from_json, to_json
from dashboard.store_writing import writable
from store import scenarios
from store.scenarios import SavedScenario as SavedScenario


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
    with writable(url) as engine:
        body = to_json(titled)
        scenarios.save_scenario(engine, name=name, version=VERSION, body=body, now=now, replace=overwrite)
    return titled


def delete(url: str, name: str) -> None:
    """Forget the scenario. Raises StoreError."""
    with writable(url) as engine:
        scenarios.delete_scenario(engine, name)
