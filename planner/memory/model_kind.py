"""Which family a configuration belongs to, where its text part lies, and which models are refused."""

from collections.abc import Mapping
from typing import Any

from planner.memory.config_fields import ConfigFields
from planner.memory.errors import UnreadableModel
from planner.memory.families import Family, families

TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config", "decoder_config")
VISION_PARTS = ("vision_config", "vision_config_summary", "vit_config", "visual")
OUTER_FIELDS = ("quantization_config", "compression_config", "hf_quant_config", "dtype", "torch_dtype", "expert_dtype")
NOT_TEXT = (
    "ForImageClassification",
    "ForObjectDetection",
    "ForSemanticSegmentation",
    "ForInstanceSegmentation",
    "ForUniversalSegmentation",
    "ForMaskedImageModeling",
    "ForZeroShotImageClassification",
    "ForDepthEstimation",
    "ForAudioClassification",
    "ForCTC",
    "ForVideoClassification",
    "ForSpeechSeq2Seq",
    "ForTimeSeriesPrediction",
)
"""Endings of architecture names whose models make no text."""
NOT_TEXT_TYPES = frozenset(
    [
        "vit",
        "resnet",
        "convnext",
        "convnextv2",
        "swin",
        "swinv2",
        "beit",
        "deit",
        "dinov2",
        "dinov3_vit",
        "clip",
        "siglip",
        "siglip2",
        "detr",
        "yolos",
        "segformer",
        "sam",
        "sam2",
        "wav2vec2",
        "hubert",
        "wavlm",
        "efficientnet",
        "mobilenet_v2",
        "mobilevit",
        "regnet",
        "timm_wrapper",
        "depth_anything",
        "dpt",
        "bit",
        "cvt",
        "poolformer",
        "clip_vision_model",
        "siglip_vision_model",
        "encodec",
        "vits",
    ]
)
ENCODER_DECODERS = frozenset(
    ["t5", "mt5", "umt5", "bart", "mbart", "pegasus", "whisper", "m2m_100", "marian", "led", "switch_transformers"]
)
LLAMA_DEFAULTS: Mapping[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
}
NESTED_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "llama": LLAMA_DEFAULTS,
    "mistral": {
        **LLAMA_DEFAULTS,
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
    },
    "gemma3_text": {"num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 262208, "num_hidden_layers": 26},
}
"""What a nested `text_config` may leave out, as Hugging Face writes only what differs from the class's defaults."""


class TextPart:
    """The language model inside a configuration, and what surrounds it."""

    def __init__(self, config: Mapping[str, Any], name: str) -> None:
        self.outer = ConfigFields(config, name)
        nested = next((config[part] for part in TEXT_PARTS if isinstance(config.get(part), Mapping)), None)
        inner = nested
        while inner is not None and isinstance(inner.get("text_config"), Mapping):
            inner = inner["text_config"]  # the omni models nest twice
        self.nested = inner is not None
        fields = dict(config if inner is None else inner)
        for field in OUTER_FIELDS:
            if fields.get(field) is None and config.get(field) is not None:
                fields[field] = config[field]
        self.model_type = _model_type(fields, config)
        self.fields = fields
        holder = config if nested is None else {**nested, **config}
        vision = next((holder[part] for part in VISION_PARTS if isinstance(holder.get(part), Mapping)), None)
        self.vision = None if vision is None else ConfigFields(vision, f"{name}, vision part")
        self.has_audio = isinstance(holder.get("audio_config"), Mapping) or isinstance(
            holder.get("audio_processor"), Mapping
        )


def _model_type(fields: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    for level in (fields, config):
        if isinstance(level.get("model_type"), str) and level["model_type"]:
            return str(level["model_type"])
    return ""


def architecture_of(config: Mapping[str, Any]) -> str | None:
    """The first of `architectures`, or None."""
    stated = config.get("architectures")
    return stated[0] if isinstance(stated, list) and stated and isinstance(stated[0], str) else None


def refuse_what_is_not_text(config: Mapping[str, Any], name: str) -> None:
    """Raises UnreadableModel for image, audio, diffusion and encoder-decoder models."""
    if "_class_name" in config:
        raise UnreadableModel(
            f"{name} is a diffusion pipeline ({config['_class_name']}), not a language model; give a language model."
        )
    architecture, kind = architecture_of(config) or "", _model_type(config, config)
    has_text = any(isinstance(config.get(part), Mapping) for part in TEXT_PARTS) and kind not in NOT_TEXT_TYPES
    if architecture.endswith(NOT_TEXT) or (kind in NOT_TEXT_TYPES and not has_text):
        raise UnreadableModel(
            f"{name} is not a text model ({architecture or kind}): it keeps no KV cache, and its memory is not "
            "estimated here. Give a language model."
        )
    if config.get("is_encoder_decoder") is True or kind in ENCODER_DECODERS:
        raise UnreadableModel(
            f"{name} is an encoder-decoder model ({architecture or kind}); only decoders and encoders are estimated."
        )


def family_of(model_type: str, architecture: str | None, fields: Mapping[str, Any], assumed: list[str]) -> Family:
    """The family's table; an unknown one is taken for a Llama decoder, and named."""
    known = families()
    if fields.get("mlp_class") == "GptNeoxMLP":  # litgpt spells every family with its own classes
        family = known["gpt_neox" if fields.get("attention_bias") else "falcon"]
        return family.model_copy(update={"tied": False, "kv_heads": "heads", "qk_norm": "none"})
    spellings = [model_type, f"{model_type}_text", model_type.removesuffix("_text"), model_type.replace("-", "_")]
    if architecture:
        stem = architecture.removesuffix("Model")
        for ending in (
            "ForCausalLM",
            "ForConditionalGeneration",
            "LMHeadModel",
            "ForSequenceClassification",
            "ForMaskedLM",
        ):
            stem = stem.removesuffix(ending)
        spellings += [_snake(stem), stem.lower()]
    for spelling in spellings:
        if spelling in known:
            return known[spelling]
    named = model_type or architecture or "no architecture"
    assumed.append(
        f"The architecture {named!r} is not known here; it was counted as a Llama decoder (gated feed-forward, two "
        "norms a layer, no biases) with the sizes in its configuration."
    )
    return Family()


def _snake(name: str) -> str:
    return "".join(
        f"_{letter.lower()}" if letter.isupper() and index else letter.lower() for index, letter in enumerate(name)
    )
