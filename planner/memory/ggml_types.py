"""How many bytes llama.cpp stores: elements of the tensor types, and weights of the named file types.

Tensor types: block sizes of ggml (`ggml-common.h`, static asserts on the block structs; llama.cpp b3889 to v0.5.0).
File types: bits per weight that llama.cpp's `tools/quantize/README.md` prints for Llama-3.1-8B; mixed types keep some
matrices in better types, so another model's average differs by a few percent, and weights by type have a range.
"""

import math
import re
from types import MappingProxyType
from typing import Final

BLOCKS: Final = MappingProxyType(
    {  # type: (elements of a block, bytes of a block)
        "f32": (1, 4),
        "f16": (1, 2),
        "bf16": (1, 2),
        "q8_0": (32, 34),
        "q5_1": (32, 24),
        "q5_0": (32, 22),
        "q4_1": (32, 20),
        "q4_0": (32, 18),
        "iq4_nl": (32, 18),
        "q6_0": (32, 26),  # ik_llama.cpp only
    }
)

FILE_TYPE_BITS: Final = MappingProxyType(
    {
        "F32": 32.0,
        "F16": 16.0005,
        "BF16": 16.0005,
        "Q8_0": 8.5008,
        "Q6_K": 6.5633,
        "Q5_K_M": 5.7036,
        "Q5_K_S": 5.5704,
        "Q5_1": 6.0,
        "Q5_0": 5.5704,
        "Q4_K_M": 4.8944,
        "Q4_K_S": 4.6672,
        "Q4_1": 5.1,
        "Q4_0": 4.65,
        "IQ4_NL": 4.6818,
        "IQ4_XS": 4.4597,
        "MXFP4": 4.6,
        "Q3_K_L": 4.2979,
        "Q3_K_M": 3.9960,
        "Q3_K_S": 3.6429,
        "IQ3_M": 3.7628,
        "IQ3_S": 3.6606,
        "IQ3_XS": 3.4977,
        "IQ3_XXS": 3.2548,
        "Q2_K": 3.1593,
        "Q2_K_S": 2.9697,
        "IQ2_M": 2.9294,
        "IQ2_S": 2.7403,
        "IQ2_XS": 2.5882,
        "IQ2_XXS": 2.3824,
        "IQ1_M": 2.1460,
        "IQ1_S": 2.0042,
    }
)

_ALIASES: Final = MappingProxyType({"fp16": "f16", "auto": "f16", "bfloat16": "bf16", "float16": "f16", "fp32": "f32"})
_LONG_NAMES: Final = MappingProxyType({"SMALL": "S", "MEDIUM": "M", "LARGE": "L"})
# What llama-quantize takes for them, and what llama.cpp and ik_llama.cpp print of them.
_FILE_ALIASES: Final = MappingProxyType(
    {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "Q2_K_M": "Q2_K", "MXFP4 MOE": "MXFP4"}
)
_FILE_TYPE: Final = re.compile(r"(?:I?Q\d|TQ\d|B?F16|F32|MXFP4|NVFP4)(?![A-Z\d])[\w -]{0,40}", re.IGNORECASE)
_PRINTED_AROUND: Final = re.compile(r"^(?:all|mostly) | *\(guessed\)$|_R[48]$", re.IGNORECASE)
_STATED_BITS: Final = re.compile(r"(\d{1,2}(?:\.\d{1,5})?) ?bpw", re.IGNORECASE)


def cache_type(name: str) -> str | None:
    """The ggml type that a KV cache setting names ("q8_0", "fp16"), None when llama.cpp has no such type."""
    lowered = name.strip().lower()
    lowered = _ALIASES.get(lowered, lowered)
    return lowered if lowered in BLOCKS else None


def stored_bytes(elements: int, type_name: str) -> int:
    """Bytes of that many elements in whole blocks."""
    per_block, block_bytes = BLOCKS[type_name]
    return math.ceil(elements / per_block) * block_bytes


def file_type_bits(name: str) -> float | None:
    """Average bits per weight of a file type ("Q4_K_M", "Q4_K - Medium", "IQ3_K - 3.4325 bpw"), None when unknown."""
    if stated := _STATED_BITS.search(name[:100]):
        return float(stated.group(1))
    spelled = _PRINTED_AROUND.sub("", name[:100].strip()).upper()
    for word, letter in _LONG_NAMES.items():
        spelled = spelled.replace(f" - {word}", f"_{letter}")
    return FILE_TYPE_BITS.get(_FILE_ALIASES.get(spelled, spelled))


def names_file_type(name: str) -> bool:
    """Whether this may be a file type: one of those here, or one that is named like them ("Q3_K_XL", "TQ1_0")."""
    return file_type_bits(name) is not None or _FILE_TYPE.fullmatch(_PRINTED_AROUND.sub("", name.strip())) is not None
