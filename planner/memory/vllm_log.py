"""The lines that vLLM prints about memory, V0 (0.2) to 0.32, as patterns with the field that each group fills.

Sources: `vllm/worker/worker.py` and `executor_base.py` (V0), `vllm/v1/worker/gpu_worker.py`, `gpu_model_runner.py`,
`vllm/v1/core/kv_cache_utils.py` and `vllm/utils/mem_utils.py` (V1) as of 0.6.6, 0.8.3, 0.10.2, 0.13, 0.19, 0.23, 0.29;
a server of 0.32.0 run on a CPU.
"""

import re
from typing import Final

from planner.memory.log_lines import NUMBER, SIZE
from planner.memory.measured import StartFailure

_COUNT: Final = r"([\d,]{1,20})"

# Each pattern: the fields of its groups. A field named "x" in SIZES takes two groups, number and unit.
SIZES: Final = tuple(
    (re.compile(pattern), fields)
    for pattern, fields in (
        (rf"Loading model weights took {SIZE}", ("weights_bytes",)),
        (rf"Model loading took {SIZE}", ("weights_bytes",)),
        (rf"model weights take {SIZE}", ("weights_bytes",)),
        (rf"weights memory: {SIZE}", ("weights_bytes",)),
        (rf"{SIZE} for weights?\b", ("weights_bytes",)),
        (rf"{SIZE} for consumed memory", ("consumed_bytes",)),
        (rf"total consumed \(from mem_get_info\): {SIZE}", ("consumed_bytes",)),
        (rf"non_torch_memory takes {SIZE}", ("non_torch_bytes",)),
        (rf"non-torch forward increase memory: {SIZE}", ("non_torch_bytes",)),
        (rf"{SIZE} for non-torch memory", ("non_torch_bytes",)),
        (rf"activation peak memory takes {SIZE}", ("activation_bytes",)),
        (rf"torch peak memory increase: {SIZE}", ("activation_bytes",)),
        (rf"{SIZE} for peak activation", ("activation_bytes",)),
        (rf"Graph capturing finished in {NUMBER} secs?, took {SIZE}", ("", "graph_bytes")),
        (rf"{SIZE} for CUDAGraph memory", ("graph_bytes",)),
        (rf"CUDA graph pool memory: {SIZE} \(actual\), {SIZE} \(estimated\)", ("graph_bytes", "graph_estimate_bytes")),
        (rf"Estimated CUDA graph memory: {SIZE}", ("graph_estimate_bytes",)),
        (rf"reserved for KV Cache is {SIZE}", ("kv_cache_bytes",)),
        (rf"Available KV cache memory: {SIZE}", ("kv_cache_bytes",)),
        (rf"[Cc]urrent kv cache memory in use is {SIZE}", ("kv_cache_bytes",)),
        (rf"reserved {SIZE} memory for KV Cache as specified", ("kv_cache_bytes",)),
        (rf"Explicitly set \({NUMBER}/{NUMBER}\) GiB for KV cache", ("kv_cache_bytes:GiB", "")),
        (rf"total_gpu_memory \({SIZE}\)", ("device_bytes",)),
        (rf"gpu_memory_utilization \({NUMBER}\) = {SIZE}", ("gpu_memory_utilization", "budget_bytes")),
        (
            rf"Free memory on device (?:\w{{1,10}}:\d{{1,3}} )?\({NUMBER}/{SIZE}\)",
            ("free_at_start_bytes:GiB", "device_bytes"),
        ),
        (
            rf"[Dd]esired GPU memory utilization (?:is )?\({NUMBER}, {SIZE}\)",
            ("gpu_memory_utilization", "budget_bytes"),
        ),
        (rf"Requested memory: {NUMBER} \(util\), {SIZE}", ("gpu_memory_utilization", "budget_bytes")),
        (rf"{SIZE} KV cache is needed", ("needed_kv_bytes",)),
        (rf"larger than the available KV cache memory \({SIZE}\)", ("kv_cache_bytes",)),
    )
)

