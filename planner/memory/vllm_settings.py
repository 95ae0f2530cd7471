"""The settings in force under vLLM where a run leaves them open, and values that it does not take.

Sources: `vllm/engine/arg_utils.py` and `vllm/config/scheduler.py` (defaults, sequences against batched tokens),
`vllm/config/cache.py` (block sizes), at the versions named.
"""

from dataclasses import dataclass, field
from typing import Final

from planner.memory.estimate import Run
from planner.memory.facts import LayerKind
from planner.memory.vllm_dtypes import compute_dtype, element_bytes, refuse_dtype
from planner.memory.vllm_versions import ContradictoryRun, VllmVersion, parse_version
from planner.units import GIB

_BLOCK_SIZES: Final = (1, 8, 16, 32, 64, 128, 256)  # `BlockSize`; 256 from 0.11
_KERNEL_STEP: Final = 16  # attention kernels take multiples of it (`get_supported_kernel_block_sizes`)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting in force; `defaults` names those that nobody gave, `notes` says what was changed."""

    version: VllmVersion
    utilization: float
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    block_size: int
    element_bytes: int  # of activations and of an unquantised cache
    dtype: str | None = None  # to be named at start
    needs_chunked_prefill: bool = False
    defaults: tuple[str, ...] = field(default_factory=tuple)
    notes: tuple[str, ...] = ()


def has_large_defaults(run: Run, version: VllmVersion) -> bool:
    """Whether vLLM takes the device for a large one: 70 GiB or more and, until 0.28, no A100 (`get_batch_defaults`).

    A MIG slice counts by its own memory, as in a container, where NVML does not give the board's; started outside of
    one, vLLM takes the board's (recorded at 0.10.0).
    """
    is_a100 = "a100" in f"{run.device.name} {run.device.board}".lower()
    return run.device.memory_bytes >= 70 * GIB and (not is_a100 or version.number >= (0, 28))


def settings_of(run: Run) -> Settings:
    """Resolve what a run leaves open as `vllm serve` does, and refuse values that cannot be."""
    version = parse_version(run.engine_version)
    _refuse_impossible(run)
    refuse_dtype(run)
    _refuse_block_size(run, version)
    large = has_large_defaults(run, version)
    defaults: list[str] = []
    notes: list[str] = []

    def given(name: str, value: int | None, default: int) -> int:
        if value is None:
            defaults.append(name)
            return default
        return value

    length = run.max_model_len
    if length is None:
        if run.model.max_positions is None:
            raise ContradictoryRun(
                f"{run.model.name} does not state its longest context. Give --max-model-len, for example 8192."
            )
        defaults.append("max_model_len")
        length = run.model.max_positions
    tokens = max(length, 2048) if version.is_v0 else (8192 if large else 2048)
    if version.is_v0 and run.max_model_len is None and length > 32768:
        tokens = 2048  # V0 turns chunked prefill on for long contexts
    if run.max_num_batched_tokens is None and run.max_num_seqs is not None and run.max_num_seqs > tokens:
        notes.append(
            f"vLLM's own default of {tokens:,} batched tokens is less than the {run.max_num_seqs:,} sequences asked "
            "for, which it refuses: --max-num-batched-tokens is raised to them."
        )
        tokens = run.max_num_seqs
    batched = given("max_num_batched_tokens", run.max_num_batched_tokens, tokens)
    sequences = given("max_num_seqs", run.max_num_seqs, 1024 if large and not version.is_v0 else 256)
    utilization = run.gpu_memory_utilization
    if utilization is None:
        defaults.append("gpu_memory_utilization")
        utilization = version.default_utilization
    chunked = version.is_v0 and batched < length
    if chunked:
        notes.append(
            f"V0 refuses {batched:,} batched tokens below a context of {length:,} without --enable-chunked-prefill, "
            "which is taken as given (it turns it on by itself above 32,768 tokens)."
        )
    return Settings(
        version=version,
        utilization=utilization,
        max_num_seqs=min(sequences, batched),
        max_num_batched_tokens=batched,
        max_model_len=length,
        block_size=run.block_size or 16,
        element_bytes=element_bytes(run),
        dtype=compute_dtype(run),
        needs_chunked_prefill=chunked,
        defaults=tuple(defaults),
        notes=tuple(notes),
    )


def _refuse_impossible(run: Run) -> None:
    for name, value in (
        ("tensor_parallel", run.tensor_parallel),
        ("pipeline_parallel", run.pipeline_parallel),
        ("data_parallel", run.data_parallel),
        ("max_model_len", run.max_model_len),
        ("max_num_seqs", run.max_num_seqs),
        ("max_num_batched_tokens", run.max_num_batched_tokens),
        ("block_size", run.block_size),
    ):
        if value is not None and value < 1:
            raise ContradictoryRun(f"{name} is {value}, but it counts something: give 1 or more.")
    if run.gpu_memory_utilization is not None and not 0 < run.gpu_memory_utilization <= 1:
        raise ContradictoryRun(
            f"gpu_memory_utilization is {run.gpu_memory_utilization}, but it is a share: give more than 0, at most 1."
        )
    sequences, batched = run.max_num_seqs, run.max_num_batched_tokens
    if sequences is not None and batched is not None and sequences > batched:
        raise ContradictoryRun(
            f"max_num_seqs is {sequences:,} and max_num_batched_tokens {batched:,}, which vLLM refuses "
            "(max_num_batched_tokens must be greater than or equal to max_num_seqs). Lower the one or raise the other."
        )
    if run.device.memory_bytes <= 0:
        raise ContradictoryRun(f"{run.device.name} has no memory. Give --device-memory-bytes as CUDA sees it.")


def _refuse_block_size(run: Run, version: VllmVersion) -> None:
    """State-space layers lengthen the block by themselves, so that a log or a server may state any multiple of 16."""
    size = run.block_size
    if size is None:
        return
    kinds = {layers.kind for layers in run.model.layers}
    if size not in _BLOCK_SIZES and not (LayerKind.STATE in kinds and size % _KERNEL_STEP == 0):
        raise ContradictoryRun(
            f"block_size is {size:,}, which vLLM does not take: give one of {', '.join(map(str, _BLOCK_SIZES))}."
        )
    if version.is_v0 and version.stated and size > 32 and LayerKind.MLA not in kinds:
        raise ContradictoryRun(
            f"block_size is {size}, but V0 takes at most 32 on CUDA devices (vllm/config.py). Give 16 or 32."
        )


def has_uncommon_block_size(run: Run, version: VllmVersion) -> bool:
    """Whether V1's attention kernels may not take the block size: FlashAttention's are multiples of 16."""
    return run.block_size is not None and run.block_size % _KERNEL_STEP != 0 and not version.is_v0
