"""Answers of Ollama's /api/show as facts."""

from typing import Any

import pytest

from planner.memory.errors import UnreadableModel
from planner.memory.facts import WeightFormat
from planner.memory.ollama_show import facts_from_ollama_show

INFO: dict[str, Any] = {
    "general.architecture": "llama",
    "general.parameter_count": 8030261248,
    "llama.block_count": 32,
    "llama.embedding_length": 4096,
    "llama.feed_forward_length": 14336,
    "llama.context_length": 131072,
    "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8,
    "llama.vocab_size": 128256,
    "tokenizer.ggml.tokens": None,
}
PAYLOAD: dict[str, Any] = {"details": {"quantization_level": "Q4_K_M"}, "model_info": INFO}


def test_sizes_and_the_level_of_quantisation() -> None:
    facts = facts_from_ollama_show(PAYLOAD, name="llama3.1:8b")
    assert facts.parameters.total == 8_030_261_248
    assert facts.layers[0].kv_heads == 8
    assert facts.quantisation is not None
    assert (facts.quantisation.format, facts.quantisation.bits) == (WeightFormat.GGUF, 4.89)
    assert facts.assumed == ()


def test_listed_tensors_are_exact() -> None:
    tensors = [{"name": "token_embd.weight", "type": "Q4_K", "shape": [4096, 128256]}]
    facts = facts_from_ollama_show({**PAYLOAD, "tensors": tensors})
    assert facts.stored_bytes == {"embedding": 4096 * 128256 // 256 * 144}
    assert facts.tied_embeddings


def test_an_unquantised_model_has_its_type() -> None:
    facts = facts_from_ollama_show({**PAYLOAD, "details": {"quantization_level": "F16"}})
    assert (facts.dtype, facts.quantisation) == (WeightFormat.FP16, None)


def test_what_cannot_be_told_is_assumed_aloud() -> None:
    info = {**INFO, "general.parameter_count": 1000}
    facts = facts_from_ollama_show({"model_info": info})
    assert len(facts.assumed) == 2


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        ({}, "no model_info"),
        ({"model_info": {**INFO, "llama.vocab_size": None}}, "verbose"),
        (
            {"model_info": {key: value for key, value in INFO.items() if key != "llama.block_count"}},
            "num_hidden_layers is missing",
        ),
        ({**PAYLOAD, "tensors": [{"name": "a", "type": "Q99", "shape": [1]}]}, "without usable type"),
    ],
)
def test_incomplete_answers_are_refused(payload: dict[str, Any], why: str) -> None:
    with pytest.raises(UnreadableModel, match=why):
        facts_from_ollama_show(payload)
