"""Why the vLLM model errs most where it errs most: a word on each run, written by hand."""

from collections.abc import Mapping

WORST: Mapping[str, str] = {
    "vllm-152": (
        "Three pipeline stages; the table gives one stage's peak without saying which. A stage that does not sample "
        "also holds the hidden state and the residual that it receives, which are not counted here. The estimate that "
        "users see is the last stage's (2.2 GiB), which is the one that limits the cache."
    ),
    "vllm-078": (
        "DeepSeek-V4 with a draft model resident in the same rank, whose size the log does not give apart; the target "
        "alone is 73 GiB. The cache of this family is not estimated to better than `tight` for want of a public rule."
    ),
    "vllm-244": (
        "Two nodes over Ray: NCCL over the network holds about 1 GiB more outside PyTorch than on one node. Ranks on "
        "different nodes are not an input of the model; the range covers it."
    ),
    "vllm-058": (
        "The row infers a Qwen2-VL-7B from its size and links the text model's configuration: the vision tower "
        "(1.24 GiB) is missing from the facts, not from the law."
    ),
    "vllm-076": (
        "LLaVA-1.6 linked to the configuration of its text model: the CLIP tower (0.57 GiB of weights) and its "
        "embeddings are missing from the facts. The two errors partly cancel in the pool (+1.2 %)."
    ),
    "vllm-174": (
        "The linked file describes Gemma-3-27B without its vision part. With it, 32 dummy images of 896 x 896 (154 MB) "
        "and their embeddings (88 MB) are held through sampling, which makes up the difference to 0.01 GiB."
    ),
    "vllm-175": "As vllm-174: images and embeddings (217 MB) of a vision part that the linked file leaves out.",
    "vllm-017": (
        "0.11.2 set up by Unsloth, which selects FlashInfer's sampler: 12 bytes per logit by the log instead of the 38 "
        "of PyTorch's sort, which is that version's default. The estimate errs to the safe side; the range covers it."
    ),
    "vllm-102": (
        "The linked file gives Gemma-3-1B 131,072 positions. Its two rotary tables then take 128 MiB; with the 32,768 "
        "of the published configuration the estimate is 1.9146 GiB against 1.9148 logged."
    ),
    "vllm-189": (
        "The table contradicts itself: the same checkpoint on two ranks (vllm-190) and unquantised on one (vllm-168) "
        "print 2.03 GiB, which is the estimate; the peak depends on neither. The figures were derived from percentages."
    ),
    "vllm-069": (
        "The row says TP4 on 8 GPUs with expert parallelism. Attention and embedding divided by 8 give 27.7 GiB, by 4 "
        "28.7: the log fits eight tensor-parallel ranks, not the four that the row states."
    ),
    "vllm-161": "The estimate counts the workspace of the experts at 16 bit; 0.01 GiB off is rounding of the source.",
    "vllm-200": (
        "0.10.0 outside of a container took the slice for its board and 1,024 sequences for the default; 256 assumed."
    ),
    "vllm-201": "As vllm-200.",
    "vllm-044": (
        "The number of drafted tokens is not stated: with two the state pages grow and the printed 3.21 comes out."
    ),
    "vllm-071": "The encoder's pass was fixed by this run: its error says nothing.",
    "vllm-100": "Gemma-3-27B without its vision tower (1.4 GiB) in the linked file.",
    "vllm-220": (
        "The pool equals that of vllm-223, which ran with 16,384 batched tokens, to the last digit; the row states "
        "none and 2,048 are the server's default."
    ),
}
