"""Parameters of the feed-forward part of one layer: dense, a mixture of experts, or both side by side.

Counts follow the modules of Hugging Face transformers 5.23.0: a gated part has three matrices, a plain one two.
"""

from dataclasses import dataclass, replace

from planner.memory.config_fields import ConfigFields
from planner.memory.families import Family


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForward:
    """Parameters of one layer's feed-forward part; `expert_size` and `shared_size` are None where it has no experts."""

    mlp: int = 0
    experts: int = 0
    shared: int = 0
    router: int = 0
    norms: int = 0
    expert_size: int | None = None
    shared_size: int | None = None
    dense_size: int = 0  # inner size of the dense part


def feed_forward(
    fields: ConfigFields, family: Family, layer: int, layers: int, *, only: str | None = None
) -> FeedForward:
    """The part of one layer; `only` is "mlp" or "moe" where the layer list decides."""
    total = fields.optional("num_experts") or 0
    beside = fields.flag("enable_moe_block")
    if fields.fields.get("enable_moe_block") is False:
        total = 0
    routed = total > 1 and (only == "moe" or (only is None and (beside or is_sparse(fields, layer, layers))))
    dense = size = 0
    if not routed or beside:
        size = dense_size(fields, family, layer)
        dense = _matrices(fields, family, size, family.decides(family.mlp_bias, fields)) + family.activation_scalars
    if not routed:
        return FeedForward(mlp=dense, norms=size if family.inner_norms else 0, dense_size=size)
    return replace(_mixture(fields, family, total, dense, beside), dense_size=size)


def is_sparse(fields: ConfigFields, layer: int, layers: int) -> bool:
    """Whether a layer of a mixture-of-experts model routes; each family states it with other fields."""
    if (named := fields.series("mlp_layer_types", layers)) is not None:
        return bool(named[layer] != "dense")
    if layer < fields.count("first_k_dense_replace", 0, least=0):
        return False
    frequency = fields.get("moe_layer_freq")
    if isinstance(frequency, list):
        return bool((fields.series("moe_layer_freq", layers) or [])[layer])
    if frequency is not None and layer % fields.count("moe_layer_freq"):
        return False
    if layer in (fields.series("mlp_only_layers") or ()):
        return False
    if (layer + 1) % fields.count("decoder_sparse_step", 1):
        return False
    if (listed := fields.series("moe_layers")) is not None:
        return layer in listed
    if (layer + 1) % fields.count("interleave_moe_layer_step", 1):
        return False
    if (layer + 1) % fields.count("moe_layer_interval", 1):
        return False
    period = fields.count("expert_layer_period", 1)
    return (layer - fields.count("expert_layer_offset", 0, least=0)) % period == 0


def dense_size(fields: ConfigFields, family: Family, layer: int) -> int:
    """Inner size of a dense feed-forward part: stated, else the family's habit."""
    for field in ("dense_intermediate_size", "intermediate_size_mlp"):
        if (size := fields.optional(field)) is not None:
            return size
    listed = fields.get("intermediate_size")
    if isinstance(listed, list) and layer < len(listed):
        return ConfigFields({"intermediate_size": listed[layer]}, fields.name).count("intermediate_size")
    size = fields.optional("intermediate_size", least=1)
    hidden = fields.count("hidden_size")
    if size is None and (ratio := fields.get("expansion_ratio")) is not None:
        return round(_ratio(fields, "expansion_ratio", ratio) * hidden)
    if size is None:
        return family.ffn_ratio * hidden if family.ffn_ratio else fields.count("intermediate_size")
    if fields.fields.get("block_auto_adjust_ff_dim"):
        size = int(2 * size / 3)
        size = int(_ratio(fields, "block_ffn_dim_multiplier", fields.get("block_ffn_dim_multiplier") or 1) * size)
        step = fields.count("block_multiple_of", 256)
        return step * -(-size // step)  # LFM2
    return size


def _ratio(fields: ConfigFields, field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1000:
        raise fields.refuse(field, f"is {value!r}, which is no ratio.")
    return value


def _matrices(fields: ConfigFields, family: Family, size: int, bias: bool, width: int | None = None) -> int:
    hidden = width or fields.count("hidden_size")
    up = 2 if family.gated else 1
    return (up + 1) * hidden * size + (up * size + hidden if bias else 0)


def _mixture(fields: ConfigFields, family: Family, total: int, dense: int, beside: bool) -> FeedForward:
    hidden = fields.count("hidden_size")
    size = fields.optional("moe_intermediate_size", least=1) or fields.count("intermediate_size")
    latent = fields.optional("moe_latent_size") or fields.optional("routed_expert_hidden_size")
    expert = _matrices(fields, family, size, family.decides(family.mlp_bias, fields) and not latent, latent)
    if family.expert_bias:
        expert += 2 * size + hidden
    shared_size = _shared_size(fields, size)
    shared = _matrices(fields, family, shared_size, family.decides(family.mlp_bias, fields)) if shared_size else 0
    if shared and family.shared_gate:
        shared += hidden
    if latent:
        shared += 2 * hidden * latent  # into the experts' own width and back, on every rank
    norms = latent if latent and fields.flag("latent_moe_use_norm") else 0
    router = hidden * total + (total if family.router_bias else 0)
    if beside:  # Gemma 4: scales of the router, and three norms more
        router += hidden + total
        norms += 3 * hidden
    return FeedForward(
        mlp=dense,
        experts=total * expert,
        shared=shared,
        router=router,
        norms=norms,
        expert_size=size,
        shared_size=shared_size or None,
    )


def _shared_size(fields: ConfigFields, size: int) -> int:
    stated = fields.optional("shared_expert_intermediate_size")
    if stated is not None:
        return stated
    return (fields.optional("n_shared_experts") or 0) * size
