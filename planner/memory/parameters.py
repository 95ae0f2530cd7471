"""Parameters of a language model by part, and its layers by kind, from the sizes in its configuration.

Exact for the families of `planner/data/model_families.toml`: their counts were compared with the modules that Hugging
Face transformers 5.23.0 builds from the same configuration.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from planner.memory.config_fields import ConfigFields
from planner.memory.facts import Experts, LayerKind, Layers, Parameters
from planner.memory.families import Family
from planner.memory.feed_forward import FeedForward, feed_forward
from planner.memory.layer_kinds import Mixing
from planner.memory.mixers import Mixer, attention, compressed_attention, head_size, latent_attention
from planner.memory.state_mixers import state_mixer


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A decoder, counted."""

    layers: tuple[Layers, ...]
    parameters: Parameters
    experts: Experts | None
    replicated_attention: int
    parts_by_layer: tuple[frozenset[str], ...]  # parts that a layer has, by their names in Parameters
    dense_size: int | None  # largest inner size of a dense feed-forward part


def count_stack(
    fields: ConfigFields, family: Family, mixings: Sequence[Mixing], *, vocab: int, has_head: bool
) -> Stack:
    """All layers, the embedding and the head; `has_head` is false where it is tied or absent."""
    hidden, total = fields.count("hidden_size"), len(mixings)
    mixers = [_mixer(fields, family, mixing, layer, total) for layer, mixing in enumerate(mixings)]
    parts = [_feed_forward(fields, family, mixing, layer, total) for layer, mixing in enumerate(mixings)]
    norms = sum(_layer_norms(fields, family, mixing, layer) for layer, mixing in enumerate(mixings))
    norms -= 0 if family.first_norm else hidden * family.norm_size
    norms += family.final_norms * hidden * family.norm_size + (
        hidden * family.norm_size if family.embedding_norm else 0
    )
    parameters = Parameters(
        embedding=vocab * hidden + _positions(fields, family, hidden),
        head=(vocab * (hidden + (1 if family.decides(family.head_bias, fields) else 0))) if has_head else 0,
        attention=sum(mixer.attention for mixer in mixers),
        mlp=sum(part.mlp for part in parts),
        experts=sum(part.experts for part in parts),
        shared_experts=sum(part.shared for part in parts),
        router=sum(part.router for part in parts),
        norms=norms + sum(mixer.norms for mixer in mixers) + sum(part.norms for part in parts),
        other=sum(mixer.other for mixer in mixers) + _beside(fields, total),
    )
    return Stack(
        layers=grouped(layers for mixer in mixers for layers in mixer.layers),
        parameters=parameters,
        experts=_experts(fields, parts),
        replicated_attention=sum(mixer.replicated for mixer in mixers),
        parts_by_layer=tuple(_parts(mixer, part) for mixer, part in zip(mixers, parts, strict=True)),
        dense_size=max((part.dense_size for part in parts), default=0) or None,
    )


def _parts(mixer: Mixer, part: FeedForward) -> frozenset[str]:
    sizes = {
        "attention": mixer.attention,
        "other": mixer.other,
        "mlp": part.mlp,
        "experts": part.experts,
        "shared_experts": part.shared,
    }
    return frozenset(name for name, size in sizes.items() if size)


def grouped(layers: Iterable[Layers]) -> tuple[Layers, ...]:
    """Equal layers as one entry with their count, in order of first appearance."""
    counts: Counter[Layers] = Counter()
    for one in layers:
        counts[replace(one, count=1)] += one.count
    return tuple(replace(one, count=count) for one, count in counts.items())


def _mixer(fields: ConfigFields, family: Family, mixing: Mixing, layer: int, layers: int) -> Mixer:
    if fields.get("block_configs") is not None:
        return _searched_attention(fields, family, layer, layers)
    match mixing:
        case Mixing.LINEAR:
            return state_mixer(fields, family)
        case Mixing.BOTH:
            return _together(attention(fields, family, Mixing.FULL, layer, layers), state_mixer(fields, family))
        case Mixing.MLP | Mixing.MOE:
            return Mixer(layers=(_none(),))
        case Mixing.WINDOW | Mixing.SPARSE | Mixing.DENSE:
            return compressed_attention(fields, mixing)
    if fields.get("kv_lora_rank") is not None:
        return latent_attention(fields, family, mixing, layer, layers)
    return attention(fields, family, mixing, layer, layers)


def _together(first: Mixer, second: Mixer) -> Mixer:
    return Mixer(
        layers=(*first.layers, *second.layers),
        attention=first.attention + second.attention,
        replicated=first.replicated + second.replicated,
        norms=first.norms + second.norms,
        other=first.other + second.other,
    )


def _none() -> Layers:
    return Layers(kind=LayerKind.NONE, count=1)


def _feed_forward(fields: ConfigFields, family: Family, mixing: Mixing, layer: int, layers: int) -> FeedForward:
    if fields.get("block_configs") is not None:
        return _searched_feed_forward(fields, family, layer, layers)
    if mixing in (Mixing.MLP, Mixing.MOE):
        return feed_forward(fields, family, layer, layers, only=mixing.value)
    if family.layer_norms == 1 and family.linear != "none":
        return FeedForward()  # Nemotron-H, Mamba: one mixer or one feed-forward part in a layer
    if fields.flag("use_double_wide_mlp") and layer >= layers - fields.count("num_kv_shared_layers", 0, least=0):
        single = feed_forward(fields, family, layer, layers)
        return replace(single, mlp=2 * single.mlp, dense_size=2 * single.dense_size)
    part = feed_forward(fields, family, layer, layers)
    if part.expert_size is None and not fields.get("num_experts") and fields.get("shared_intermediate_size"):
        size = fields.count("shared_intermediate_size")  # Granite 4 without experts keeps only the shared part
        return replace(part, mlp=3 * fields.count("hidden_size") * size, dense_size=size)
    return part


