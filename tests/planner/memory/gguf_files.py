"""GGUF files written by hand for the tests, as https://github.com/ggml-org/ggml/blob/master/docs/gguf.md says."""

import struct
from collections.abc import Mapping, Sequence

KINDS = {bool: 7, int: 10, float: 6, str: 8}


def text(value: str) -> bytes:
    """A length and the characters."""
    return struct.pack("<Q", len(value.encode())) + value.encode()


def value(item: object) -> bytes:
    """One value without its type."""
    if isinstance(item, bool):
        return struct.pack("<?", item)
    if isinstance(item, int):
        return struct.pack("<Q", item)
    if isinstance(item, float):
        return struct.pack("<f", item)
    return text(str(item))


def entry(key: str, item: object) -> bytes:
    """A key with its typed value; lists become arrays."""
    if isinstance(item, list):
        kind = KINDS[type(item[0])]
        return text(key) + struct.pack("<IIQ", 9, kind, len(item)) + b"".join(value(one) for one in item)
    return text(key) + struct.pack("<I", KINDS[type(item)]) + value(item)


def gguf(metadata: Mapping[str, object], tensors: Sequence[tuple[str, list[int], int]], *, data: int = 0) -> bytes:
    """A file of these metadata and tensors (name, shape, type number), with `data` bytes behind the header."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    body = b"".join(entry(key, item) for key, item in metadata.items())
    for name, shape, kind in tensors:
        body += text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", extent) for extent in shape)
        body += struct.pack("<IQ", kind, 0)
    return head + body + bytes(data)


LLAMA: dict[str, object] = {
    "general.architecture": "llama",
    "llama.block_count": 1,
    "llama.embedding_length": 256,
    "llama.feed_forward_length": 512,
    "llama.context_length": 2048,
    "llama.attention.head_count": 8,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.tokens": ["word"] * 5000,
}
TENSORS: list[tuple[str, list[int], int]] = [
    ("token_embd.weight", [256, 5000], 12),
    ("output_norm.weight", [256], 0),
    ("output.weight", [256, 5000], 14),
    ("blk.0.attn_norm.weight", [256], 0),
    ("blk.0.attn_q.weight", [256, 256], 12),
    ("blk.0.attn_k.weight", [256, 64], 12),
    ("blk.0.attn_v.weight", [256, 64], 14),
    ("blk.0.attn_output.weight", [256, 256], 12),
    ("blk.0.ffn_norm.weight", [256], 0),
    ("blk.0.ffn_gate.weight", [256, 512], 12),
    ("blk.0.ffn_up.weight", [256, 512], 12),
    ("blk.0.ffn_down.weight", [512, 256], 14),
]
