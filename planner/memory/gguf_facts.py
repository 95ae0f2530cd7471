"""Model facts from a GGUF header: sizes from its metadata, parameters and bytes from its list of tensors."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from planner.memory.facts import LayerKind, Layers, ModelFacts, Parameters, Quantisation, WeightFormat
from planner.memory.gguf_config import config_from_metadata
from planner.memory.gguf_header import GgufHeader, GgufTensor
from planner.memory.hf_config import facts_from_config
from planner.memory.parameters import grouped
from planner.memory.safetensors_header import PREDICTION

PLAIN: Mapping[str, WeightFormat] = {"F32": WeightFormat.FP32, "F16": WeightFormat.FP16, "BF16": WeightFormat.BF16}
PARTS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (part, re.compile(pattern))
    for part, pattern in (
        ("tower", r"^(v|a|mm)\.|^resampler"),
        (PREDICTION, r"\.nextn\."),
        ("norms", r"_norm(\.|$|_)|norm\.(weight|bias)$"),
        ("embedding", r"^(token_embd|position_embd|token_types)\b"),
        ("head", r"^(output|cls)\b"),
        ("shared_experts", r"_shexp"),
        ("router", r"ffn_gate_inp|exp_probs_b"),
        ("experts", r"_exps"),
        ("attention", r"\.attn_|\.indexer"),
        ("mlp", r"\.ffn_"),
    )
)
"""Names of tensors in GGUF files (gguf-py 0.17, constants.py, TENSOR_NAMES); the first that fits counts."""
BLOCK = re.compile(r"^blk\.(\d+)\.")


def facts_from_gguf_header(header: GgufHeader, *, name: str, source: str = "GGUF header") -> ModelFacts:
    """What the file holds; raises UnreadableModel where a size is missing or cannot be true."""
    config = config_from_metadata(header.metadata, name)
    return facts_with_tensors(config, header.tensors, name=name, source=source)


def facts_with_tensors(
    config: Mapping[str, Any], tensors: Sequence[GgufTensor], *, name: str, source: str
) -> ModelFacts:
    """Facts of a configuration, with the parameters and bytes that a list of tensors states."""
    config = dict(config)
    by_name = {tensor.name: tensor for tensor in tensors}
    embedding = by_name.get("token_embd.weight")
    if embedding is not None and len(embedding.shape) == 2:
        config["vocab_size"] = embedding.shape[1]
    if tensors:
        config["tie_word_embeddings"] = "output.weight" not in by_name
    facts = facts_from_config({**config, "torch_dtype": "float16"}, name=name, source=source)
    facts = replace(facts, layers=_with_own_heads(facts.layers, config), architecture=str(config["model_type"]))
    if not tensors:
        return facts
    elements, sizes, types = _sums(tensors, facts.layer_count)
    main = max(types, key=lambda kind: types[kind])
    quantised = [tensor for tensor in tensors if tensor.type not in PLAIN]
    parts = {part: count for part, count in elements.items() if part != PREDICTION}
    quantisation = None
    if quantised:
        bits = 8 * sum(tensor.size_bytes for tensor in quantised) / max(1, sum(tensor.elements for tensor in quantised))
        quantisation = Quantisation(format=WeightFormat.GGUF, bits=round(bits, 4))
    return replace(
        facts,
        dtype=PLAIN.get(main, WeightFormat.GGUF),
        parameters=Parameters(**{part: parts.get(part, 0) for part in Parameters.__dataclass_fields__}),
        quantisation=quantisation,
        stored_bytes={part: size for part, size in sizes.items() if part != PREDICTION},
        prediction_bytes=sizes.get(PREDICTION, 0),
    )


def part_of(tensor: str, layers: int | None = None) -> str:
    """The part of `Parameters` a GGUF tensor belongs to, `other` where no name fits."""
    if layers is not None and (block := BLOCK.match(tensor)) and int(block[1]) >= layers:
        return PREDICTION
    return next((part for part, pattern in PARTS if pattern.search(tensor)), "other")


def _sums(tensors: Iterable[GgufTensor], layers: int) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Elements and bytes by part, bytes by type."""
    elements: dict[str, int] = {}
    sizes: dict[str, int] = {}
    types: dict[str, int] = {}
    for tensor in tensors:
        part = part_of(tensor.name, layers)
        elements[part] = elements.get(part, 0) + tensor.elements
        sizes[part] = sizes.get(part, 0) + tensor.size_bytes
        types[tensor.type] = types.get(tensor.type, 0) + tensor.size_bytes
    return elements, sizes, types


def _with_own_heads(layers: tuple[Layers, ...], config: Mapping[str, Any]) -> tuple[Layers, ...]:
    """Layers with as many KV heads as the file states for each; the cache differs where they do."""
    counts = [count for count in config.get("kv_heads_by_layer") or () if isinstance(count, int) and count > 0]
    kinds = (LayerKind.FULL, LayerKind.SLIDING)
    same = [one for one in layers if one.kind in kinds]
    if len(set(counts)) < 2 or len(same) != 1 or same[0].count != len(counts):
        return layers
    own = [replace(same[0], count=1, kv_heads=count) for count in counts]
    return grouped([*(one for one in layers if one.kind not in kinds), *own])
