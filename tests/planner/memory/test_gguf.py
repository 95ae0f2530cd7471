"""GGUF headers as facts, and the files that are refused."""

import contextlib
import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.memory.errors import UnreadableModel
from planner.memory.facts import LayerKind, ModelFacts, WeightFormat
from planner.memory.gguf_config import config_from_metadata
from planner.memory.gguf_facts import facts_from_gguf_header, part_of
from planner.memory.gguf_header import read_gguf_header
from planner.memory.hf_config import facts_from_config
from tests.planner.memory.gguf_files import LLAMA, TENSORS, gguf


def facts(data: bytes) -> ModelFacts:
    return facts_from_gguf_header(read_gguf_header(io.BytesIO(data), "small.gguf"), name="small")


def test_a_header_tells_sizes_parts_and_bytes() -> None:
    found = facts(gguf(LLAMA, TENSORS))
    (layers,) = found.layers
    assert (layers.kind, layers.count, layers.kv_heads, layers.key_size) == (LayerKind.FULL, 1, 2, 32)
    assert (found.vocab_size, found.tied_embeddings, found.hidden_size) == (5000, False, 256)
    assert found.stored_bytes["embedding"] == 256 * 5000 // 256 * 144
    assert found.stored_bytes["head"] == 256 * 5000 // 256 * 210
    assert found.parameters.mlp == 3 * 256 * 512
    assert found.parameters.total == 2 * 256 * 5000 + 3 * 256 + 2 * 256 * 256 + 2 * 256 * 64 + 3 * 256 * 512
    assert found.quantisation is not None
    assert found.quantisation.format is WeightFormat.GGUF
    assert 4.5 < (found.quantisation.bits or 0) < 6.6


def test_parameters_agree_with_the_same_sizes_in_a_configuration() -> None:
    header = read_gguf_header(io.BytesIO(gguf(LLAMA, TENSORS)), "small.gguf")
    config = config_from_metadata(header.metadata, "small")
    assert facts_from_config(config, name="small").parameters == facts(gguf(LLAMA, TENSORS)).parameters


def test_a_file_without_output_is_tied() -> None:
    found = facts(gguf(LLAMA, [tensor for tensor in TENSORS if tensor[0] != "output.weight"]))
    assert found.tied_embeddings
    assert found.parameters.head == 0


def test_layers_may_differ_in_kv_heads() -> None:
    metadata = {**LLAMA, "llama.block_count": 3, "llama.attention.head_count_kv": [2, 4, 2]}
    found = facts(gguf(metadata, TENSORS))
    assert {(layers.kv_heads, layers.count) for layers in found.layers} == {(2, 2), (4, 1)}


def test_layers_without_kv_heads_keep_a_state() -> None:
    metadata = {
        "general.architecture": "granitehybrid",
        **{key.replace("llama.", "granitehybrid."): item for key, item in LLAMA.items() if key.startswith("llama.")},
        "granitehybrid.block_count": 4,
        "granitehybrid.attention.head_count_kv": [0, 0, 2, 0],
        "granitehybrid.ssm.conv_kernel": 4,
        "granitehybrid.ssm.inner_size": 512,
        "granitehybrid.ssm.state_size": 16,
        "granitehybrid.ssm.time_step_rank": 8,
        "granitehybrid.ssm.group_count": 1,
        "tokenizer.ggml.tokens": ["word"] * 9,
    }
    found = facts(gguf(metadata, TENSORS))
    assert {(layers.kind, layers.count) for layers in found.layers} == {(LayerKind.STATE, 3), (LayerKind.FULL, 1)}
    state = next(layers for layers in found.layers if layers.kind is LayerKind.STATE)
    assert (state.state_elements, state.conv_elements) == (512 * 16, 3 * (512 + 2 * 16))


