"""Model facts from the answer of Ollama's `POST /api/show`.

Fields: https://github.com/ollama/ollama/blob/main/docs/api.md (0.12): `model_info` carries the metadata of the
GGUF file, arrays only with `"verbose": true`, `tensors` since 0.6. Bits of the quantisation levels: llama.cpp b6700,
tools/quantize/README.md (bits per weight of Llama-3.1-8B).
"""

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

from planner.memory.errors import UnreadableModel
from planner.memory.facts import ModelFacts, Quantisation, WeightFormat
from planner.memory.gguf_config import config_from_metadata
from planner.memory.gguf_facts import facts_with_tensors
from planner.memory.gguf_header import TENSOR_TYPES, GgufTensor

LEVEL_BITS: Mapping[str, float] = {
    "Q2_K": 3.16,
    "Q2_K_S": 2.97,
    "Q3_K_S": 3.64,
    "Q3_K_M": 4.00,
    "Q3_K_L": 4.30,
    "Q4_0": 4.66,
    "Q4_1": 5.12,
    "Q4_K_S": 4.67,
    "Q4_K_M": 4.89,
    "Q5_0": 5.58,
    "Q5_1": 6.04,
    "Q5_K_S": 5.57,
    "Q5_K_M": 5.70,
    "Q6_K": 6.56,
    "Q8_0": 8.50,
    "IQ4_XS": 4.46,
    "IQ4_NL": 4.68,
    "MXFP4": 4.25,
}
"""Average bits of a weight of the whole file."""
PLAIN_LEVELS: Mapping[str, WeightFormat] = {
    "F16": WeightFormat.FP16,
    "BF16": WeightFormat.BF16,
    "F32": WeightFormat.FP32,
}
SIZES = {name: (block, size) for name, block, size in TENSOR_TYPES.values()}


def facts_from_ollama_show(payload: Mapping[str, Any], *, name: str = "the Ollama model") -> ModelFacts:
    """What a running Ollama says of a model; raises UnreadableModel with the field that is missing."""
    info = payload.get("model_info") if isinstance(payload, Mapping) else None
    if not isinstance(info, Mapping) or not info:
        raise UnreadableModel(f"{name}: the answer has no model_info; ask POST /api/show of Ollama 0.4 or later.")
    metadata = {key: _value(value) for key, value in info.items() if isinstance(key, str)}
    if isinstance(tokens := info.get("tokenizer.ggml.tokens"), list):
        metadata["tokenizer.ggml.tokens.length"] = len(tokens)
    tensors = _tensors(payload.get("tensors"), name)
    config = config_from_metadata(metadata, name)
    if not tensors and "vocab_size" not in config:
        raise UnreadableModel(f'{name}: the answer states no vocabulary; ask /api/show again with "verbose": true.')
    facts = facts_with_tensors(config, tensors, name=name, source="Ollama /api/show")
    if tensors:
        return facts
    details = payload.get("details")
    level = str(details.get("quantization_level") or "").upper() if isinstance(details, Mapping) else ""
    assumed = [*facts.assumed]
    stated = metadata.get("general.parameter_count")
    if isinstance(stated, int) and stated > 0 and abs(stated - facts.parameters.total) > 0.01 * stated:
        assumed.append(f"Ollama states {stated:,} parameters; the sizes make {facts.parameters.total:,}.")
    if level in PLAIN_LEVELS:
        return replace(facts, dtype=PLAIN_LEVELS[level], assumed=tuple(assumed))
    bits = LEVEL_BITS.get(level)
    if bits is None:
        bits = 4.89
        assumed.append(f"The quantisation level {level or 'is not stated'}: {bits} bits for each weight were assumed.")
    return replace(
        facts,
        dtype=WeightFormat.GGUF,
        quantisation=Quantisation(format=WeightFormat.GGUF, bits=bits),
        assumed=tuple(assumed),
    )


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) and len(value) <= 4096 else value


def _tensors(listed: Any, name: str) -> tuple[GgufTensor, ...]:
    """The list of tensors, empty where the answer has none."""
    found = []
    for entry in listed if isinstance(listed, list) else ():
        shape = entry.get("shape") if isinstance(entry, Mapping) else None
        kind = str(entry.get("type")).upper() if isinstance(entry, Mapping) else ""
        usable = isinstance(shape, list) and all(isinstance(n, int) and 0 <= n < 2**40 for n in shape)
        if not usable or kind not in SIZES or not isinstance(shape, list):
            raise UnreadableModel(
                f"{name}: the answer lists a tensor without usable type and shape: {str(entry)[:80]}."
            )
        block, size = SIZES[kind]
        elements = prod(shape)
        found.append(
            GgufTensor(
                name=str(entry.get("name")),
                type=kind,
                shape=tuple(shape),
                elements=elements,
                size_bytes=-(-elements // block) * size,
            )
        )
    return tuple(found)
