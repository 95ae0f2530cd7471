"""The settings a llama.cpp or Ollama run really has: what was asked for, and the version's defaults for the rest."""

from dataclasses import dataclass

from planner.errors import PlannerError
from planner.memory.estimate import Engine, Run
from planner.memory.ggml_types import BLOCKS, cache_type, names_file_type
from planner.memory.llama_versions import CacheRules, is_version, rules_for, version_of

_TYPES_OF_VLLM = frozenset({"auto", "bfloat16", "float16", "float32"})


class ContradictorySettings(PlannerError):
    """These settings cannot hold together; the message names them and what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaSettings:
    """Everything the memory depends on. `context` counts the tokens of all `sequences` (slots) together."""

    rules: CacheRules
    context: int
    sequences: int
    is_shared: bool  # one cache for all sequences
    micro_batch: int
    largest_micro_batch: int  # where the context does not cut it
    flash_attention: bool
    is_flash_sure: bool
    key_type: str
    value_type: str
    gpu_layers: int  # layers on the device, the output layer not counted
    has_output_layer: bool  # the output matrix is on the device
    is_context_default: bool
    assumed: tuple[str, ...]


def settings_of(run: Run) -> LlamaSettings:
    """The settings in force; refuses values that the engine refuses."""
    _check_counts(run)
    _check_names(run)
    rules = rules_for(run.engine, run.engine_version, run.device.memory_bytes)
    assumed: list[str] = []
    if not (run.engine_version or "").strip():
        name = "Ollama" if run.engine is Engine.OLLAMA else "llama.cpp"
        assumed.append(f"No version of {name} was given: {version_of(run.engine, None)} assumed.")
    sequences = run.n_parallel or run.max_num_seqs
    is_shared = rules.shares_cache or not rules.has_streams or sequences is None
    if run.kv_unified is not None and rules.has_streams:
        is_shared = run.kv_unified
    if sequences is None:
        sequences = rules.default_slots
        assumed.append(f"{sequences} slot{'s' if sequences > 1 else ''}, the default of {rules.label}.")
    context, is_default = _context(run, rules, sequences, assumed)
    micro_batch = min(run.n_ubatch or rules.micro_batch, run.n_batch or 2048)
    flash = run.flash_attention if run.flash_attention is not None else rules.flash_by_default
    if flash is None:
        flash = False
        assumed.append("Flash attention off: this Ollama version turns it on for some models only.")
    key_type, value_type = _cache_types(run, flash, assumed)
    layers = run.model.layer_count
    gpu_layers = layers + 1 if run.gpu_layers is None or run.gpu_layers < 0 else min(run.gpu_layers, layers + 1)
    return LlamaSettings(
        rules=rules,
        context=context,
        sequences=sequences,
        is_shared=is_shared,
        micro_batch=min(micro_batch, context),
        largest_micro_batch=micro_batch,
        flash_attention=flash,
        is_flash_sure=run.flash_attention is not None or rules.flash_by_default is not None,
        key_type=key_type,
        value_type=value_type,
        gpu_layers=min(gpu_layers, layers),
        has_output_layer=gpu_layers > layers,
        is_context_default=is_default,
        assumed=tuple(assumed),
    )


def _check_counts(run: Run) -> None:
    named = {
        "context": run.n_ctx,
        "max-model-len": run.max_model_len,
        "parallel slots": run.n_parallel,
        "max-num-seqs": run.max_num_seqs,
        "batch": run.n_batch,
        "micro-batch": run.n_ubatch,
    }
    for name, value in named.items():
        if value is not None and value < 1:
            raise ContradictorySettings(f"The {name} is {value}; it must be at least 1. Leave it out for the default.")
    ranks = run.tensor_parallel * run.pipeline_parallel
    if run.device.is_mig and ranks > 1:
        raise ContradictorySettings(
            f"{ranks} GPUs are asked for on {run.device.name}, but a process sees one MIG device only. Use one rank."
        )


def asked_file_type(run: Run) -> str | None:
    """The file type asked for; None where none is, or where a log says that it is not known."""
    asked = (run.quantization or "").strip()
    return None if asked.lower() in ("", "none", "auto", "unknown, may not work") else asked


def _check_names(run: Run) -> None:
    """A word that names no version and no file type must not pass for the default."""
    name = "Ollama" if run.engine is Engine.OLLAMA else "llama.cpp"
    version = (run.engine_version or "").strip()
    if version and not is_version(run.engine, version):
        example = "0.12.3" if run.engine is Engine.OLLAMA else "b6133, v0.5.0 or ik -mla 3"
        raise ContradictorySettings(f"{version[:40]!r} is no version of {name}. Give one such as {example}.")
    asked = asked_file_type(run)
    if asked is not None and not names_file_type(asked):
        raise ContradictorySettings(
            f"{asked[:40]!r} is no file type of {name}. Give one such as Q4_K_M or Q8_0, or the bits of a weight "
            '("3.4 bpw").'
        )
    if run.dtype is not None and not names_file_type(run.dtype) and run.dtype not in _TYPES_OF_VLLM:
        raise ContradictorySettings(f"{run.dtype[:40]!r} is no type of weights. Give --quantization F16, or Q8_0.")


def _context(run: Run, rules: CacheRules, sequences: int, assumed: list[str]) -> tuple[int, bool]:
    """Tokens of all sequences: llama.cpp's -c is the total, Ollama's num_ctx is that of one request."""
    own = run.model.max_positions or 4096
    each = run.n_ctx if run.engine is Engine.OLLAMA else None
    if run.engine is Engine.LLAMA_CPP and run.n_ctx is not None:
        return run.n_ctx, False
    asked = each or run.max_model_len
    if asked is not None:
        explicit = run.n_parallel or run.max_num_seqs or (sequences if run.engine is Engine.OLLAMA else 1)
        return asked * explicit, False
    context = min(rules.default_context or own, own)
    assumed.append(f"Context of {context} tokens, the default of {rules.label}.")
    return (context * sequences if run.engine is Engine.OLLAMA else context), True


def _cache_types(run: Run, flash: bool, assumed: list[str]) -> tuple[str, str]:
    """Types of keys and values: "q8_0" for both, or "q8_0/f16"."""
    text = run.kv_cache_dtype or "f16"
    names = text.split("/") if "/" in text else [text, text]
    types = [cache_type(name) for name in names]
    if len(types) != 2 or types[0] is None or types[1] is None:
        raise ContradictorySettings(
            f"llama.cpp has no KV cache type {text!r}. Use one of {', '.join(BLOCKS)}, or two of them as K/V."
        )
    key_type, value_type = types[0], types[1]
    if BLOCKS[value_type][0] > 1 and not flash:
        if run.engine is Engine.OLLAMA:
            assumed.append(f"KV cache in f16: Ollama ignores {text} without flash attention.")
            return "f16", "f16"
        raise ContradictorySettings(
            f"The values of the KV cache are to be {value_type}, which llama.cpp refuses without flash attention. "
            "Turn flash attention on, or keep the values in f16."
        )
    return key_type, value_type