def _layer_norms(fields: ConfigFields, family: Family, mixing: Mixing, layer: int) -> int:
    hidden = fields.count("hidden_size")
    count = family.layer_norms
    if family.kv_heads == "falcon":
        new = fields.flag("new_decoder_architecture")
        two = fields.optional("num_ln_in_parallel_attn") != 1 if new else not fields.flag("parallel_attn", True)
        count = 2 if two else 1
    if fields.get("block_configs") is not None:
        block = _block(fields, layer)
        count = (0 if _is_no_op(block, "attention") else 1) + (0 if _is_no_op(block, "ffn") else 1)
    return count * hidden * family.norm_size


def _positions(fields: ConfigFields, family: Family, hidden: int) -> int:
    rows = 0
    if family.positions >= 0:
        rows += fields.count("max_position_embeddings") + family.positions
    if family.encoder:
        rows += fields.optional("type_vocab_size") or 0
    return rows * hidden


def _beside(fields: ConfigFields, layers: int) -> int:
    """What stands beside the layers: per-layer embeddings (Gemma 3n, 4), hyper-connections (DeepSeek-V4)."""
    hidden = fields.count("hidden_size")
    count = 0
    if own := fields.optional("hidden_size_per_layer_input"):
        rows = fields.count("vocab_size_per_layer_input")
        count += rows * layers * own + hidden * layers * own + own + layers * (2 * hidden * own + hidden)
    if rank := fields.optional("laurel_rank"):
        inputs = fields.count("altup_num_inputs")
        each = 2 * hidden * rank + hidden  # laurel
        each += hidden + inputs * inputs + inputs**3 + hidden * inputs + hidden  # altup, its router and their norm
        count += layers * each + 2 * (inputs - 1) * hidden * hidden
    if streams := fields.optional("hc_mult"):
        count += layers * 2 * ((2 + streams) * streams * (streams * hidden + 1) + 3)
        count += streams * streams * hidden + streams + 1
    if crossing := fields.series("cross_attention_layers"):  # Llama 3.2 Vision: norms, gates and 8 image tokens
        count += 8 * hidden + len(crossing) * (2 * head_size(fields, fields.count("num_attention_heads")) + 2)
    width = fields.optional("word_embed_proj_dim")
    if width and width != hidden:
        count += 2 * width * hidden  # OPT-350m; its embedding is narrower than counted here
    return count


def _experts(fields: ConfigFields, parts: Sequence[FeedForward]) -> Experts | None:
    routed = [part for part in parts if part.expert_size is not None]
    if not routed:
        return None
    first = routed[0]
    shared = fields.optional("n_shared_experts")
    return Experts(
        layers=len(routed),
        total=fields.count("num_experts"),
        active=fields.count("num_experts_per_tok", 1, least=1),
        shared=(shared or 1) if first.shared_size else 0,
        intermediate_size=first.expert_size or 0,
        shared_intermediate_size=first.shared_size,
    )


def _block(fields: ConfigFields, layer: int) -> ConfigFields:
    blocks = fields.series("block_configs") or []
    if layer >= len(blocks) or not isinstance(blocks[layer], dict):
        raise fields.refuse("block_configs", f"says nothing of layer {layer}; the file is not complete.")
    return ConfigFields(blocks[layer], f"{fields.name}, block_configs[{layer}]")


def _is_no_op(block: ConfigFields, part: str) -> bool:
    table = block.table(part)
    return table is None or bool(table.get("no_op"))


def _searched_attention(fields: ConfigFields, family: Family, layer: int, layers: int) -> Mixer:
    """Nemotron-NAS (DeciLM): every layer has its own attention, a single matrix in its place, or nothing."""
    table = ConfigFields(_block(fields, layer).table("attention") or {"no_op": True}, f"{fields.name}, layer {layer}")
    hidden = fields.count("hidden_size")
    if table.flag("no_op"):
        return Mixer(layers=(_none(),))
    if table.flag("replace_with_linear"):
        return Mixer(layers=(_none(),), attention=hidden * hidden)
    groups = fields.count("num_attention_heads") // table.count("n_heads_in_group")
    own = ConfigFields({**fields.fields, "num_key_value_heads": groups}, fields.name, fields.defaults)
    return attention(own, family, Mixing.FULL, layer, layers)


def _searched_feed_forward(fields: ConfigFields, family: Family, layer: int, layers: int) -> FeedForward:
    """Nemotron-NAS: the inner size is 2/3 of ffn_mult x hidden, rounded up to 256."""
    table = ConfigFields(_block(fields, layer).table("ffn") or {"no_op": True}, f"{fields.name}, layer {layer}")
    hidden = fields.count("hidden_size")
    if table.flag("no_op"):
        return FeedForward()
    if table.flag("replace_with_linear"):
        return FeedForward(mlp=hidden * hidden)
    ratio = table.get("ffn_mult")
    if not isinstance(ratio, int | float) or not 0 < ratio < 1000:
        raise table.refuse("ffn_mult", "is missing or no number.")
    size = -(-int(2 * ratio * hidden / 3) // 256) * 256
    own = ConfigFields({**fields.fields, "intermediate_size": size}, fields.name, fields.defaults)
    return feed_forward(own, family, layer, layers, only="mlp")
