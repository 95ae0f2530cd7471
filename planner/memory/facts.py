"""What a model is made of, as far as its memory depends on it: layers by kind, sizes, experts, parameters.

Facts are those of one checkpoint. What a source does not state is None, and `assumed` names what had to be assumed.
With `doubts` no verdict is better than tight.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class LayerKind(StrEnum):
    """How a layer remembers earlier tokens."""

    FULL = "full"  # attention over the whole context
    SLIDING = "sliding"  # attention over the last `window` tokens
    MLA = "mla"  # one compressed latent per token for all heads
    STATE = "state"  # a state of fixed size per sequence (Mamba, gated delta net, RWKV)
    NONE = "none"  # remembers nothing (an MLP-only layer)


class WeightFormat(StrEnum):
    """How the large matrices are stored."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    FP8_BLOCK = "fp8-block"
    INT8 = "int8"
    AWQ = "awq"
    GPTQ = "gptq"
    NF4 = "nf4"
    MXFP4 = "mxfp4"
    NVFP4 = "nvfp4"
    GGUF = "gguf"  # mixed types by tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """`count` layers of one kind with the same sizes, wherever they stand in the stack.

    FULL and SLIDING: `kv_heads` of `key_size` and `value_size` elements, SLIDING also `window` (tokens). MLA:
    `latent_size` (kv_lora_rank), `rope_size`, and `window` where it only sees the last tokens. STATE: `state_elements`
    per sequence (recurrent state, by `state_bits` each) and `conv_elements`. NONE with `heads` reads the cache of an
    earlier layer. Sizes that do not apply are None. `index_size` is what a sparse attention's indexer keeps beside (one
    key of so many elements per entry); `tokens_per_entry` is above 1 where the cache of the whole context is compressed
    (DeepSeek-V4), beside the raw last `window` tokens.
    """

    kind: LayerKind
    count: int
    heads: int | None = None  # query heads
    kv_heads: int | None = None
    key_size: int | None = None
    value_size: int | None = None
    window: int | None = None
    latent_size: int | None = None
    rope_size: int | None = None
    state_elements: int | None = None
    conv_elements: int | None = None
    state_bits: int = 16
    index_size: int | None = None
    tokens_per_entry: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """Mixture of experts: in `layers` layers `total` experts, `active` of them per token, beside `shared` ones."""

    layers: int
    total: int
    active: int
    shared: int
    intermediate_size: int
    shared_intermediate_size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """How the checkpoint is quantised: bits and group of the quantised matrices, and what stays as it was.

    `expert_format` where the routed experts are stored otherwise than the rest; `kept_shares` says of each part of
    `Parameters` which share, 0 to 1, the list `kept` leaves unquantised.
    """

    format: WeightFormat
    bits: float | None = None
    group_size: int | None = None
    kept: tuple[str, ...] = ()  # names or patterns of modules that are not quantised
    kv_cache_format: str | None = None  # "fp8" where the checkpoint demands it
    expert_format: WeightFormat | None = None
    is_known: bool = True  # False: the method is not known, and each weight may take up to 16 bits
    kept_shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Parameter counts by part; their sum is the checkpoint. `head` is 0 where it is tied to the embedding."""

    embedding: int
    head: int
    attention: int
    mlp: int  # dense feed-forward
    experts: int  # routed experts
    shared_experts: int
    router: int
    norms: int
    other: int = 0  # state-space blocks, biases that no other part counts, prediction heads
    tower: int = 0  # vision or audio

    @property
    def total(self) -> int:
        """All of them."""
        return (
            self.embedding
            + self.head
            + self.attention
            + self.mlp
            + self.experts
            + self.shared_experts
            + self.router
            + self.norms
            + self.other
            + self.tower
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """One checkpoint. `stored_bytes`: what its files hold by part, from safetensors or GGUF headers (no tensors read).

    Parts are the field names of `Parameters`. `source` says where the facts were read, for people.
    """

    name: str
    architecture: str  # "LlamaForCausalLM", or a GGUF architecture
    model_type: str
    hidden_size: int
    intermediate_size: int | None
    vocab_size: int
    max_positions: int | None
    tied_embeddings: bool
    dtype: WeightFormat
    layers: tuple[Layers, ...]
    parameters: Parameters
    experts: Experts | None = None
    quantisation: Quantisation | None = None
    stored_bytes: Mapping[str, int] = field(default_factory=dict)
    is_text: bool = True
    source: str = ""
    assumed: tuple[str, ...] = ()  # sentences: what no source stated
    replicated_attention: int = 0
    prediction_layers: int = 0
    prediction_bytes: int = 0  # what the files hold of them
    stack_layers: int | None = None  # where one layer of the stack is two of `layers` (attention beside a state)
    doubts: tuple[str, ...] = ()  # sentences: weights that may come on top of what is counted

    @property
    def layer_count(self) -> int:
        """Layers of the stack."""
        return self.stack_layers if self.stack_layers is not None else sum(layers.count for layers in self.layers)
