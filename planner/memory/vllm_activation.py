"""Peak memory of vLLM's profiling step: one forward pass of all batched tokens, then sampling for all sequences.

The pass and the sampling do not overlap, so the larger counts (vllm/v1/worker/gpu_model_runner.py, `profile_run` and
`_dummy_sampler_run`). Each term is a count of buffers; benchmarks/MEMORY.md compares it with recorded runs.
"""

import re
from dataclasses import dataclass, replace

from planner.memory.estimate import Device, Run
from planner.memory.facts import LayerKind, WeightFormat
from planner.memory.vllm_fitted import SMALL_BUFFERS
from planner.memory.vllm_formats import stored_format
from planner.memory.vllm_padding import padded_vocabulary
from planner.memory.vllm_settings import Settings
from planner.memory.vllm_weights import dense_layers, has_gated_parts
from planner.units import MIB

# PyTorch's cuBLAS workspace: 32 MiB from compute capability 9.0, 8.1 MiB before
# (aten/src/ATen/cuda/CublasHandlePool.cpp).
_CUBLAS_HOPPER = 32 * MIB
_CUBLAS_BEFORE = 8_519_680
_EXPERT_CHUNK = 32768  # VLLM_FUSED_MOE_CHUNK_SIZE
_LARGEST_TO_MEAN = 2.0  # the widest feed-forward part to the mean one, where sizes are not stated layer by layer

_EIGHT_BIT = frozenset({WeightFormat.FP8, WeightFormat.FP8_BLOCK, WeightFormat.INT8})

