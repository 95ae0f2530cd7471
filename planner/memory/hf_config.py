"""Model facts from a Hugging Face `config.json`, as a mapping that is already parsed."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from planner.memory.config_fields import ConfigFields
from planner.memory.errors import UnreadableModel
from planner.memory.facts import LayerKind, ModelFacts, WeightFormat
from planner.memory.families import Family
from planner.memory.kept_modules import layer_modules
from planner.memory.layer_kinds import Mixing, layer_mixings
from planner.memory.model_kind import (
    NESTED_DEFAULTS,
    TextPart,
    architecture_of,
    family_of,
    refuse_what_is_not_text,
)
from planner.memory.parameters import count_stack
from planner.memory.positions import positions_of
from planner.memory.quantisation import read_quantisation
from planner.memory.safetensors_header import StoredTensors
from planner.memory.stored_weights import reconcile
from planner.memory.towers import tower_parameters

DTYPES: Mapping[str, WeightFormat] = {
    "bfloat16": WeightFormat.BF16,
    "float16": WeightFormat.FP16,
    "half": WeightFormat.FP16,
    "float32": WeightFormat.FP32,
    "float": WeightFormat.FP32,
    "float8_e4m3fn": WeightFormat.FP8,
}


def facts_from_config(
    config: Mapping[str, Any], *, name: str, stored: StoredTensors | None = None, source: str = "config.json"
) -> ModelFacts:
    """What a configuration says about a checkpoint, and what its weight files hold where their headers were read.

    Raises UnreadableModel with the field that is missing or cannot be true.
    """
    if not isinstance(config, Mapping) or not config:
        raise UnreadableModel(f"{name} is no model configuration: a JSON object with fields is expected.")
    config = _unwrapped(config)
    refuse_what_is_not_text(config, name)
    assumed: list[str] = []
    doubts: list[str] = []
    text = TextPart(config, name)
    architecture = architecture_of(config) or architecture_of(text.fields)
    family = family_of(text.model_type, architecture_of(text.fields) or architecture, text.fields, doubts)
    fields = _fields(text, family, name)
    layers = fields.count("num_hidden_layers", _listed_layers(fields))
    hidden = fields.count("hidden_size")
    vocab = fields.optional("padded_vocab_size", least=1) or _vocab(text, fields)
    tied = _tied(text, family)
    has_head = not tied and not family.encoder and not _is_headless(architecture)
    mixings = layer_mixings(fields, family, layers, assumed)
    stack = count_stack(fields, family, mixings, vocab=vocab, has_head=has_head)
    modules = [layer_modules(fields, sorted(parts)) for parts in stack.parts_by_layer]
    parameters = stack.parameters
    if family.pooler and _is_headless(architecture):
        parameters = replace(parameters, other=parameters.other + hidden * hidden + hidden)
    if text.vision is not None:
        parameters = replace(parameters, tower=_tower(text.vision, text.outer, hidden, assumed, doubts))
    elif (architecture or "").endswith("ForConditionalGeneration"):
        doubts.append("The configuration says nothing of a vision or audio tower; its weights would come on top.")
    if text.has_audio:
        doubts.append("The audio tower is not counted; its weights come on top.")
    if all(mixing is Mixing.LINEAR for mixing in mixings) and family.windows == "granite_hybrid":
        assumed.append("No layer_types in the configuration: every layer was taken for a Mamba-2 layer.")
    quantisation = read_quantisation(fields.fields, modules, assumed)
    if quantisation is not None and not quantisation.is_known:
        doubts.append("How many bits each weight takes is not known.")
    dtype = _dtype(fields, assumed)
    held: Mapping[str, int] = {}
    prediction = 0
    if stored is not None:
        both = reconcile(
            stored, parameters, layers=layers, dtype=dtype, quantisation=quantisation, tied=tied, name=name
        )
        parameters, held, prediction = both.parameters, both.held, both.prediction_bytes
        doubts = []  # the files hold all weights there are
    return ModelFacts(
        name=name,
        architecture=architecture or text.model_type,
        model_type=text.model_type,
        hidden_size=hidden,
        intermediate_size=stack.dense_size or _largest_intermediate(fields),
        vocab_size=vocab,
        max_positions=positions_of(fields, text.outer, text.model_type),
        tied_embeddings=tied,
        dtype=dtype,
        layers=stack.layers,
        parameters=parameters,
        experts=stack.experts,
        quantisation=quantisation,
        stored_bytes=held,
        source=source,
        assumed=tuple(dict.fromkeys((*assumed, *doubts))),
        doubts=tuple(dict.fromkeys(doubts)),
        stack_layers=None if len(mixings) == sum(one.count for one in stack.layers) else len(mixings),
        replicated_attention=stack.replicated_attention,
        prediction_layers=_prediction_layers(fields),
        prediction_bytes=prediction,
    )


def _unwrapped(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration itself where a file keeps it under `facts`, beside what somebody derived from it."""
    inner = config.get("facts")
    return inner if isinstance(inner, Mapping) and inner and "model_type" not in config else config


