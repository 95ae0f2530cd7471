"""Parameters of vision towers and of what joins them to the language model.

Exact for the towers named here (modules of Hugging Face transformers 5.23.0); any other is counted as a plain vision
transformer with a two-layer projector, and said to be so.
"""

from collections.abc import Callable, Mapping

from planner.memory.config_fields import ConfigFields


def tower_parameters(vision: ConfigFields, outer: ConfigFields, hidden: int, assumed: list[str]) -> int:
    """All parameters of the tower beside a language model of that hidden size."""
    kind = str(outer.fields.get("model_type") or outer.fields.get("outer_model_type") or "")
    if kind == "llava" and vision.get("model_type") == "pixtral":
        kind = "pixtral"
    count = TOWERS.get(kind.removesuffix("_text"))
    if count is not None:
        return count(vision, outer, hidden)
    assumed.append(
        f"The vision tower of {kind or 'this model'} is not known exactly; it was counted as a plain vision "
        "transformer with a two-layer projector."
    )
    return _vit(vision, biased=True) + 2 * hidden * hidden + vision.count("hidden_size") * hidden


def _sizes(vision: ConfigFields) -> tuple[int, int, int]:
    hidden, layers = vision.count("hidden_size"), vision.count("num_hidden_layers")
    return hidden, layers, vision.optional("intermediate_size", least=1) or 4 * hidden


def _patch(vision: ConfigFields, default: int = 14) -> int:
    return vision.count("patch_size", default) ** 2 * vision.count("num_channels", vision.optional("in_channels") or 3)


def _blocks(vision: ConfigFields, *, biased: bool, gated: bool = False, norm_size: int = 2) -> int:
    hidden, layers, inner = _sizes(vision)
    up = 2 if gated else 1
    matrices = 4 * hidden * hidden + (up + 1) * hidden * inner
    biases = 4 * hidden + up * inner + hidden if biased else 0
    return layers * (matrices + biases + 2 * norm_size * hidden)


def _vit(vision: ConfigFields, *, biased: bool, class_token: bool = False) -> int:
    hidden = vision.count("hidden_size")
    side = vision.count("image_size", 224) // vision.count("patch_size", 14)
    return _blocks(vision, biased=biased) + hidden * _patch(vision) + hidden * (side * side + (1 if class_token else 0))


def _qwen3_vl(vision: ConfigFields, outer: ConfigFields, hidden: int) -> int:
    """Qwen3-VL and Qwen3.5: two frames to a patch, a merger of 2 x 2 patches, and one more for each deepstack layer."""
    size, out = vision.count("hidden_size"), vision.count("out_hidden_size", hidden)
    merged = size * vision.count("spatial_merge_size", 2) ** 2
    patches = 2 * _patch(vision, 16) * size + size + vision.count("num_position_embeddings", 2304) * size
    merger = merged * merged + merged + merged * out + out
    deep = vision.series("deepstack_visual_indexes")
    extra = (
        len(deep)
        if deep is not None
        else 3
        if "vl" in str(outer.get("model_type") or outer.get("outer_model_type"))
        else 0
    )
    return patches + _blocks(vision, biased=True) + merger + 2 * size + extra * (merger + 2 * merged)


def _qwen2_5_vl(vision: ConfigFields, outer: ConfigFields, hidden: int) -> int:
    size = vision.count("hidden_size", 1280)
    inner, layers = vision.count("intermediate_size", 3420), vision.count("num_hidden_layers", 32)
    merged = size * 4
    block = 4 * size * size + 4 * size + 3 * size * inner + 2 * inner + size + 2 * size
    return 2 * _patch(vision) * size + layers * block + size + merged * merged + merged + merged * hidden + hidden


def _qwen2_vl(vision: ConfigFields, outer: ConfigFields, hidden: int) -> int:
    size, layers = vision.count("embed_dim", 1280), vision.count("num_hidden_layers", 32)
    ratio = vision.count("mlp_ratio", 4)
    merged = size * 4
    block = 4 * size * size + 4 * size + 2 * ratio * size * size + ratio * size + size + 4 * size
    return 2 * _patch(vision) * size + layers * block + 2 * size + merged * merged + merged + merged * hidden + hidden


def _gemma3(vision: ConfigFields, outer: ConfigFields, hidden: int) -> int:
    """SigLIP with one projection matrix and two norms."""
    size = vision.count("hidden_size")
    return _vit(vision, biased=True) + size + 2 * size + size * hidden + size


