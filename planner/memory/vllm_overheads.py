"""What a rank of vLLM holds beside weights, activation and cache: driver and NCCL, CUDA graphs, LoRA buffers.

None of these follows from published sizes; the constants are means of recorded runs (benchmarks/memory_fit.py) by
version and by whether ranks talk to each other.
"""

from dataclasses import dataclass

from planner.memory import vllm_fitted as fitted
from planner.memory.estimate import Device, Run
from planner.memory.facts import LayerKind
from planner.memory.vllm_settings import Settings
from planner.units import GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Bytes with the range they may lie in, and on what they rest."""

    total: int
    low: int
    high: int
    source: str


def non_torch_of(run: Run, settings: Settings) -> Amount:
    """Memory that PyTorch's allocator does not see: kernels loaded during profiling, NCCL, all-reduce buffers."""
    version = settings.version
    several = run.tensor_parallel > 1
    if version.is_v0:
        alone = fitted.NON_TORCH_TURING if "turing" in run.device.architecture.lower() else fitted.NON_TORCH_V0
        ranks = fitted.NON_TORCH_V0_RANKS
    elif version.number < (0, 18):
        alone = fitted.NON_TORCH_V1
        ranks = fitted.NON_TORCH_V1_NVLINK if has_nvlink(run.device) else fitted.NON_TORCH_V1_RANKS
    else:
        linked = version.number >= (0, 19) and has_nvlink(run.device)
        alone = fitted.NON_TORCH_018
        ranks = fitted.NON_TORCH_019_NVLINK if linked else fitted.NON_TORCH_018_RANKS
    middle, low, high = ranks if several else alone
    source = f"mean of recorded runs, {version.band}, {'several ranks' if several else 'one rank'}"
    return Amount(total=round(middle * GIB), low=round(low * GIB), high=round(high * GIB), source=source)


def has_nvlink(device: Device) -> bool:
    """Whether the board belongs to those that NVLink connects: the data-centre boards of Hopper and Blackwell."""
    text = f"{device.name} {device.board}".lower()
    return any(name in text for name in ("h100", "h200", "h800", "h20", "b200", "b300"))


def graphs_of(run: Run, settings: Settings) -> Amount:
    """CUDA graphs: what is charged to the budget from 0.21 on, and what is taken outside of it before."""
    if run.enforce_eager:
        return Amount(total=0, low=0, high=0, source="enforce_eager: no graphs")
    captured = captured_sizes(settings)
    base, each = fitted.GRAPHS_CHARGED if settings.version.charges_graphs else fitted.GRAPHS_BESIDE
    middle = base + each * captured
    return Amount(
        total=round(middle * GIB),
        low=0,
        high=round(3 * middle * GIB),
        source=f"{captured} captured batch sizes, constants of recorded runs, {settings.version.band}",
    )


def captured_sizes(settings: Settings) -> int:
    """Batch sizes that get a graph: 1, 2, 4, by 8 to 256, by 16 to 512, at most twice the number of sequences.

    Source: `_set_cudagraph_sizes` (vllm/config/vllm.py, 0.17); before, the steps were of 8 throughout.
    """
    largest = min(512, 2 * settings.max_num_seqs)
    return 3 + min(largest, 256) // 8 + max(0, largest - 256) // 16


def lora_of(run: Run, settings: Settings) -> Amount:
    """Slots for adapters: an A and a B matrix for every projection, allotted at start for `max_loras` adapters.

    Source: vllm/lora/layers (A is not divided between ranks, B is), 0.10.
    """
    if run.max_loras <= 0:
        return Amount(total=0, low=0, high=0, source="no adapters")
    model, tp = run.model, run.tensor_parallel
    rank = run.max_lora_rank or 16
    hidden, inner = model.hidden_size, model.intermediate_size or 0
    elements = 0.0
    for layers in model.layers:
        if layers.kind in (LayerKind.FULL, LayerKind.SLIDING) and layers.heads and layers.key_size:
            query, keys = layers.heads * layers.key_size, 2 * (layers.kv_heads or layers.heads) * layers.key_size
            attention = 3 * hidden + (query + keys) / tp + query / tp + hidden
            elements += layers.count * (attention + 2 * hidden + 2 * inner / tp + inner / tp + hidden)
    if model.model_type == "llama":  # the one family whose embedding and head take adapters too
        elements += 2 * (hidden + model.vocab_size / tp)
    total = round(run.max_loras * rank * elements * settings.element_bytes)
    return Amount(total=total, low=round(0.7 * total), high=round(1.6 * total), source="vllm/lora/layers, 0.10")


def late_bytes(run: Run, settings: Settings, activation: int) -> tuple[int, int]:
    """What is taken after the cache was sized, outside the budget: graphs (before 0.21) and the first real steps.

    The lower figure is what recorded runs survived with; the upper adds a whole sampling step, which is what the
    recorded failure at start-up (gpt-oss-20b at 0.95) lacked.
    """
    graphs = graphs_of(run, settings)
    outside = 0 if settings.version.charges_graphs else graphs.total
    return round(0.25 * outside), (graphs.high if outside else 0) + activation
