"""Measured runs: kept once, read back as they were, and what CUDA saw of each device."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from planner.catalog import load_catalog
from planner.memory.devices import device_of
from planner.memory.learning import Learnt, LogDescription, learn, read_start_log
from planner.memory.model_catalogue import find_model
from planner.units import GIB
from store import memory_runs
from store.database import open_engine, writing
from store.errors import MemoryRunDamaged, MemoryRunMissing, MemoryRunRefused, StoreReadOnly
from store.memory_runs import experience, forget_run, keep_run, kept_runs, measured_devices, revision
from tests.planner.memory.start_logs import VLLM_LOG
from tests.store.batches import NOW


def learnt(device_gib: str = "79.11", board: str = "H100-80GB-SXM", profile: str | None = None) -> Learnt:
    catalog = load_catalog()
    found = catalog.board(board)
    device = device_of(found, None if profile is None else catalog.profile(found, profile))
    measured = read_start_log(VLLM_LOG.replace("78.60/79.11", f"{float(device_gib) - 0.5}/{device_gib}"), "a log")
    return learn(measured, LogDescription(model=find_model("Llama-3.1-8B"), device=device), measured_at=NOW)


def test_a_run_comes_back_as_it_was_kept(engine: Engine) -> None:
    given = learnt()
    assert keep_run(engine, given, now=NOW + timedelta(days=1)) is True
    (run,) = kept_runs(engine)
    assert run.calibration == given.calibration
    assert (run.board, run.profile, run.device_bytes) == ("H100-80GB-SXM", None, round(79.11 * GIB))
    assert run.kept_at == NOW + timedelta(days=1)
    assert run.measured["weights_bytes"] == round(15.2 * GIB)
    assert run.measured["engine_version"] == "0.11.0"


def test_the_same_measurement_is_kept_once(engine: Engine) -> None:
    first = revision(engine)
    assert keep_run(engine, learnt(), now=NOW) is True
    second = revision(engine)
    assert keep_run(engine, learnt(), now=NOW + timedelta(hours=1)) is False
    assert first != second == revision(engine)
    assert keep_run(engine, learnt("79.10"), now=NOW) is True
    assert keep_run(engine, learnt(board="H100-80GB-PCIe"), now=NOW) is True
    assert len(kept_runs(engine)) == 3


def test_the_lowest_measurement_of_a_device_counts_with_its_source_and_date(engine: Engine) -> None:
    for size in ("79.11", "79.05", "79.20"):
        keep_run(engine, learnt(size), now=NOW)
    keep_run(engine, learnt("39.50", profile="3g.40gb"), now=NOW)
    found = {one.device: one for one in measured_devices(engine)}
    assert set(found) == {"H100-80GB-SXM", "H100-80GB-SXM 3g.40gb"}
    assert found["H100-80GB-SXM"].memory_bytes == round(79.05 * GIB)
    assert found["H100-80GB-SXM"].source == (
        f"79.05 GiB as vllm 0.11.0 saw it on H100-80GB-SXM ({NOW:%Y-%m-%d}), the lowest of 3 measured runs (store)"
    )
    assert "measured runs" not in found["H100-80GB-SXM 3g.40gb"].source


def test_what_was_not_printed_is_no_measurement_of_a_device(engine: Engine) -> None:
    keep_run(engine, replace(learnt(), device_bytes=None), now=NOW)
    known = experience(engine)
    assert known.devices == ()
    assert len(known.calibrations) == 1


def test_the_log_of_another_device_is_refused(engine: Engine) -> None:
    with pytest.raises(MemoryRunRefused, match="another device"):
        keep_run(engine, learnt(board="L4"), now=NOW)
    with pytest.raises(MemoryRunRefused, match="no term in common"):
        keep_run(engine, replace(learnt(), calibration=None), now=NOW)
    assert kept_runs(engine) == ()


def test_a_run_can_be_forgotten(engine: Engine) -> None:
    keep_run(engine, learnt(), now=NOW)
    (run,) = kept_runs(engine)
    forget_run(engine, run.id)
    assert kept_runs(engine) == ()
    with pytest.raises(MemoryRunMissing, match="already"):
        forget_run(engine, run.id)


def test_size_and_number_are_bounded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_runs, "BODY_LIMIT_BYTES", 100)
    with pytest.raises(MemoryRunRefused, match="characters"):
        keep_run(engine, learnt(), now=NOW)
    monkeypatch.setattr(memory_runs, "BODY_LIMIT_BYTES", 10_000)
    monkeypatch.setattr(memory_runs, "COUNT_LIMIT", 1)
    keep_run(engine, learnt(), now=NOW)
    with pytest.raises(MemoryRunRefused, match="forget"):
        keep_run(engine, learnt("79.10"), now=NOW)


@pytest.mark.parametrize(
    ("column", "value"),
    [("terms", "["), ("terms", '[{"name": "weights"}]'), ("measured", "[]"), ("engine", "another")],
)
def test_a_row_that_another_program_wrote_is_named(engine: Engine, column: str, value: str) -> None:
    keep_run(engine, learnt(), now=NOW)
    with writing(engine) as connection:
        connection.exec_driver_sql(f"UPDATE memory_run SET {column} = ?", (value,))
    with pytest.raises(MemoryRunDamaged, match=r"measured run 1 .* row 1 of the table memory_run"):
        kept_runs(engine)


def test_a_store_that_may_only_be_read_says_so(path: Path) -> None:
    engine = open_engine(f"sqlite:///{path}", read_only=True)
    with pytest.raises(StoreReadOnly, match="write access"):
        keep_run(engine, learnt(), now=NOW)
    engine.dispose()
