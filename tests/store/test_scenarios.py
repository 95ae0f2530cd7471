"""Scenarios that somebody saved: kept as they are, by names that can be read, and refused with a reason."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from store import scenarios
from store.database import open_engine, writing
from store.errors import ScenarioMissing, ScenarioRefused, StoreBusy, StoreError, StoreReadOnly
from store.scenarios import delete_scenario, load_scenario, save_scenario, saved_scenarios
from tests.store.batches import NOW


def test_a_scenario_comes_back_as_it_was_saved(engine: Engine) -> None:
    body = '{"title":"zehn mehr, ärger <b>less</b>"}'
    assert save_scenario(engine, name="  ten more ", version=1, body=body, now=NOW) == "ten more"
    found = load_scenario(engine, "ten more")
    assert (found.name, found.version, found.body, found.saved_at) == ("ten more", 1, body, NOW)


def test_the_newest_comes_first(engine: Engine) -> None:
    for minutes, name in ((1, "b"), (3, "c"), (2, "a")):
        save_scenario(engine, name=name, version=1, body="{}", now=NOW + timedelta(minutes=minutes))
    assert [one.name for one in saved_scenarios(engine)] == ["c", "a", "b"]


def test_a_taken_name_is_replaced_only_when_asked(engine: Engine) -> None:
    save_scenario(engine, name="mine", version=1, body="old", now=NOW)
    with pytest.raises(ScenarioRefused, match="saved already"):
        save_scenario(engine, name="mine", version=1, body="new", now=NOW)
    assert load_scenario(engine, "mine").body == "old"
    save_scenario(engine, name="mine", version=2, body="new", now=NOW, replace=True)
    assert (load_scenario(engine, "mine").body, load_scenario(engine, "mine").version) == ("new", 2)
    assert len(saved_scenarios(engine)) == 1


def test_a_deleted_one_is_gone(engine: Engine) -> None:
    save_scenario(engine, name="mine", version=1, body="{}", now=NOW)
    delete_scenario(engine, "mine")
    assert saved_scenarios(engine) == ()
    with pytest.raises(ScenarioMissing, match="'mine'"):
        load_scenario(engine, "mine")
    with pytest.raises(ScenarioMissing, match="already"):
        delete_scenario(engine, "mine")


@pytest.mark.parametrize(
    ("name", "why"),
    [("", "needs a name"), ("   ", "needs a name"), ("a" * 81, "81 characters"), ("a\nb", "cannot be seen")]
    + [(f"a{character}b", "cannot be seen") for character in ("\x00", "\u202e", "\u200b", "\u2028", "\ud800")],
)
def test_a_name_that_cannot_be_read_is_refused(engine: Engine, name: str, why: str) -> None:
    with pytest.raises(ScenarioRefused, match=why):
        save_scenario(engine, name=name, version=1, body="{}", now=NOW)


@pytest.mark.parametrize("name", ["'; DROP TABLE scenario; --", "<script>alert(1)</script>", "zehn %s", "√ 10×H100 ½"])
def test_any_name_that_can_be_read_is_only_a_name(engine: Engine, name: str) -> None:
    save_scenario(engine, name=name, version=1, body="{}", now=NOW)
    assert [one.name for one in saved_scenarios(engine)] == [name]


def test_size_and_number_are_bounded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "BODY_LIMIT_BYTES", 10)
    monkeypatch.setattr(scenarios, "COUNT_LIMIT", 2)
    with pytest.raises(ScenarioRefused, match="plan fewer GPUs"):
        save_scenario(engine, name="big", version=1, body="äöüäöü", now=NOW)
    for name in ("a", "b"):
        save_scenario(engine, name=name, version=1, body="{}", now=NOW)
    with pytest.raises(ScenarioRefused, match="delete one"):
        save_scenario(engine, name="c", version=1, body="{}", now=NOW)
    save_scenario(engine, name="a", version=1, body="{1}", now=NOW, replace=True)


def test_a_store_in_use_elsewhere_refuses_and_keeps_what_it_has(path: Path, engine: Engine) -> None:
    impatient = open_engine(f"sqlite:///{path}", busy_timeout_ms=50)
    with writing(engine), pytest.raises(StoreBusy, match="try again"):
        save_scenario(impatient, name="mine", version=1, body="{}", now=NOW)
    assert saved_scenarios(engine) == ()
    impatient.dispose()


def test_a_store_that_may_only_be_read_says_so(path: Path) -> None:
    engine = open_engine(f"sqlite:///{path}", read_only=True)
    with pytest.raises(StoreReadOnly, match="write access"):
        save_scenario(engine, name="mine", version=1, body="{}", now=NOW)
    engine.dispose()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_without_write_permission_says_so(path: Path) -> None:
    path.chmod(0o400)
    engine = open_engine(f"sqlite:///{path}")
    with pytest.raises((StoreError, DBAPIError)):
        save_scenario(engine, name="mine", version=1, body="{}", now=NOW)
    engine.dispose()