def test_mla_keeps_the_compressed_cache() -> None:
    metadata = {
        "general.architecture": "deepseek2",
        **{key.replace("llama.", "deepseek2."): item for key, item in LLAMA.items() if key.startswith("llama.")},
        "deepseek2.attention.head_count_kv": 1,
        "deepseek2.attention.kv_lora_rank": 512,
        "deepseek2.attention.key_length": 576,
        "deepseek2.attention.value_length": 512,
        "deepseek2.attention.key_length_mla": 192,
        "deepseek2.attention.value_length_mla": 128,
        "deepseek2.rope.dimension_count": 64,
        "tokenizer.ggml.tokens": ["word"] * 9,
    }
    (layers,) = facts(gguf(metadata, TENSORS)).layers
    assert (layers.kind, layers.latent_size, layers.rope_size) == (LayerKind.MLA, 512, 64)


def test_windows_that_llama_cpp_builds_in() -> None:
    metadata = {
        "general.architecture": "gemma3",
        **{key.replace("llama.", "gemma3."): item for key, item in LLAMA.items() if key.startswith("llama.")},
        "gemma3.block_count": 12,
        "gemma3.attention.sliding_window": 512,
        "tokenizer.ggml.tokens": ["word"] * 9,
    }
    found = facts(gguf(metadata, TENSORS))
    assert {(layers.kind, layers.count, layers.window) for layers in found.layers} == {
        (LayerKind.SLIDING, 10, 512),
        (LayerKind.FULL, 2, None),
    }


def test_every_truncation_is_refused() -> None:
    whole = gguf(LLAMA, TENSORS)
    for end in [*range(200), len(whole) // 2, len(whole) - 1]:
        with pytest.raises(UnreadableModel, match=r"small\.gguf (ends|is not)"):
            facts(whole[:end])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GGML" + bytes(40), "is not a GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "metadata keys"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**60), "bytes of text"),
        (gguf({"general.architecture": "llama"}, [("a", [1], 99)]), "tensor type 99"),
        (gguf({"general.architecture": "llama"}, [("a", [3], 12)]), "no whole number of Q4_K blocks"),
        (gguf({}, []), "general.architecture"),
        (gguf({"general.architecture": "clip"}, []), "clip model, not a language model"),
        (gguf({"general.architecture": "llama"}, []), "is missing"),
        (gguf({**LLAMA, "llama.attention.head_count_kv": 3}, TENSORS), "num_key_value_heads is 3"),
    ],
)
def test_hostile_and_unusable_files_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(UnreadableModel, match=why):
        facts(data)


def test_nested_arrays_have_an_end() -> None:
    nested = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"k" + struct.pack("<I", 9)
    with pytest.raises(UnreadableModel, match="nests"):
        facts(nested + struct.pack("<IQ", 9, 1) * 50)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_no_bytes_break_the_reader(noise: bytes, place: int) -> None:
    whole = bytearray(gguf({**LLAMA, "tokenizer.ggml.tokens": ["a", "b"]}, TENSORS))
    whole[place : place + len(noise)] = noise
    with contextlib.suppress(UnreadableModel):
        facts(bytes(whole))


@pytest.mark.parametrize(
    ("tensor", "part"),
    [
        ("token_embd.weight", "embedding"),
        ("output.weight", "head"),
        ("output_norm.weight", "norms"),
        ("blk.3.attn_q.weight", "attention"),
        ("blk.3.attn_kv_a_mqa.weight", "attention"),
        ("blk.3.ffn_gate_exps.weight", "experts"),
        ("blk.3.ffn_gate_shexp.weight", "shared_experts"),
        ("blk.3.ffn_gate_inp.weight", "router"),
        ("blk.3.ffn_down.weight", "mlp"),
        ("blk.3.ssm_in.weight", "other"),
        ("v.blk.3.attn_q.weight", "tower"),
    ],
)
def test_names_of_tensors_tell_the_part(tensor: str, part: str) -> None:
    assert part_of(tensor, 8) == part
