"""What a start-up log teaches: the run beside its prediction, and what must not be kept of it."""

from dataclasses import replace

import pytest

from planner.catalog import load_catalog
from planner.memory.devices import MeasuredMemory, device_of, is_plausible
from planner.memory.errors import UnknownMemory, UnreadableLog
from planner.memory.estimate import Basis, Engine
from planner.memory.experience import Experience
from planner.memory.learning import Learnt, LogDescription, kept_of, learn, profile_of, read_start_log, told
from planner.memory.model_catalogue import find_model
from planner.memory.options import Need, Terms, search
from planner.units import GIB
from tests.planner.memory.start_logs import VLLM_LOG


def learnt(text: str = VLLM_LOG, board: str = "H100-80GB-SXM", profile: str | None = None) -> Learnt:
    catalog = load_catalog()
    found = catalog.board(board)
    device = device_of(found, None if profile is None else catalog.profile(found, profile))
    return learn(read_start_log(text, "a log"), LogDescription(model=find_model("Llama-3.1-8B"), device=device))


def test_a_log_is_compared_with_its_own_settings() -> None:
    found = learnt()
    assert found.calibration is not None
    assert found.can_be_kept
    assert {term.name: term.measured for term in found.calibration.terms} == {
        "weights": round(15.2 * GIB),
        "kv_cache": round(51.3 * GIB),
        "activation": round(4.17 * GIB),
    }
    assert found.calibration.key.version == "0.11"
    assert found.run.max_model_len == 8192
    assert found.device_bytes == round(79.11 * GIB)
    assert found.run.device.memory_bytes == round(79.11 * GIB)


def test_the_log_of_another_device_is_not_kept() -> None:
    found = learnt(board="L4")
    assert not found.can_be_kept
    assert "79.1 GiB" in str(found.refusal)
    assert "L4 has 22.2 GiB" in str(found.refusal)
    sliced = learnt(profile="3g.40gb")
    assert not sliced.can_be_kept
    assert profile_of(sliced.run.device) == "3g.40gb"
    assert profile_of(learnt().run.device) is None


@pytest.mark.parametrize("text", ["", "nothing of ours", "\x00" * 1000])
def test_a_log_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(UnreadableLog, match="holds no start"):
        read_start_log(text, "a log")


def test_what_ollama_s_scheduler_reckoned_is_no_measurement() -> None:
    measured = replace(read_start_log(VLLM_LOG, "a log"), engine=Engine.OLLAMA, is_scheduler_estimate=True)
    device = device_of(load_catalog().board("H100-80GB-SXM"))
    found = learn(measured, LogDescription(model=find_model("Llama-3.1-8B"), device=device))
    assert found.calibration is None
    assert found.device_bytes is None  # printed to a tenth of a GiB
    assert any("nothing is learnt" in note for note in found.notes)


def test_no_line_of_a_log_is_kept() -> None:
    failed = read_start_log(VLLM_LOG + "\nERROR CUDA out of memory, token=secret\n", "a log")
    assert "secret" in told(failed)["failure_text"]
    assert "secret" not in str(kept_of(failed))
    assert kept_of(failed)["failure"] == "out of memory"


def test_what_runs_saw_of_a_device_goes_before_the_catalogue_and_after_the_user() -> None:
    board = load_catalog().board("H100-80GB-SXM")
    seen = MeasuredMemory(board=board.name, profile=None, memory_bytes=79 * GIB, source="a run of ours")
    device = device_of(board, measured={seen.device: seen})
    assert (device.memory_bytes, device.basis, device.source) == (79 * GIB, Basis.MEASURED, "a run of ours")
    assert device_of(board, memory_bytes=5, measured={seen.device: seen}).memory_bytes == 5
    assert device_of(board).memory_bytes == round(79.18 * GIB)  # planner/data/cuda_memory.toml
    assert device_of(board, load_catalog().profile(board, "3g.40gb"), measured={seen.device: seen}) == device_of(
        board, load_catalog().profile(board, "3g.40gb")
    )


def test_a_device_of_which_only_runs_know_the_memory_is_answered() -> None:
    board = load_catalog().board("B300-269GB")
    profile = load_catalog().profile(board, "1g.34gb")
    with pytest.raises(UnknownMemory):
        device_of(board, profile)
    assert is_plausible(board, profile, 33 * GIB)  # nothing is known that could contradict it
    seen = MeasuredMemory(board=board.name, profile=profile.name, memory_bytes=33 * GIB, source="a run of ours")
    terms = Terms(experience=Experience(devices=(seen,)), ranks=(1,))
    found = search(find_model("Qwen/Qwen3-8B"), Need(context=4096, concurrency=1), [board], terms)
    options = {option.profile: option for option in (*found.options, *found.rejected)}
    run = options["1g.34gb"].run
    assert run is not None
    assert run.device.memory_bytes == 33 * GIB
    assert options["3g.135gb"].run is None


@pytest.mark.parametrize(("share", "expected"), [(0.89, False), (0.91, True), (1.0, True), (1.09, True), (1.11, False)])
def test_a_measurement_far_from_what_is_known_is_of_another_device(share: float, expected: bool) -> None:
    board = load_catalog().board("H100-80GB-SXM")
    assert is_plausible(board, None, round(share * 79.18 * GIB)) is expected
