"""What llama.cpp allocates for the context: cells of keys and values by layer, and states of recurrent layers.

Laws: `llama-kv-cache.cpp`, `llama-kv-cache-iswa.cpp`, `llama-memory-recurrent.cpp` of llama.cpp. A cell holds one token
of one layer: n_embd_k_gqa keys and n_embd_v_gqa values in their own types. Without sharing, every sequence has a stream
of context / sequences cells. A sliding layer needs window + micro-batch cells per stream, padded to 256. States are
32-bit and one per sequence, whatever the context.
"""

from dataclasses import dataclass

from planner.memory.facts import LayerKind, Layers, ModelFacts
from planner.memory.ggml_types import stored_bytes
from planner.memory.llama_settings import LlamaSettings
from planner.memory.llama_versions import LatentCache

_PAD = 256
_SMALL_PAD = 32  # without flash attention, before contexts were padded (PR 7257)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheNeed:
    """Bytes of the cache on the device, split as llama.cpp prints them, and the layers that could not be counted."""

    attention_bytes: int
    state_bytes: int
    cells: int  # of a layer that sees the whole context, all streams together
    sliding_cells: int
    unknown_layers: int

    @property
    def total_bytes(self) -> int:
        """Both."""
        return self.attention_bytes + self.state_bytes


def cache_need(
    model: ModelFacts,
    settings: LlamaSettings,
    *,
    is_swa_full: bool,
    share_of_layers: float = 1.0,
    extra_layers: int = 0,
) -> CacheNeed:
    """What the context takes in the layers that are on the device (`share_of_layers` of every kind).

    `extra_layers` are draft layers of the target's sizes that keep a cache too.
    """
    streams = 1 if settings.is_shared else settings.sequences
    per_stream = padded_context(settings) // streams
    sliding = _sliding_cells(model, settings, per_stream, is_swa_full)
    attention = state = 0.0
    unknown = 0
    widest = max((layers for layers in model.layers if _keeps_tokens(layers)), key=lambda one: one.count, default=None)
    for layers in model.layers:
        count = layers.count + (extra_layers if layers is widest else 0)
        if layers.kind is LayerKind.STATE:
            elements = (layers.state_elements or 0) + (layers.conv_elements or 0)
            unknown += 0 if elements else count
            state += count * elements * 4 * settings.sequences
            continue
        if layers.kind is LayerKind.NONE:
            continue
        windowed = layers.kind is LayerKind.SLIDING and settings.rules.knows_windows
        cells = (sliding.get(layers.window or 0, per_stream) if windowed else per_stream) * streams
        per_cell = cell_bytes(layers, settings)
        unknown += 0 if per_cell else count
        attention += count * cells * (per_cell or 0)
    return CacheNeed(
        attention_bytes=round(attention * share_of_layers),
        state_bytes=round(state * share_of_layers),
        cells=per_stream * streams,
        sliding_cells=max(sliding.values(), default=0) * streams,
        unknown_layers=unknown,
    )


def padded_context(settings: LlamaSettings) -> int:
    """Cells that the context takes: newer versions pad every sequence to 256, older ones the whole to 32 or 256."""
    streams = 1 if settings.is_shared else settings.sequences
    pad = _PAD if settings.rules.pads_sequences or settings.flash_attention else _SMALL_PAD
    each = -(-settings.context // streams)
    return -(-each // pad) * pad * streams


def cell_bytes(layers: Layers, settings: LlamaSettings) -> int | None:
    """Bytes of one token in one layer; None when the sizes are not known."""
    if layers.kind is LayerKind.MLA:
        return _latent_bytes(layers, settings)
    if layers.kv_heads is None or layers.key_size is None:
        return None
    value_size = layers.value_size if layers.value_size is not None else layers.key_size
    keys = stored_bytes(layers.kv_heads * layers.key_size, settings.key_type)
    return keys + stored_bytes(layers.kv_heads * value_size, settings.value_type)


def _latent_bytes(layers: Layers, settings: LlamaSettings) -> int | None:
    if layers.latent_size is None:
        return None
    with_rotary = layers.latent_size + (layers.rope_size or 0)
    keys = stored_bytes(with_rotary, settings.key_type)
    match settings.rules.latent:
        case LatentCache.ONCE:
            return keys
        case LatentCache.KEYS_AND_VALUES | LatentCache.TWICE:
            return keys + stored_bytes(layers.latent_size, settings.value_type)
        case LatentCache.EXPANDED:
            heads = layers.heads or 128
            key_size, value_size = layers.key_size or 192, layers.value_size or 128
            return stored_bytes(heads * key_size, settings.key_type) + stored_bytes(
                heads * value_size, settings.value_type
            )


def _sliding_cells(model: ModelFacts, settings: LlamaSettings, per_stream: int, is_swa_full: bool) -> dict[int, int]:
    """Cells of a stream by window."""
    windows = {layers.window for layers in model.layers if layers.kind is LayerKind.SLIDING and layers.window}
    if is_swa_full:
        return dict.fromkeys(windows, per_stream)
    together = settings.sequences if settings.is_shared else 1
    pad = _PAD if settings.flash_attention or settings.rules.pads_sequences else _SMALL_PAD
    return {
        window: min(per_stream, -(-min(per_stream, window * together + settings.micro_batch) // pad) * pad)
        for window in windows
    }


def _keeps_tokens(layers: Layers) -> bool:
    return layers.kind in (LayerKind.FULL, LayerKind.SLIDING, LayerKind.MLA)