def _fields(text: TextPart, family: Family, name: str) -> ConfigFields:
    defaults: dict[str, Any] = dict(family.defaults)
    if text.nested:
        defaults |= NESTED_DEFAULTS.get(text.model_type, {})
    fields = dict(text.fields)
    sparse = fields.get("sparse_attention_config")
    if isinstance(sparse, Mapping):  # MiniMax-M3 nests what DeepSeek writes flat
        listed = sparse.get("sparse_attention_freq")
        fields["index_n_heads"] = sparse.get("sparse_num_index_heads")
        fields["index_head_dim"] = sparse.get("sparse_index_dim")
        fields["index_layers"] = [index for index, on in enumerate(listed) if on] if isinstance(listed, list) else None
    if "sliding_window" in fields and fields["sliding_window"] is None:
        defaults.pop("sliding_window", None)  # null is an answer
    if fields.get("sliding_window") is None and fields.get("sliding_window_size") is not None:
        fields["sliding_window"] = fields["sliding_window_size"]
    return ConfigFields(fields, name, defaults)


def _vocab(text: TextPart, fields: ConfigFields) -> int:
    if fields.get("vocab_size") is None and text.nested and text.outer.get("vocab_size") is not None:
        return text.outer.count("vocab_size")
    return fields.count("vocab_size")


def _tied(text: TextPart, family: Family) -> bool:
    for level in (text.fields, text.outer.fields):
        for field in ("tie_word_embeddings", "tie_embedding"):
            if isinstance(level.get(field), bool):
                return bool(level[field])
    return family.tied


def _is_headless(architecture: str | None) -> bool:
    """Embedding models and classifiers are saved without a language model's head."""
    if architecture is None:
        return False
    if architecture.endswith("LMHeadModel"):
        return False
    return architecture.endswith(("Model", "ForSequenceClassification", "ForTokenClassification", "ForRewardModel"))


def _listed_layers(fields: ConfigFields) -> int | None:
    """Nemotron 3 Ultra states its layers only as a list."""
    listed = fields.get("layers_block_type")
    return len(listed) if isinstance(listed, list) and listed else None


def _tower(vision: ConfigFields, outer: ConfigFields, hidden: int, assumed: list[str], doubts: list[str]) -> int:
    """Its parameters; a tower whose sizes are not in the file is left out and named, as it is small beside the rest."""
    try:
        return tower_parameters(vision, outer, hidden, assumed)
    except UnreadableModel as error:
        doubts.append(f"The vision tower is not counted: {error}")
        return 0


def _largest_intermediate(fields: ConfigFields) -> int | None:
    listed = fields.get("intermediate_size")
    if isinstance(listed, list):
        return max((size for size in listed if isinstance(size, int)), default=None)
    return fields.optional("intermediate_size")


def _dtype(fields: ConfigFields, assumed: list[str]) -> WeightFormat:
    word = str(fields.fields.get("dtype") or fields.fields.get("torch_dtype") or "").removeprefix("torch.")
    if word in DTYPES:
        return DTYPES[word]
    assumed.append(f"The configuration states no known data type ({word or 'none'}); bfloat16 was assumed.")
    return WeightFormat.BF16


def _prediction_layers(fields: ConfigFields) -> int:
    return fields.optional("num_nextn_predict_layers") or 0


def remembers_nothing(facts: ModelFacts) -> bool:
    """Whether no layer keeps anything of earlier tokens: an encoder."""
    return all(layers.kind is LayerKind.NONE for layers in facts.layers)
