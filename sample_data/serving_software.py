"""Which server runs in each simulated pod: product, version, and how its metrics are exported."""

from dataclasses import dataclass, replace

from planner.serving_readings import ServingEngine


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSoftware:
    """A server of language models as it was started."""

    engine: ServingEngine
    version: str
    ranks: int = 1  # data-parallel engines behind one address
    under_ray: bool = False  # Ray Serve exports vLLM's metrics under names of its own
    has_metrics: bool = True  # llama.cpp without --metrics answers 501
    max_model_len: int = 32_768
    max_sequences: int = 128

    @property
    def container(self) -> str:
        """What the container is called."""
        return {ServingEngine.LLAMA_CPP: "llama-server", ServingEngine.TGI: "text-generation-inference"}.get(
            self.engine, self.engine.value
        )

    @property
    def image(self) -> str:
        """The image that the container was made of."""
        repository = {
            ServingEngine.VLLM: "vllm/vllm-openai:v",
            ServingEngine.SGLANG: "lmsysorg/sglang:v",
            ServingEngine.LLAMA_CPP: "ggml-org/llama.cpp:server-cuda-",
            ServingEngine.TGI: "huggingface/text-generation-inference:",
        }[self.engine]
        return f"{repository}{self.version}"

    @property
    def port(self) -> int:
        """The port that each product listens on when it is not told another."""
        return {ServingEngine.SGLANG: 30_000, ServingEngine.LLAMA_CPP: 8080, ServingEngine.TGI: 80}.get(
            self.engine, 8000
        )


SERVING_SOFTWARE: dict[str, ServingSoftware] = {
    "qwen3-235b": ServingSoftware(engine=ServingEngine.VLLM, version="0.33.0", ranks=2, max_sequences=256),
    "llama-70b": ServingSoftware(engine=ServingEngine.VLLM, version="0.33.0", max_sequences=48),
    "qwen-coder-32b": ServingSoftware(engine=ServingEngine.VLLM, version="0.20.2", under_ray=True),
    "mistral-small-24b": ServingSoftware(engine=ServingEngine.SGLANG, version="0.5.23"),
    "mixtral-8x7b-legacy": ServingSoftware(engine=ServingEngine.VLLM, version="0.6.6"),
    "llama-8b": ServingSoftware(engine=ServingEngine.VLLM, version="0.11.0"),
    "phi-4-mini": ServingSoftware(engine=ServingEngine.LLAMA_CPP, version="b11434", max_sequences=16),
    "qwen-7b": ServingSoftware(engine=ServingEngine.TGI, version="3.3.6", max_sequences=64),
    "codellama-34b-old": ServingSoftware(engine=ServingEngine.VLLM, version="0.20.2", max_model_len=16_384),
}
"""By name of the deployment; Ollama and the embedding servers have no metrics of their own here."""


def other_release(software: ServingSoftware) -> ServingSoftware:
    """The same server after an upgrade or roll-back that renames its metrics: vLLM's V0 or V1; others keep theirs."""
    if software.engine is not ServingEngine.VLLM:
        return software
    return replace(software, version="0.33.0" if software.version.startswith("0.6.") else "0.6.6", ranks=1)
