"""The lines that llama.cpp, ik_llama.cpp and Ollama print about memory, with the field that each group fills.

Read off releases b3889 to v0.5.0 of llama.cpp started for this; Ollama's structured lines (`msg="kv cache" device=...`,
`memory.required.kv=...`) from its `ml/device.go` and `llm/memory.go`, 0.1.48 to 0.30.
"""

import re
from types import MappingProxyType
from typing import Final

from planner.memory.estimate import Engine
from planner.memory.log_lines import SIZE
from planner.memory.measured import StartFailure

_COUNT: Final = r"(\d{1,12})"
_DEVICE: Final = r"([A-Za-z][\w.\[\]-]{0,30})"

# Buffers of one device: the log may print several of one kind, which add up
BUFFERS: Final = tuple(
    (re.compile(pattern), field)
    for pattern, field in (
        (rf"load_tensors: +{_DEVICE} (?:model )?buffer size = +{SIZE}", "weights_by_device"),
        (rf"llama_kv_cache\w{{0,30}}: +{_DEVICE} KV buffer size = +{SIZE}", "kv_cache_by_device"),
        (
            rf"llama_memory_recurrent\w{{0,20}}: +{_DEVICE} RS buffer size = +{SIZE}",
            "state_by_device",
        ),
        (rf": +{_DEVICE} compute buffer size = +{SIZE}", "compute_by_device"),
    )
)

OLLAMA_BUFFERS: Final = tuple(
    (re.compile(rf'msg="{words}" device={_DEVICE} size="{SIZE}"'), field)
    for words, field in (
        ("model weights", "weights_by_device"),
        ("kv cache", "kv_cache_by_device"),
        ("compute graph", "compute_by_device"),
    )
)

SIZES: Final = tuple(
    (re.compile(pattern), fields)
    for pattern, fields in (
        (rf"KV self size +(?:is|=) +{SIZE}", ("kv_cache_bytes",)),
        (rf"(?:print_info: file size|llm_load_print_meta: model size) +[=:] +{SIZE}", ("file_bytes",)),
        (rf'memory\.required\.kv="{SIZE}"', ("kv_cache_bytes",)),
        (rf'memory\.weights\.total="{SIZE}"', ("weights_bytes",)),
        (rf'memory\.graph\.full="{SIZE}"', ("activation_bytes",)),
        (rf'memory\.available="\[{SIZE}', ("free_at_start_bytes",)),
        (rf'msg="gpu memory" .{{0,300}}free="{SIZE}"', ("free_at_start_bytes",)),
        (rf'inference compute.{{0,400}}total="{SIZE}"', ("device_bytes",)),
        (rf"using device CUDA\d{{1,2}} .{{0,120}} - {SIZE} free", ("free_at_start_bytes",)),
        (rf"Device \d{{1,2}}: [^\n]{{0,120}}VRAM: {SIZE}", ("device_bytes",)),
    )
)

COUNTS: Final = tuple(
    (re.compile(pattern), fields)
    for pattern, fields in (
        (rf"(?:llama_\w{{1,40}}): n_ctx +[=:] +{_COUNT}$", ("n_ctx",)),
        (rf"(?:llama_\w{{1,40}}): n_seq_max +[=:] +{_COUNT}$", ("n_parallel",)),
        (rf"(?:llama_\w{{1,40}}): n_ubatch +[=:] +{_COUNT}$", ("n_ubatch",)),
        (rf"offloaded {_COUNT}/{_COUNT} layers to GPU", ("layers_offloaded", "layers_total")),
        (rf"layers\.model={_COUNT} layers\.offload={_COUNT}", ("layers_total", "layers_offloaded")),
        (rf"\bKvSize:{_COUNT}\b", ("n_ctx",)),
        (rf"\bParallel:{_COUNT}\b", ("n_parallel",)),
        (rf"ollama_llama_server.{{0,400}}--ctx-size {_COUNT}", ("n_ctx",)),
        (rf"ollama_llama_server.{{0,900}}--parallel {_COUNT}", ("n_parallel",)),
    )
)

TEXTS: Final = tuple(
    (re.compile(pattern), fields)
    for pattern, fields in (
        (r"Listening on .{1,80}\(version ([\w.+-]{1,40})\)", ("engine_version",)),
        (r"build(?:_info)?: (b?\d{3,6}(?:-[0-9a-f]{6,12})?)\b", ("engine_version",)),
        (r"(?:print_info|llm_load_print_meta): general\.name +[=:] +(.{1,200})$", ("model",)),
        (r"(?:print_info|llm_load_print_meta): arch +[=:] +([\w-]{1,60})$", ("architecture",)),
        (r"(?:print_info: file type|llm_load_print_meta: model ftype) +[=:] +(.{1,80})$", ("quantization",)),
        (r"flash_attn +[=:] +(enabled|disabled|auto|[01])\b", ("flash_attention",)),
        (r"FlashAttention:(true|false|[Ee]nabled|[Dd]isabled)\b", ("flash_attention",)),
        (r"kv_unified +[=:] +(true|false)\b", ("kv_unified",)),
        (r"(?:size +=|KV self size +=) +[\d.]{1,12} MiB.{0,80}?, K \((\w{1,10})\):", ("kv_cache_dtype",)),
    )
)

FAILURES: Final = tuple(
    (re.compile(pattern), failure)
    for pattern, failure in (
        (r"cudaMalloc failed: out of memory", StartFailure.OUT_OF_MEMORY),
        (r"unable to allocate \w{1,20} buffer", StartFailure.OUT_OF_MEMORY),
        (r"failed to allocate buffer for (?:kv|rs) cache", StartFailure.OUT_OF_MEMORY),
        (r"failed to allocate (?:compute|CUDA\d{0,2}) ?(?:pp |tg )?buffers?", StartFailure.OUT_OF_MEMORY),
        (r"model requires more system memory", StartFailure.OUT_OF_MEMORY),
        (r"CUDA error: out of memory", StartFailure.OUT_OF_MEMORY),
    )
)

VERSION_MARKS: Final = MappingProxyType(
    {Engine.LLAMA_CPP: ("build: ", "build_info: "), Engine.OLLAMA: ("Listening on ",)}
)
"""What stands in the line that gives the version, which may be far above the start of a model."""
START: Final = re.compile(r"llama_model_loader: loaded meta data with")
WORDS: Final = (
    "buffer",
    "MiB",
    "GiB",
    "n_ctx",
    "n_seq",
    "n_ubatch",
    "layers",
    "KvSize",
    "version",
    "build",
    "print_info",
    "meta",
    "flash",
    "Flash",
    "unified",
    "memory",
    "ctx-size",
    "parallel",
    "failed",
    "size",
)
MARKS: Final = ("llama_", "load_tensors:", "llm_load_", "ggml_", "print_info:")
OLLAMA_MARKS: Final = ("ollama", "source=server.go", "source=sched.go", "source=device.go", "source=memory.go")