def _gemma4(vision: ConfigFields, outer: ConfigFields, hidden: int) -> int:
    size, layers, inner = _sizes(vision)
    head = vision.count("head_dim", size // vision.count("num_attention_heads"))
    block = 4 * size * size + 2 * head + 3 * size * inner + 4 * size
    return (
        2 * vision.count("position_embedding_size", 10240) * size
        + _patch(vision, 16) * size
        + layers * block
        + size * hidden
    )


def _clip_llava(vision: ConfigFields, outer: ConfigFields, hidden: int) -> int:
    """CLIP with class token and norms before and after, and LLaVA's two-layer projector."""
    size = vision.count("hidden_size")
    return (
        _vit(vision, biased=True, class_token=True)
        + size
        + 4 * size
        + size * hidden
        + hidden
        + hidden * hidden
        + hidden
    )


def _llava_next(vision: ConfigFields, outer: ConfigFields, hidden: int) -> int:
    return _clip_llava(vision, outer, hidden) + hidden  # the image's newline


def _pixtral(vision: ConfigFields, outer: ConfigFields, hidden: int) -> int:
    """Pixtral: gated, without biases; in Mistral 3 patches are merged 2 x 2 first."""
    size = vision.count("hidden_size")
    count = _patch(vision) * size + size + _blocks(vision, biased=False, gated=True, norm_size=1)
    if outer.get("model_type") == "mistral3" or outer.get("outer_model_type") == "mistral3":
        return count + size + 4 * size * size + size * hidden + hidden * hidden
    return count + size * hidden + hidden + hidden * hidden + hidden


def _llama4(vision: ConfigFields, outer: ConfigFields, hidden: int) -> int:
    size = vision.count("hidden_size")
    side = vision.count("image_size", 336) // vision.count("patch_size", 14)
    middle, out = vision.count("projector_output_dim", 4096), vision.count("vision_output_dim", 7680)
    adapter = vision.count("intermediate_size") * vision.count("projector_input_dim", 4096) + middle * middle
    count = size * _patch(vision) + size * (side * side + 1) + size + 4 * size
    return count + _blocks(vision, biased=True) + adapter + out * hidden


def _kimi(vision: ConfigFields, outer: ConfigFields, hidden: int) -> int:
    """MoonViT of Kimi K2.5 and K3, with merging of 2 x 2 patches."""
    size = vision.optional("hidden_size", least=1) or vision.count("vt_hidden_size", 1152)
    layers = vision.optional("num_hidden_layers", least=1) or vision.count("vt_num_hidden_layers", 27)
    inner = vision.optional("intermediate_size", least=1) or vision.count("vt_intermediate_size", 4304)
    rows = vision.count("init_pos_emb_height", 64) * vision.count("init_pos_emb_width", 64)
    width = vision.optional("qkv_hidden_size", least=1) or size
    block = 4 * size * width + 2 * size * inner
    block += 2 * size if vision.fields.get("linear_bias") is False else 9 * size + inner
    merged = 4 * size
    joint = 2 * size + merged * merged + merged + merged * hidden + hidden
    return size * _patch(vision) + size + rows * size + layers * block + 2 * size + joint


def _glm4v(vision: ConfigFields, outer: ConfigFields, hidden: int) -> int:
    """GLM-4.1V and 4.5V: two frames to a patch; blocks as wide as the output, a gated merger."""
    size, layers, inner = _sizes(vision)
    out = vision.count("out_hidden_size", hidden)
    side = vision.count("image_size", 336) // vision.count("patch_size", 14)
    block = 4 * size * size + 3 * size * out + 2 * size
    merger = out * out + 2 * out + 3 * out * inner
    return (
        side * side * size
        + 2 * _patch(vision) * size
        + size
        + layers * block
        + merger
        + 2 * size
        + 4 * size * out
        + out
    )


def _internvl(vision: ConfigFields, outer: ConfigFields, hidden: int) -> int:
    size, layers, inner = _sizes(vision)
    side = vision.count("image_size", 448) // vision.count("patch_size", 14)
    biases = 3 * size if vision.flag("attention_bias") else 0
    block = 4 * size * size + size + biases + 2 * size * inner + inner + size + 6 * size
    joint = 8 * size + 4 * size * hidden + hidden + hidden * hidden + hidden
    return size + (side * side + 1) * size + _patch(vision) * size + size + layers * block + joint


def _mllama(vision: ConfigFields, outer: ConfigFields, hidden: int) -> int:
    """Llama 3.2 Vision: tiles with embeddings of their own, and global layers behind the others."""
    size, layers, inner = _sizes(vision)
    extra, tiles = vision.count("num_global_layers", 8), vision.count("max_num_tiles", 4)
    ratios = len(vision.series("supported_aspect_ratios") or [0] * 8) + 1
    patches = (vision.count("image_size", 448) // vision.count("patch_size", 14)) ** 2 + 1
    positions = 1 + patches * size + ratios * tiles * patches * size + 2 * (1 + ratios * tiles * size)
    block = 4 * size * size + 2 * size * inner + inner + size + 4 * size
    out = vision.count("vision_output_dim", 7680)
    count = size + size * _patch(vision) + positions + 4 * size + (layers + extra) * block + 2 * extra
    return count + out * hidden + hidden


def _minimax_m3(vision: ConfigFields, outer: ConfigFields, hidden: int) -> int:
    size = vision.count("hidden_size")
    middle = outer.count("projector_hidden_size", hidden)
    joint = size * middle + middle + middle * hidden + hidden + 4 * hidden * middle + middle + middle * hidden + hidden
    return 2 * _patch(vision) * size + 2 * size + _blocks(vision, biased=True) + joint


Counting = Callable[[ConfigFields, ConfigFields, int], int]
TOWERS: Mapping[str, Counting] = {
    "qwen3_vl": _qwen3_vl,
    "qwen3_vl_moe": _qwen3_vl,
    "qwen3_5": _qwen3_vl,
    "qwen3_5_moe": _qwen3_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen2_vl": _qwen2_vl,
    "gemma3": _gemma3,
    "gemma4": _gemma4,
    "llava": _clip_llava,
    "llava_next": _llava_next,
    "mistral3": _pixtral,
    "pixtral": _pixtral,
    "llama4": _llama4,
    "mllama": _mllama,
    "glm4v": _glm4v,
    "glm4v_moe": _glm4v,
    "internvl": _internvl,
    "kimi_k25": _kimi,
    "kimi_k3": _kimi,
    "minimax_m3_vl": _minimax_m3,
}
"""By the wrapper's `model_type`."""
