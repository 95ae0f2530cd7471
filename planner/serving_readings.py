"""What a serving engine said at one moment, in the planner's words: gauges, cumulative counters and histograms."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from planner.units import GpuUuid, NodeName


class ServingEngine(StrEnum):
    """The kinds of servers that are read; which one an address is, the configuration or discovery says."""

    VLLM = "vllm"
    SGLANG = "sglang"
    LLAMA_CPP = "llama.cpp"
    OLLAMA = "ollama"
    TGI = "tgi"
    NIM = "nim"
    TRITON = "triton"
    TENSORRT_LLM = "tensorrt-llm"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ServingSubject:
    """What a reading is about: one rank of one engine at one address serving one model.

    `endpoint` is host:port (and path where several servers share it), the same by every road to it; `model` is ""
    where the engine does not say (llama.cpp); `rank` is "" where there is only one ("0", "1": data-parallel engines).
    """

    endpoint: str
    model: str = ""
    rank: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.endpoint, self.model, f"rank {self.rank}" if self.rank else "") if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class GaugeReading:
    """One value of a gauge of `planner.serving_metrics`; never NaN."""

    subject: ServingSubject
    metric: str
    value: float
    observed_at: datetime  # aware UTC
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterReading:
    """A counter as the engine holds it: what it has counted since it started, `started_at` where it says when."""

    subject: ServingSubject
    metric: str
    value: float
    observed_at: datetime
    label: str = ""
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramReading:
    """A histogram as the engine holds it.

    `bounds` are the finite upper bounds in rising order; `counts[i]` is how many values were at most `bounds[i]`
    (cumulative over the buckets), and `count` how many there were at all.
    """

    subject: ServingSubject
    metric: str
    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    count: float
    total: float  # sum of all values, in the metric's unit
    observed_at: datetime
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ServedModel:
    """A model that a server offers or has loaded; sizes are those of Ollama, which loads and unloads by itself."""

    name: str
    root: str | None = None  # what was loaded: a path or a repository
    parent: str | None = None  # of a LoRA adapter: the model it sits on
    max_model_len: int | None = None
    is_loaded: bool | None = None
    size_bytes: int | None = None
    device_bytes: int | None = None
    context_tokens: int | None = None
    expires_at: datetime | None = None
    quantization: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingFact:
    """Everything known of one server at one moment; models that are not in it were not offered then.

    `lists_models` is False where the models are those that its metrics name, which need not be all that it offers.
    `pod_namespace`, `pod_name`, `pod_ip`, `node` are what discovery or Prometheus' labels told, else None: the join
    falls back to addresses. `gpu_uuids` only where the server itself or the configuration names its devices.
    """

    observed_at: datetime
    endpoint: str
    engine: ServingEngine
    version: str | None
    models: tuple[ServedModel, ...]
    lists_models: bool = True
    settings: tuple[tuple[str, str], ...] = ()  # of the cache and of the start, sorted: ("block_size", "16")
    pod_namespace: str | None = None
    pod_name: str | None = None
    pod_ip: str | None = None
    node: NodeName | None = None
    gpu_uuids: tuple[GpuUuid, ...] = ()
