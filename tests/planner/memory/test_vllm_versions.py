"""What each version of vLLM takes for granted, and what it refuses."""

import pytest

from planner.memory.vllm_settings import settings_of
from planner.memory.vllm_versions import ContradictoryRun, parse_version
from tests.planner.memory.vllm_cases import QWEN36_27B, device, run


@pytest.mark.parametrize(
    ("text", "number", "is_v0", "band"),
    [
        ("0.5.4", (0, 5, 4), True, "V0"),
        ("0.8.1 V0", (0, 8, 1), True, "V0"),
        ("v0.8.5", (0, 8, 5), False, "V1 to 0.16"),
        ("0.10.1.1", (0, 10, 1), False, "V1 to 0.16"),
        ("0.17.1", (0, 17, 1), False, "0.17-0.18"),
        ("0.19.0", (0, 19, 0), False, "0.19-0.20"),
        ("0.21", (0, 21, 0), False, "0.21"),
        ("0.31.0", (0, 31, 0), False, "0.22 and later"),
        ("0.15.2rc1", (0, 15, 2), False, "V1 to 0.16"),
    ],
)
def test_reads_versions(text: str, number: tuple[int, int, int], is_v0: bool, band: str) -> None:
    version = parse_version(text)
    assert (version.number, version.is_v0, version.band) == (number, is_v0, band)
    assert version.stated


def test_no_version_is_the_newest_and_said_so() -> None:
    assert not parse_version(None).stated
    assert parse_version(None).charges_graphs
    assert parse_version("V0").is_v0


def test_refuses_what_is_no_version() -> None:
    with pytest.raises(ContradictoryRun, match="not a version of vLLM"):
        parse_version("newest")


def test_versions_differ_in_what_the_log_shows() -> None:
    old, graphs, share = (parse_version(text) for text in ("0.20.2", "0.21.0", "0.22.0"))
    assert (old.charges_graphs, graphs.charges_graphs) == (False, True)
    assert (graphs.default_utilization, share.default_utilization) == (0.9, 0.92)
    assert parse_version("0.16.0").sampler_bytes == 38
    assert parse_version("0.17.0").sampler_bytes == 14


def test_defaults_follow_the_device_that_cuda_sees() -> None:
    whole = settings_of(run(engine_version="0.19.0"))
    assert (whole.max_num_seqs, whole.max_num_batched_tokens) == (1024, 8192)
    mig_device = device(69.75, mig=True, name="H200 NVL 3g.71gb")
    small = settings_of(run(device=mig_device, engine_version="0.19.0"))
    assert (small.max_num_seqs, small.max_num_batched_tokens) == (256, 2048)
    a100 = settings_of(run(device=device(79.25, name="A100-80GB"), engine_version="0.19.0"))
    assert (a100.max_num_seqs, a100.max_num_batched_tokens) == (256, 2048)
    assert "max_num_seqs" in small.defaults
    assert "max_model_len" in small.defaults


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"max_model_len": 0}, "max_model_len"),
        ({"tensor_parallel": -1}, "tensor_parallel"),
        ({"gpu_memory_utilization": 1.5}, "share"),
        ({"gpu_memory_utilization": 0.0}, "share"),
        ({"dtype": "int3"}, "dtype"),
        ({"gib": 0.0}, "no memory"),
        ({"dtype": "bf16"}, "dtype"),
        ({"max_num_seqs": 4096, "max_num_batched_tokens": 1024}, "greater than or equal"),
        ({"block_size": 7}, "block_size"),
        ({"block_size": 1_000_000}, "block_size"),
        ({"block_size": 64, "engine_version": "0.6.3"}, "at most 32"),
    ],
)
def test_refuses_impossible_settings(settings: dict[str, object], word: str) -> None:
    with pytest.raises(ContradictoryRun, match=word):
        settings_of(run(**settings))  # type: ignore[arg-type]


def test_more_sequences_than_the_default_of_batched_tokens_raise_it_and_say_so() -> None:
    settings = settings_of(run(gib=22.16, max_num_seqs=4096))
    assert (settings.max_num_seqs, settings.max_num_batched_tokens) == (4096, 4096)
    assert "raised" in settings.notes[0]
    assert settings_of(run(gib=22.16, max_num_seqs=2048)).notes == ()
    few = settings_of(run(gib=22.16, max_num_batched_tokens=100))  # only a default is cut
    assert few.max_num_seqs == 100


def test_v0_needs_chunked_prefill_for_steps_shorter_than_the_context() -> None:
    short = run(engine_version="0.6.3", max_model_len=8192, max_num_batched_tokens=2048)
    assert settings_of(short).needs_chunked_prefill
    assert "--enable-chunked-prefill" in settings_of(short).notes[0]
    long = run(engine_version="0.6.3", max_model_len=8192, max_num_batched_tokens=8192)
    assert not settings_of(long).needs_chunked_prefill
    assert not settings_of(run(max_model_len=8192, max_num_batched_tokens=2048)).needs_chunked_prefill


def test_state_space_layers_lengthen_the_block_by_themselves() -> None:
    assert settings_of(run(QWEN36_27B, block_size=784)).block_size == 784
