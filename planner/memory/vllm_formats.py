"""How the large matrices of a run lie in memory: as the checkpoint stores them, or as they are quantised at start."""

from planner.memory.estimate import Run
from planner.memory.facts import WeightFormat
from planner.memory.vllm_versions import ContradictoryRun, element_bytes


def stored_format(run: Run) -> WeightFormat:
    """How the large matrices lie in memory: the checkpoint's quantisation, or the one asked for at start."""
    asked = (run.quantization or "").lower()
    checkpoint = run.model.quantisation
    if checkpoint is not None and checkpoint.format not in SIXTEEN_BIT:
        _refuse_other_format(run, asked, checkpoint.format)
        return checkpoint.format
    for words, weight_format in _ASKED:
        if any(word in asked for word in words):
            return weight_format
    if asked not in ("", "none", "auto"):
        raise ContradictoryRun(
            f'"{run.quantization}" is not a quantisation that is known here. Give fp8, int8, awq, gptq, '
            "bitsandbytes, mxfp4 or nvfp4, or leave it out."
        )
    return WeightFormat.FP32 if element_bytes(run) == 4 else WeightFormat.BF16


def _refuse_other_format(run: Run, asked: str, stored: WeightFormat) -> None:
    """A quantised checkpoint can only be run as what it is; the kernel may be named (gptq_marlin) or the container."""
    for words, weight_format in _ASKED:
        if any(word in asked for word in words):
            if stored in _SAME.get(weight_format, {weight_format}) or asked in _CONTAINERS:
                return
            raise ContradictoryRun(
                f"{run.model.name} is stored as {stored} and cannot be run as {run.quantization}. Leave the "
                "quantisation out, or choose a checkpoint that is stored so."
            )


SIXTEEN_BIT = frozenset({WeightFormat.BF16, WeightFormat.FP16, WeightFormat.FP32})
_ASKED = (
    (("nvfp4", "modelopt_fp4"), WeightFormat.NVFP4),
    (("mxfp4",), WeightFormat.MXFP4),
    (("fp8", "modelopt"), WeightFormat.FP8),
    (("w8a8", "w8a16", "int8"), WeightFormat.INT8),
    (("bitsandbytes", "bnb", "nf4"), WeightFormat.NF4),
    (("awq",), WeightFormat.AWQ),
    (("gptq", "auto_round", "auto-round", "int4", "w4a16", "quantised", "compressed-tensors"), WeightFormat.GPTQ),
    (("gguf",), WeightFormat.GGUF),
)
_SAME = {
    WeightFormat.FP8: {WeightFormat.FP8, WeightFormat.FP8_BLOCK},
    WeightFormat.GPTQ: {WeightFormat.GPTQ, WeightFormat.AWQ},
}
_CONTAINERS = frozenset({"compressed-tensors", "modelopt", "auto-round", "auto_round", "auto", "none", ""})
