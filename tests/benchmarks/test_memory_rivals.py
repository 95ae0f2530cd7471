"""The other estimators answer, answer None where they know nothing, and our readings agree with the packages."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks import memory_rivals
from benchmarks.memory_rivals import Rival, is_installed, rivals

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}
ROW: Mapping[str, Any] = {
    "config_ref": "llama.json",
    "config_match": "exact",
    "model": "Llama-3.1-8B",
    "gpu": "NVIDIA H100 80GB",
    "gpu_mem_gib": 79.19,
    "mig_profile": None,
    "tensor_parallel_size": 1,
    "gpu_count": 1,
    "gpu_memory_utilization": 0.9,
    "max_model_len": 8192,
    "source": "a test",
}
GIB = 1 << 30


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    stored = {"facts": LLAMA, "derived": {"total_params_text": 8_030_261_248}}
    (tmp_path / "llama.json").write_text(json.dumps(stored), encoding="utf-8")
    return tmp_path


def test_at_least_two_answer_without_anything_installed(configs: Path) -> None:
    named = rivals()
    assert len(named) >= 4
    answers = [rival(ROW, configs) for rival in named.values()]
    for answer in answers:
        assert answer.weights_bytes == pytest.approx(8_030_261_248 * 2, rel=0.01)
        assert answer.fits is True
    assert sum(answer.kv_pool_bytes is not None for answer in answers) >= 3


def test_readings_follow_the_published_formulas(configs: Path) -> None:
    weights = 8_030_261_248 * 2
    vramscout = memory_rivals.vramscout_reading(ROW, configs)
    assert vramscout.kv_pool_bytes == pytest.approx(
        79.19 * 0.9 * GIB - weights - 0.75 * GIB - 5 * 8192 * 4096 * 2, rel=1e-6
    )
    modelinfo = memory_rivals.modelinfo_reading(ROW, configs)
    assert modelinfo.kv_pool_bytes == pytest.approx(80 * 0.9 * GIB - weights)
    planner = memory_rivals.llm_d_planner_reading(ROW, configs)
    assert planner.kv_pool_bytes == pytest.approx(80 * 0.9 * GIB - weights - (1.89 + 0.27) * GIB)
    assert memory_rivals.vramcalc_reading(ROW, configs).kv_pool_bytes is None


@pytest.mark.parametrize(
    "change",
    [
        {"config_ref": None},
        {"config_ref": "missing.json"},
        {"pipeline_parallel_size": 2},
        {"tensor_parallel_size": None, "gpu_count": None, "gpu_mem_gib": 3.0},
    ],
)
def test_what_is_not_known_is_none(configs: Path, change: Mapping[str, Any]) -> None:
    for rival in rivals().values():
        answer = rival({**ROW, **change}, configs)
        assert (answer.weights_bytes, answer.kv_pool_bytes, answer.fits) == (None, None, None)
        assert answer.note


def test_an_unsupported_model_is_refused_in_words(configs: Path) -> None:
    stored = {"facts": {**LLAMA, "model_type": "qwen3"}, "derived": {"total_params_text": 8_030_261_248}}
    (configs / "llama.json").write_text(json.dumps(stored), encoding="utf-8")
    assert "qwen3" in memory_rivals.vramcalc_reading(ROW, configs).note
    assert "fp8" in memory_rivals.vramcalc_reading({**ROW, "quantization": "fp8"}, configs).note


def test_every_recorded_run_gets_an_answer_or_a_reason(reference: Path) -> None:
    folder = reference / "memory"
    rows = [json.loads(line) for line in (folder / "vllm_runs.jsonl").read_text(encoding="utf-8").splitlines()]
    for name, rival in rivals().items():
        answers = [rival(row, folder / "model_configs") for row in rows]
        assert all(answer.note or answer.weights_bytes for answer in answers), name
        assert sum(answer.weights_bytes is not None for answer in answers) >= 40, name


@pytest.mark.parametrize(
    ("package", "module", "installed", "reading"),
    [
        ("vramscout", "vramscout.modern_v07", memory_rivals.vramscout_package, memory_rivals.vramscout_reading),
        ("modelinfo-cli", "modelinfo.calculator", memory_rivals.modelinfo_package, memory_rivals.modelinfo_reading),
        ("vramcalc", "vramcalc.estimate", memory_rivals.vramcalc_package, memory_rivals.vramcalc_reading),
    ],
)
def test_our_readings_agree_with_the_packages(
    configs: Path, package: str, module: str, installed: Rival, reading: Rival
) -> None:
    if not is_installed(package, module):
        pytest.skip(f"{package} is not installed here")
    for change in ({}, {"tensor_parallel_size": 2}, {"max_model_len": 131072}, {"quantization": "fp8"}):
        theirs, ours = (one({**ROW, **change}, configs) for one in (installed, reading))
        assert theirs.weights_bytes == pytest.approx(ours.weights_bytes)
        assert theirs.kv_pool_bytes == pytest.approx(ours.kv_pool_bytes)
        assert theirs.fits == ours.fits
