"""Layers that keep a state of fixed size for each sequence: Mamba, gated delta nets, short convolutions.

Parameters follow the modules of Hugging Face transformers 5.23.0; state sizes are those that vLLM 0.11 allots
(vllm/model_executor/layers/mamba/mamba_utils.py): the recurrent state, and conv_kernel - 1 columns of the convolution.
"""

from planner.memory.config_fields import ConfigFields
from planner.memory.facts import LayerKind, Layers
from planner.memory.families import Family
from planner.memory.mixers import Mixer


def state_mixer(fields: ConfigFields, family: Family) -> Mixer:
    """The family's own kind of state layer; raises UnreadableModel where it has none or a size is missing."""
    match family.linear:
        case "gated_delta":
            return _gated_delta(fields)
        case "kimi_delta":
            return _kimi_delta(fields)
        case "mamba1":
            return _mamba1(fields, family)
        case "mamba2":
            return _mamba2(fields, family)
        case "short_conv":
            return _short_conv(fields)
    raise fields.refuse("layer_types", "names linear layers, whose sizes are not known for this family.")


def _state(fields: ConfigFields, elements: int, conv: int, default_bits: int = 16) -> tuple[Layers, ...]:
    word = fields.get("mamba_ssm_cache_dtype") or fields.get("mamba_ssm_dtype")
    bits = default_bits if word is None else 32 if "32" in str(word) else 16
    return (Layers(kind=LayerKind.STATE, count=1, state_elements=elements, conv_elements=conv, state_bits=bits),)


def _gated_delta(fields: ConfigFields) -> Mixer:
    """Qwen3-Next and Qwen3.5."""
    hidden, kernel = fields.count("hidden_size"), fields.count("conv_kernel")
    keys, values = fields.count("linear_num_key_heads"), fields.count("linear_num_value_heads")
    key, value = fields.count("linear_key_head_dim"), fields.count("linear_value_head_dim")
    channels = 2 * keys * key + values * value
    matrices = hidden * (channels + values * value + 2 * values) + values * value * hidden
    return Mixer(
        layers=_state(fields, values * key * value, (kernel - 1) * channels),
        other=matrices + kernel * channels + 2 * values,
        norms=value,
    )


def _kimi_delta(fields: ConfigFields) -> Mixer:
    """Kimi Linear, whose checkpoints call it attention; the recurrent state is kept in 32 bits."""
    table = fields.table("linear_attn_config")
    if table is None:
        raise fields.refuse("linear_attn_config", "is missing; it holds the sizes of the linear layers.")
    own = ConfigFields(table, f"{fields.name}, linear_attn_config")
    hidden, heads, size = fields.count("hidden_size"), own.count("num_heads"), own.count("head_dim")
    kernel = own.count("short_conv_kernel_size", 4)
    width = heads * size
    gate = hidden * width if own.flag("use_full_rank_gate") else hidden * size + size * width
    matrices = 4 * hidden * width + hidden * size + size * width + gate + hidden * heads
    return Mixer(
        layers=_state(fields, heads * size * size, (kernel - 1) * 3 * width, default_bits=32),
        attention=matrices + kernel * 3 * width + width + heads,
        norms=size,
    )


def _mamba1(fields: ConfigFields, family: Family) -> Mixer:
    hidden, kernel, state = fields.count("hidden_size"), fields.count("conv_kernel"), fields.count("state_size")
    inner = fields.optional("mamba_inner_size", least=1) or fields.count("expand") * hidden
    if "d_inner" in fields.fields or ("intermediate_size" in fields.fields and family.windows == "linear_only"):
        inner = fields.optional("intermediate_size", least=1) or inner
    rank = fields.get("time_step_rank") or fields.get("mamba_dt_rank")
    rank = rank if isinstance(rank, int) else -(-hidden // 16)
    matrices = 2 * hidden * inner + inner * (rank + 2 * state) + rank * inner + inner + inner * hidden
    biases = inner if fields.flag("use_conv_bias") or fields.flag("mamba_conv_bias") else 0
    if fields.flag("use_bias") or fields.flag("mamba_proj_bias"):
        biases += 2 * inner + hidden
    return Mixer(
        layers=_state(fields, inner * state, (kernel - 1) * inner),
        other=matrices + kernel * inner + inner * state + inner + biases,
        norms=rank + 2 * state if family.linear_norms else 0,
    )


def _mamba2(fields: ConfigFields, family: Family) -> Mixer:
    hidden, kernel, state = fields.count("hidden_size"), fields.count("conv_kernel"), fields.count("state_size")
    groups = fields.count("n_groups")
    alone = family.windows == "linear_only"  # Mamba-2 itself has no other heads to tell them from
    heads = fields.count("num_attention_heads" if alone else "mamba_num_heads")
    size = fields.get("head_dim" if alone else "mamba_head_dim")
    if size is None or (isinstance(size, str) and size.startswith("auto")):
        size = fields.count("expand") * hidden // heads
    elif isinstance(size, bool) or not isinstance(size, int) or not 0 < size < 2**20:
        raise fields.refuse("mamba_head_dim", f"must be a whole number or auto, not {size!r}.")
    inner = fields.optional("mamba_d_ssm", least=1) or heads * size
    channels = inner + 2 * groups * state
    matrices = hidden * (inner + channels + heads) + inner * hidden
    biases = channels if fields.flag("use_conv_bias") or fields.flag("mamba_conv_bias") else 0
    if fields.flag("use_bias") or fields.flag("mamba_proj_bias"):
        biases += inner + channels + heads
        biases += 0 if "projectors_bias" in fields.fields else hidden
    biases += hidden if fields.flag("projectors_bias") else 0
    norm = 0 if fields.fields.get("mamba_rms_norm") is False else inner
    return Mixer(
        layers=_state(fields, heads * size * state, (kernel - 1) * channels),
        other=matrices + kernel * channels + 3 * heads + biases,
        norms=norm,
    )


def _short_conv(fields: ConfigFields) -> Mixer:
    """LFM2: a gated convolution over the last `conv_L_cache` tokens."""
    hidden, kernel = fields.count("hidden_size"), fields.count("conv_L_cache", 3)
    biases = 5 * hidden if fields.flag("conv_bias") else 0
    return Mixer(layers=_state(fields, 0, (kernel - 1) * hidden), other=4 * hidden * hidden + kernel * hidden + biases)
