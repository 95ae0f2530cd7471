"""Bytes of weights that one rank of vLLM holds.

Counts come from the model's facts. Three parts of what vLLM prints as "model weights" are in no checkpoint: the table
of rotary positions, the last page of each large tensor (PyTorch's allocator) and padding of quantised experts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from planner.memory.estimate import Run
from planner.memory.facts import LayerKind, ModelFacts, WeightFormat
from planner.memory.vllm_formats import SIXTEEN_BIT, stored_format
from planner.memory.vllm_padding import allocated, expert_padding, padded_vocabulary, rotary_table
from planner.memory.vllm_settings import Settings
from planner.units import MIB

# Bytes per parameter of a quantised matrix: payload plus scales.
#   FP8: one scale per tensor or output channel (negligible); blocks of 128 x 128 carry a float32.
#   AWQ, GPTQ: 4 bits, per group of 128 a 16-bit scale and a 4-bit zero (AutoGPTQ and AutoAWQ layouts).
#   NF4: 4 bits, per block of 64 a float32 maximum (bitsandbytes without double quantisation).
#   MXFP4: 4 bits and a shared 8-bit exponent per 32 (OCP Microscaling 1.0). NVFP4: an FP8 scale per 16.
_BYTES = {
    WeightFormat.FP32: 4.0,
    WeightFormat.BF16: 2.0,
    WeightFormat.FP16: 2.0,
    WeightFormat.FP8: 1.0,
    WeightFormat.FP8_BLOCK: 1 + 4 / 128**2,
    WeightFormat.INT8: 1.0,
    WeightFormat.AWQ: 0.5 + 2.5 / 128,
    WeightFormat.GPTQ: 0.5 + 2.5 / 128,
    WeightFormat.NF4: 0.5 + 4 / 64,
    WeightFormat.MXFP4: 0.5 + 1 / 32,
    WeightFormat.NVFP4: 0.5 + 1 / 16,
}
# A bitsandbytes checkpoint keeps its maxima in 8 bits; before 0.10 vLLM left them so, since then it spells them out in
# float32 (`dequantize_dq` in vllm/model_executor/model_loader/bitsandbytes_loader.py).
NESTED_NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
_GROUP_SCALE_BYTES = {WeightFormat.AWQ: 2.5, WeightFormat.GPTQ: 2.5, WeightFormat.NF4: 4.0}
_ALWAYS_KEPT = frozenset({"embedding", "head", "norms", "router", "tower"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Weights of the heaviest rank, by what they are, and how far off they may be."""

    sharded: int
    replicated: int
    rotary: int
    allocator: int
    low: int
    high: int
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """What vLLM prints after loading."""
        return self.sharded + self.replicated + self.rotary + self.allocator


def bytes_per_parameter(weight_format: WeightFormat, group_size: int | None = None, bits: float | None = None) -> float:
    """Bytes of one quantised parameter with its share of scales and zero points."""
    scale = _GROUP_SCALE_BYTES.get(weight_format)
    if scale is not None and group_size is not None and group_size > 0:
        return (bits or 4) / 8 + scale / group_size
    if bits is not None and weight_format in (WeightFormat.AWQ, WeightFormat.GPTQ, WeightFormat.GGUF):
        return bits / 8 + (2.5 / 128 if weight_format is not WeightFormat.GGUF else 0.0)
    return _BYTES.get(weight_format, 0.6)


