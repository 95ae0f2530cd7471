"""What a GGUF file says at its beginning: metadata and the list of tensors, without reading one.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3); block sizes of the quantised types
from ggml/src/ggml-common.h and gguf-py 0.17 (constants.py, GGML_QUANT_SIZES).
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from planner.memory.errors import UnreadableModel

MAGIC = b"GGUF"
MAX_TENSORS = 200_000
MAX_KEYS = 20_000
MAX_TEXT_BYTES = 64 * 2**20
MAX_ARRAY_ITEMS = 4_000_000
MAX_ARRAY_DEPTH = 4
MAX_HEADER_BYTES = 512 * 2**20
KEPT_ITEMS = 4096
"""Longer arrays are read past: they hold the vocabulary."""

SCALARS: Mapping[int, str] = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, ARRAY = 8, 9

TENSOR_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
}
"""Type number -> name, elements of a block, bytes of a block."""

Value = bool | int | float | str | tuple["Value", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTensor:
    """One tensor of the list; `size_bytes` follows from its type and shape."""

    name: str
    type: str
    shape: tuple[int, ...]
    elements: int
    size_bytes: int
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """Metadata by key (arrays longer than 4096 items only as their length, under `<key>.length`), and all tensors."""

    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[GgufTensor, ...]
    header_bytes: int = 0

    @property
    def file_bytes(self) -> int:
        """The least size of a file that holds every tensor."""
        alignment = self.metadata.get("general.alignment", 32)
        step = alignment if isinstance(alignment, int) and 0 < alignment <= 2**16 else 32
        start = -(-self.header_bytes // step) * step
        return start + max((tensor.offset + tensor.size_bytes for tensor in self.tensors), default=0)


def read_gguf_header(stream: BinaryIO, name: str) -> GgufHeader:
    """Metadata and tensor list from the beginning of a file; raises UnreadableModel where it ends early or lies."""
    return _Reader(stream, name).header()


class _Reader:
    """Takes bytes in order and refuses what no honest file says."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.stream = stream
        self.name = name
        self.order = "<"
        self.taken = 0

    def header(self) -> GgufHeader:
        if self.take(4) != MAGIC:
            raise UnreadableModel(f"{self.name} is not a GGUF file: it does not begin with GGUF.")
        raw = self.take(4)
        version = int.from_bytes(raw, "little")
        if version > 0xFFFF:  # written on a big-endian machine
            self.order, version = ">", int.from_bytes(raw, "big")
        if version not in (2, 3):
            raise UnreadableModel(f"{self.name} is GGUF version {version}; 2 and 3 can be read. Convert it again.")
        tensors = self.limited(self.number("Q"), MAX_TENSORS, "tensors")
        keys = self.limited(self.number("Q"), MAX_KEYS, "metadata keys")
        metadata: dict[str, Value] = {}
        for _ in range(keys):
            self.entry(metadata)
        listed = tuple(self.tensor() for _ in range(tensors))
        return GgufHeader(version=version, metadata=metadata, tensors=listed, header_bytes=self.taken)

    def take(self, count: int) -> bytes:
        self.taken += count
        if self.taken > MAX_HEADER_BYTES:
            raise UnreadableModel(f"{self.name} has a header of more than {MAX_HEADER_BYTES:,} bytes: it is damaged.")
        data = self.stream.read(count)
        if len(data) < count:
            raise UnreadableModel(f"{self.name} ends within its header; download it again.")
        return data

    def number(self, code: str) -> int:
        (value,) = struct.unpack(self.order + code, self.take(struct.calcsize(code)))
        return int(value)

    def limited(self, value: int, most: int, what: str) -> int:
        if value > most:
            raise UnreadableModel(
                f"{self.name} claims {value:,} {what}, more than {most:,}: it is damaged, or no GGUF file."
            )
        return value

    def text(self) -> str:
        return self.take(self.limited(self.number("Q"), MAX_TEXT_BYTES, "bytes of text")).decode("utf-8", "replace")

    def entry(self, metadata: dict[str, Value]) -> None:
        key = self.text()
        kind = self.number("I")
        if kind != ARRAY:
            metadata[key] = self.value(kind)
            return
        length, items = self.array(0)
        metadata[f"{key}.length"] = length
        if items is not None:
            metadata[key] = items

    def value(self, kind: int) -> Value:
        if kind == TEXT:
            return self.text()
        if kind not in SCALARS:
            raise UnreadableModel(f"{self.name} has metadata of type {kind}, which GGUF does not know: it is damaged.")
        code = SCALARS[kind]
        (value,) = struct.unpack(self.order + code, self.take(struct.calcsize(code)))
        return value if isinstance(value, bool | int | float) else int(value)

    def array(self, depth: int) -> tuple[int, tuple[Value, ...] | None]:
        if depth >= MAX_ARRAY_DEPTH:
            raise UnreadableModel(f"{self.name} nests metadata arrays deeper than any model does: it is damaged.")
        kind = self.number("I")
        length = self.limited(self.number("Q"), MAX_ARRAY_ITEMS, "items in one array")
        if kind == ARRAY:
            nested = [self.array(depth + 1)[1] for _ in range(self.limited(length, KEPT_ITEMS, "nested arrays"))]
            return length, tuple(items for items in nested if items is not None)
        if length <= KEPT_ITEMS:
            return length, tuple(self.value(kind) for _ in range(length))
        if kind == TEXT:
            for _ in range(length):
                self.take(self.limited(self.number("Q"), MAX_TEXT_BYTES, "bytes of text"))
            return length, None
        if kind not in SCALARS:
            raise UnreadableModel(f"{self.name} has an array of type {kind}, which GGUF does not know: it is damaged.")
        self.take(length * struct.calcsize(SCALARS[kind]))
        return length, None

    def tensor(self) -> GgufTensor:
        name = self.text()
        dimensions = self.limited(self.number("I"), 8, "dimensions of one tensor")
        shape = tuple(self.limited(self.number("Q"), 2**40, "elements") for _ in range(dimensions))
        elements = math.prod(shape)
        kind = self.number("I")
        offset = self.limited(self.number("Q"), 2**50, "bytes before a tensor")
        if kind not in TENSOR_TYPES:
            raise UnreadableModel(
                f"{self.name}: {name} has the tensor type {kind}, which is not known here; its size cannot be told."
            )
        label, block, size = TENSOR_TYPES[kind]
        if elements % block:
            raise UnreadableModel(
                f"{self.name}: {name} has {elements:,} elements, no whole number of {label} blocks: it is damaged."
            )
        size_bytes = elements // block * size
        return GgufTensor(name=name, type=label, shape=shape, elements=elements, size_bytes=size_bytes, offset=offset)
