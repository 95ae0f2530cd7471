"""What weight files hold, held against what the configuration counts: both must speak of the same model.

Bytes that are in the files are loaded, whether the configuration counts them or not; bytes that should be there and are
not mean a download that broke off.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from planner.memory.errors import UnreadableModel
from planner.memory.facts import Parameters, Quantisation, WeightFormat
from planner.memory.safetensors_header import PREDICTION, StoredTensors

MOST_PREDICTION_LAYERS = 4
"""Layers behind the last one that only speculative decoding loads; published checkpoints have one to three."""
LEAST_SHARE = 0.9
"""Files that hold less than this of the fewest bytes that the configuration allows are not complete."""
_BYTES: Mapping[WeightFormat, float] = {
    WeightFormat.FP32: 4,
    WeightFormat.BF16: 2,
    WeightFormat.FP16: 2,
    WeightFormat.FP8: 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """`parameters` with what only the files know of; `held` are bytes by part without prediction layers."""

    parameters: Parameters
    held: Mapping[str, int]
    prediction_bytes: int


def reconcile(
    stored: StoredTensors,
    parameters: Parameters,
    *,
    layers: int,
    dtype: WeightFormat,
    quantisation: Quantisation | None,
    tied: bool,
    name: str,
) -> Reconciled:
    """Both sides as one; raises UnreadableModel where they cannot be of one checkpoint."""
    if stored.layers is not None and stored.layers > layers + MOST_PREDICTION_LAYERS:
        raise UnreadableModel(
            f"{name}: the weight files hold {stored.layers} layers and the configuration says {layers}; they are not "
            "of one checkpoint. Put the files and the config.json of the same model together."
        )
    held = dict(stored.bytes_by_part)
    prediction = held.pop(PREDICTION, 0)
    if tied:
        held.pop("head", None)  # some checkpoints store the embedding twice; engines load it once
    _refuse_what_is_not_complete(sum(held.values()), parameters, dtype, quantisation, name)
    counts = {field.name: getattr(parameters, field.name) for field in fields(Parameters)}
    element_bytes = _BYTES.get(dtype, 2)
    unforeseen = sum(size for part, size in held.items() if not counts.get(part))
    not_named = sum(count * element_bytes for part, count in counts.items() if count and part not in held)
    beyond = max(0, unforeseen - int(not_named))  # tensors of unknown names may be those that are missed
    held = {part: size for part, size in held.items() if counts.get(part)}
    if beyond:
        held["tower"] = held.get("tower", 0) + beyond
        parameters = replace(parameters, tower=parameters.tower + int(beyond / element_bytes))
    return Reconciled(parameters=parameters, held=held, prediction_bytes=prediction)


def _refuse_what_is_not_complete(
    there: int, parameters: Parameters, dtype: WeightFormat, quantisation: Quantisation | None, name: str
) -> None:
    """The fewest bytes: every weight at the quantised width, or at the checkpoint's own."""
    bits = 8 * _BYTES.get(dtype, 2)
    if quantisation is not None:
        bits = min(bits, quantisation.bits or 4, 4 if quantisation.expert_format is not None else bits)
    needed = (parameters.total - parameters.tower) * bits / 8
    if there < LEAST_SHARE * needed:
        raise UnreadableModel(
            f"{name}: the weight files hold {there:,} bytes, and {parameters.total:,} parameters take at least "
            f"{int(needed):,}; some files are missing or of another model. Download them, or give the config.json "
            "alone."
        )
