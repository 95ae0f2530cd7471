"""Models that a user names by path."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from gpufleet.model_files import load_model
from planner.memory.errors import UnreadableModel
from tests.planner.memory.gguf_files import LLAMA, TENSORS, gguf

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 10,
    "torch_dtype": "bfloat16",
}


def safetensors(path: Path, tensors: dict[str, int]) -> None:
    start, header = 0, {}
    for name, size in tensors.items():
        header[name] = {"dtype": "BF16", "shape": [size // 2], "data_offsets": [start, start + size]}
        start += size
    body = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(body)) + body + bytes(start))


def directory(folder: Path) -> Path:
    model = folder / "my-model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    return model


def test_a_directory_and_its_configuration(tmp_path: Path) -> None:
    model = directory(tmp_path)
    for spelled in (str(model), str(model / "config.json")):
        facts = load_model(spelled)
        assert (facts.name, facts.stored_bytes) == ("my-model", {})


def test_weight_files_are_exact_and_copies_do_not_count(tmp_path: Path) -> None:
    model = directory(tmp_path)
    safetensors(model / "model-1.safetensors", {"model.embed_tokens.weight": 160, "model.layers.0.attn.w": 384})
    safetensors(model / "model-2.safetensors", {"lm_head.weight": 160, "model.layers.0.mlp.w": 768, "norm.weight": 48})
    safetensors(model / "consolidated.safetensors", {"tok_embeddings.weight": 160})
    held = {"embedding": 160, "attention": 384, "head": 160, "mlp": 768, "norms": 48}
    assert load_model(str(model)).stored_bytes == held


def test_files_are_read_again_once_they_change(tmp_path: Path) -> None:
    model = directory(tmp_path)
    assert load_model(str(model)).vocab_size == 10
    (model / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": 4096}), encoding="utf-8")
    assert load_model(str(model)).vocab_size == 4096


def test_parts_that_number_themselves_must_all_be_there(tmp_path: Path) -> None:
    """Without an index only the names tell; half of a quantised checkpoint fits where the whole does not."""
    model = directory(tmp_path)
    safetensors(model / "model-00001-of-00003.safetensors", {"lm_head.weight": 160})
    safetensors(model / "model-00003-of-00003.safetensors", {"model.embed_tokens.weight": 160})
    with pytest.raises(UnreadableModel, match="2 of the 3 parts"):
        load_model(str(model))


def test_files_that_hold_less_than_the_configuration_counts_are_refused(tmp_path: Path) -> None:
    model = directory(tmp_path)
    safetensors(model / "model.safetensors", {"lm_head.weight": 160})
    with pytest.raises(UnreadableModel, match="some files are missing"):
        load_model(str(model))


def test_an_index_that_names_a_path_is_refused(tmp_path: Path) -> None:
    model = directory(tmp_path)
    index = {"weight_map": {"lm_head.weight": "../a.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(UnreadableModel, match="no file name"):
        load_model(str(model))


def test_a_mark_in_front_of_the_configuration_is_no_mistake(tmp_path: Path) -> None:
    model = directory(tmp_path)
    (model / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8-sig")
    assert load_model(str(model)).vocab_size == 10


def test_an_incomplete_download_is_refused(tmp_path: Path) -> None:
    model = directory(tmp_path)
    safetensors(model / "a.safetensors", {"lm_head.weight": 160})
    index = {"weight_map": {"lm_head.weight": "a.safetensors", "model.norm.weight": "b.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(UnreadableModel, match=r"lacks 1 of 2 weight files \(b\.safetensors\)"):
        load_model(str(model))


def test_a_weight_file_that_ends_early_is_refused(tmp_path: Path) -> None:
    model = directory(tmp_path)
    safetensors(model / "a.safetensors", {"lm_head.weight": 160})
    (model / "a.safetensors").write_bytes((model / "a.safetensors").read_bytes()[:-1])
    with pytest.raises(UnreadableModel, match="ends early"):
        load_model(str(model))


def test_modelopts_file_beside_the_configuration_counts(tmp_path: Path) -> None:
    model = directory(tmp_path)
    beside = {"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}}
    (model / "hf_quant_config.json").write_text(json.dumps(beside), encoding="utf-8")
    quantisation = load_model(str(model)).quantisation
    assert quantisation is not None
    assert quantisation.kv_cache_format == "fp8"


def test_a_gguf_file(tmp_path: Path) -> None:
    file = tmp_path / "small.gguf"
    file.write_bytes(gguf(LLAMA, TENSORS, data=2_000_000))
    assert load_model(str(file)).name == "small"
    assert load_model(str(tmp_path)).name == "small"


def test_a_gguf_file_that_ends_early_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "small.gguf"
    file.write_bytes(gguf(LLAMA, TENSORS))
    with pytest.raises(UnreadableModel, match="ends early"):
        load_model(str(file))


def test_one_of_several_parts_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "part.gguf"
    file.write_bytes(gguf({**LLAMA, "split.count": 3}, TENSORS, data=2_000_000))
    with pytest.raises(UnreadableModel, match="one of 3 parts"):
        load_model(str(file))


@pytest.mark.parametrize(
    ("content", "why"), [('{"model_type": "lla', "is not JSON"), ("[]", "JSON object"), ("\udcff", "is not JSON")]
)
def test_files_that_are_no_configuration_are_refused(tmp_path: Path, content: str, why: str) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UnreadableModel, match=why):
        load_model(str(file))


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModel, match="no file or directory here"):
        load_model(str(tmp_path / "absent.gguf"))
    with pytest.raises(UnreadableModel, match=r"no config\.json and no"):
        load_model(str(tmp_path))
    with pytest.raises(UnreadableModel, match="neither in the catalogue"):
        load_model("some-model\0")
    assert load_model("openai/gpt-oss-20b").name == "openai/gpt-oss-20b"


def test_an_answer_of_ollama_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "show.json"
    info = {key: item for key, item in LLAMA.items() if key.startswith(("general", "llama"))} | {
        "llama.vocab_size": 5000
    }
    file.write_text(json.dumps({"model_info": info, "details": {"quantization_level": "Q8_0"}}), encoding="utf-8")
    assert load_model(str(file)).vocab_size == 5000
