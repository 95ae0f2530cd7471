"""What one layer mixes tokens with, and its parameters: grouped attention, latent attention, DeepSeek-V4's.

Counts follow the modules of Hugging Face transformers 5.23.0 (src/transformers/models/*/modeling_*.py).
"""

from dataclasses import dataclass

from planner.memory.config_fields import ConfigFields
from planner.memory.facts import LayerKind, Layers
from planner.memory.families import Family
from planner.memory.layer_kinds import Mixing


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixer:
    """One layer (or, side by side, two kinds of memory in one) and its parameters by part."""

    layers: tuple[Layers, ...]
    attention: int = 0
    replicated: int = 0  # of `attention`: what tensor parallelism does not divide
    norms: int = 0
    other: int = 0


def attention(fields: ConfigFields, family: Family, mixing: Mixing, layer: int, layers: int) -> Mixer:
    """Attention of one layer with a key and a value for every head group."""
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    sliding = mixing is Mixing.SLIDING
    if sliding and fields.get("swa_num_attention_heads"):
        heads = fields.count("swa_num_attention_heads")
    key = head_size(fields, heads, sliding)
    value = key
    if (field := "swa_v_head_dim" if sliding and fields.get("swa_v_head_dim") else "v_head_dim") and fields.get(field):
        value = fields.count(field)
    shared_weights = fields.flag("attention_k_eq_v") and not sliding
    groups = kv_heads(fields, family, heads, sliding, layer)
    if mixing is Mixing.FULL and (wide := fields.optional("global_head_dim", least=1)):
        key = value = wide
        if shared_weights and (own := fields.optional("num_global_key_value_heads", least=1)):
            groups = own
    shares_cache = layer >= layers - fields.count("num_kv_shared_layers", 0, least=0)
    own_keys = not shares_cache
    biased, out_biased = family.decides(family.qkv_bias, fields), family.decides(family.out_bias, fields)
    widths = [heads * key * (2 if family.query_gate else 1)]
    if own_keys:
        widths += [groups * key] if shared_weights else [groups * key, groups * value]
    count = sum(hidden * width + (width if biased else 0) for width in widths)
    count += heads * value * hidden + (hidden if out_biased else 0)
    if family.sinks == "all" or (family.sinks == "sliding" and sliding):
        count += heads
    if family.head_gate:
        count += hidden * heads
    indexer = _indexer(fields, layer)
    norms = _query_key_norms(fields, family, heads, groups, key) if own_keys else key
    window = window_of(fields, mixing)
    kind = LayerKind.NONE if family.encoder or shares_cache else LayerKind.SLIDING if window else LayerKind.FULL
    return Mixer(
        layers=(
            Layers(
                kind=kind,
                count=1,
                heads=heads,
                kv_heads=groups,
                key_size=key,
                value_size=value,
                window=window if kind is LayerKind.SLIDING else None,
                index_size=fields.count("index_head_dim") if indexer else None,
            ),
        ),
        attention=count + indexer,
        replicated=indexer,
        norms=norms + (hidden if family.inner_norms else 0),
    )


def head_size(fields: ConfigFields, heads: int, sliding: bool = False) -> int:
    """Stated, else hidden / heads; raises UnreadableModel where that is no whole number."""
    if sliding and (stated := fields.optional("swa_head_dim", least=1)):
        return stated
    if (stated := fields.optional("head_dim", least=1)) is not None:
        return stated
    hidden = fields.count("hidden_size")
    if hidden % heads:
        raise fields.refuse("head_dim", f"is missing, and hidden_size {hidden} does not divide by {heads} heads.")
    return hidden // heads


def kv_heads(fields: ConfigFields, family: Family, heads: int, sliding: bool, layer: int) -> int:
    """Key-value heads; a family in which groups are common must state them, as a guess is wrong by their factor."""
    if sliding and (own := fields.optional("swa_num_key_value_heads", least=1)):
        return own
    if family.kv_heads == "one":
        return 1 if fields.flag("multi_query", True) else heads
    if family.kv_heads == "falcon" and not fields.flag("new_decoder_architecture"):
        return 1 if fields.flag("multi_query", True) else heads
    advice = (
        f"Without it every one of the {heads} heads would be counted with keys and values of its own, several times "
        f"too much for most models of this family; add it (as {heads} if that is meant)."
    )
    groups = fields.count("num_key_value_heads", None if family.kv_heads == "stated" else heads, advice=advice)
    if heads % groups:
        raise fields.refuse("num_key_value_heads", f"is {groups}, which does not divide the {heads} attention heads.")
    return groups


