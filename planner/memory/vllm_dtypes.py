"""The types that vLLM computes and caches in, by its own names, and what a device or a family rules out.

Names: `vllm/config/model.py` (`_STR_DTYPE_TO_TORCH_DTYPE`) and `vllm/config/cache.py` (`CacheDType`), 0.2 to 0.31.
"""

from typing import Final

from planner.memory.estimate import Run
from planner.memory.facts import WeightFormat
from planner.memory.vllm_versions import ContradictoryRun, VllmVersion, parse_version

BEFORE_AMPERE: Final = frozenset({"turing", "volta"})
"""Architectures without bfloat16, and without an FP8 cache (docs.vllm.ai, Quantization, supported hardware)."""

# `_FLOAT16_NOT_SUPPORTED_MODELS` (vllm/config/model.py, 0.9 and later): their values leave the range of float16.
_NO_FLOAT16: Final = frozenset({"gemma2", "gemma3", "gemma3_text", "plamo2", "glm4"})
# `get_supported_act_dtypes` of vllm/model_executor/layers/quantization/*.py: all others take 16 bit only.
_RUNS_IN_FLOAT32: Final = frozenset({WeightFormat.NF4, WeightFormat.GGUF})

_COMPUTED: Final = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2, "auto": 2}
_CACHED: Final = {
    "bfloat16": 2.0,
    "float16": 2.0,
    "fp8": 1.0,
    "fp8_e4m3": 1.0,
    "fp8_e5m2": 1.0,
    "fp8_inc": 1.0,
    "fp8_ds_mla": 1.0,
    "fp8_per_token_head": 1.0,
    "int8_per_token_head": 1.0,
    "int4_per_token_head": 0.5,
    "nvfp4": 0.5 + 1 / 16,
}
HONOURS_CACHE_FORMAT: Final = ((0, 14), (0, 15))
"""From which versions `auto` is the format that a checkpoint demands: of ModelOpt's (pull request 29980), of all.

compressed-tensors' follows with pull request 30141. Before, such a cache stays in 16 bit unless fp8 is asked for.
"""


def is_before_ampere(run: Run) -> bool:
    """Whether the device is known to be of Turing or Volta."""
    return run.device.architecture.lower() in BEFORE_AMPERE


def has_no_float16(run: Run) -> bool:
    """Whether vLLM refuses this family in float16."""
    return run.model.model_type in _NO_FLOAT16


def has_no_type(run: Run) -> bool:
    """Whether nothing is left: no bfloat16 on the device, no float16 for the family, no float32 for the format."""
    stored = run.model.quantisation
    narrow = stored is not None and stored.format not in _RUNS_IN_FLOAT32
    return is_before_ampere(run) and has_no_float16(run) and narrow


def compute_dtype(run: Run) -> str | None:
    """The type that has to be named at start: the one asked for, or what is left on a device without bfloat16."""
    if run.dtype not in (None, "auto"):
        return run.dtype
    if not is_before_ampere(run):
        return None
    return "float32" if has_no_float16(run) and not has_no_type(run) else "float16"


def element_bytes(run: Run) -> int:
    """Bytes of an activation: the dtype in force, else 16 bit, to which vLLM casts float32 checkpoints."""
    dtype = compute_dtype(run)
    if dtype is not None and dtype not in _COMPUTED:
        raise ContradictoryRun(f'"{dtype}" is not a dtype of vLLM. Give auto, bfloat16, float16 or float32.')
    return 2 if dtype is None else _COMPUTED[dtype]


def refuse_dtype(run: Run) -> None:
    """Raise ContradictoryRun for a dtype that the device, the family or the quantised kernels do not take."""
    if run.dtype == "bfloat16" and is_before_ampere(run):
        left = "float32" if has_no_float16(run) else "float16"
        raise ContradictoryRun(
            f"{run.device.name} ({run.device.architecture}) cannot compute in bfloat16. Give --dtype {left}."
        )
    if run.dtype in ("float16", "half") and has_no_float16(run) and parse_version(run.engine_version).number >= (0, 9):
        raise ContradictoryRun(
            f"vLLM refuses {run.model.model_type} in float16 (numerical instability, 0.9 and later). Give --dtype "
            f"{'float32' if is_before_ampere(run) else 'bfloat16'}."
        )
    stored = run.model.quantisation
    if element_bytes(run) == 4 and stored is not None and stored.format not in _RUNS_IN_FLOAT32 and run.dtype:
        raise ContradictoryRun(
            f"{run.model.name} is stored as {stored.format}, whose kernels in vLLM do not take float32. Leave --dtype "
            "out, or give float16 or bfloat16."
        )


def cache_dtype(run: Run) -> str:
    """The cache's type as asked for, by vLLM's name; remarks behind a blank ("auto (bf16)") are left out."""
    asked = (run.kv_cache_dtype or "auto").lower().split(" ")[0]
    if asked != "auto" and asked not in _CACHED:
        raise ContradictoryRun(
            f'"{run.kv_cache_dtype}" is not a dtype of the key-value cache that is known here. Give auto, '
            f"{', '.join(_CACHED)}."
        )
    return asked


def demanded_cache_format(run: Run) -> str | None:
    """The format of the cache that the checkpoint demands, where nothing else is asked for."""
    quantisation = run.model.quantisation
    return quantisation.kv_cache_format if quantisation is not None and cache_dtype(run) == "auto" else None


def cache_element_bytes(run: Run, version: VllmVersion) -> float:
    """Bytes of one cached element, without scales per head."""
    asked = cache_dtype(run)
    demanded = demanded_cache_format(run)
    if demanded is not None and version.number >= HONOURS_CACHE_FORMAT[0]:
        return _CACHED.get(demanded.lower(), 1.0 if "8" in demanded else 2.0)
    return element_bytes(run) if asked == "auto" else _CACHED[asked]
