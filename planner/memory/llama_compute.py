"""The compute buffer of llama.cpp: the peak of one micro-batch through the graph that it reserves at start.

Three peaks compete, and the largest decides: the logits of a whole micro-batch (vocabulary x micro-batch in 32 bits,
with two hidden states beside them), the attention of one layer, and the feed-forward of one layer. All three were read
off the fourteen releases that `llama_versions` names; 70 random models in seven of them lay in the range. Measured CUDA
buffers agree where the model is wholly on one device: Qwen3-32B with micro-batch 1024 took 593.5 + 40 = 633.5 MiB.
"""

from dataclasses import dataclass

from planner.memory.facts import LayerKind, ModelFacts
from planner.memory.llama_kv_cache import padded_context
from planner.memory.llama_settings import LlamaSettings
from planner.memory.llama_versions import LatentCache
from planner.units import MIB

_FLOAT = 4
_COPIES_MARGIN = 1.12  # graph splits between devices keep copies of their inputs: 456.98 MiB where 404 are computed


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeNeed:
    """Bytes with range, and what decides them."""

    bytes: int
    low: int
    high: int
    decided_by: str


def compute_need(model: ModelFacts, settings: LlamaSettings) -> ComputeNeed:
    """The compute buffer on the device that holds the output layer.

    A later release may reserve fewer outputs than a micro-batch, so the low end leaves the logits out. Where it is not
    known whether flash attention is on, the high end is that without it.
    """
    tokens = settings.micro_batch
    hidden = tokens * model.hidden_size * _FLOAT
    copies = settings.rules.feed_forward_copies
    feed_forward = tokens * _widest_feed_forward(model) * copies * _FLOAT + 4 * hidden + 2 * _mask_cells(settings)
    logits = tokens * model.vocab_size * _FLOAT + 2 * hidden if settings.has_output_layer else 0
    attention = _attention(model, settings, has_flash=settings.flash_attention)
    peaks = {"logits": logits, "attention": attention, "feed-forward": feed_forward}
    decided_by = max(peaks, key=lambda name: peaks[name])
    expected = peaks[decided_by]
    low = max(attention, hidden) * 0.7 if decided_by == "logits" else expected * 0.7
    high = expected * _COPIES_MARGIN + 32 * MIB
    if not settings.is_flash_sure:
        high = max(high, _attention(model, settings, has_flash=False))
    if any(layers.kind is LayerKind.MLA for layers in model.layers):
        is_expanded = settings.rules.label.startswith("ik_")  # how much of the context at once: -amb, not stated here
        low, high = low * (0.6 if is_expanded else 1.0), max(high, expected * (2.5 if is_expanded else 1.3) + 32 * MIB)
    return ComputeNeed(bytes=round(expected), low=round(low), high=round(high), decided_by=decided_by)


def _attention(model: ModelFacts, settings: LlamaSettings, *, has_flash: bool) -> float:
    """Peak of one attention layer: mask, queries in and out, and without flash attention the scores of every head."""
    tokens = settings.micro_batch
    cells = _mask_cells(settings)
    mask = cells * (settings.rules.mask_bytes if has_flash else 4)
    peak = 0.0
    for layers in model.layers:
        if layers.kind in (LayerKind.STATE, LayerKind.NONE) or not layers.heads:
            continue
        scores = 0.0 if has_flash else float(cells * layers.heads * _FLOAT)
        if layers.kind is LayerKind.MLA:
            queries = _latent_queries(settings, layers.heads, layers.latent_size or 512)
            peak = max(peak, scores + queries + (0.0 if has_flash else 2.0 * cells))
            continue
        queries = tokens * layers.heads * (layers.key_size or 128) * _FLOAT
        peak = max(peak, scores + mask + 2 * queries + 3 * tokens * model.hidden_size * _FLOAT)
    return peak


def _mask_cells(settings: LlamaSettings) -> int:
    """Pairs of a token of the micro-batch and a cell of its own stream."""
    streams = 1 if settings.is_shared else settings.sequences
    return settings.micro_batch * (padded_context(settings) // streams)


def _latent_queries(settings: LlamaSettings, heads: int, latent_size: int) -> float:
    """Queries in the latent space, in and out; ik_llama.cpp -mla 2 and 3 expand keys and values of all tokens."""
    tokens = settings.micro_batch
    if settings.rules.label.startswith("ik_") and settings.rules.latent is LatentCache.ONCE:
        return settings.context * heads * (192 + 128) * 2.0 + tokens * heads * 320 * _FLOAT
    return tokens * heads * (3 * latent_size + 2 * 64) * float(_FLOAT)


def _widest_feed_forward(model: ModelFacts) -> int:
    dense = _mean_inner_size(model) if model.intermediate_size is None else model.intermediate_size
    if model.experts is None:
        return dense
    routed = model.experts.active * model.experts.intermediate_size
    return max(dense if model.experts.layers < model.layer_count else 0, routed)


def _mean_inner_size(model: ModelFacts) -> int:
    """Where no size is stated: from the parameters, as of parts with two matrices, the wider of both kinds."""
    layers = model.layer_count - (model.experts.layers if model.experts else 0)
    return model.parameters.mlp // (2 * layers * model.hidden_size) if layers > 0 else 0
