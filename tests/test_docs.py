"""The documents name what there is: every command, configuration key, JSON key and metric."""

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer

from collectors import SOURCES, config_model
from gpufleet import doctor_output, json_output
from gpufleet.cli import app
from gpufleet.config import ReportConfig, StoreConfig
from gpufleet.secret_values import secret_fields
from planner.advice import advise
from planner.diagnosis import Check, Diagnosis, Finding, Outcome
from sample_data.demo_store import build_demo_store
from store.database import open_engine
from store.fleet_snapshot import take_snapshot

ROOT = Path(__file__).resolve().parent.parent
UNTIL = datetime(2026, 11, 19, 12, tzinfo=UTC)


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def keys(document: Any) -> set[str]:
    """Every key at any depth, except below `metrics`, which docs/metrics.md lists."""
    if isinstance(document, list):
        return set().union(*(keys(item) for item in document)) if document else set()
    if isinstance(document, dict):
        below = [keys(value) for key, value in document.items() if key != "metrics"]
        return set(document).union(*below)
    return set()


def commands() -> list[str]:
    root: Any = typer.main.get_command(app)
    names = []
    for name, command in root.commands.items():
        names += [f"{name} {below}" for below in getattr(command, "commands", {})] or [name]
    return names


@pytest.mark.parametrize("command", commands())
def test_the_readme_names_every_command(command: str) -> None:
    assert f"`gpufleet {command}" in text("README.md")


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_the_configuration_page_names_every_key_of_every_source(kind: str) -> None:
    page = text("docs/configuration.md")
    model = config_model(kind)
    fields = [f"{name}_file" if name in secret_fields(model) else name for name in model.model_fields]
    assert [name for name in fields if f"`{name}`" not in page] == []


@pytest.mark.parametrize("model", [StoreConfig, ReportConfig])
def test_the_configuration_page_names_every_key_of_the_other_tables(model: type[Any]) -> None:
    page = text("docs/configuration.md")
    assert [name for name in model.model_fields if f"{name} = " not in page] == []


def test_the_json_page_names_every_key_that_the_commands_print(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/demo.db"
    build_demo_store(url, until=UNTIL, hours=1, step_s=300)
    engine = open_engine(url, read_only=True)
    try:
        fleet = take_snapshot(engine, UNTIL)
    finally:
        engine.dispose()
    page = text("docs/json.md")
    printed = keys(json_output.fleet_document(fleet)) | keys(json_output.advise_document(advise(fleet)))
    assert printed >= {"instances", "assignments", "released", "need"}, "the demo fleet no longer shows everything"
    named = {word for quoted in re.findall(r"`([^`]+)`", page) for word in re.findall(r"[a-z_]+", quoted)}
    assert sorted(printed - named) == []


def test_the_json_page_names_everything_that_the_doctor_prints() -> None:
    finding = Finding(check=Check.REACHABLE, outcome=Outcome.OK, text="It answers.")
    one = Diagnosis(
        cluster="default", source="a", kind="dcgm", target="b", taken_at=UNTIL, seconds=1.0, findings=(finding,)
    )
    _, _, rest = text("docs/json.md").partition("## `gpufleet doctor --json`")
    section, _, _ = rest.partition("\n## ")
    quoted = set(re.findall(r"`([^`]+)`", section))
    named = {word for each in quoted for word in re.findall(r"[a-z_]+", each)}
    assert sorted(keys(doctor_output.doctor_document([one])) - named) == []
    assert {each.value for each in (*Check, *Outcome)} <= quoted


def test_the_metrics_page_is_what_the_tables_say() -> None:
    subprocess.run([sys.executable, "-m", "scripts.write_metrics_page", "--check"], cwd=ROOT, check=True)
