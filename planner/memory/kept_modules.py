"""Which share of a model the exceptions of a quantisation leave as it was.

Exceptions name modules of Hugging Face checkpoints: whole names, the names of modules that hold them, wildcards
(ModelOpt) or, after `re:`, regular expressions (compressed-tensors 0.12, utils/match.py).
"""

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from planner.memory.config_fields import ConfigFields
from planner.memory.module_patterns import MAX_PATTERN, ModulePattern, NotUnderstood, read_pattern

MAX_LAYERS = 512
MAX_LOOKUPS = 200_000
"""Names times patterns; a list that is longer is read as far as that. Published checkpoints need a tenth of it."""
PREFIXES = ("model.layers", "model.language_model.layers", "language_model.model.layers", "backbone.layers")
Modules = Mapping[str, Mapping[str, int]]
"""Part of `Parameters` -> module within a layer -> elements."""

OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "self_attn.q_proj": ("self_attn.qkv_proj", "mixer.q_proj"),
    "self_attn.k_proj": ("self_attn.qkv_proj", "mixer.k_proj"),
    "self_attn.v_proj": ("self_attn.qkv_proj", "mixer.v_proj"),
    "self_attn.o_proj": ("mixer.o_proj",),
    "mlp.down_proj": ("mixer.down_proj",),
    "mlp.up_proj": ("mixer.up_proj",),
    "mlp.experts.0.up_proj": ("block_sparse_moe.experts.0.w1", "mixer.experts.0.up_proj"),
    "mlp.experts.0.down_proj": ("block_sparse_moe.experts.0.w2", "mixer.experts.0.down_proj"),
    "mlp.shared_experts.up_proj": ("mlp.shared_expert.up_proj", "mixer.shared_experts.up_proj"),
    "mlp.shared_experts.down_proj": ("mlp.shared_expert.down_proj", "mixer.shared_experts.down_proj"),
    "linear_attn.in_proj_qkv": ("linear_attn.in_proj_qkvz", "mixer.in_proj", "mamba.in_proj"),
    "linear_attn.out_proj": ("mixer.out_proj", "mamba.out_proj"),
}
"""What other families call the same module."""


def layer_modules(fields: ConfigFields, parts: Iterable[str]) -> Modules:
    """The large modules of a layer that has these parts, with their sizes where they differ."""
    names: dict[str, Mapping[str, int]] = {
        "mlp": {"mlp.up_proj": 2, "mlp.down_proj": 1},
        "experts": {"mlp.experts.0.up_proj": 2, "mlp.experts.0.down_proj": 1},
        "shared_experts": {"mlp.shared_experts.up_proj": 2, "mlp.shared_experts.down_proj": 1},
        "other": {"linear_attn.in_proj_qkv": 2, "linear_attn.out_proj": 1},
    }
    if fields.flag("enable_moe_block"):  # Gemma 4: the experts stand beside the dense part, not inside it
        names["experts"] = {"experts.0.up_proj": 2, "experts.0.down_proj": 1}
    return {part: names[part] if part in names else _attention_modules(fields) for part in parts}


def _attention_modules(fields: ConfigFields) -> Mapping[str, int]:
    heads, hidden = fields.optional("num_attention_heads") or 1, fields.count("hidden_size")
    latent, rope = fields.optional("kv_lora_rank"), fields.optional("qk_rope_head_dim") or 0
    if not latent:
        groups = fields.optional("num_key_value_heads") or heads
        sizes = {"q_proj": heads, "k_proj": groups, "v_proj": groups, "o_proj": heads}
        return {f"self_attn.{name}": size for name, size in sizes.items()}
    plain, value = fields.optional("qk_nope_head_dim") or 0, fields.optional("v_head_dim") or 0
    queries = fields.optional("q_lora_rank")
    query = {"q_a_proj": hidden * queries, "q_b_proj": queries * heads * (plain + rope)} if queries else {}
    sizes = {
        **(query or {"q_proj": hidden * heads * (plain + rope)}),
        "kv_a_proj_with_mqa": hidden * (latent + rope),
        "kv_b_proj": latent * heads * (plain + value),
        "o_proj": heads * value * hidden,
    }
    return {f"self_attn.{name}": size for name, size in sizes.items()}


def kept_shares(kept: Sequence[str], layers: Sequence[Modules], assumed: list[str]) -> dict[str, float]:
    """Which share of each part, 0 to 1, stays as it was; parts of which nothing stays are left out.

    Patterns that are not read are named in `assumed`: what they keep is then counted as quantised.
    """
    if not kept:
        return {}
    asked = 1 + sum(len(modules) * len(PREFIXES) * 2 for modules in layers[:MAX_LAYERS])
    matches = _matcher(kept, max(1, MAX_LOOKUPS // asked), assumed)
    stays: dict[str, int] = {}
    total: dict[str, int] = {}
    for layer, modules in enumerate(layers[:MAX_LAYERS]):
        for part, sizes in modules.items():
            for module, size in sizes.items():
                names = (module, *OTHER_NAMES.get(module, ()))
                hit = any(matches(f"{prefix}.{layer}.{name}") for prefix in PREFIXES for name in names)
                stays[part] = stays.get(part, 0) + (size if hit else 0)
                total[part] = total.get(part, 0) + size
    shares = {part: size / total[part] for part, size in stays.items() if size}
    if any(matches(name) for name in ("lm_head", "language_model.lm_head", "model.lm_head")):
        shares["head"] = 1.0
    return shares


def _matcher(kept: Iterable[str], most: int, assumed: list[str]) -> Callable[[str], bool]:
    exact: set[str] = set()
    patterns: list[ModulePattern] = []  # of whole names
    wildcards: list[re.Pattern[str]] = []  # of names, or of the modules that hold them
    for entry in kept:
        is_pattern = entry.startswith("re:") or "*" in entry or "?" in entry
        if not is_pattern:
            exact.add(entry)
        elif len(patterns) + len(wildcards) >= most or len(entry) > MAX_PATTERN:
            _not_read(f"{len(entry)} characters, or one of too many", assumed)
        elif entry.startswith("re:"):
            try:
                patterns.append(read_pattern(entry.removeprefix("re:")))
            except NotUnderstood as reason:
                _not_read(str(reason), assumed)
        else:
            wildcards.append(re.compile(fnmatch.translate(entry)))

    def matches(name: str) -> bool:
        pieces = name.split(".")
        if any(".".join(pieces[:end]) in exact for end in range(1, len(pieces) + 1)):
            return True
        if any(piece in exact for piece in pieces) or ".".join(pieces[3:]) in exact:
            return True
        return any(pattern.matches(name) for pattern in patterns) or any(
            pattern.match(".".join(pieces[:end])) for pattern in wildcards for end in range(1, len(pieces) + 1)
        )

    return matches


def _not_read(reason: str, assumed: list[str]) -> None:
    sentence = f"A pattern of modules that are not quantised was not read ({reason}); more may stay as it was."
    if sentence not in assumed:
        assumed.append(sentence)