def window_of(fields: ConfigFields, mixing: Mixing) -> int | None:
    """Tokens that a sliding or chunked layer sees; None: all."""
    if mixing is Mixing.CHUNKED:
        return fields.optional("attention_chunk_size", least=1)
    return fields.optional("sliding_window", least=1) if mixing is Mixing.SLIDING else None


def _query_key_norms(fields: ConfigFields, family: Family, heads: int, groups: int, key: int) -> int:
    if family.qk_norm == "none" or (family.qk_norm_flag and not fields.flag(family.qk_norm_flag)):
        return 0
    return 2 * key if family.qk_norm == "head" else (heads + groups) * key


def _indexer(fields: ConfigFields, layer: int) -> int:
    """MiniMax-M3's block indexer, in the layers whose `sparse_attention_freq` says so."""
    listed = fields.series("index_layers")
    if not listed or layer not in listed:
        return 0
    hidden, heads, size = fields.count("hidden_size"), fields.count("index_n_heads"), fields.count("index_head_dim")
    return hidden * (heads + 1) * size + 2 * size


def latent_attention(fields: ConfigFields, family: Family, mixing: Mixing, layer: int, layers: int) -> Mixer:
    """Multi-head latent attention (DeepSeek-V2 and after): one compressed latent per token for all heads."""
    hidden, heads, latent = (fields.count(name) for name in ("hidden_size", "num_attention_heads", "kv_lora_rank"))
    rope, plain, value = (fields.count(name) for name in ("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"))
    queries = fields.optional("q_lora_rank", least=1)
    down = hidden * (latent + rope)
    up = latent * heads * (plain + value) + heads * value * hidden
    norms = latent
    if queries:
        down += hidden * queries
        up += queries * heads * (plain + rope)
        norms += queries
    else:
        up += hidden * heads * (plain + rope)
    if fields.flag("attention_bias"):
        down += (queries or 0) + latent + rope
        up += hidden
    if fields.flag("mla_use_output_gate"):
        up += hidden * heads * value
    indexer = 0
    types = fields.series("indexer_types", layers)
    if (size := fields.optional("index_head_dim", least=1)) and (types is None or types[layer] == "full"):
        index_heads = fields.count("index_n_heads")
        indexer = (queries or hidden) * index_heads * size + hidden * size + hidden * index_heads + 2 * size
    return Mixer(
        layers=(
            Layers(
                kind=LayerKind.MLA,
                count=1,
                heads=heads,
                kv_heads=1,
                latent_size=latent,
                rope_size=rope,
                window=window_of(fields, mixing),
                index_size=size if indexer else None,
            ),
        ),
        attention=down + up + indexer,
        replicated=down + indexer,
        norms=norms,
    )


def compressed_attention(fields: ConfigFields, mixing: Mixing) -> Mixer:
    """DeepSeek-V4: one shared key-value vector of the last tokens, and compressed entries of the whole context."""
    hidden, heads, size = (fields.count(name) for name in ("hidden_size", "num_attention_heads", "head_dim"))
    queries, groups, rank = (fields.count(name) for name in ("q_lora_rank", "o_groups", "o_lora_rank"))
    down = hidden * queries + hidden * size
    up = queries * heads * size + heads * size * rank + groups * rank * hidden + heads
    norms = queries + size
    ratio, compressor, index_size = 1, 0, None
    if mixing is Mixing.DENSE:
        ratio = 128
        compressor = 2 * hidden * size + ratio * size
        norms += size
    elif mixing is Mixing.SPARSE:
        ratio, index_size, index_heads = 4, fields.count("index_head_dim"), fields.count("index_n_heads")
        compressor = 4 * hidden * size + 2 * ratio * size
        compressor += 4 * hidden * index_size + 2 * ratio * index_size
        compressor += queries * index_heads * index_size + hidden * index_heads
        norms += size + index_size
    rope = fields.count("qk_rope_head_dim", 64)
    return Mixer(
        layers=(
            Layers(
                kind=LayerKind.MLA,
                count=1,
                heads=heads,
                kv_heads=1,
                latent_size=size - rope,
                rope_size=rope,
                window=fields.count("sliding_window", 128),
                index_size=index_size,
                tokens_per_entry=ratio,
            ),
        ),
        attention=down + up + compressor,
        replicated=down + compressor,
        norms=norms,
    )