# Multiprocessors: NVIDIA's data sheets of the boards. Only the Triton filter's scratch rows depend on them.
_MULTIPROCESSORS = (
    ("h200", 132),
    ("h100", 132),
    ("h20", 78),
    ("b200", 148),
    ("b300", 148),
    ("pro 6000", 188),
    ("5090", 170),
    ("a100", 108),
    ("a800", 108),
    ("l40", 142),
    ("l4", 58),
    ("4090", 128),
    ("3090", 82),
    ("a40", 84),
    ("a10", 72),
    ("t4", 40),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """How a family's encoder is profiled: tokens of its largest item, bytes of pixels and of its own pass per token."""

    item_tokens: int
    pixel_bytes: int
    pass_bytes: int = 0


# Image processors' defaults (Hugging Face preprocessor_config.json of each family) under vLLM's `MultiModalBudget`.
#   gemma3: 896 x 896 x 3 in 16 bit for 256 tokens. mistral3: 1540 x 1540, one token per 28 x 28. Qwen: one token per
#   28 x 28 (32 x 32 from Qwen3-VL) of two frames; four patches on their way through the encoder, for Qwen3-VL with
#   2 x 4304 + 12 x 1152 elements, a count that one recorded run fixed (vllm-071). Qwen3.5 and after: the pools of four
#   recorded runs leave no room for a pass beside embeddings and pixels. mllama: four tiles of 560 x 560, 1601 patches
#   each, 2 x 5120 + 4 x 1280 elements of its layers (config.json of Llama-3.2-11B-Vision).
_ENCODERS = (
    ("gemma3", Encoder(item_tokens=256, pixel_bytes=896 * 896 * 6 // 256)),
    ("gemma4", Encoder(item_tokens=280, pixel_bytes=4704)),
    ("pixtral", Encoder(item_tokens=3025, pixel_bytes=4704)),
    ("mistral", Encoder(item_tokens=3025, pixel_bytes=4704)),
    ("llava", Encoder(item_tokens=2928, pixel_bytes=336 * 336 * 6 // 576)),
    ("qwen2_vl", Encoder(item_tokens=16384, pixel_bytes=9408, pass_bytes=4 * 2 * (2 * 5120 + 4 * 1280))),
    ("qwen2_5_vl", Encoder(item_tokens=16384, pixel_bytes=9408, pass_bytes=4 * 2 * (3 * 3420 + 4 * 1280))),
    ("qwen3_vl", Encoder(item_tokens=16384, pixel_bytes=12288, pass_bytes=4 * 2 * (2 * 4304 + 12 * 1152))),
    ("qwen3_5", Encoder(item_tokens=16384, pixel_bytes=12288)),
    ("mllama", Encoder(item_tokens=4 * 1601, pixel_bytes=4 * 560 * 560 * 6 // (4 * 1601), pass_bytes=2 * 15360)),
)
_ANY_ENCODER = Encoder(item_tokens=4096, pixel_bytes=9408)


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """Peak of the profiling step and what makes it up."""

    total: int
    low: int
    high: int
    decided_by: str  # "sampling", "forward pass" or "encoder"


def activation_of(run: Run, settings: Settings, *, last_stage: bool = True) -> Activation:
    """Peak of a rank; under pipeline parallelism only the last stage samples."""
    forward = _forward(run, settings)
    encoder, held = (0, 0) if settings.version.is_v0 else _encoder(run, settings)
    low_bytes, high_bytes = settings.version.sampler_bytes_range
    worst = settings
    if run.device.is_mig and "max_num_seqs" in settings.defaults:
        worst = replace(settings, max_num_seqs=1024)  # a slice taken for its board
    samplings = [
        _sampling(run, by, per_logit) if last_stage else 0
        for by, per_logit in (
            (settings, settings.version.sampler_bytes),
            (settings, low_bytes),
            (worst, min(high_bytes, 14.0) if worst is not settings else high_bytes),
        )
    ]
    least = forward
    if settings.version.is_v0 and "max_num_batched_tokens" in settings.defaults and settings.max_model_len > 32768:
        least = _forward(run, replace(settings, max_num_batched_tokens=2048))  # chunked prefill, unless switched off
    candidates = {"sampling": samplings[0] + held, "forward pass": forward + held, "encoder": encoder}
    decided = max(candidates, key=lambda name: candidates[name])
    most = forward
    if run.model.intermediate_size is None:
        most = _forward(run, settings, inner_factor=_LARGEST_TO_MEAN)
    slack = 60 * MIB
    return Activation(
        total=candidates[decided],
        low=max(0, round(0.95 * max(samplings[1] + held, least)) - slack),
        high=round(1.08 * max(samplings[2] + held, most + held, encoder, old_encoder_peak(run, settings))) + slack,
        decided_by=decided,
    )


def sampling_copy(run: Run, settings: Settings) -> int:
    """One float32 copy of all logits: what a sampling step asks for at once."""
    return settings.max_num_seqs * run.model.vocab_size * 4


def _sampling(run: Run, settings: Settings, per_logit: float) -> int:
    vocabulary = padded_vocabulary(run.model)
    hidden = (settings.max_num_batched_tokens + settings.max_num_seqs) * run.model.hidden_size * settings.element_bytes
    scratch = multiprocessors(run.device) * vocabulary * 4 if settings.version.filters_by_triton else 0
    logits = round(settings.max_num_seqs * vocabulary * per_logit)
    kept = _expert_workspace(run, settings) if settings.version.keeps_expert_workspace else 0
    return logits + hidden + scratch + kept + _cublas(run.device) + SMALL_BUFFERS


def _forward(run: Run, settings: Settings, *, inner_factor: float = 1.0) -> int:
    """Hidden states, the widest layer's input and output, and the experts' workspaces."""
    model, tp = run.model, run.tensor_parallel
    tokens, element = settings.max_num_batched_tokens, settings.element_bytes
    widths = [0.0]
    # Between the two halves of a gated part the product lives beside both; with 8-bit activations as 8 bits.
    product = 1 / element if stored_format(run) in _EIGHT_BIT else 1.0
    dense = dense_layers(model)
    if model.parameters.mlp and dense > 0 and model.intermediate_size is not None:
        widths.append(((2 if has_gated_parts(model) else 1) + product) * model.intermediate_size / tp)
    elif model.parameters.mlp and dense > 0:  # three inner widths of a gated part and two of a plain one alike
        widths.append(inner_factor * model.parameters.mlp / (dense * model.hidden_size) / tp)
    if model.experts and model.experts.shared_intermediate_size:
        widths.append(3 * model.experts.shared_intermediate_size / tp)
    for layers in model.layers:
        if layers.heads and layers.key_size:
            keys = layers.heads * layers.key_size + 2 * (layers.kv_heads or layers.heads) * layers.key_size
            widths.append((keys + layers.heads * (layers.value_size or layers.key_size)) / tp)
        if layers.kind is LayerKind.STATE:
            widths.append(3 * (layers.conv_elements or 0) / 3 / tp)
    per_token = element * (max(widths) + settings.version.hidden_copies * model.hidden_size)
    return round(tokens * per_token) + _expert_workspace(run, settings) + SMALL_BUFFERS


def _expert_workspace(run: Run, settings: Settings) -> int:
    """Two scratch areas of the fused experts: tokens x active x (widest of a half, widest of the whole projection).

    Source: `TritonExperts.workspace_shapes` (vllm/model_executor/layers/fused_moe/fused_moe.py). The MXFP4 kernels
    keep none.
    """
    experts = run.model.experts
    if experts is None or stored_format(run) is WeightFormat.MXFP4:
        return 0
    split = 1 if run.expert_parallel else run.tensor_parallel
    inner, hidden = experts.intermediate_size / split, run.model.hidden_size
    tokens = min(settings.max_num_batched_tokens, _EXPERT_CHUNK)
    return round(tokens * experts.active * (max(inner, hidden) + max(2 * inner, hidden)) * settings.element_bytes)


def old_encoder_peak(run: Run, settings: Settings) -> int:
    """At most what V0's profiling takes for images: one for each sequence, as far as the batched tokens hold them.

    A model that sees images by cross-attention (mllama) spends no token of the text on them, so that all sequences have
    one: 256 ran out of memory on a device of 44.5 GiB with 0.6 (vllm#10569). No recorded run gives the size, so it
    only widens the range. Source: `profile_run` of vllm/worker/model_runner.py and enc_dec_model_runner.py, 0.6.
    """
    if not settings.version.is_v0 or not run.model.parameters.tower:
        return 0
    if "mllama" in _named(run):
        return _encoder(run, settings, items=settings.max_num_seqs)[0]
    items = settings.max_num_batched_tokens // _encoder_of(run).item_tokens
    return _encoder(run, settings, items=min(settings.max_num_seqs, max(1, items)))[0]


def _named(run: Run) -> str:
    return f"{run.model.model_type} {run.model.architecture.lower()}"


def _encoder_of(run: Run) -> Encoder:
    return next((found for name, found in _ENCODERS if name in _named(run)), _ANY_ENCODER)


def _encoder(run: Run, settings: Settings, items: int | None = None) -> tuple[int, int]:
    """Peak of the encoder's own pass, and what it leaves: embeddings in the encoder cache and the pixels themselves."""
    if not run.model.parameters.tower:
        return 0, 0
    encoder = _encoder_of(run)
    tokens = (items or max(1, settings.max_num_batched_tokens // encoder.item_tokens)) * encoder.item_tokens
    held = tokens * (run.model.hidden_size * settings.element_bytes + encoder.pixel_bytes)
    return held + tokens * encoder.pass_bytes // run.tensor_parallel, held


def _cublas(device: Device) -> int:
    recent = any(name in device.architecture.lower() for name in ("hopper", "blackwell"))
    return _CUBLAS_HOPPER if recent else _CUBLAS_BEFORE


def multiprocessors(device: Device) -> int:
    """Multiprocessors of the device; of a MIG slice its share, 132 where the board is not known."""
    text = f"{device.name} {device.board}".lower()
    whole = next((count for name, count in _MULTIPROCESSORS if name in text), 132)
    if not device.is_mig:
        return whole
    profile = re.search(r"\b([1-7])g\.", text)
    return round(whole * (int(profile.group(1)) if profile else 7) / 7)
