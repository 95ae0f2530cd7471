"""Which layer of a model remembers how: from the lists in a configuration, else from the rule of its family.

The rules are those of the configuration classes of Hugging Face transformers 5.23.0 (`__post_init__`).
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

from planner.memory.config_fields import ConfigFields
from planner.memory.families import Family


class Mixing(StrEnum):
    """What one layer mixes tokens with."""

    FULL = "full"
    SLIDING = "sliding"
    CHUNKED = "chunked"
    LINEAR = "linear"  # whatever state-space or linear attention the family has
    BOTH = "both"  # attention and a state-space mixer side by side
    MLP = "mlp"  # nothing: the layer is a feed-forward part
    MOE = "moe"  # nothing: the layer is a mixture of experts
    WINDOW = "window"  # DeepSeek-V4: the last tokens only
    SPARSE = "sparse"  # DeepSeek-V4: compressed, with an indexer
    DENSE = "dense"  # DeepSeek-V4: strongly compressed


NAMES: Mapping[str, Mixing] = {
    "full_attention": Mixing.FULL,
    "attention": Mixing.FULL,
    "sliding_attention": Mixing.SLIDING,
    "chunked_attention": Mixing.CHUNKED,
    "linear_attention": Mixing.LINEAR,
    "mamba": Mixing.LINEAR,
    "conv": Mixing.LINEAR,
    "recurrent": Mixing.LINEAR,
    "hybrid": Mixing.BOTH,
    "mlp": Mixing.MLP,
    "moe": Mixing.MOE,
    "minimax_m3_sparse": Mixing.FULL,
    "deepseek_sparse_attention": Mixing.FULL,
    "compressed_sparse_attention": Mixing.SPARSE,
    "heavily_compressed_attention": Mixing.DENSE,
}
"""The entries of `layer_types` and `layers_block_type`."""


def layer_mixings(fields: ConfigFields, family: Family, layers: int, assumed: list[str]) -> list[Mixing]:
    """One entry for each layer; raises UnreadableModel where the list is short or names a kind nobody knows."""
    if family.encoder:
        return [Mixing.FULL] * layers
    if (ratios := fields.series("compress_ratios", layers)) is not None:
        kinds: Mapping[object, Mixing] = {0: Mixing.WINDOW, 4: Mixing.SPARSE, 128: Mixing.DENSE}
        return [_named(fields, "compress_ratios", kinds, ratio) for ratio in ratios]
    for field in ("layer_types", "layers_block_type"):
        if (named := fields.series(field, layers)) is not None:
            found = [_named(fields, field, NAMES, name) for name in named]
            return _without_window(fields, found)
    if family.windows in RULES:
        return _without_window(fields, RULES[family.windows](fields, layers))
    return [Mixing.FULL] * layers


def _named(
    fields: ConfigFields, field: str, kinds: Mapping[str, Mixing] | Mapping[object, Mixing], name: object
) -> Mixing:
    mixing = kinds.get(name) if isinstance(name, str | int) else None  # type: ignore[arg-type]
    if mixing is None:
        raise fields.refuse(field, f"names a layer kind {name!r} that is not known here; its memory cannot be told.")
    return mixing


def _without_window(fields: ConfigFields, mixings: list[Mixing]) -> list[Mixing]:
    """Sliding layers see everything where no window is set."""
    off = fields.fields.get("use_sliding_window") is False
    if off or fields.get("sliding_window") is None:
        return [Mixing.FULL if mixing is Mixing.SLIDING else mixing for mixing in mixings]
    return mixings


def _all_slide(fields: ConfigFields, layers: int) -> list[Mixing]:
    return [Mixing.SLIDING] * layers


def _qwen(fields: ConfigFields, layers: int) -> list[Mixing]:
    """Off unless `use_sliding_window`; then the layers from `max_window_layers` on slide."""
    if not fields.flag("use_sliding_window"):
        return [Mixing.FULL] * layers
    first = fields.count("max_window_layers", 28, least=0)
    return [Mixing.SLIDING if layer >= first else Mixing.FULL for layer in range(layers)]


def _every_other(fields: ConfigFields, layers: int) -> list[Mixing]:
    return [Mixing.FULL if layer % 2 else Mixing.SLIDING for layer in range(layers)]


def _pattern(fields: ConfigFields, layers: int) -> list[Mixing]:
    """Every `sliding_window_pattern`-th layer sees everything; as a text ("LLLG") the pattern is spelled out."""
    pattern = fields.get("sliding_window_pattern") or fields.get("_sliding_window_pattern")
    if isinstance(pattern, str) and pattern:
        spelled = [pattern[layer % len(pattern)].upper() == "L" for layer in range(layers)]
        return [Mixing.SLIDING if local and layer < layers - 1 else Mixing.FULL for layer, local in enumerate(spelled)]
    every = fields.count("sliding_window_pattern", 1)
    return [Mixing.SLIDING if (layer + 1) % every else Mixing.FULL for layer in range(layers)]


def _pattern_then_full(fields: ConfigFields, layers: int) -> list[Mixing]:
    """The same, with a last layer that always sees everything (Gemma 4)."""
    return [*_pattern(fields, layers)[:-1], Mixing.FULL]


def _linear(fields: ConfigFields, layers: int) -> list[Mixing]:
    every = fields.count("full_attention_interval")
    return [Mixing.LINEAR if (layer + 1) % every else Mixing.FULL for layer in range(layers)]


def _linear_only(fields: ConfigFields, layers: int) -> list[Mixing]:
    return [Mixing.LINEAR] * layers


def _kimi(fields: ConfigFields, layers: int) -> list[Mixing]:
    """`linear_attn_config` counts layers from 1."""
    table = fields.table("linear_attn_config")
    full = None if table is None else table.get("full_attn_layers")
    if not isinstance(full, list):
        raise fields.refuse("linear_attn_config.full_attn_layers", "is missing; it says which layers keep a cache.")
    return [Mixing.FULL if layer + 1 in full else Mixing.LINEAR for layer in range(layers)]


def _mimo(fields: ConfigFields, layers: int) -> list[Mixing]:
    pattern = fields.series("hybrid_layer_pattern", layers)
    if pattern is None:
        raise fields.refuse("hybrid_layer_pattern", "is missing; it says which layers slide.")
    return [Mixing.SLIDING if entry else Mixing.FULL for entry in pattern]


def _nemotron_h(fields: ConfigFields, layers: int) -> list[Mixing]:
    """One letter for each layer: M Mamba-2, * attention, - feed-forward, E experts."""
    pattern = fields.word("hybrid_override_pattern")
    if pattern is None:
        raise fields.refuse("hybrid_override_pattern", "is missing; it says which layers keep a cache.")
    letters: Mapping[str, Mixing] = {"M": Mixing.LINEAR, "*": Mixing.FULL, "-": Mixing.MLP, "E": Mixing.MOE}
    if len(pattern) < layers or not set(pattern) <= set(letters):
        raise fields.refuse(
            "hybrid_override_pattern", f"has {len(pattern)} letters for {layers} layers, or others than M*-E."
        )
    return [letters[letter] for letter in pattern[:layers]]


def _side_by_side(fields: ConfigFields, layers: int) -> list[Mixing]:
    return [Mixing.BOTH] * layers


def _listed(field: str) -> Callable[[ConfigFields, int], list[Mixing]]:
    """Attention only in the layers that a field lists, the linear mixer elsewhere."""

    def rule(fields: ConfigFields, layers: int) -> list[Mixing]:
        listed = fields.series(field)
        if listed is None:
            raise fields.refuse(field, "is missing; it says which layers keep a cache.")
        return [Mixing.FULL if layer in listed else Mixing.LINEAR for layer in range(layers)]

    return rule


def _jamba(fields: ConfigFields, layers: int) -> list[Mixing]:
    period, offset = fields.count("attn_layer_period"), fields.count("attn_layer_offset", least=0)
    return [Mixing.LINEAR if (layer - offset) % period else Mixing.FULL for layer in range(layers)]


def _llama4(fields: ConfigFields, layers: int) -> list[Mixing]:
    """Layers with rotary positions see one chunk; by default every fourth has none."""
    rotary = fields.series("no_rope_layers", layers if fields.fields.get("no_rope_layers") else 0)
    every = fields.count("no_rope_layer_interval", 4)
    rotary = rotary or [(layer + 1) % every != 0 for layer in range(layers)]
    return [Mixing.CHUNKED if entry else Mixing.FULL for entry in rotary]


RULES: Mapping[str, Callable[[ConfigFields, int], list[Mixing]]] = {
    "all": _all_slide,
    "qwen": _qwen,
    "every_other": _every_other,
    "pattern": _pattern,
    "pattern_then_full": _pattern_then_full,
    "linear": _linear,
    "linear_only": _linear_only,
    "kimi": _kimi,
    "mimo": _mimo,
    "nemotron_h": _nemotron_h,
    "side_by_side": _side_by_side,
    "bamba": _listed("attn_layer_indices"),
    "granite_hybrid": _linear_only,
    "jamba": _jamba,
    "llama4": _llama4,
    "lfm2": _listed("full_attn_idxs"),
}
