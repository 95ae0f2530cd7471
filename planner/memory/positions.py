"""How many tokens a model was made for, as vLLM derives it from a configuration.

Source: vLLM 0.19, vllm/config/model.py, _get_and_verify_max_len: the positions, times the factor of a rope scaling that
is not already in them, unless `model_max_length` (Cohere) says otherwise.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from planner.memory.config_fields import ConfigFields

ALREADY_IN_THE_POSITIONS = frozenset({"su", "longrope", "llama3", "mrope", "default"})


def positions_of(inner: ConfigFields, outer: ConfigFields, model_type: str) -> int | None:
    """The longest context of the checkpoint as it is configured, in tokens; None where nothing states it."""
    for level in (inner, outer):
        if longest := level.optional("model_max_length"):
            return longest
    stated = inner.optional("max_position_embeddings") or outer.optional("max_position_embeddings") or None
    if stated is None or "gemma3" in model_type:
        return stated
    longest = stated
    for scaling in _scalings(inner.fields.get("rope_scaling") or inner.fields.get("rope_parameters")):
        kind = str(scaling.get("rope_type") or scaling.get("type") or "")
        factor = scaling.get("factor")
        if kind in ALREADY_IN_THE_POSITIONS or not isinstance(factor, int | float) or not 1 < factor < 10_000:
            continue
        start = scaling.get("original_max_position_embeddings") if kind == "yarn" else None
        scaled = int((start if isinstance(start, int) and 0 < start < 2**40 else stated) * factor)
        longest = max(longest, scaled) if kind == "yarn" else scaled
    return longest


def _scalings(value: object) -> Iterator[Mapping[str, Any]]:
    """One table, or one for each kind of layer."""
    if not isinstance(value, Mapping):
        return
    nested = [one for one in value.values() if isinstance(one, Mapping)]
    yield from nested or [value]
