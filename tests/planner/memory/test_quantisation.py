"""How checkpoints say that they are quantised."""

from typing import Any

import pytest

from planner.memory.config_fields import ConfigFields
from planner.memory.facts import Quantisation, WeightFormat
from planner.memory.kept_modules import kept_shares, layer_modules
from planner.memory.quantisation import read_quantisation

FIELDS = ConfigFields({"hidden_size": 8, "num_attention_heads": 4, "num_key_value_heads": 1}, "small")
LAYERS = [layer_modules(FIELDS, ["attention", "mlp"]) for _ in range(4)]


def read(table: dict[str, Any], **beside: Any) -> Quantisation:
    found = read_quantisation({"quantization_config": table, **beside}, LAYERS, [])
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("table", "format", "bits", "group"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, WeightFormat.FP8_BLOCK, 8, 128),
        ({"quant_method": "fp8"}, WeightFormat.FP8, 8, None),
        ({"quant_method": "fbgemm_fp8"}, WeightFormat.FP8, 8, None),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, WeightFormat.AWQ, 4, 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, WeightFormat.GPTQ, 8, None),
        ({"quant_method": "mxfp4"}, WeightFormat.MXFP4, 4, 32),
        ({"quant_method": "FP8 "}, WeightFormat.FP8, 8, None),
        ({"quant_method": "torchao", "quant_type": "int8wo"}, WeightFormat.INT8, 8, None),
        (
            {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnlyConfig"}}},
            WeightFormat.GPTQ,
            4,
            None,
        ),
        ({"quant_method": "torchao", "quant_type": "float8dq-row"}, WeightFormat.FP8, 8, None),
        (
            {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}}},
            WeightFormat.FP8,
            8,
            None,
        ),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "uint4"}}}, WeightFormat.GPTQ, 4, None),
        ({"quant_method": "quanto", "weights": "int8"}, WeightFormat.INT8, 8, None),
        ({"quant_method": "eetq"}, WeightFormat.INT8, 8, None),
        (
            {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}},
            WeightFormat.GPTQ,
            4,
            64,
        ),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, WeightFormat.NF4, 4, 64),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, WeightFormat.INT8, 8, None),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, WeightFormat.FP8, 8, None),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16}, WeightFormat.NVFP4, 4, 16),
        (
            {
                "quant_method": "compressed-tensors",
                "format": "pack-quantized",
                "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int", "group_size": 128}}},
            },
            WeightFormat.GPTQ,
            4,
            128,
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "format": "float-quantized",
                "config_groups": {"g": {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}},
            },
            WeightFormat.FP8,
            8,
            None,
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "format": "nvfp4-pack-quantized",
                "config_groups": {"g": {"weights": {"num_bits": 4, "type": "float", "group_size": 16}}},
            },
            WeightFormat.NVFP4,
            4,
            16,
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "format": "int-quantized",
                "config_groups": {"g": {"weights": {"num_bits": 8, "type": "int", "strategy": "channel"}}},
            },
            WeightFormat.INT8,
            8,
            None,
        ),
    ],
)
def test_formats(table: dict[str, Any], format: WeightFormat, bits: float, group: int | None) -> None:
    found = read(table)
    assert (found.format, found.bits, found.group_size) == (format, bits, group)


def test_modelopts_own_file_counts_and_demands_an_fp8_cache() -> None:
    beside = {"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    found = read_quantisation({"hf_quant_config": beside}, LAYERS, [])
    assert found is not None
    assert (found.format, found.kv_cache_format, found.kept) == (WeightFormat.NVFP4, "fp8", ("lm_head",))
    assert found.kept_shares == {"head": 1.0}


def test_experts_may_be_stored_otherwise() -> None:
    listed = {
        "model.layers.0.self_attn.q_proj": {"quant_algo": "FP8"},
        "model.layers.0.mlp.experts.0.up_proj": {"quant_algo": "NVFP4"},
    }
    found = read({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": listed})
    assert (found.format, found.expert_format) == (WeightFormat.FP8, WeightFormat.NVFP4)
    assert read({"quant_method": "fp8"}, expert_dtype="fp4").expert_format is WeightFormat.MXFP4


def test_an_unknown_method_is_named() -> None:
    assumed: list[str] = []
    found = read_quantisation({"quantization_config": {"quant_method": "zorg", "bits": 3}}, LAYERS, assumed)
    assert found is not None
    assert "zorg" in assumed[0]


def test_none_is_none() -> None:
    assert read_quantisation({}, LAYERS, []) is None
    assert read_quantisation({"quantization_config": None}, LAYERS, []) is None


@pytest.mark.parametrize(
    ("kept", "shares"),
    [
        (["model.layers.*.self_attn", "lm_head"], {"attention": 1.0, "head": 1.0}),
        (["re:.*self_attn.*"], {"attention": 1.0}),
        (
            ["model.layers.0", "model.layers.3"],
            {"attention": 0.5, "mlp": 0.5},
        ),
        ([f"model.layers.{layer}.mlp.down_proj" for layer in range(4)], {"mlp": 1 / 3}),
        (["model.layers.1.self_attn.k_proj"], {"attention": 1 / 40}),
        (["gate", "model.layers.0.input_layernorm"], {}),
        (["re:(", "x" * 1000], {}),
    ],
)
def test_the_share_of_each_part_that_stays(kept: list[str], shares: dict[str, float]) -> None:
    assert kept_shares(kept, LAYERS, []) == pytest.approx(shares)


@pytest.mark.parametrize(
    "table",
    [
        {"quant_method": "something-new"},
        {"quant_method": "torchao", "quant_type": "whatever"},
        {"quant_method": "quark"},
        {"quant_method": "hqq"},
    ],
)
def test_a_method_that_is_not_known_is_no_four_bits(table: dict[str, Any]) -> None:
    assumed: list[str] = []
    found = read_quantisation({"quantization_config": table}, LAYERS, assumed)
    assert found is not None
    assert not found.is_known
    assert found.bits == 8
    assert "up to 16 are possible" in assumed[0]


def test_bitsandbytes_that_loads_neither_is_not_quantised() -> None:
    table = {"quant_method": "bitsandbytes", "load_in_4bit": False, "load_in_8bit": False}
    assert read_quantisation({"quantization_config": table}, LAYERS, []) is None


def test_a_pattern_that_is_not_read_is_named() -> None:
    assumed: list[str] = []
    assert kept_shares([r"re:(\w+\.?)+X", "re:.*mlp.*"], LAYERS, assumed) == {"mlp": 1.0}
    assert "not read" in assumed[0]
