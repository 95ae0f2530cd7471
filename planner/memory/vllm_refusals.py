"""What vLLM refuses at start although the numbers add up, and what leaves it open whether it starts.

Each rule names the versions it holds for and its source. A refusal makes the verdict `does_not_fit`, a doubt leaves
none better than `tight`.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from planner.memory.estimate import Run
from planner.memory.facts import WeightFormat
from planner.memory.vllm_dtypes import (
    HONOURS_CACHE_FORMAT,
    cache_element_bytes,
    demanded_cache_format,
    has_no_type,
    is_before_ampere,
)
from planner.memory.vllm_formats import (
    AT_START,
    EIGHT_BIT_FLOATS,
    asked_method,
    is_made_at_start,
    is_one_checkpoint,
    lacks_its_checkpoint,
    stored_format,
)
from planner.memory.vllm_settings import Settings, has_uncommon_block_size, settings_of
from planner.memory.vllm_versions import VllmVersion
from planner.memory.vllm_weights import Weights, weights_of
from planner.sentences import spelled_bytes
from planner.units import GIB

# From 0.10.2 vLLM stops where less is free at start than its share (vllm/v1/worker/gpu_worker.py). A bare CUDA context
# takes 0.1 GiB or more of every device, 0.6 GiB were printed on H200 (139.21 of 139.81 free, 0.11) and 0.56 on a board
# of 95 GiB (0.29). On a MIG device it grows with the slice's multiprocessors, and 47 MiB are taken while it is idle.
_CHECKS_FREE: Final = (0, 10, 2)
_CONTEXT_LEAST: Final = GIB // 10
_CONTEXT_MOST: Final = round(0.6 * GIB)
_CONTEXT_MOST_OF_SLICE: Final = round(0.35 * GIB)

# Until pull request 31914 (January 2026, in 0.15 at the latest) the weights lay in 16 bit before they became FP8.
_STREAMS_FP8: Final = ((0, 14), (0, 15))
# Methods that came later, with the versions between which they may have: pull requests 38138 and 35448. MXFP8 runs on
# Blackwell alone.
_CAME_WITH: Final = {
    "fp8_per_tensor": ((0, 18), (0, 21)),
    "fp8_per_block": ((0, 18), (0, 21)),
    "mxfp8": ((0, 16), (0, 20)),
}
_EIGHT_BIT_FLOATS_ON_TURING: Final = (0, 14)  # pull request 29901: Marlin kernels for Turing

# `_PREVIOUSLY_SUPPORTED_MODELS` (vllm/model_executor/models/registry.py): the last version that runs them.
_LAST_VERSIONS: Final = {
    "MllamaForConditionalGeneration": (0, 10, 2),
    "Phi3SmallForCausalLM": (0, 9, 2),
    "Phi4FlashForCausalLM": (0, 10, 2),
    "Phi4MultimodalForCausalLM": (0, 12, 0),
    "MotifForCausalLM": (0, 10, 2),
    "JAISLMHeadModel": (0, 22, 0),
    "QWenLMHeadModel": (0, 23, 0),
    "InternLMForCausalLM": (0, 23, 0),
    "XverseForCausalLM": (0, 23, 0),
    "Dots1ForCausalLM": (0, 23, 0),
    "BambaForCausalLM": (0, 23, 0),
}


def refusals(run: Run, settings: Settings) -> tuple[str, ...]:
    """Why vLLM stops at start with these settings, as sentences; empty where it does not."""
    return tuple(_refusals(run, settings))


def doubts(run: Run, settings: Settings) -> tuple[str, ...]:
    """What is not known of a start with these settings, as sentences."""
    return tuple(_doubts(run, settings))


def outside_wanted(run: Run, version: VllmVersion) -> tuple[int, int]:
    """What must stay outside of the share for the CUDA context: below the first it is refused, below the second open.

    Before 0.10.2 nothing is refused at start, but the context still has to find room beside the share.
    """
    most = _CONTEXT_MOST_OF_SLICE if run.device.is_mig else _CONTEXT_MOST
    return (_CONTEXT_LEAST if not version.is_v0 and version.number >= _CHECKS_FREE else 0), most


def _refusals(run: Run, settings: Settings) -> Iterator[str]:
    model, device, version = run.model, run.device, settings.version
    if model.max_positions is not None and settings.max_model_len > model.max_positions:
        yield (
            f"vLLM refuses --max-model-len {settings.max_model_len}: {model.name} is made for {model.max_positions:,} "
            "tokens. It takes more only with another rope scaling (--hf-overrides), or with "
            "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 and answers that may be wrong."
        )
    spare = device.memory_bytes - int(device.memory_bytes * settings.utilization)
    if spare < outside_wanted(run, version)[0]:
        yield (
            f"--gpu-memory-utilization {settings.utilization:g} leaves {spelled_bytes(spare)} of {device.name} outside "
            "the share, less than the CUDA context alone takes: vLLM finds less free than its share and stops. "
            "Lower it."
        )
    if lacks_its_checkpoint(run) and is_one_checkpoint(run):
        yield _lacks_checkpoint(run)
    asked = asked_method(run)
    if asked in _CAME_WITH and version.number < _CAME_WITH[asked][0]:
        yield f"vLLM {version.text} does not know --quantization {asked}; give fp8, or take a later version."
    if asked == "mxfp8" and device.architecture and device.architecture.lower() != "blackwell":
        yield f"vLLM makes mxfp8 on Blackwell alone, and {device.name} is {device.architecture}: give fp8."
    if has_no_type(run):
        yield (
            f"vLLM refuses {model.model_type} in float16, {device.architecture} has no bfloat16, and the kernels for "
            f"{stored_format(run)} weights take no float32: choose another device or checkpoint."
        )
    if is_before_ampere(run):
        yield from _refused_before_ampere(run, settings)
    peak = _load_peak(run, settings) if version.number < _STREAMS_FP8[0] else None
    if peak is not None and peak.low > device.memory_bytes:
        yield _too_large_to_load(run, settings, peak)
    last = _LAST_VERSIONS.get(model.architecture)
    if last is not None and version.stated and version.number > last:
        yield _no_longer_run(run, last)


def _doubts(run: Run, settings: Settings) -> Iterator[str]:
    device, version = run.device, settings.version
    spare = device.memory_bytes - int(device.memory_bytes * settings.utilization)
    least, most = outside_wanted(run, version)
    if least <= spare < most:
        yield (
            f"{spelled_bytes(spare)} stay outside the share, and the CUDA context takes "
            f"{spelled_bytes(_CONTEXT_LEAST)} to {spelled_bytes(most)} of it: vLLM may find less free than its share "
            "and stop. Lower --gpu-memory-utilization."
        )
    if lacks_its_checkpoint(run) and not is_one_checkpoint(run):
        yield _lacks_checkpoint(run)
    asked = asked_method(run)
    if asked in _CAME_WITH and version.number < _CAME_WITH[asked][1]:
        yield f"Whether vLLM {version.text} knows --quantization {asked} already is not recorded; fp8 is older."
    if is_before_ampere(run) and _has_narrow_floats(run):
        yield (
            f"8-bit floats on {device.architecture} run by the Marlin kernels from 0.14 on, but not ModelOpt's: no "
            "recorded run shows it."
        )
    peak = _load_peak(run, settings)
    if peak is not None and peak.high + _CONTEXT_MOST > device.memory_bytes:
        yield _too_large_to_load(run, settings, peak)
    first, all_of_them = HONOURS_CACHE_FORMAT
    if demanded_cache_format(run) is not None and first <= version.number < all_of_them:
        yield (
            f"The checkpoint demands an {demanded_cache_format(run)} cache, which {version.text} honours for ModelOpt "
            "and 0.15 for compressed-tensors too: give --kv-cache-dtype to be sure."
        )
    if has_uncommon_block_size(run, version):
        yield f"--block-size {run.block_size} is not taken by attention kernels whose blocks are multiples of 16."
    last = _LAST_VERSIONS.get(run.model.architecture)
    if last is not None and not version.stated and version.number > last:
        yield _no_longer_run(run, last)


def _refused_before_ampere(run: Run, settings: Settings) -> Iterator[str]:
    architecture, version = run.device.architecture, settings.version
    turing = architecture.lower() == "turing"
    if _has_narrow_floats(run) and not (turing and version.number >= _EIGHT_BIT_FLOATS_ON_TURING):
        since = "Turing runs such weights from 0.14 on" if turing else "it needs Ampere or later"
        yield f"vLLM {version.text} has no FP8 on {architecture}: {since}."
    if cache_element_bytes(run, version) == 1 and not is_integer_cache(run):
        yield f"vLLM has no FP8 on {architecture} for the cache: give --kv-cache-dtype auto."


def is_integer_cache(run: Run) -> bool:
    """Whether the cache is asked for in integers of 8 bit."""
    return (run.kv_cache_dtype or "").lower().startswith("int8")


def _has_narrow_floats(run: Run) -> bool:
    return stored_format(run) in EIGHT_BIT_FLOATS


def _load_peak(run: Run, settings: Settings) -> Weights | None:
    """The 16-bit weights that lie on the device before they become FP8 at start; None where they never do."""
    if not is_made_at_start(run) or stored_format(run) is WeightFormat.NF4:
        return None  # bitsandbytes quantises each matrix as it is read
    if settings.version.number >= _STREAMS_FP8[1]:
        return None
    plain = replace(run, quantization=None)
    return weights_of(plain, settings_of(plain))


def _too_large_to_load(run: Run, settings: Settings, peak: Weights) -> str:
    which = "until 0.14" if settings.version.number < _STREAMS_FP8[0] else "in 0.14, unless its streaming is in it,"
    return (
        f"While loading, vLLM {which} holds the weights in 16 bit before they become {asked_method(run)}: "
        f"{spelled_bytes(peak.total)} on {run.device.name} of {spelled_bytes(run.device.memory_bytes)}. Take a "
        "checkpoint that is stored as FP8, more ranks, or 0.15 or later."
    )


def _lacks_checkpoint(run: Run) -> str:
    return (
        f"{run.model.name} is not stored as {run.quantization}, and vLLM does not make that at start (only "
        f"{', '.join(AT_START)}): it stops without the configuration of such a checkpoint. The numbers are those of a "
        "checkpoint that is stored so; give its name."
    )


def _no_longer_run(run: Run, last: tuple[int, int, int]) -> str:
    number = ".".join(map(str, last))
    return f"vLLM runs {run.model.architecture} up to {number} and refuses it in later versions."
