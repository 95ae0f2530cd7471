"""What vLLM adds to the weights of a checkpoint: padding of tensors, pages of the allocator, the table of positions."""

from math import ceil

from planner.memory.estimate import Run
from planner.memory.facts import LayerKind, ModelFacts, WeightFormat
from planner.memory.vllm_fitted import HOPPER_MXFP4_GROWTH
from planner.units import MIB

VOCABULARY_PADDING = 64  # vllm/model_executor/layers/vocab_parallel_embedding.py: DEFAULT_VOCAB_PADDING_SIZE


def padded_vocabulary(model: ModelFacts) -> int:
    """Rows of the embedding after padding."""
    return ceil(model.vocab_size / VOCABULARY_PADDING) * VOCABULARY_PADDING


def allocated(size: int) -> int:
    """What PyTorch counts for one tensor: from 10 MiB on it comes by 2 MiB, and a rest up to 1 MiB is not split off.

    Source: c10/cuda/CUDACachingAllocator.cpp (kMinLargeAlloc, kRoundLarge, kSmallSize), PyTorch 2.
    """
    if size < 10 * MIB:
        return ceil(size / 512) * 512
    rounded = ceil(size / (2 * MIB)) * 2 * MIB
    return rounded if rounded - size <= MIB else ceil(size / 512) * 512


def rotary_table(model: ModelFacts, element: int = 2) -> int:
    """Bytes of the cosine and sine table: a row of the rotated head size for each position, on every rank."""
    if model.max_positions is None:
        return 0
    widths: set[tuple[LayerKind, int]] = set()
    for layers in model.layers:
        if layers.kind is LayerKind.MLA and layers.rope_size:
            widths.add((layers.kind, layers.rope_size))
        elif layers.kind in (LayerKind.FULL, LayerKind.SLIDING) and layers.key_size:
            widths.add((LayerKind.FULL, layers.key_size))
    rows = 1
    if "gemma3" in model.model_type or "gemma3" in model.architecture.lower():
        # A table for each kind of layer; with a vision part the one of the full layers is scaled linearly by 8, and
        # such a table is 8 times as long (LinearScalingRotaryEmbedding, vllm/model_executor/layers/rotary_embedding).
        rows = 9 if model.parameters.tower else 2
    return sum(model.max_positions * rows * width * element for _, width in widths)


def expert_padding(run: Run, weight_format: WeightFormat) -> float:
    """Growth of MXFP4 experts by the alignment of the kernel that the device's architecture selects.

    Marlin (Ampere, Ada, Turing) pads the hidden size to 256 and a rank's intermediate size to 128, the Blackwell
    kernels pad both to 256 (vllm/model_executor/layers/quantization/mxfp4.py). On Hopper the Triton layout grows by
    6.4 %: measured on gpt-oss 20b and 120b (two logs), no document states it.
    """
    experts = run.model.experts
    if weight_format is not WeightFormat.MXFP4 or experts is None:
        return 1.0
    architecture = run.device.architecture.lower()
    if "hopper" in architecture or not architecture:
        return HOPPER_MXFP4_GROWTH
    if not any(name in architecture for name in ("ampere", "ada", "turing", "blackwell", "volta")):
        return 1.0
    step = 256 if "blackwell" in architecture else 128
    split = 1 if run.expert_parallel else run.tensor_parallel
    inner = experts.intermediate_size / split
    hidden = run.model.hidden_size
    return (ceil(hidden / 256) * 256 / hidden) * (ceil(inner / step) * step / inner)
