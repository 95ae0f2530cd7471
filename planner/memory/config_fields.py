"""A `config.json` as a mapping that is asked for fields by their several names, and refuses what cannot be true."""

from collections.abc import Mapping, Sequence
from typing import Any

from planner.memory.errors import UnreadableModel

LARGEST = {
    "hidden_size": 2**20,
    "num_hidden_layers": 4096,
    "num_attention_heads": 2**16,
    "vocab_size": 2**26,
    "num_experts": 2**16,
}
"""More than ten times the largest published model; beyond it a number is a mistake, not a model."""

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("n_embd", "d_model", "embed_dim", "dim", "n_embed"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers", "depth"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "num_key_value_heads": ("n_head_kv", "num_kv_heads", "n_kv_heads", "multi_query_group_num", "kv_n_heads"),
    "intermediate_size": ("n_inner", "ffn_dim", "ffn_hidden_size", "hidden_dim", "d_ff", "block_ff_dim"),
    "vocab_size": ("padded_vocab_size", "n_vocab"),
    "max_position_embeddings": ("n_positions", "max_seq_len", "seq_length", "max_sequence_length", "n_ctx"),
    "head_dim": ("attention_head_dim", "kv_channels", "head_size"),
    "num_experts": ("n_routed_experts", "num_local_experts", "moe_num_experts", "n_experts"),
    "num_experts_per_tok": (
        "num_experts_per_token",
        "top_k_experts",
        "moe_topk",
        "moe_k",
        "moe_top_k",
        "num_selected_experts",
    ),
    "moe_intermediate_size": ("expert_intermediate_size", "expert_ffn_hidden_size"),
    "n_shared_experts": ("num_shared_experts", "moe_num_shared_experts", "num_shared_expert"),
    "shared_expert_intermediate_size": (
        "moe_shared_expert_intermediate_size",
        "shared_intermediate_size",
        "share_expert_dim",
    ),
    "first_k_dense_replace": ("num_dense_layers", "moe_layer_start_index"),
    "num_nextn_predict_layers": ("num_mtp_modules", "mtp_num_hidden_layers", "num_mtp_layers"),
    "conv_kernel": ("mamba_d_conv", "d_conv", "linear_conv_kernel_dim"),
    "state_size": ("ssm_state_size", "mamba_d_state", "d_state"),
    "mamba_num_heads": ("mamba_n_heads",),
    "mamba_head_dim": ("mamba_d_head",),
    "n_groups": ("mamba_n_groups", "ngroups"),
    "expand": ("mamba_expand",),
}
"""The same fact under the names that other families give it; the first is the one used here."""


class ConfigFields:
    """One level of a configuration; `defaults` holds what its family assumes where the file is silent."""

    def __init__(self, fields: Mapping[str, Any], name: str, defaults: Mapping[str, Any] | None = None) -> None:
        self.fields = fields
        self.name = name
        self.defaults = defaults or {}

    def get(self, field: str) -> Any:
        """The value under any spelling, else the family's default, else None."""
        for spelling in (field, *SPELLINGS.get(field, ())):
            value = self.fields.get(spelling)
            if value is not None:
                return value
        return self.defaults.get(field)

    def refuse(self, field: str, why: str) -> UnreadableModel:
        """The error for a field: what is wrong with it and what to do."""
        return UnreadableModel(f"{self.name}: {field} {why}")

    def count(self, field: str, default: int | None = None, *, least: int = 1, advice: str = "") -> int:
        """A whole number of at least `least`; raises UnreadableModel where it is missing and there is no default."""
        value = self.get(field)
        if value is None:
            if default is None:
                advice = advice or "Add it to the configuration; a truncated file is the usual reason."
                raise self.refuse(field, f"is missing, and the memory depends on it. {advice}")
            return default
        return self._whole(field, value, least)

    def optional(self, field: str, *, least: int = 0) -> int | None:
        """A whole number, or None where the file states none."""
        value = self.get(field)
        return None if value is None else self._whole(field, value, least)

    def _whole(self, field: str, value: Any, least: int) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, list | tuple) and value and all(item == value[0] for item in value):
            value = value[0]  # OpenELM and MiniMax write one number for each layer
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.refuse(field, f"must be a whole number, not {_short(value)}.")
        largest = LARGEST.get(field, 2**40)
        if not least <= value <= largest:
            raise self.refuse(field, f"is {value}, which no model has; it must lie between {least} and {largest}.")
        return value

    def flag(self, field: str, default: bool = False) -> bool:
        """A yes or no; raises UnreadableModel for anything else."""
        value = self.get(field)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refuse(field, f"must be true or false, not {_short(value)}.")
        return value

    def series(self, field: str, length: int | None = None) -> list[Any] | None:
        """A list, of `length` items where that is given; a longer one is cut (it then also lists prediction layers)."""
        value = self.get(field)
        if value is None:
            return None
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise self.refuse(field, f"must be a list, not {_short(value)}.")
        if length is not None and len(value) < length:
            raise self.refuse(field, f"has {len(value)} entries for {length} layers; the file is not complete.")
        return list(value[:length])

    def table(self, field: str) -> Mapping[str, Any] | None:
        """A nested object, or None."""
        value = self.get(field)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.refuse(field, f"must be an object, not {_short(value)}.")
        return value

    def word(self, field: str) -> str | None:
        """A text, or None."""
        value = self.get(field)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.refuse(field, f"must be a text, not {_short(value)}.")
        return value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
