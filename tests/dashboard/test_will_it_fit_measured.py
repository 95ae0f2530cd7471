"""Measured runs on the page "Will it fit?", without Streamlit: rows, order, an uploaded log, and a store in trouble."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dashboard import measured_runs
from dashboard.log_upload import LOG_LIMIT_MIB, measured_from_upload
from dashboard.measured_runs import Known
from dashboard.model_upload import UPLOAD_LIMIT_MIB
from dashboard.will_it_fit_answer import answer, curve
from dashboard.will_it_fit_figures import rows
from dashboard.will_it_fit_measured import (
    compared_rows,
    key_text,
    outside_count,
    review_rows,
    run_count,
    run_label,
    run_rows,
)
from dashboard.will_it_fit_question import Question
from planner.memory.errors import UnreadableLog
from planner.memory.experience import question_key
from planner.units import GIB
from store.database import open_engine
from store.errors import MemoryRunMissing, StoreMissing, StoreOutdated
from store.schema import migrate
from tests.dashboard.measured_runs import H100, learnt, log_text, write_runs

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
ASKED = Question(boards=(H100,), gpus=(1,))


@pytest.fixture
def url(tmp_path: Path) -> str:
    found = f"sqlite:///{tmp_path}/runs.db"
    engine = open_engine(found)
    migrate(engine)
    engine.dispose()
    write_runs(found, NOW)
    return found


@pytest.fixture
def known(url: str) -> Iterator[Known]:
    engine = open_engine(url, read_only=True)
    yield measured_runs.known(engine)
    engine.dispose()


def test_measured_runs_change_the_option_that_they_speak_for_and_no_other(known: Known) -> None:
    before = {bar.option.device: bar for bar in answer(ASKED).bars}
    after = {bar.option.device: bar for bar in answer(ASKED, known.experience).bars}
    assert after[H100].device_bytes == round(79.05 * GIB)  # the lower of 79.05 and 79.20
    assert after[H100].need_bytes != before[H100].need_bytes
    assert after["H100-80GB-SXM 4g.40gb"] == before["H100-80GB-SXM 4g.40gb"]
    marked = {row.device for row in rows(tuple(after.values())) if row.is_corrected}
    assert marked == {H100, "H100-80GB-SXM 3g.40gb"}
    option = after[H100].option
    assert curve(ASKED, option, known.experience) != curve(ASKED, before[H100].option)


def test_the_page_finds_runs_of_an_alias_and_of_the_version_that_it_assumes(known: Known) -> None:
    """The question names the Instruct copy and no version; the log was of the base model under 0.31.0."""
    bar = answer(ASKED, known.experience).bar(H100)
    assert bar is not None
    assert bar.option.run is not None
    key = question_key(bar.option.run)
    assert key_text(key) == "meta-llama/Meta-Llama-3.1-8B with vLLM 0.31 on H100-80GB-SXM"
    assert run_count(key, known.experience) == 2
    assert key_text(replace(key, ranks=2)).endswith("on 2 x H100-80GB-SXM")


def test_every_term_says_what_was_predicted_and_measured_and_what_is_done(known: Known) -> None:
    bars = {bar.option.device: bar for bar in answer(ASKED, known.experience).bars}
    run = bars[H100].option.run
    assert run is not None
    found = {row.last.name: row for row in review_rows(question_key(run), known.experience)}
    assert found["Weights"].word == "applied"
    assert found["Weights"].last.measured == "15.4 GiB"  # that of the second run
    assert found["Weights"].why.startswith("Median of 2 runs, from 1.0")
    assert found["KV cache left"].correction == "–"
    assert "what the other terms leave" in found["KV cache left"].why
    cut = bars["H100-80GB-SXM 3g.40gb"].option.run
    assert cut is not None
    (weights,) = (row for row in review_rows(question_key(cut), known.experience) if row.last.name == "Weights")
    assert (weights.correction, weights.word) == ("× 1.080", "cut at its bound")
    assert "asks for 1.2" in weights.why
    assert not weights.last.is_inside


def test_the_worst_prediction_comes_first(known: Known) -> None:
    run = answer(ASKED, known.experience).bars[-1].option.run
    assert run is not None
    found = run_rows(known.runs, question_key(run))
    misses = [next(run for run in known.runs if run.id == row.run_id).calibration.worst.outside_bytes for row in found]
    assert misses == sorted(misses, reverse=True)
    assert len(found) == 3
    assert outside_count(found) == sum(row.is_outside for row in found) >= 1
    assert len({run_label(row) for row in found}) == 3
    assert {row.when for row in found} == {"2026-11-20", "kept 2026-11-20"}


def test_an_uploaded_log_is_compared_term_by_term() -> None:
    measured = measured_from_upload("start.log", log_text().encode())
    assert measured.weights_bytes == round(15.2 * GIB)
    found = {row.name: row for row in compared_rows(learnt(log_text()))}
    assert found["Weights"].measured == "15.2 GiB"
    assert set(found) == {"Weights", "Activation", "KV cache left"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("start.log", b"", "start.log holds no start"),
        ("start.log", b"\xff\xfe\x00" * 1000, "holds no start"),
        ("../../etc/<b>x</b>\n.log", b"nothing", "b>.log holds no start"),
        ("start.log", b"x" * (LOG_LIMIT_MIB * 2**20 + 1), "head -c"),
    ],
)
def test_what_is_no_start_up_log_is_refused_with_a_sentence(name: str, content: bytes, said: str) -> None:
    assert LOG_LIMIT_MIB == UPLOAD_LIMIT_MIB
    with pytest.raises(UnreadableLog) as caught:
        measured_from_upload(name, content)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_is_kept_once_and_can_be_forgotten(url: str) -> None:
    engine = open_engine(url, read_only=True)
    before = measured_runs.revision(engine)
    one = learnt(log_text(weights="15.10"))
    assert measured_runs.keep(url, one, NOW) is True
    assert measured_runs.keep(url, one, NOW) is False
    assert measured_runs.revision(engine) != before
    newest = measured_runs.known(engine).runs[-1]
    measured_runs.forget(url, newest.id)
    with pytest.raises(MemoryRunMissing):
        measured_runs.forget(url, newest.id)
    assert len(measured_runs.known(engine).runs) == 3
    engine.dispose()


def test_the_page_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing) as caught:
        measured_runs.keep(f"sqlite:///{tmp_path}/none.db", learnt(log_text()), NOW)
    assert not (tmp_path / "none.db").exists()
    assert measured_runs.unknown(caught.value).is_missing
    assert "older gpufleet" in str(measured_runs.unknown(StoreOutdated("of an older gpufleet")).problem)
