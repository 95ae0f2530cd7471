"""Write a Llama of two layers with random weights and a tokenizer of its own: `python tiny_llama.py FOLDER`.

Run by the Python that vLLM is installed in, which has torch, transformers and tokenizers; nothing else imports it.
"""

import sys

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXT = ("a quick brown fox jumps over the lazy dog while seven wizards box quietly beside a frozen lake",)
CONTEXT_TOKENS = 1024


def write(folder: str) -> None:
    """Put weights, configuration and tokenizer into a folder, and say how many parameters there are."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    begin, end = "<s>", "</s>"
    alphabet = pre_tokenizers.ByteLevel.alphabet()  # every byte is a token, so that any text can be spelled
    raw.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=400, special_tokens=[begin, end], initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=begin, eos_token=end)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=512,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(shape)
    model.save_pretrained(folder)
    sys.stdout.write(f"{sum(weights.numel() for weights in model.parameters())}\n")


if __name__ == "__main__":
    write(sys.argv[1])
