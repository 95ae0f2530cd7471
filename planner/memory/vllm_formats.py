"""How the large matrices of a run lie in memory: as the checkpoint stores them, or as they are quantised at start.

vLLM quantises at start by a few methods; all others name how a checkpoint is stored, and without such a checkpoint it
stops. Names: `vllm/model_executor/layers/quantization/__init__.py`, 0.2 to 0.31.
"""

import re
from functools import cache
from typing import Final

from planner.memory.estimate import Run
from planner.memory.facts import WeightFormat
from planner.memory.model_catalogue import model_rows
from planner.memory.vllm_dtypes import element_bytes
from planner.memory.vllm_versions import ContradictoryRun

SIXTEEN_BIT: Final = frozenset({WeightFormat.BF16, WeightFormat.FP16, WeightFormat.FP32})
EIGHT_BIT_FLOATS: Final = frozenset({WeightFormat.FP8, WeightFormat.FP8_BLOCK})

AT_START: Final = {
    "fp8": WeightFormat.FP8,
    "fp8_per_tensor": WeightFormat.FP8,
    "fp8_per_block": WeightFormat.FP8_BLOCK,
    "mxfp8": WeightFormat.FP8_BLOCK,
    "bitsandbytes": WeightFormat.NF4,
}
"""What `--quantization` makes of 16-bit weights at start."""

_FOUR_BIT = frozenset({WeightFormat.GPTQ, WeightFormat.AWQ})
_ANY = frozenset(WeightFormat)
# What a checkpoint may hold under a name, the commonest first as the one that is meant where there is no checkpoint.
_STORED: Final[dict[str, tuple[WeightFormat, frozenset[WeightFormat]]]] = {
    "awq": (WeightFormat.AWQ, frozenset({WeightFormat.AWQ})),
    "awq_marlin": (WeightFormat.AWQ, frozenset({WeightFormat.AWQ})),
    "gptq": (WeightFormat.GPTQ, frozenset({WeightFormat.GPTQ})),
    "gptq_marlin": (WeightFormat.GPTQ, frozenset({WeightFormat.GPTQ})),
    "gptq_marlin_24": (WeightFormat.GPTQ, frozenset({WeightFormat.GPTQ})),
    "gptq_bitblas": (WeightFormat.GPTQ, frozenset({WeightFormat.GPTQ})),
    "marlin": (WeightFormat.GPTQ, frozenset({WeightFormat.GPTQ})),
    "moe_wna16": (WeightFormat.GPTQ, _FOUR_BIT),
    "auto-round": (WeightFormat.GPTQ, _FOUR_BIT),
    "inc": (WeightFormat.GPTQ, _FOUR_BIT),
    "compressed-tensors": (WeightFormat.GPTQ, _ANY),
    "modelopt": (WeightFormat.FP8, _ANY),
    "modelopt_fp4": (WeightFormat.NVFP4, frozenset({WeightFormat.NVFP4})),
    "mxfp4": (WeightFormat.MXFP4, frozenset({WeightFormat.MXFP4})),
    "fbgemm_fp8": (WeightFormat.FP8, EIGHT_BIT_FLOATS),
    "ptpc_fp8": (WeightFormat.FP8, EIGHT_BIT_FLOATS),
    "quark": (WeightFormat.FP8, _ANY),
    "gguf": (WeightFormat.GGUF, frozenset({WeightFormat.GGUF})),
}
# How people call a format; vLLM has no method of that name, so it is no flag.
_CALLED: Final = {
    "nvfp4": WeightFormat.NVFP4,
    "w8a8": WeightFormat.INT8,
    "w8a16": WeightFormat.INT8,
    "int8": WeightFormat.INT8,
    "w4a16": WeightFormat.GPTQ,
    "int4": WeightFormat.GPTQ,
}
_NAMED: Final = {
    WeightFormat.FP8: EIGHT_BIT_FLOATS,
    WeightFormat.FP8_BLOCK: EIGHT_BIT_FLOATS,
    WeightFormat.GPTQ: _FOUR_BIT,
}
_SPELLED: Final = {"auto_round": "auto-round", "compressed_tensors": "compressed-tensors", "none": "", "auto": ""}
# A name may be followed by its bits and by a remark in brackets: "gptq int4", "fp8 (online)".
_WRITTEN: Final = re.compile(r"([a-z0-9_-]{1,40})(?: +(?:int)?[48](?:[ -]?bit)?)?(?: *\([^()]{0,80}\))?")


def asked_method(run: Run) -> str | None:
    """The quantisation asked for, as vLLM spells it; None where none is. Raises ContradictoryRun for other words."""
    text = (run.quantization or "").strip().lower()
    if not text:
        return None
    found = _WRITTEN.fullmatch(text)
    name = _SPELLED.get(found.group(1), found.group(1)) if found else text
    if name in AT_START or name in _STORED or name in _CALLED or name == "":
        return name or None
    raise ContradictoryRun(
        f'"{run.quantization}" is not a quantisation that is known here. At start vLLM makes {", ".join(AT_START)}; '
        f"a checkpoint may be stored as {', '.join(_STORED)}."
    )


def stored_format(run: Run) -> WeightFormat:
    """How the large matrices lie in memory: the checkpoint's quantisation, or the one asked for."""
    asked = asked_method(run)
    checkpoint = run.model.quantisation
    if checkpoint is not None and checkpoint.format not in SIXTEEN_BIT:
        if asked is not None and checkpoint.is_known and checkpoint.format not in _formats_of(asked):
            raise ContradictoryRun(
                f"{run.model.name} is stored as {checkpoint.format} and cannot be run as {run.quantization}. Leave the "
                "quantisation out, or choose a checkpoint that is stored so."
            )
        return checkpoint.format
    if asked is None:
        return WeightFormat.FP32 if element_bytes(run) == 4 else WeightFormat.BF16
    if asked in AT_START:
        return AT_START[asked]
    return _STORED[asked][0] if asked in _STORED else _CALLED[asked]


def is_made_at_start(run: Run) -> bool:
    """Whether 16-bit weights are read and quantised at start."""
    asked = asked_method(run)
    return asked in AT_START and (run.model.quantisation is None or run.model.quantisation.format in SIXTEEN_BIT)


def lacks_its_checkpoint(run: Run) -> bool:
    """Whether a way to store weights is asked for, and the configuration is that of unquantised ones."""
    asked = asked_method(run)
    if asked is None or asked in AT_START:
        return False
    return run.model.quantisation is None or run.model.quantisation.format in SIXTEEN_BIT


def is_one_checkpoint(run: Run) -> bool:
    """Whether the facts are those of one checkpoint, rather than of a configuration that copies of it share."""
    return bool(run.model.stored_bytes) or run.model.name.lower() in _catalogued()


@cache
def _catalogued() -> frozenset[str]:
    return frozenset(name.lower() for row in model_rows().values() for name in (row.name, *row.aliases))


def quantization_flag(run: Run) -> str | None:
    """The method as `--quantization` takes it; None where none is asked for, or a word that is no method."""
    asked = asked_method(run)
    return None if asked in _CALLED else asked


def _formats_of(asked: str) -> frozenset[WeightFormat]:
    if asked in AT_START:
        return _NAMED.get(AT_START[asked], frozenset({AT_START[asked]}))
    if asked in _STORED:
        return _STORED[asked][1]
    return _NAMED.get(_CALLED[asked], frozenset({_CALLED[asked]}))