COUNTS: Final = tuple(
    (re.compile(pattern), fields)
    for pattern, fields in (
        (rf"# (?:GPU|cuda|rocm|xpu) blocks: {_COUNT}, # CPU blocks: {_COUNT}", ("gpu_blocks", "cpu_blocks")),
        (rf"(?:GPU|CPU|XPU|TPU) KV cache size: {_COUNT} tokens", ("kv_cache_tokens",)),
        (rf"Maximum concurrency for {_COUNT} tokens per request: ", ("concurrency_context",)),
        (rf"estimated maximum model length is {_COUNT}", ("estimated_max_model_len",)),
        (rf"max seq len \({_COUNT}\)", ("max_model_len",)),
        (rf"that can be stored in KV cache \({_COUNT}\)", ("kv_cache_tokens",)),
        (rf"max_num_batched_tokens[=:] ?{_COUNT}\b", ("max_num_batched_tokens",)),
        (rf"'max_num_batched_tokens': {_COUNT}\b", ("max_num_batched_tokens",)),
        (rf"'max_num_seqs': {_COUNT}\b", ("max_num_seqs",)),
        (rf"'block_size': {_COUNT}\b", ("block_size",)),
        (rf"\btensor_parallel_size[=']{{1,2}}:? ?{_COUNT}\b", ("tensor_parallel",)),
        (rf"\bmax_seq_len={_COUNT}\b", ("max_model_len",)),
        (rf"'max_model_len': {_COUNT}\b", ("max_model_len",)),
    )
)

RATIOS: Final = tuple(
    (re.compile(pattern), fields)
    for pattern, fields in (
        (rf"tokens per request: {NUMBER}x", ("max_concurrency",)),
        (rf"'gpu_memory_utilization': {NUMBER}", ("gpu_memory_utilization",)),
    )
)

TEXTS: Final = tuple(
    (re.compile(pattern), fields)
    for pattern, fields in (
        (r"Initializing (?:an?|a V1) LLM engine \(v([\w.+-]{1,60})\)", ("engine_version",)),
        (r"vLLM API server version v?([\w.+-]{1,60})", ("engine_version",)),
        (r"[▀▄█ ]{3,60}version (\d[\w.+-]{1,60})", ("engine_version",)),
        (r"with config: (?:\w{1,30}=[^,]{1,60}, ){0,3}model='([^']{1,300})'", ("model",)),
        (r"non-default args: .{0,3000}?'model': '([^']{1,300})'", ("model",)),
        (r", dtype=(?:torch\.)?(\w{1,20})\b", ("dtype",)),
        (r", quantization=(\w[\w-]{0,40})\b", ("quantization",)),
        (r", kv_cache_dtype=(\w{1,20})\b", ("kv_cache_dtype",)),
        (r", enforce_eager=(True|False)\b", ("enforce_eager",)),
    )
)

FAILURES: Final = tuple(
    (re.compile(pattern), failure)
    for pattern, failure in (
        (r"No available memory for the cache blocks", StartFailure.NO_KV),
        (r"To serve at least one request with the model'?s'?s? max seq len", StartFailure.CONTEXT_TOO_LONG),
        (
            r"max seq len \(\d{1,12}\) is larger than the maximum number of tokens that can be stored in KV cache",
            StartFailure.CONTEXT_TOO_LONG,
        ),
        (r"is less than desired GPU memory utilization", StartFailure.NOT_FREE),
        (r"must be divisible by tensor parallel size", StartFailure.INVALID_PARALLEL),
        (r"(?:CUDA|HIP|XPU) out of memory", StartFailure.OUT_OF_MEMORY),
        (r"CUDA error: out of memory", StartFailure.OUT_OF_MEMORY),
        # on a MIG device torch reports an out-of-memory through NVML and stumbles (vllm#40920, pytorch#112377)
        (r"NVML_SUCCESS == r INTERNAL ASSERT FAILED", StartFailure.OUT_OF_MEMORY),
    )
)

# The server's own banner stands before those of its engines, and its arguments follow it.
START: Final = re.compile(r"Initializing (?:an?|a V1) LLM engine \(v|vLLM API server version|non-default args: ")
WORDS: Final = (
    "GiB",
    " GB",
    "KV cache",
    "blocks",
    "memory",
    "max_",
    "engine",
    "version",
    "divisible",
    "NVML",
    "args",
    "concurrency",
    "graph",
    "Graph",
)
SURE_MARKS: Final = (
    "LLM engine",
    "vLLM API server",
    "EngineCore",
    "_worker.py",
    "model_runner.py",
    "vllm/v1/",
    "vllm/worker/",
    "vllm/engine/",
    "vllm serve",
    "gpu_memory_utilization",
    "tensor parallel size",
)
"""One of them is in every log of vLLM; its name alone is also in those of other programs."""
MARKS: Final = ("LLM engine", "vLLM", "vllm", "gpu_worker.py", "KV cache memory", "# GPU blocks", "KV cache size")