def weights_of(run: Run, settings: Settings) -> Weights:
    """The weights of the heaviest rank."""
    model, tp, pp = run.model, run.tensor_parallel, run.pipeline_parallel
    counts = model.parameters
    sizes = _Sizes.of(run, settings)
    padding = (padded_vocabulary(model) - model.vocab_size) * model.hidden_size
    embedding = sizes.part("embedding", counts.embedding + padding) / tp
    head = (sizes.part("head", counts.head + padding) if counts.head else 0.0) / tp
    whole_attention = min(model.replicated_attention, counts.attention)
    replicated = sizes.part("attention", whole_attention) + sizes.part("router", counts.router)
    replicated += sizes.part("norms", counts.norms)
    experts_over = tp * run.data_parallel if run.expert_parallel else tp
    divided = (
        sizes.part("attention", (counts.attention - whole_attention) / tp + _replicated_kv_heads(model, tp))
        + sizes.part("mlp", counts.mlp) / tp
        + sizes.part("experts", counts.experts) / experts_over * expert_padding(run, sizes.experts)
        + sizes.part("shared_experts", counts.shared_experts) / tp
        + sizes.part("other", counts.other) / tp
        + _absorbed_latent(model, tp, settings)
    )
    stage = ceil(model.layer_count / pp) / max(1, model.layer_count)
    ends = embedding + head if pp == 1 else max(embedding, head or embedding)
    tower = sizes.part("tower", counts.tower)
    rotary = rotary_table(model, settings.element_bytes)
    allocator = round(sum(count * (allocated(round(raw)) - round(raw)) for count, raw in _tensors(run, sizes)) * stage)
    low, high = _spread(run, sizes)
    everything = (divided + replicated) * stage + ends + tower + rotary + allocator
    return Weights(
        sharded=round(divided * stage + ends),
        replicated=round(replicated * stage + tower),
        rotary=rotary,
        allocator=allocator,
        low=round(everything * low),
        high=round(everything * high) + 64 * MIB,
        notes=_notes(run, sizes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    """Bytes per parameter by part of one run."""

    run: Run
    matrices: WeightFormat
    experts: WeightFormat
    plain: float
    from_checkpoint: bool
    dequantises_scales: bool

    @classmethod
    def of(cls, run: Run, settings: Settings) -> "_Sizes":
        matrices = stored_format(run)
        quantisation = run.model.quantisation
        own = quantisation is not None and quantisation.format is matrices
        experts = (quantisation.expert_format if quantisation is not None and own else None) or matrices
        plain = float(settings.element_bytes)
        return cls(
            run=run,
            matrices=matrices,
            experts=experts,
            plain=plain,
            from_checkpoint=own,
            dequantises_scales=settings.version.number >= (0, 10),
        )

    def matrix(self, part: str) -> float:
        """Bytes of one parameter of this part, scales included."""
        weight_format = self.experts if part == "experts" else self.matrices
        if (part in _ALWAYS_KEPT and not self.from_checkpoint) or weight_format in SIXTEEN_BIT:
            return self.plain
        if weight_format is WeightFormat.MXFP4 and part != "experts":
            return self.plain  # vLLM applies MXFP4 to fused experts only (quantization/mxfp4.py)
        quantisation = self.run.model.quantisation
        if quantisation is None or not self.from_checkpoint:
            return bytes_per_parameter(weight_format)
        same = weight_format is quantisation.format
        size = bytes_per_parameter(
            weight_format, quantisation.group_size if same else None, quantisation.bits if same else None
        )
        if weight_format is WeightFormat.NF4 and not self.dequantises_scales:
            size = NESTED_NF4
        kept = quantisation.kept_shares.get(part, 1.0 if part in _ALWAYS_KEPT else 0.0)
        return kept * self.plain + (1 - kept) * size

    def part(self, name: str, count: float) -> float:
        """Bytes of `count` parameters of a part; exact where the checkpoint's files were read."""
        stored = self.run.model.stored_bytes.get(name)
        whole = int(getattr(self.run.model.parameters, name))
        as_stored = self.from_checkpoint or (self.matrices in SIXTEEN_BIT and stored == self.plain * whole)
        if stored is not None and whole and as_stored:
            return float(stored) * count / whole
        return count * self.matrix(name)


def dense_layers(model: ModelFacts) -> int:
    """Layers whose feed-forward part is not one of experts."""
    return model.layer_count - (model.experts.layers if model.experts else 0)


def has_gated_parts(model: ModelFacts) -> bool:
    """Whether a dense feed-forward part has three matrices rather than two.

    Counts tell where all such parts are as wide as the widest, one in every layer or (Nemotron-H) in layers of their
    own; where they are not, three are taken, as nearly all have.
    """
    alone = sum(layers.count for layers in model.layers if layers.kind is LayerKind.NONE and not layers.heads)
    matrix = model.hidden_size * (model.intermediate_size or 0)
    counts = [count for count in (dense_layers(model), alone) if count > 0 and matrix > 0]
    return not any(1.95 < model.parameters.mlp / (count * matrix) < 2.1 for count in counts)


def _replicated_kv_heads(model: ModelFacts, tp: int) -> float:
    """Parameters per rank beyond an even share, where there are more ranks than key and value heads."""
    extra = 0.0
    for layers in model.layers:
        if layers.kv_heads and layers.key_size and layers.kind is not LayerKind.MLA and tp > layers.kv_heads:
            row = model.hidden_size * (layers.key_size + (layers.value_size or layers.key_size))
            extra += layers.count * row * (1 - layers.kv_heads / tp)
    return extra


def _absorbed_latent(model: ModelFacts, tp: int, settings: Settings) -> float:
    """From 0.7.1 latent attention keeps a 16-bit copy of its up-projection, split for decoding.

    Its size is heads x (key part + value) x latent; both parts are 128 wide in every published model of the kind, of
    which facts hold only the sum of all projections.
    """
    if not settings.version.has_latent_cache:
        return 0.0
    total = 0.0
    for layers in model.layers:
        if layers.kind is LayerKind.MLA and layers.latent_size and layers.heads and layers.tokens_per_entry == 1:
            total += layers.count * layers.latent_size * layers.heads * (128 + 128) * 2 / tp
    return total


def _tensors(run: Run, sizes: _Sizes) -> Iterator[tuple[int, float]]:
    """How many large tensors of one kind a rank holds, as vLLM merges them, and the raw bytes of each."""
    model, tp = run.model, run.tensor_parallel
    hidden = model.hidden_size
    table = padded_vocabulary(model) * hidden / tp
    yield 1, table * sizes.matrix("embedding")
    if model.parameters.head:
        yield 1, table * sizes.matrix("head")
    attention, mlp = sizes.matrix("attention"), sizes.matrix("mlp")
    for layers in model.layers:
        if layers.heads is None or layers.key_size is None or layers.kind is LayerKind.MLA:
            continue
        value = layers.value_size or layers.key_size
        kv_heads = max(1, ceil((layers.kv_heads or layers.heads) / tp))
        query = layers.heads / tp * layers.key_size
        yield layers.count, (query + kv_heads * (layers.key_size + value)) * hidden * attention
        yield layers.count, layers.heads / tp * value * hidden * attention
    experts = model.experts
    dense = dense_layers(model)
    if model.intermediate_size and model.parameters.mlp and dense > 0:
        yield dense, (2 if has_gated_parts(model) else 1) * model.intermediate_size / tp * hidden * mlp
        yield dense, model.intermediate_size / tp * hidden * mlp
    if experts:
        ranks = tp * run.data_parallel if run.expert_parallel else tp
        matrix = experts.total * experts.intermediate_size * hidden / ranks * sizes.matrix("experts")
        yield experts.layers, 2 * matrix
        yield experts.layers, matrix


def _spread(run: Run, sizes: _Sizes) -> tuple[float, float]:
    """How far the total may be off, as shares: recorded errors by kind of weight (benchmarks/MEMORY.md)."""
    if sizes.matrices in SIXTEEN_BIT or (run.model.stored_bytes and sizes.from_checkpoint):
        low, high = 0.995, 1.01
    elif sizes.matrices in (WeightFormat.FP8, WeightFormat.FP8_BLOCK, WeightFormat.INT8):
        low, high = 0.985, 1.03
    else:
        low, high = 0.97, 1.06
    if run.pipeline_parallel > 1 or run.expert_parallel:
        low, high = low - 0.05, high + 0.08
    if run.model.assumed:
        low, high = low - 0.03, high + 0.05
    quantisation = run.model.quantisation
    if quantisation is not None and not quantisation.is_known and not run.model.stored_bytes:
        high *= max(1.0, 16 / (quantisation.bits or 8))  # the method is not known: up to 16 bits a weight
    return low, high


def _notes(run: Run, sizes: _Sizes) -> tuple[str, ...]:
    notes: list[str] = []
    if sizes.matrices is WeightFormat.GGUF and not run.model.stored_bytes:
        notes.append("The sizes of the GGUF tensors are not known: 0.6 bytes per parameter assumed.")
    if run.model.quantisation is None and sizes.matrices not in SIXTEEN_BIT:
        notes.append(f"{sizes.matrices} is applied to every matrix but embedding, head, norms, router and tower.")
    return tuple(notes)
