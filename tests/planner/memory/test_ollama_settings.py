"""What an answer of /api/show says beside the sizes of the model."""

from typing import Any

import pytest

from planner.memory.errors import UnreadableModel
from planner.memory.ollama_settings import lists_are_left_out, notes_of_show, refuse_elsewhere, settings_of_show

INFO: dict[str, Any] = {"general.architecture": "llama", "llama.block_count": 32, "tokenizer.ggml.tokens": []}
TENSOR = {"name": "token_embd.weight", "type": "Q4_K", "shape": [256, 5000]}


def test_settings_of_the_model_are_those_that_size_it() -> None:
    text = (
        'stop                           "<|eot_id|>"\nnum_ctx                        8192\ntemperature 0.7\nnum_gpu -1'
    )
    assert settings_of_show({"parameters": text}) == {"n_ctx": 8192, "gpu_layers": -1}
    assert settings_of_show({"parameters": "num_ctx 0\nnum_batch 12x\nnum_ctx 1e9"}) == {}
    assert settings_of_show({"parameters": 7}) == {}
    assert settings_of_show({}) == {}


@pytest.mark.parametrize(
    ("payload", "left_out"),
    [
        ({"model_info": INFO, "tensors": [TENSOR]}, False),
        ({"model_info": INFO}, True),
        ({"model_info": INFO | {"llama.vocab_size": 128256}}, False),
        ({"model_info": INFO | {"llama.attention.head_count_kv": []}, "tensors": [TENSOR]}, True),
        ({"model_info": INFO | {"gemma3.attention.sliding_window_pattern": None}, "tensors": [TENSOR]}, True),
        ({"model_info": INFO | {"tokenizer.ggml.merges": None}, "tensors": [TENSOR]}, False),
        ({"model_info": INFO | {"llama.expert_count": 0}, "tensors": [TENSOR]}, False),
        ({}, False),
    ],
)
def test_emptied_lists_are_noticed(payload: dict[str, Any], left_out: bool) -> None:
    assert lists_are_left_out(payload) is left_out


def test_models_that_run_elsewhere_are_refused() -> None:
    with pytest.raises(UnreadableModel, match="cloud model"):
        refuse_elsewhere(
            {"remote_host": "https://ollama.com:443", "remote_model": "gpt-oss:120b"}, "gpt-oss:120b-cloud"
        )
    with pytest.raises(UnreadableModel, match="with MLX"):
        refuse_elsewhere({"details": {"format": "safetensors"}}, "x")
    refuse_elsewhere({"details": {"format": "gguf"}}, "x")
    refuse_elsewhere({}, "x")


def test_a_projector_is_said_to_be_left_out() -> None:
    assert "left out" in notes_of_show({"projector_info": {"clip.vision.block_count": 24}}, "llava")[0]
    assert notes_of_show({}, "llama") == ()
