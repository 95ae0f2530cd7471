"""What the simulated teams run: engines, models, the memory they hold and the work they do at their peak."""

from dataclasses import dataclass
from enum import StrEnum

from sample_data.serving_software import SERVING_SOFTWARE, ServingSoftware
from sample_data.traffic import Traffic


class Engine(StrEnum):
    """What runs in the pod, and so how it treats device memory."""

    VLLM = "vllm"  # reserves a share of the device at start, whatever it needs; so do others, see `software`
    OLLAMA = "ollama"  # holds what the model needs, lets go after a quiet while
    TEI = "text-embeddings-inference"  # holds what the model needs, always
    NOTEBOOK = "notebook"  # holds the device in Kubernetes; no process touches it


UTC_OFFSETS_H: dict[str, int] = {
    "assistant": 1,
    "batch": 1,
    "coding": 1,
    "knowledge": -5,
    "legal": 1,
    "people": -5,
    "playground": 8,
    "research": 1,
    "sales": -8,
    "search": 1,
    "support": 8,
    "translation": 8,
}
"""Where each team's users are; namespaces are named for teams."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One Deployment or StatefulSet of one team.

    Teams work in different time zones (`UTC_OFFSETS_H`), so that some work runs at any hour.
    `peak_sms` is how many multiprocessors are active at full load: the same model keeps a larger share of a smaller
    device busy. `reserve_ratio` is vLLM's `--gpu-memory-utilization`; `memory_mib` is what the others occupy.
    """

    name: str
    namespace: str
    engine: Engine
    model: str | None
    traffic: Traffic
    peak_sms: float = 0.0
    memory_mib: int = 0
    reserve_ratio: float | None = None
    gpus: int = 1  # per replica: tensor parallel size, or simply held

    @property
    def utc_offset_h(self) -> int:
        """Local time of those who use it."""
        return UTC_OFFSETS_H[self.namespace]

    @property
    def container(self) -> str:
        """Name of the container that holds the device."""
        if self.software is not None:
            return self.software.container
        return {Engine.OLLAMA: "ollama", Engine.TEI: "tei", Engine.NOTEBOOK: "notebook"}[self.engine]

    @property
    def software(self) -> ServingSoftware | None:
        """The server of language models that runs in it; None for Ollama, embeddings and notebooks."""
        return SERVING_SOFTWARE.get(self.name)

    @property
    def is_stateful_set(self) -> bool:
        """Ollama keeps its models on a volume and notebooks their home; both run as StatefulSets."""
        return self.engine in (Engine.OLLAMA, Engine.NOTEBOOK)


def _vllm(
    name: str, namespace: str, model: str, traffic: Traffic, peak_sms: float, *, gpus: int = 1, reserve: float = 0.9
) -> Deployment:
    return Deployment(
        name=name,
        namespace=namespace,
        engine=Engine.VLLM,
        model=model,
        traffic=traffic,
        peak_sms=peak_sms,
        reserve_ratio=reserve,
        gpus=gpus,
    )


def _ollama(name: str, namespace: str, model: str, traffic: Traffic, peak_sms: float, memory_mib: int) -> Deployment:
    return Deployment(
        name=name,
        namespace=namespace,
        engine=Engine.OLLAMA,
        model=model,
        traffic=traffic,
        peak_sms=peak_sms,
        memory_mib=memory_mib,
    )


def _tei(name: str, namespace: str, model: str, traffic: Traffic, peak_sms: float, memory_mib: int) -> Deployment:
    return Deployment(
        name=name,
        namespace=namespace,
        engine=Engine.TEI,
        model=model,
        traffic=traffic,
        peak_sms=peak_sms,
        memory_mib=memory_mib,
    )


DEPLOYMENTS: dict[str, Deployment] = {
    deployment.name: deployment
    for deployment in (
        # vLLM: large models, and some that are small for what they sit on
        _vllm("qwen3-235b", "assistant", "Qwen/Qwen3-235B-A22B-FP8", Traffic.OFFICE, 104.0, gpus=4),
        _vllm("llama-70b", "assistant", "meta-llama/Llama-3.3-70B-Instruct-FP8", Traffic.SATURATED, 132.0),
        _vllm("qwen-coder-32b", "coding", "Qwen/Qwen2.5-Coder-32B-Instruct", Traffic.OFFICE, 96.0),
        _vllm("mistral-small-24b", "batch", "mistralai/Mistral-Small-24B-Instruct", Traffic.NIGHTLY, 128.0),
        _vllm("mixtral-8x7b-legacy", "assistant", "mistralai/Mixtral-8x7B-Instruct-v0.1", Traffic.NONE, 90.0),
        _vllm("llama-8b", "support", "meta-llama/Llama-3.1-8B-Instruct", Traffic.OFFICE, 46.0),
        _vllm("phi-4-mini", "support", "microsoft/Phi-4-mini-instruct", Traffic.EVENING, 40.0),
        _vllm("qwen-7b", "translation", "Qwen/Qwen2.5-7B-Instruct", Traffic.OFFICE, 84.0),
        _vllm("codellama-34b-old", "coding", "codellama/CodeLlama-34b-Instruct-hf", Traffic.NONE, 90.0),
        # Ollama: small models of small teams, most of them on devices cut far too large
        _ollama("ollama-legal", "legal", "llama3.1:8b", Traffic.SPARSE, 15.0, 6_700),
        _ollama("ollama-support", "support", "qwen2.5:7b", Traffic.OFFICE, 17.0, 6_100),
        _ollama("ollama-sales", "sales", "gemma2:9b", Traffic.SPARSE, 16.0, 7_900),
        _ollama("ollama-hr", "people", "llama3.2:3b", Traffic.SPARSE, 9.0, 3_600),
        _ollama("ollama-research", "research", "phi4:14b", Traffic.EVENING, 23.0, 11_400),
        _ollama("ollama-docs", "knowledge", "mistral-nemo:12b", Traffic.OFFICE, 22.0, 9_300),
        _ollama("ollama-playground", "playground", "qwen2.5:32b", Traffic.SPARSE, 40.0, 23_500),
        # embedding servers
        _tei("bge-m3", "search", "BAAI/bge-m3", Traffic.OFFICE, 10.0, 2_650),
        _tei("bge-reranker", "search", "BAAI/bge-reranker-v2-m3", Traffic.OFFICE, 11.0, 2_900),
        _tei("e5-mistral", "knowledge", "intfloat/e5-mistral-7b-instruct", Traffic.NIGHTLY, 24.0, 15_200),
        _tei("gte-large", "search", "Alibaba-NLP/gte-large-en-v1.5", Traffic.EVENING, 12.0, 2_300),
        _tei("bge-small-old", "search", "BAAI/bge-small-en-v1.5", Traffic.NONE, 5.0, 1_100),
        # holds GPUs, runs nothing on them
        Deployment(
            name="jupyter-mkoehler",
            namespace="research",
            engine=Engine.NOTEBOOK,
            model=None,
            traffic=Traffic.NONE,
            gpus=2,
        ),
    )
}
