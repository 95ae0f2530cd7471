"""What of a model's weights lies on the device under llama.cpp: from the file's tensors, or from the file type's bits.

The token embedding stays on the host, except that a tied one is loaded a second time as the output matrix
(`llama-model.cpp`, `load_tensors`). Layers are offloaded from the last one on; all are taken as equally large.
"""

from dataclasses import dataclass

from planner.memory.estimate import Basis, Run
from planner.memory.facts import ModelFacts, WeightFormat
from planner.memory.ggml_types import file_type_bits
from planner.memory.llama_settings import ContradictorySettings, LlamaSettings, asked_file_type

_BITS_BY_FORMAT = {
    WeightFormat.FP32: 32.0,
    WeightFormat.FP16: 16.0,
    WeightFormat.BF16: 16.0,
    WeightFormat.MXFP4: 4.6,
    WeightFormat.GGUF: 4.8944,
}
_HEADER_MARGIN = 0.004  # padding of tensors in their buffers, control vectors, norms kept on the device twice


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightNeed:
    """Bytes on the device with range, what they rest on, and what had to be assumed."""

    bytes: int
    low: int
    high: int
    basis: Basis
    source: str
    assumed: tuple[str, ...] = ()


def weight_need(run: Run, settings: LlamaSettings) -> WeightNeed:
    """Weights on the device: the output matrix, and the offloaded layers less the experts that stay on the host."""
    model = run.model
    asked = asked_file_type(run)
    requantised = asked is not None and file_type_bits(asked) is not None
    if model.stored_bytes and not requantised and _is_read_as_stored(model):
        total = sum(model.stored_bytes.values())
        embedding = model.stored_bytes.get("embedding", 0)
        head = model.stored_bytes.get("head", 0) or (embedding if model.tied_embeddings else 0)
        experts = model.stored_bytes.get("experts", 0)
        share = _device_share(run, settings, total - embedding - model.stored_bytes.get("head", 0), head, experts)
        return WeightNeed(
            bytes=share,
            low=round(share * (1 - _HEADER_MARGIN)),
            high=round(share * (1 + _HEADER_MARGIN)),
            basis=Basis.MEASURED,
            source="tensor sizes in the file's header",
        )
    return _by_bits(run, settings)


def _by_bits(run: Run, settings: LlamaSettings) -> WeightNeed:
    model = run.model
    bits, name, assumed = _bits_of(run)
    counts = model.parameters
    per_weight = bits / 8
    head = counts.head or (counts.embedding if model.tied_embeddings else 0)
    body = counts.total - counts.embedding - counts.head
    share = _device_share(
        run, settings, round(body * per_weight), round(head * per_weight), round(counts.experts * per_weight)
    )
    is_plain = bits >= 16
    return WeightNeed(
        bytes=share,
        low=round(share * (0.995 if is_plain else 0.93)),
        high=round(share * (1.01 if is_plain else 1.06)),
        basis=Basis.FORMULA,
        source=f"{bits:g} bits a weight in {name}, as llama.cpp's tools/quantize/README.md measures on Llama-3.1-8B",
        assumed=assumed,
    )


def _is_read_as_stored(model: ModelFacts) -> bool:
    """Whether a GGUF file holds what these files do: it is one, or its conversion keeps 16 or 32 bits."""
    stored = model.quantisation.format if model.quantisation is not None else model.dtype
    return stored in (WeightFormat.GGUF, WeightFormat.BF16, WeightFormat.FP16, WeightFormat.FP32)


def _bits_of(run: Run) -> tuple[float, str, tuple[str, ...]]:
    """Bits per weight, the name they go by, and a sentence when the file type was assumed."""
    asked = asked_file_type(run)
    if asked is not None and file_type_bits(asked) is None:
        raise ContradictorySettings(
            f"How many bits a weight takes in {asked[:40]} is not known here. Give the .gguf file, or write the bits "
            f'beside it: "{asked[:40]} - 4.5 bpw".'
        )
    for name in (asked, run.dtype):
        if name and (bits := file_type_bits(name)) is not None:
            return bits, name, ()
    quantisation = run.model.quantisation
    if quantisation is not None and quantisation.bits and quantisation.format is WeightFormat.GGUF:
        return quantisation.bits, "this file", ()
    stored = quantisation.format if quantisation else run.model.dtype
    bits = _BITS_BY_FORMAT.get(stored, 16.0)
    if stored is WeightFormat.GGUF:
        return bits, "Q4_K_M", ("File type Q4_K_M: none was stated.",)
    if stored not in _BITS_BY_FORMAT:
        sentence = f"llama.cpp reads no {stored.value}: 16 bits a weight, as a file has that is converted from it."
        return bits, "BF16", (sentence,)
    return bits, stored.value, (f"A GGUF file in {stored.value}: no file type was stated.",)


def _device_share(run: Run, settings: LlamaSettings, body: int, head: int, experts: int) -> int:
    """Of body (all layers) and head, what one device holds."""
    model = run.model
    layers = max(model.layer_count, 1)
    ranks = max(run.tensor_parallel * run.pipeline_parallel, 1)
    per_rank = -(-settings.gpu_layers // ranks)
    kept_experts = experts * _expert_share_on_host(model, run.cpu_expert_layers)
    return round((body - kept_experts) * per_rank / layers + (head if settings.has_output_layer else 0))


def _expert_share_on_host(model: ModelFacts, layers_on_host: int) -> float:
    if model.experts is None or model.experts.layers < 1:
        return 0.0
    return min(max(layers_on_host, 0), model.experts.layers) / model.experts.layers
