"""What gpufleet measures of serving engines: the one list of names, their units, and how values combine over time.

Collectors may only emit these names, whatever the engine calls them. `label` of a reading is what the metric is split
by: the reason of waiting, the reason of finishing.
"""

from dataclasses import dataclass
from enum import StrEnum


class ServingKind(StrEnum):
    """How values of a metric combine over time."""

    GAUGE = "gauge"
    COUNTER = "counter"  # cumulative since the engine started; stored as increments
    HISTOGRAM = "histogram"  # cumulative bucket counts since the engine started; stored as increments


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingMetric:
    """One thing measured of one engine, by its name in base units; `split_by` names what `label` holds."""

    name: str
    kind: ServingKind
    help: str
    split_by: str | None = None


def _gauge(name: str, help: str, split_by: str | None = None) -> ServingMetric:
    return ServingMetric(name=name, kind=ServingKind.GAUGE, help=help, split_by=split_by)


def _counter(name: str, help: str, split_by: str | None = None) -> ServingMetric:
    return ServingMetric(name=name, kind=ServingKind.COUNTER, help=help, split_by=split_by)


def _histogram(name: str, help: str) -> ServingMetric:
    return ServingMetric(name=name, kind=ServingKind.HISTOGRAM, help=help)


SERVING_METRICS: tuple[ServingMetric, ...] = (
    _gauge("requests_running", "Requests that the engine works on."),
    _gauge("requests_waiting", "Requests that wait for a place, whatever for."),
    _gauge("requests_waiting_by_reason", "Requests that wait, by what they wait for.", "reason"),
    _gauge("requests_swapped", "Requests whose KV cache was moved to the host (vLLM V0)."),
    _gauge("requests_limit", "Most requests that the engine takes at once, where it says so."),
    _gauge("kv_cache_used_ratio", "Share of the KV cache in use."),
    _gauge("kv_cache_tokens", "Tokens that the KV cache holds when it is full."),
    _gauge("engine_asleep", "1 while the engine sleeps and holds no weights or no cache.", "sleep state"),
    _gauge("model_loaded_bytes", "Memory that a loaded model takes, wherever it lies (Ollama)."),
    _gauge("model_device_bytes", "The part of a loaded model that lies in device memory (Ollama)."),
    _counter("preemptions", "Requests that lost their place in the KV cache and were computed again."),
    _counter("prompt_tokens", "Prompt tokens, those from a prefix cache included."),
    _counter("prompt_tokens_cached", "Prompt tokens that came out of a cache."),
    _counter("generation_tokens", "Tokens generated."),
    _counter("prefix_cache_query_tokens", "Tokens looked up in the prefix cache."),
    _counter("prefix_cache_hit_tokens", "Tokens found in the prefix cache."),
    _counter("requests_finished", "Requests that ended, by how.", "reason"),
    _counter("requests_rejected", "Requests that were not admitted.", "reason"),
    _counter("requests_failed", "Requests that ended in an error, where the engine counts them apart."),
    _counter("prompt_busy_s", "Time spent on prompts (llama.cpp)."),
    _counter("generation_busy_s", "Time spent on generating (llama.cpp)."),
    _histogram("ttft_s", "Time to the first token."),
    _histogram("itl_s", "Time between two tokens: every gap of every request."),
    _histogram("tpot_s", "Time per output token: one mean per request."),
    _histogram("e2e_latency_s", "Time from arrival to the last token."),
    _histogram("queue_time_s", "Time that requests waited before work on them began."),
    _histogram("prefill_time_s", "Time that requests spent in prefill."),
    _histogram("decode_time_s", "Time that requests spent in decode."),
    _histogram("inference_time_s", "Time that requests spent in prefill and decode."),
    _histogram("request_prompt_tokens", "Prompt tokens of a request."),
    _histogram("request_generation_tokens", "Generated tokens of a request."),
)

SERVING_METRICS_BY_NAME = {metric.name: metric for metric in SERVING_METRICS}
