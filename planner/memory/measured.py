"""What one start of an engine printed about its memory. What was not printed is None."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from planner.memory.estimate import Engine


class StartFailure(StrEnum):
    """Why the engine did not start."""

    NO_KV = "no memory left for the KV cache"
    CONTEXT_TOO_LONG = "one request of the maximum length does not fit the KV cache"
    OUT_OF_MEMORY = "out of memory"
    NOT_FREE = "less memory was free than the engine was to use"
    INVALID_PARALLEL = "the parallel degree does not divide the heads"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One start, per rank. Where ranks differ: the largest need, the smallest pool, as the engine does.

    `consumed_bytes` is weights and non-torch together, which is all that vLLM prints from 0.23 on. The buffers of
    llama.cpp and Ollama are by device name ("CUDA0", "CPU"). Numbers are as printed, so mostly rounded to 0.01 GiB.
    """

    engine: Engine | None = None
    engine_version: str | None = None
    model: str | None = None
    architecture: str | None = None
    dtype: str | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    tensor_parallel: int | None = None
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float | None = None
    block_size: int | None = None
    enforce_eager: bool | None = None
    device_bytes: int | None = None
    free_at_start_bytes: int | None = None
    budget_bytes: int | None = None
    weights_bytes: int | None = None
    consumed_bytes: int | None = None
    non_torch_bytes: int | None = None
    activation_bytes: int | None = None
    graph_bytes: int | None = None
    graph_estimate_bytes: int | None = None
    kv_cache_bytes: int | None = None
    kv_cache_tokens: int | None = None
    gpu_blocks: int | None = None
    cpu_blocks: int | None = None
    max_concurrency: float | None = None
    concurrency_context: int | None = None
    # llama.cpp and Ollama
    n_ctx: int | None = None
    n_parallel: int | None = None
    n_ubatch: int | None = None
    flash_attention: bool | None = None
    kv_unified: bool | None = None
    file_bytes: int | None = None
    layers_offloaded: int | None = None
    layers_total: int | None = None
    weights_by_device: Mapping[str, int] = field(default_factory=dict)
    kv_cache_by_device: Mapping[str, int] = field(default_factory=dict)
    state_by_device: Mapping[str, int] = field(default_factory=dict)
    compute_by_device: Mapping[str, int] = field(default_factory=dict)
    is_scheduler_estimate: bool = False  # Ollama before its own engine: sizes are what its scheduler reckoned
    failure: StartFailure | None = None
    failure_text: str | None = None
    needed_kv_bytes: int | None = None
    estimated_max_model_len: int | None = None

    @property
    def has_memory(self) -> bool:
        """Whether anything about memory was found."""
        return any(
            value is not None
            for value in (
                self.weights_bytes,
                self.consumed_bytes,
                self.kv_cache_bytes,
                self.kv_cache_tokens,
                self.gpu_blocks,
                self.activation_bytes,
                self.failure,
            )
        ) or bool(self.weights_by_device or self.kv_cache_by_device or self.compute_by_device)
