"""`gpufleet memory` and the store: runs are kept there once, and change later answers; a store in trouble is told."""

import json
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from typer.testing import CliRunner

from gpufleet.cli import app
from planner.memory.calibration import CalibrationKey
from planner.memory.estimate import Engine
from planner.units import GIB
from store.database import open_engine
from store.memory_runs import kept_runs
from store.schema import migrate
from tests.conftest import ROOT
from tests.planner.memory.start_logs import VLLM_LOG

H100 = ["--gpu", "H100-80GB-SXM"]
ASKED = ["Llama-3.1-8B", *H100, "--engine-version", "0.11.0", "--max-model-len", "8192"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GPUFLEET_STORE_URL", raising=False)


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = tmp_path / "start.log"
    path.write_text(VLLM_LOG)
    return str(path)


def run(*arguments: str, code: int = 0, stdin: str | None = None) -> str:
    result = CliRunner().invoke(app, ["memory", *arguments], input=stdin)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def document(*arguments: str, stdin: str | None = None) -> Any:
    return json.loads(run(*arguments, "--json", stdin=stdin))


def test_a_log_is_kept_once_and_corrects_later_answers(log: str, tmp_path: Path) -> None:
    before = document(*ASKED)
    assert not (tmp_path / "gpufleet.db").exists()  # asking makes no store
    first = document("learn", log, *H100)
    assert first["recorded"] is True
    assert first["recorded_in"] == f"sqlite:///{tmp_path}/gpufleet.db"
    assert {term["name"] for term in first["comparison"]} == {"weights", "activation", "kv_cache"}
    again = document("learn", log, *H100)
    assert again["recorded"] is False
    assert "kept before" in again["notes"][0]
    after = document(*ASKED)
    assert {one["term"] for one in after["corrections"]} == {"weights", "activation"}
    assert after["corrections"] == again["corrections"]
    measured = {term["name"]: term for term in after["terms"]}
    assert measured["weights"]["bytes"] == pytest.approx(15.2 * GIB, abs=2)
    assert measured["weights"]["basis"] == "MEASURED"
    assert after["kv_cache_tokens"] != before["kv_cache_tokens"]
    assert "corrected:" in run(*ASKED)
    other = document("Llama-3.1-8B", "--gpu", "A100-80GB", "--engine-version", "0.11.0", "--max-model-len", "8192")
    assert other["corrections"] == []


def test_the_longest_request_stays_the_model_s_own_where_that_decides(log: str) -> None:
    """131,072 tokens take 16 GiB, and more than 50 are left before and after."""
    document("learn", log, *H100)
    after = document(*ASKED)
    assert after["corrections"]
    assert after["max_context"] == 131072


def test_the_memory_that_a_run_saw_goes_before_the_catalogue_s_and_after_the_user_s(log: str) -> None:
    assert document(*ASKED)["per_rank"]["device_bytes"] == round(79.18 * GIB)
    document("learn", log, *H100)
    seen = document(*ASKED)
    assert seen["per_rank"]["device_bytes"] == round(79.11 * GIB)
    assert seen["device_evidence"]["basis"] == "MEASURED"
    assert "79.11 GiB as vllm 0.11.0 saw it on H100-80GB-SXM" in seen["device_evidence"]["source"]
    assert document(*ASKED, "--device-memory-bytes", str(50 * GIB))["per_rank"]["device_bytes"] == 50 * GIB
    options = ["options", "Llama-3.1-8B", "--context", "8192", "--concurrency", "8", "--boards", "H100-80GB-SXM"]
    found = {one["device"]: one for one in document(*options, "--engine-version", "0.11.0")["options"]}
    assert found["H100-80GB-SXM"]["per_rank"]["device_bytes"] == round(79.11 * GIB)
    assert found["H100-80GB-SXM"]["corrections"]
    assert found["H100-80GB-SXM 3g.40gb"]["corrections"] == []
    line = json.dumps({"model": "Llama-3.1-8B", "gpu": "H100-80GB-SXM", "engine_version": "0.11.0"})
    assert document("--requests", "-", stdin=line)["per_rank"]["device_bytes"] == round(79.11 * GIB)


def test_the_store_of_the_configuration_or_the_named_one_is_used(log: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    config = tmp_path / "elsewhere" / "fleet.toml"
    config.write_text('version = 1\n[store]\nurl = "sqlite:///runs.db"\n')
    document("learn", log, *H100, "--config", str(config))
    assert (tmp_path / "elsewhere" / "runs.db").exists()
    assert document(*ASKED)["corrections"] == []  # nothing was said of that one: it is not searched for
    assert document(*ASKED, "--config", str(config))["corrections"]
    named = f"sqlite:///{tmp_path}/elsewhere/runs.db"
    assert document(*ASKED, "--store", named)["corrections"]
    (tmp_path / "gpufleet.toml").write_text(f'version = 1\n[store]\nurl = "{named}"\n')
    assert document(*ASKED)["corrections"]


def test_the_environment_names_a_store_too(log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUFLEET_STORE_URL", f"sqlite:///{tmp_path}/told.db")
    assert document(*ASKED)["corrections"] == []
    assert not (tmp_path / "told.db").exists()
    document("learn", log, *H100)
    assert document(*ASKED)["corrections"]


def outdated(path: Path) -> None:
    engine = open_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(ROOT / "store" / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    engine.dispose()


def test_a_store_of_an_older_gpufleet_corrects_nothing_and_every_answer_says_so(log: str, tmp_path: Path) -> None:
    outdated(tmp_path / "gpufleet.db")
    asked = document(*ASKED)
    assert asked["verdict"] == "fits"
    assert any("Nothing is corrected" in note and "older gpufleet" in note for note in asked["assumed"])
    options = ["options", "Llama-3.1-8B", "--context", "8192", "--concurrency", "8", "--boards", "L4"]
    assert "older gpufleet" in document(*options)["notes"][0]
    assert "older gpufleet" in run(*options)
    line = json.dumps({"model": "Llama-3.1-8B", "gpu": "L4"})
    assert any("older gpufleet" in note for note in document("--requests", "-", stdin=line)["assumed"])
    assert "older gpufleet" in run(*ASKED, "--store", f"sqlite:///{tmp_path}/gpufleet.db", code=2)
    assert document("learn", log, *H100)["recorded"] is True  # who writes brings it up to date
    assert document(*ASKED)["corrections"]


@pytest.mark.parametrize("content", [b"no database at all, whatever it is called", b"SQLite format 3\x00" + bytes(600)])
def test_a_store_that_is_none_corrects_nothing_and_takes_nothing(log: str, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "gpufleet.db"
    path.write_bytes(content)
    assert any("Nothing is corrected" in note for note in document(*ASKED)["assumed"])
    assert "gpufleet.db" in run("learn", log, *H100, code=2)
    assert path.read_bytes() == content


def test_a_configuration_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "gpufleet.toml").write_text("[store\n")
    assert any("gpufleet.toml" in note for note in document(*ASKED)["assumed"])


def test_an_empty_store_corrects_nothing_and_says_nothing(tmp_path: Path) -> None:
    without = document(*ASKED)
    engine = open_engine(f"sqlite:///{tmp_path}/gpufleet.db")
    migrate(engine)
    engine.dispose()
    assert document(*ASKED) == without


def test_the_log_of_another_device_is_compared_and_not_kept(log: str, tmp_path: Path) -> None:
    found = document("learn", log, "--gpu", "L4")
    assert found["comparison"]
    assert found["recorded"] is False
    assert found["recorded_in"] is None
    assert any("another device" in note for note in found["notes"])
    assert not (tmp_path / "gpufleet.db").exists()


def test_what_is_kept_is_under_the_catalogue_s_names(log: str, tmp_path: Path) -> None:
    document("learn", log, "--gpu", "NVIDIA H100 80GB HBM3")
    engine = open_engine(f"sqlite:///{tmp_path}/gpufleet.db", read_only=True)
    (kept,) = kept_runs(engine)
    engine.dispose()
    assert kept.calibration.key == CalibrationKey(
        model="meta-llama/Meta-Llama-3.1-8B", engine=Engine.VLLM, version="0.11", device="H100-80GB-SXM"
    )
    assert (kept.board, kept.profile) == ("H100-80GB-SXM", None)
