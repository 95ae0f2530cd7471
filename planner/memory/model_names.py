"""What the name of a checkpoint says beyond the model: a mirror's owner, and how it is quantised.

Endings as the publishers of quantised checkpoints use them (Qwen, RedHatAI, nvidia, unsloth, TheBloke; September 2026).
"""

import re
from dataclasses import dataclass

from planner.memory.facts import Quantisation, WeightFormat

ENDINGS: tuple[tuple[re.Pattern[str], Quantisation], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), quantisation)
    for pattern, quantisation in (
        (r"-FP8-(dynamic|static|static-pertensor|per-tensor)$", Quantisation(format=WeightFormat.FP8, bits=8)),
        (r"-FP8-block$", Quantisation(format=WeightFormat.FP8_BLOCK, bits=8, group_size=128)),
        (r"-FP8$", Quantisation(format=WeightFormat.FP8, bits=8)),
        (r"-NVFP4$", Quantisation(format=WeightFormat.NVFP4, bits=4, group_size=16)),
        (r"-MXFP4$", Quantisation(format=WeightFormat.MXFP4, bits=4, group_size=32)),
        (r"-quantized\.w8a8$|-W8A8$|-(GPTQ-)?INT8$", Quantisation(format=WeightFormat.INT8, bits=8)),
        (r"-AWQ(-INT4)?$", Quantisation(format=WeightFormat.AWQ, bits=4, group_size=128)),
        (r"-GPTQ(-INT4)?$|-quantized\.w4a16$|-W4A16$", Quantisation(format=WeightFormat.GPTQ, bits=4, group_size=128)),
        (r"-(unsloth-)?bnb-4bit$", Quantisation(format=WeightFormat.NF4, bits=4, group_size=64)),
    )
)
QWEN_BLOCKS = Quantisation(format=WeightFormat.FP8_BLOCK, bits=8, group_size=128)
"""Qwen's own FP8 checkpoints share a scale over blocks of 128 x 128 (their config.json)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelName:
    """A name without owner and ending, lower case, and what the ending says."""

    stem: str
    quantisation: Quantisation | None


def take_apart(text: str) -> ModelName:
    """The parts of a checkpoint's name."""
    owner, _, name = text.strip().rpartition("/")
    for pattern, quantisation in ENDINGS:
        if found := pattern.search(name):
            own = QWEN_BLOCKS if owner.lower() == "qwen" and quantisation.format is WeightFormat.FP8 else quantisation
            return ModelName(stem=name[: found.start()].lower(), quantisation=own)
    return ModelName(stem=name.lower(), quantisation=None)
