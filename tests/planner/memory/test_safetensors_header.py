"""Headers of safetensors files: what they hold by part, and what is refused."""

import contextlib
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.memory.errors import UnreadableModel
from planner.memory.safetensors_header import PREDICTION, part_of, read_safetensors_header, together


def beginning(tensors: dict[str, object], *, length: int | None = None) -> bytes:
    header = json.dumps(tensors).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header


def entry(dtype: str, shape: list[int], size: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}


def test_bytes_by_part_and_type() -> None:
    stored = read_safetensors_header(
        beginning(
            {
                "__metadata__": {"format": "pt"},
                "model.embed_tokens.weight": entry("BF16", [10, 4], 80),
                "model.layers.0.self_attn.q_proj.weight": entry("U8", [8], 8),
                "model.layers.0.self_attn.q_proj.weight_scale": entry("F32", [1], 4),
                "model.layers.2.mlp.down_proj.weight": entry("F8_E4M3", [5], 5),
            }
        ),
        "model.safetensors",
        layers=2,
    )
    assert stored.bytes_by_part == {"embedding": 80, "attention": 12, PREDICTION: 5}
    assert stored.dtypes == {"BF16": 80, "U8": 8, "F32": 4, "F8_E4M3": 5}
    assert together([stored, stored]).bytes_by_part["attention"] == 24


@pytest.mark.parametrize(
    ("tensor", "part"),
    [
        ("lm_head.weight", "head"),
        ("model.layers.3.mlp.experts.7.gate_proj.weight", "experts"),
        ("model.layers.3.mlp.shared_experts.up_proj.weight", "shared_experts"),
        ("model.layers.3.mlp.gate.weight", "router"),
        ("model.layers.3.mlp.gate_proj.weight", "mlp"),
        ("model.layers.3.block_sparse_moe.experts.1.w1.weight", "experts"),
        ("model.layers.3.block_sparse_moe.gate.weight", "router"),
        ("model.layers.3.input_layernorm.weight", "norms"),
        ("model.norm.weight", "norms"),
        ("model.layers.3.linear_attn.in_proj_qkvz.weight", "other"),
        ("backbone.layers.3.mixer.A_log", "other"),
        ("backbone.layers.3.mixer.q_proj.weight", "attention"),
        ("transformer.h.3.attn.c_attn.weight", "attention"),
        ("transformer.wte.weight", "embedding"),
        ("transformer.h.3.mlp.c_fc.weight", "mlp"),
        ("gpt_neox.layers.3.attention.query_key_value.weight", "attention"),
        ("embed_out.weight", "head"),
        ("model.layers.0.mlp.experts.gate_up_proj_blocks", "experts"),
        ("model.visual.blocks.0.attn.qkv.weight", "tower"),
        ("vision_tower.vision_model.encoder.layers.30.mlp.fc1.weight", "tower"),
        ("mtp.layers.0.mlp.up_proj.weight", PREDICTION),
        ("model.layers.61.eh_proj.weight", PREDICTION),
        ("something.else", "other"),
    ],
)
def test_names_of_tensors_tell_the_part(tensor: str, part: str) -> None:
    assert part_of(tensor, 61) == part


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x01\x02", "ends after 2 bytes"),
        (struct.pack("<Q", 3 * 2**30) + b"{}", "3,221,225,472 bytes long"),
        (struct.pack("<Q", 0), "0 bytes long"),
        (beginning({}, length=100), "ends within its header"),
        (struct.pack("<Q", 3) + b"{{{", "not JSON"),
        (struct.pack("<Q", 2) + b"[]", "not an object"),
        (beginning({"a": 1}), "not an object"),
        (beginning({"a": entry("Q9", [1], 1)}), "does not know"),
        (beginning({"a": entry("F32", [2], 4)}), "cannot take 4 bytes"),
        (beginning({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}), "no usable shape"),
        (beginning({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}), "no usable shape"),
    ],
)
def test_damaged_headers_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(UnreadableModel, match=why):
        read_safetensors_header(data, "model.safetensors")


@given(st.binary(max_size=64), st.integers(0, 200))
def test_no_bytes_break_the_reader(tail: bytes, length: int) -> None:
    with contextlib.suppress(UnreadableModel):
        read_safetensors_header(struct.pack("<Q", length) + tail, "hostile.safetensors")
