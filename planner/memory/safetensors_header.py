"""What a safetensors file holds, from the JSON header at its beginning: no tensor is read.

Format: https://huggingface.co/docs/safetensors (0.6): 8 bytes little-endian header length, then the header.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from planner.memory.errors import UnreadableModel

MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors library itself."""
LENGTH_BYTES = 8
MAX_DIMENSIONS = 16
PREDICTION = "prediction"
"""The part of layers that only speculative decoding loads."""
BITS: Mapping[str, int] = {
    "F64": 64,
    "I64": 64,
    "U64": 64,
    "C64": 64,
    "F32": 32,
    "I32": 32,
    "U32": 32,
    "F16": 16,
    "BF16": 16,
    "I16": 16,
    "U16": 16,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "I8": 8,
    "U8": 8,
    "BOOL": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensors:
    """Bytes that weight files hold, by part; `dtypes` are bytes by data type.

    `layers` is how many decoder layers their names number, None where none is numbered.
    """

    bytes_by_part: Mapping[str, int] = field(default_factory=dict)
    dtypes: Mapping[str, int] = field(default_factory=dict)
    tensors: int = 0
    layers: int | None = None


def header_length(beginning: bytes, name: str) -> int:
    """How long the header is; raises UnreadableModel where the file is too short or the length absurd."""
    if len(beginning) < LENGTH_BYTES:
        raise UnreadableModel(
            f"{name} ends after {len(beginning)} bytes, within the length of its header; download it again."
        )
    length = int.from_bytes(beginning[:LENGTH_BYTES], "little")
    if not 2 <= length <= MAX_HEADER_BYTES:
        raise UnreadableModel(
            f"{name} says that its header is {length:,} bytes long; at most {MAX_HEADER_BYTES:,} are allowed. It is "
            "not a safetensors file, or a damaged one."
        )
    return length


def read_safetensors_header(beginning: bytes, name: str, *, layers: int | None = None) -> StoredTensors:
    """The tensors that a file's beginning lists; `layers` tells decoder layers from prediction layers behind them."""
    length = header_length(beginning, name)
    if len(beginning) < LENGTH_BYTES + length:
        have = len(beginning) - LENGTH_BYTES
        raise UnreadableModel(
            f"{name} ends within its header: {have:,} of {length:,} bytes are there; download it again."
        )
    try:
        header = json.loads(beginning[LENGTH_BYTES : LENGTH_BYTES + length])
    except (ValueError, RecursionError) as error:
        raise UnreadableModel(f"{name} has a header that is not JSON ({error}); it is damaged.") from error
    if not isinstance(header, dict):
        raise UnreadableModel(f"{name} has a header that is not an object of tensors; it is damaged.")
    by_part: dict[str, int] = {}
    by_dtype: dict[str, int] = {}
    tensors = highest = 0
    for tensor, entry in header.items():
        if tensor == "__metadata__":
            continue
        size, dtype = _size(tensor, entry, name)
        part = part_of(tensor, layers)
        by_part[part] = by_part.get(part, 0) + size
        by_dtype[dtype] = by_dtype.get(dtype, 0) + size
        tensors += 1
        if found := DECODER_LAYER.match(tensor):
            highest = max(highest, int(found[1]) + 1)
    return StoredTensors(bytes_by_part=by_part, dtypes=by_dtype, tensors=tensors, layers=highest or None)


def together(files: Iterable[StoredTensors]) -> StoredTensors:
    """Several files of one checkpoint."""
    by_part: dict[str, int] = {}
    by_dtype: dict[str, int] = {}
    tensors = highest = 0
    for stored in files:
        for part, size in stored.bytes_by_part.items():
            by_part[part] = by_part.get(part, 0) + size
        for dtype, size in stored.dtypes.items():
            by_dtype[dtype] = by_dtype.get(dtype, 0) + size
        tensors += stored.tensors
        highest = max(highest, stored.layers or 0)
    return StoredTensors(bytes_by_part=by_part, dtypes=by_dtype, tensors=tensors, layers=highest or None)


def _size(tensor: str, entry: Any, name: str) -> tuple[int, str]:
    """Bytes of one tensor; its shape and its place in the file must agree."""
    if not isinstance(entry, dict):
        raise UnreadableModel(f"{name}: the entry of {tensor} is not an object; the header is damaged.")
    dtype, shape, offsets = entry.get("dtype"), _counts(entry.get("shape")), _counts(entry.get("data_offsets"))
    if not isinstance(dtype, str) or dtype not in BITS:
        raise UnreadableModel(f"{name}: {tensor} has the data type {dtype!r}, which safetensors does not know.")
    if shape is None or offsets is None or len(offsets) != 2 or offsets[1] < offsets[0]:
        raise UnreadableModel(f"{name}: {tensor} has no usable shape and data_offsets; the header is damaged.")
    elements, size = math.prod(shape), offsets[1] - offsets[0]
    if -(-elements * BITS[dtype] // 8) != size:
        raise UnreadableModel(
            f"{name}: {tensor} of shape {shape} and type {dtype} cannot take {size:,} bytes; the header is damaged."
        )
    return size, dtype


def _counts(value: Any) -> list[int] | None:
    """A list of whole numbers that a file can mean, else None."""
    if not isinstance(value, list) or len(value) > MAX_DIMENSIONS:
        return None
    usable = all(isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**60 for item in value)
    return value if usable else None


DECODER_LAYER = re.compile(r"(?:(?:model|language_model|transformer|backbone)\.)*(?:layers|h)\.(\d{1,6})\.")
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|layer)\.(\d+)\.")
PARTS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (part, re.compile(pattern))
    for part, pattern in (
        ("tower", r"(^|\.)(vision|visual|vit|image|audio|multi_modal|mm_projector|patch_merge|embed_vision|speech)"),
        (PREDICTION, r"(^|\.)mtp[._]|(^|\.)(nextn|eagle|medusa)"),
        ("head", r"(^|\.)(lm_head|embed_out|output_layer|cls\.predictions|head)\.(?!.*layers)"),
        ("norms", r"(norm|ln_\d|ln_f|layernorm|ln_attn|ln_mlp)[^.]*\.(weight|bias)$|_norm$"),
        (
            "embedding",
            r"(^|\.)(embed_tokens|wte|wpe|embed_in|word_embeddings|tok_embeddings|embeddings?|embed_positions)\.",
        ),
        ("shared_experts", r"shared_expert|shared_mlp"),
        ("experts", r"experts?\.|\.experts|block_sparse_moe\.(input|output)_linear"),
        ("router", r"(^|\.)(router|gate|wg)\.(weight|bias|layer)|e_score_correction_bias|router"),
        (
            "other",
            r"(^|\.)(mamba|mixer\.(A_log|D|dt_bias|conv1d|in_proj|out_proj|x_proj|dt_proj)|linear_attn|conv|ssm)",
        ),
        ("attention", r"attn|attention|mixer\.[qkvo]_proj|query_key_value"),
        ("mlp", r"mlp|feed_forward|ffn|fc1|fc2|fc_in|fc_out|mixer\.(up|down)_proj"),
    )
)
"""Names of tensors in Hugging Face checkpoints and the part of `Parameters` they belong to; the first counts."""


def part_of(tensor: str, layers: int | None = None) -> str:
    """The part of `Parameters` that a tensor belongs to, `other` where no name fits."""
    tower = PARTS[0][1].search(tensor)
    if not tower and layers is not None and (found := LAYER.search(tensor)) and int(found[1]) >= layers:
        return PREDICTION
    return next((part for part, pattern in PARTS if pattern.search(tensor)), "other")
