"""What vLLM refuses at start never fits, and what nobody knows is never better than tight."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.memory.estimate import Device, Estimate, Run, Verdict
from planner.memory.facts import WeightFormat
from planner.memory.model_catalogue import find_model
from planner.memory.vllm import estimate_vllm
from planner.memory.vllm_versions import ContradictoryRun
from planner.units import GIB
from tests.planner.memory.vllm_cases import GEMMA_1B, LLAMA_8B, device, run

T4 = device(14.74, name="T4", architecture="Turing")
V100 = device(31.7, name="V100", architecture="Volta")
L40S = device(44.42, name="L40S", architecture="Ada")
H100 = device(79.19)
FP8_CACHE = {"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}


def named(name: str, where: Device, **settings: object) -> Estimate:
    return estimate_vllm(Run(model=find_model(name), device=where, **settings))  # type: ignore[arg-type]


def refused(estimate: Estimate, words: str) -> None:
    assert estimate.verdict is Verdict.DOES_NOT_FIT
    assert words in estimate.reasons[0]


def in_doubt(estimate: Estimate, words: str) -> None:
    assert estimate.verdict is Verdict.TIGHT
    assert words in " ".join(estimate.reasons[1:])


@pytest.mark.parametrize("method", ["awq", "gptq", "nvfp4", "mxfp4", "compressed-tensors", "int8", "modelopt_fp4"])
def test_what_vllm_does_not_make_at_start_needs_a_checkpoint_that_is_stored_so(method: str) -> None:
    settings = {"quantization": method, "max_model_len": 8192}
    refused(named("meta-llama/Llama-3.1-70B-Instruct", H100, **settings), "is not stored as")
    copy = estimate_vllm(run(**settings))  # type: ignore[arg-type]  # of a configuration, which copies of it share
    in_doubt(copy, "is not stored as")
    read = run(**settings)  # type: ignore[arg-type]
    with_files = replace(read, model=replace(read.model, stored_bytes={"mlp": 2 * read.model.parameters.mlp}))
    refused(estimate_vllm(with_files), "is not stored as")


@pytest.mark.parametrize("method", ["fp8", "bitsandbytes", "fp8_per_tensor"])
def test_what_vllm_makes_at_start_is_no_refusal(method: str) -> None:
    estimate = named("meta-llama/Llama-3.1-8B", H100, quantization=method, max_model_len=8192)
    assert estimate.verdict is Verdict.FITS
    assert f"--quantization {method}" in estimate.flags


@pytest.mark.parametrize("method", ["this-is-not-fp8", "quantised", "fp9", "fp8 zork", "awq/gptq 4-bit"])
def test_names_of_methods_are_exact(method: str) -> None:
    with pytest.raises(ContradictoryRun, match="not a quantisation that is known"):
        estimate_vllm(run(quantization=method))


def test_a_remark_behind_the_name_is_left_out_of_the_command() -> None:
    assert "--quantization fp8" in estimate_vllm(run(quantization="fp8 (online)")).flags
    assert "--quantization auto-round" in estimate_vllm(run(quantization="auto_round int4")).flags
    flags = " ".join(estimate_vllm(run(quantization="w8a8")).flags)  # a format, no method
    assert "--quantization" not in flags
    assert "--quantization" not in " ".join(estimate_vllm(run(quantization="none")).flags)


def test_fp8_made_at_start_must_fit_in_sixteen_bit_first() -> None:
    settings = {"quantization": "fp8", "max_model_len": 2048, "max_num_seqs": 16}
    # 32.76 billion parameters of 2 bytes are 61.0 GiB; the device has 44.4
    for version in ("0.8.5", "0.13.0"):
        refused(named("Qwen/Qwen2.5-32B-Instruct", L40S, engine_version=version, **settings), "61.0 GiB on L40S")
    in_doubt(named("Qwen/Qwen2.5-32B-Instruct", L40S, engine_version="0.14.0", **settings), "61.0 GiB on L40S")
    for later in ("0.15.0", None):
        estimate = named("Qwen/Qwen2.5-32B-Instruct", L40S, engine_version=later, **settings)
        assert estimate.verdict is Verdict.FITS
    by_rank = named("Qwen/Qwen2.5-32B-Instruct", L40S, engine_version="0.8.5", tensor_parallel=2, **settings)
    assert by_rank.verdict is Verdict.FITS
    narrow = {**settings, "quantization": "bitsandbytes"}  # each matrix becomes 4 bit as it is read
    assert named("Qwen/Qwen2.5-32B-Instruct", L40S, engine_version="0.10.0", **narrow).verdict is Verdict.FITS


def test_newer_methods_are_refused_by_older_versions() -> None:
    refused(estimate_vllm(run(quantization="fp8_per_block", engine_version="0.17.0")), "does not know")
    in_doubt(estimate_vllm(run(quantization="fp8_per_block", engine_version="0.19.0")), "is not recorded")
    refused(estimate_vllm(run(quantization="mxfp8", engine_version="0.31.0")), "Blackwell alone")


def test_families_without_float16_take_four_bytes_where_there_is_no_bfloat16() -> None:
    estimate = named("google/gemma-3-4b-it", T4, max_model_len=2048, max_num_seqs=8)
    weights = next(term.bytes for term in estimate.terms if term.name == "weights")
    assert weights / GIB == pytest.approx(4.300e9 * 4 / GIB, rel=0.08)  # 4.30 billion parameters and a vision table
    refused(estimate, "The weights alone need")
    assert "--dtype float32" in estimate.flags
    halves = named("google/gemma-2-9b", T4, tensor_parallel=2, max_model_len=2048, max_num_seqs=8)
    assert halves.verdict is Verdict.DOES_NOT_FIT  # 9.24 billion parameters of 4 bytes on two devices: 17.2 GiB each
    with pytest.raises(ContradictoryRun, match="refuses gemma3_text in float16"):
        estimate_vllm(run(GEMMA_1B, device=T4, dtype="float16"))
    with pytest.raises(ContradictoryRun, match="Give --dtype bfloat16"):
        estimate_vllm(run(GEMMA_1B, dtype="float16"))
    assert estimate_vllm(run(GEMMA_1B, dtype="float16", engine_version="0.8.5")).verdict is Verdict.FITS


def test_other_families_run_in_float16_there() -> None:
    estimate = estimate_vllm(run(device=T4, tensor_parallel=4, max_model_len=2048))
    assert "--dtype float16" in estimate.flags
    assert "--dtype" not in " ".join(estimate_vllm(run(max_model_len=2048)).flags)


def test_a_quantised_checkpoint_of_such_a_family_finds_no_type_at_all() -> None:
    awq = {"quant_method": "awq", "bits": 4, "group_size": 128}
    refused(estimate_vllm(run({**GEMMA_1B, "quantization_config": awq}, device=T4, max_model_len=2048)), "no bfloat16")
    with pytest.raises(ContradictoryRun, match="do not take float32"):
        estimate_vllm(run({**LLAMA_8B, "quantization_config": awq}, dtype="float32"))


@pytest.mark.parametrize(
    ("where", "version", "share", "verdict"),
    [
        (H100, "0.31.0", 1.0, Verdict.DOES_NOT_FIT),
        (H100, "0.10.2", 1.0, Verdict.DOES_NOT_FIT),
        (H100, "0.31.0", 0.995, Verdict.TIGHT),  # 0.40 GiB outside
        (H100, "0.31.0", 0.99, Verdict.FITS),  # 0.79 GiB
        (H100, "0.6.6", 1.0, Verdict.TIGHT),  # no check, but no room for the context either
        (device(69.75, mig=True, name="H200-141GB 3g.71gb"), "0.31.0", 1.0, Verdict.DOES_NOT_FIT),
        (device(32.5, mig=True, name="H200-141GB 2g.35gb"), "0.31.0", 0.99, Verdict.TIGHT),  # 0.33 GiB
        (device(32.5, mig=True, name="H200-141GB 2g.35gb"), "0.31.0", 0.92, Verdict.FITS),
    ],
)
def test_the_context_needs_room_outside_of_the_share(
    where: Device, version: str, share: float, verdict: Verdict
) -> None:
    one = run(device=where, engine_version=version, gpu_memory_utilization=share, max_model_len=8192, max_num_seqs=256)
    estimate = estimate_vllm(one)
    assert estimate.verdict is verdict
    if verdict is not Verdict.FITS:
        assert "outside" in " ".join(estimate.reasons)


@given(st.sampled_from(["0.6.6", "0.10.2", "0.19.0", "0.31.0"]), st.floats(12, 200), st.booleans())
def test_the_share_that_is_proposed_leaves_room_for_the_context(version: str, gib: float, mig: bool) -> None:
    one = run(device=device(gib, mig=mig), engine_version=version, max_model_len=2048, max_num_seqs=64)
    share = estimate_vllm(one).settings.get("smallest_gpu_memory_utilization")
    assert share is None or (1 - float(share)) * gib > 0.34


def test_a_context_beyond_the_positions_is_refused_with_the_way_out() -> None:
    estimate = named("meta-llama/Llama-3.1-8B", H100, max_model_len=200_000)
    refused(estimate, "is made for 131,072 tokens")
    assert "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1" in estimate.reasons[0]
    assert named("meta-llama/Llama-3.1-8B", H100, max_model_len=131_072).verdict is Verdict.FITS


def test_fp8_needs_ampere_for_the_cache_and_a_new_version_for_the_weights() -> None:
    small = {"max_model_len": 2048, "max_num_seqs": 8, "tensor_parallel": 4}
    for where in (T4, V100):
        refused(estimate_vllm(run(device=where, kv_cache_dtype="fp8", **small)), "no FP8 on")  # type: ignore[arg-type]
    refused(estimate_vllm(run(device=T4, quantization="fp8", engine_version="0.13.0", **small)), "no FP8 on Turing")  # type: ignore[arg-type]
    in_doubt(estimate_vllm(run(device=T4, quantization="fp8", engine_version="0.31.0", **small)), "Marlin")  # type: ignore[arg-type]
    refused(estimate_vllm(run(device=V100, quantization="fp8", engine_version="0.31.0", **small)), "no FP8 on Volta")  # type: ignore[arg-type]
    stored = {**LLAMA_8B, "quantization_config": {"quant_method": "fp8"}}
    refused(estimate_vllm(run(stored, device=T4, engine_version="0.13.0", **small)), "no FP8 on Turing")  # type: ignore[arg-type]
    assert estimate_vllm(run(device=T4, kv_cache_dtype="int8_per_token_head", **small)).verdict is Verdict.FITS  # type: ignore[arg-type]


def test_a_cache_that_the_checkpoint_demands_is_honoured_from_some_version_on() -> None:
    checkpoint = {**LLAMA_8B, "quantization_config": FP8_CACHE}

    def tokens(version: str | None, **settings: object) -> float:
        return (
            estimate_vllm(run(checkpoint, engine_version=version, max_model_len=8192, **settings)).kv_bytes_per_token
            or 0
        )  # type: ignore[arg-type]

    # 2 x 32 layers x 8 heads x 128 elements: of 2 bytes before, of 1 byte since
    assert tokens("0.8.5") == tokens("0.13.0") == 131_072
    assert tokens("0.15.0") == tokens(None) == 65_536
    assert tokens("0.8.5", kv_cache_dtype="fp8") == 65_536
    assert tokens("0.31.0", kv_cache_dtype="bfloat16") == 131_072
    in_doubt(estimate_vllm(run(checkpoint, engine_version="0.14.0", max_model_len=8192)), "honours for ModelOpt")


def test_a_family_that_is_no_longer_run() -> None:
    one = Run(model=find_model("meta-llama/Llama-3.2-11B-Vision-Instruct"), device=H100, max_model_len=8192)
    refused(estimate_vllm(replace(one, engine_version="0.11.0")), "up to 0.10.2")
    in_doubt(estimate_vllm(one), "up to 0.10.2")
    old = estimate_vllm(replace(one, engine_version="0.6.3", max_num_seqs=16))
    assert old.verdict is Verdict.FITS


def test_the_recorded_failure_with_256_images_does_not_fit_surely() -> None:
    """vllm#10569: out of memory on a device of 44.5 GiB, 0.6, while 256 images are profiled."""
    l20 = device(44.5, name="L20", architecture="Ada")
    settings = {"engine_version": "0.6.3", "max_model_len": 8192}
    estimate = named("meta-llama/Llama-3.2-11B-Vision-Instruct", l20, **settings)
    assert estimate.verdict is Verdict.TIGHT
    assert "Lower --max-num-seqs" in " ".join(estimate.assumed)


def test_a_block_that_kernels_may_not_take_is_in_doubt() -> None:
    in_doubt(estimate_vllm(run(block_size=8, max_model_len=8192, engine_version="0.19.0")), "multiples of 16")
    assert estimate_vllm(run(block_size=8, max_model_len=8192, engine_version="0.6.6")).verdict is Verdict.FITS
    assert estimate_vllm(run(block_size=64, max_model_len=8192, engine_version="0.19.0")).verdict is Verdict.FITS


def test_an_unknown_way_to_store_weights_may_take_sixteen_bits() -> None:
    one = run({**LLAMA_8B, "quantization_config": {"quant_method": "zork"}}, max_model_len=2048)
    assert one.model.quantisation is not None
    assert not one.model.quantisation.is_known
    weights = next(term for term in estimate_vllm(one).terms if term.name == "weights")
    assert weights.high >= 2 * 8_030_261_248
    assert one.model.quantisation.format in WeightFormat
