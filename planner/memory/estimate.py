"""What a run needs and whether a device holds it: terms with ranges, each with what it rests on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from planner.memory.facts import ModelFacts


class Basis(StrEnum):
    """What a term rests on."""

    MEASURED = "MEASURED"
    FORMULA = "FORMULA"
    ASSUMED = "ASSUMED"


class Verdict(StrEnum):
    """Whether it fits; `tight` when the limit lies inside the range."""

    FITS = "fits"
    TIGHT = "tight"
    DOES_NOT_FIT = "does_not_fit"


class Engine(StrEnum):
    """What serves the model."""

    VLLM = "vllm"
    LLAMA_CPP = "llama.cpp"
    OLLAMA = "ollama"


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One part of the memory of one rank, in bytes, with the range it may lie in."""

    name: str  # "weights", "activation", "non_torch", "graphs", "kv_cache", "lora", "compute", "context"
    bytes: int
    low: int
    high: int
    basis: Basis
    source: str  # document and version, or what was measured when


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What one rank runs on. `memory_bytes` is what CUDA sees, not the label; `is_mig` forces one rank."""

    name: str  # "H100-80GB-SXM", "H200-141GB 3g.71gb"
    memory_bytes: int
    basis: Basis
    source: str
    is_mig: bool = False
    architecture: str = ""  # "Hopper"
    board: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """A factor on one term with what it rests on. `is_cut` says that the measurements ask for more than the bound."""

    term: str
    factor: float
    asked: float
    low: float  # smallest and largest factor that was measured
    high: float
    runs: int
    is_cut: bool
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a model is to be run. None: the engine's default for that device and version, which the estimate names.

    `corrections` are what earlier runs of the same model, engine, version and device measured (`experience.py`).
    """

    model: ModelFacts
    device: Device
    engine: Engine = Engine.VLLM
    engine_version: str | None = None
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    data_parallel: int = 1
    expert_parallel: bool = False
    dtype: str | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float | None = None
    block_size: int | None = None
    enforce_eager: bool = False
    max_loras: int = 0
    max_lora_rank: int | None = None
    speculative_layers: int = 0  # draft layers of the target's sizes that keep a KV cache too
    speculative_tokens: int = 0  # tokens drafted per step: each needs a state of its own in state-space layers
    # llama.cpp and Ollama
    n_ctx: int | None = None
    n_parallel: int | None = None
    n_batch: int | None = None
    n_ubatch: int | None = None
    flash_attention: bool | None = None
    gpu_layers: int | None = None
    swa_full: bool = False
    kv_unified: bool | None = None  # one cache for all sequences; None: the engine's default
    cpu_expert_layers: int = 0  # layers whose routed experts stay on the host (--n-cpu-moe)
    corrections: tuple[Correction, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The answer for one rank. `kv_cache_bytes`: the pool that is left (vLLM) or what the context takes (llama.cpp)."""

    verdict: Verdict
    reasons: tuple[str, ...]  # sentences with numbers, the deciding one first
    device_bytes: int
    budget_bytes: int
    terms: tuple[Term, ...]
    kv_cache_bytes: int
    kv_cache_low_bytes: int
    kv_cache_high_bytes: int
    kv_bytes_per_token: float | None
    kv_cache_tokens: int | None
    max_concurrency: float | None  # requests of max_model_len at once
    max_context: int | None  # longest single request
    settings: Mapping[str, str | int | float] = field(default_factory=dict)  # every setting in force, defaults included
    flags: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
