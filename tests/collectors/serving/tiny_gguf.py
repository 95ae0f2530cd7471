"""Write a Llama of two layers with random weights and a tokenizer of single bytes as GGUF: `python tiny_gguf.py FILE`.

Run by the Python of the environment that llama.cpp is built in, which has gguf and numpy; nothing else imports it.
"""

import sys

import gguf
import numpy as np

CONTEXT_TOKENS = 65_536
LAYERS, WIDTH, INNER, HEADS, KV_HEADS = 2, 64, 128, 4, 2
TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"


def write(file: str) -> None:
    """Put the model into a file, and say how many bytes its weights are."""
    tokens = ["<s>", "</s>", *_bytes_as_letters(), "th"]
    kinds = [gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.NORMAL] * 257
    out = gguf.GGUFWriter(file, "llama")
    out.add_context_length(CONTEXT_TOKENS)
    out.add_embedding_length(WIDTH)
    out.add_block_count(LAYERS)
    out.add_feed_forward_length(INNER)
    out.add_head_count(HEADS)
    out.add_head_count_kv(KV_HEADS)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(WIDTH // HEADS)
    out.add_vocab_size(len(tokens))
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("llama-bpe")
    out.add_token_list(tokens)
    out.add_token_types(kinds)
    out.add_token_merges(["t h"])
    out.add_bos_token_id(0)
    out.add_eos_token_id(1)
    out.add_chat_template(TEMPLATE)
    random = np.random.default_rng(0)
    weights_bytes = 0
    for name, *shape in _shapes(len(tokens)):
        # Norms of ones: random ones would leave nothing of some directions.
        weights = np.ones(shape) if name.endswith("norm.weight") else random.normal(0, 0.02, shape)
        out.add_tensor(name, weights.astype(np.float32))
        weights_bytes += 4 * weights.size
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    sys.stdout.write(f"{weights_bytes}\n")


def _bytes_as_letters() -> list[str]:
    """Every byte as GPT-2's tokenizer spells it: printable ones as themselves, the others from U+0100 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def _shapes(vocabulary: int) -> list[tuple[str, *tuple[int, ...]]]:
    kv_width = WIDTH // HEADS * KV_HEADS
    shapes: list[tuple[str, *tuple[int, ...]]] = [
        ("token_embd.weight", vocabulary, WIDTH),
        ("output_norm.weight", WIDTH),
        ("output.weight", vocabulary, WIDTH),
    ]
    for layer in range(LAYERS):
        shapes += [
            (f"blk.{layer}.attn_norm.weight", WIDTH),
            (f"blk.{layer}.attn_q.weight", WIDTH, WIDTH),
            (f"blk.{layer}.attn_k.weight", kv_width, WIDTH),
            (f"blk.{layer}.attn_v.weight", kv_width, WIDTH),
            (f"blk.{layer}.attn_output.weight", WIDTH, WIDTH),
            (f"blk.{layer}.ffn_norm.weight", WIDTH),
            (f"blk.{layer}.ffn_gate.weight", INNER, WIDTH),
            (f"blk.{layer}.ffn_up.weight", INNER, WIDTH),
            (f"blk.{layer}.ffn_down.weight", WIDTH, INNER),
        ]
    return shapes


if __name__ == "__main__":
    write(sys.argv[1])
