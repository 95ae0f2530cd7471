"""What a vLLM server's `/metrics` says, in each generation of its names, and through Ray's metrics agent.

Names, labels and bounds: vllm/engine/metrics.py of 0.6 (V0), vllm/v1/metrics/loggers.py of 0.11 to 0.33 (V1); for the
names under Ray vllm/v1/metrics/ray_wrappers.py and Ray's RAY_EXPORT_COUNTER_AS_GAUGE.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sample_data.identity import digest
from sample_data.prometheus_text import Page, labels
from sample_data.request_shapes import BLOCK_TOKENS, FinishReason, Quantity
from sample_data.serving_software import ServingSoftware
from sample_data.serving_state import ServingPod, ServingState, serving_state

_TTFT_V0 = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_TTFT = (*_TTFT_V0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0)
_GAP_V0 = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_GAP = (*_GAP_V0, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_WHOLE_V0 = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0)
_WHOLE = (*_WHOLE_V0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0)


@dataclass(frozen=True, slots=True)
class _Rank:
    """One data-parallel engine: its labels and what it has done."""

    named: Mapping[str, str]
    state: ServingState


def vllm_page(place: ServingPod, software: ServingSoftware, at: datetime, *, since: datetime | None = None) -> str:
    """The body of a scrape; `since` is when the process started, if later than the pod."""
    version = version_tuple(software.version)
    started_at = since or place.started_at
    ranks = [
        _Rank(
            named=_base_labels(place, software, rank, started_at),
            state=serving_state(place, at, since=since, rank=rank, ranks=software.ranks),
        )
        for rank in range(software.ranks)
    ]
    has_created = version >= (0, 8) and not software.under_ray
    page = Page(created_at=started_at if has_created else None)
    if not software.under_ray:
        _process(page, started_at)
    writer = _RayNames(page) if software.under_ray else _Names(page)
    _gauges(writer, ranks, version)
    _counters(writer, ranks, version)
    _histograms(writer, ranks, version, software)
    if not software.under_ray:
        _cache_config(writer, ranks, version, software)
    return page.text()


def version_tuple(version: str) -> tuple[int, ...]:
    """`0.11.0` as numbers, for comparison."""
    return tuple(int(part) for part in version.split("."))


class _Names:
    """vLLM's own names."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def gauge(self, name: str, help: str, values: Sequence[tuple[Mapping[str, str], float]]) -> None:
        self.page.gauge(f"vllm:{name}", help, [(labels(named), value) for named, value in values])

    def counter(self, name: str, help: str, values: Sequence[tuple[Mapping[str, str], float]]) -> None:
        self.page.counter(f"vllm:{name}_total", help, [(labels(named), value) for named, value in values])

    def histogram(
        self, name: str, help: str, ranks: Sequence[_Rank], quantity: Quantity, bounds: tuple[float, ...]
    ) -> None:
        self.page.histogram(f"vllm:{name}", help, [(rank.named, rank.state.work) for rank in ranks], quantity, bounds)


class _RayNames(_Names):
    """Ray's: no colons, every counter once more as a gauge without suffix, and none that has not counted yet."""

    def gauge(self, name: str, help: str, values: Sequence[tuple[Mapping[str, str], float]]) -> None:
        self.page.gauge(f"ray_vllm_{name}", help, [(labels(named), value) for named, value in values])

    def counter(self, name: str, help: str, values: Sequence[tuple[Mapping[str, str], float]]) -> None:
        counted = [(labels(named), value) for named, value in values if value]
        if counted:
            self.page.gauge(f"ray_vllm_{name}", help, counted)
            self.page.counter(f"ray_vllm_{name}_total", help, counted)

    def histogram(
        self, name: str, help: str, ranks: Sequence[_Rank], quantity: Quantity, bounds: tuple[float, ...]
    ) -> None:
        counted = [(rank.named, rank.state.work) for rank in ranks if rank.state.work.requests]
        if counted:
            self.page.histogram(f"ray_vllm_{name}", help, counted, quantity, bounds)


def _base_labels(place: ServingPod, software: ServingSoftware, rank: int, started_at: datetime) -> dict[str, str]:
    named = {"model_name": place.model}
    if version_tuple(software.version) >= (0, 8):
        named["engine"] = str(rank)
    if software.under_ray:
        worker = digest("worker", place.pod.uid, rank, started_at.isoformat()).hex()[:56]
        named |= {
            "Component": "core_worker",
            "NodeAddress": "10.42.0.7",
            "ReplicaId": worker[:8],
            "SessionName": "session_2026-01-12_08-15-00_000000_1",
            "Version": "2.48.0",
            "WorkerId": worker,
        }
    return named


def _process(page: Page, started_at: datetime) -> None:
    started_s = started_at.timestamp()
    page.gauge(
        "python_info",
        "Python platform information",
        [(labels({"implementation": "CPython", "major": "3", "minor": "12", "version": "3.12.11"}), 1.0)],
    )
    page.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", [("", 4.6e9)])
    page.gauge(
        "process_start_time_seconds", "Start time of the process since unix epoch in seconds.", [("", started_s)]
    )


def _gauges(writer: _Names, ranks: Sequence[_Rank], version: tuple[int, ...]) -> None:
    def each(value: float | None = None, **split: str) -> list[tuple[Mapping[str, str], float]]:
        return [({**rank.named, **split}, value or 0.0) for rank in ranks]

    writer.gauge(
        "num_requests_running",
        "Number of requests in model execution batches.",
        [(rank.named, rank.state.running) for rank in ranks],
    )
    waiting = [(rank.named, float(rank.state.waiting)) for rank in ranks]
    writer.gauge("num_requests_waiting", "Number of requests waiting to be processed.", waiting)
    used = [(rank.named, rank.state.kv_cache_used_ratio) for rank in ranks]
    if version >= (0, 20):
        writer.gauge(
            "num_requests_waiting_by_reason",
            "Number of waiting requests by reason.",
            [({**named, "reason": "capacity"}, value) for named, value in waiting] + each(reason="deferred"),
        )
    if version < (0, 8):
        writer.gauge("num_requests_swapped", "Number of requests swapped to CPU.", each())
        writer.gauge("cpu_cache_usage_perc", "CPU KV-cache usage. 1 means 100 percent usage.", each())
        writer.gauge("gpu_prefix_cache_hit_rate", "GPU prefix cache block hit rate.", each(-1.0))
    if version < (0, 12):
        writer.gauge("gpu_cache_usage_perc", "GPU KV-cache usage. 1 means 100 percent usage.", used)
    if version >= (0, 10):
        writer.gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", used)
    if version >= (0, 16):
        writer.gauge(
            "engine_sleep_state",
            "Engine sleep state.",
            each(1.0, sleep_state="awake") + each(sleep_state="weights_offloaded") + each(sleep_state="discard_all"),
        )


def _counters(writer: _Names, ranks: Sequence[_Rank], version: tuple[int, ...]) -> None:
    works = [(rank.named, rank.state.work) for rank in ranks]
    if version >= (0, 8):
        for prefix in ("prefix_cache", "gpu_prefix_cache") if version < (0, 12) else ("prefix_cache",):
            writer.counter(
                f"{prefix}_queries",
                "Prefix cache queries, in terms of number of queried tokens.",
                [(named, work.prompt_tokens) for named, work in works],
            )
            writer.counter(
                f"{prefix}_hits",
                "Prefix cache hits, in terms of number of cached tokens.",
                [(named, work.prompt_tokens_cached) for named, work in works],
            )
    writer.counter(
        "num_preemptions",
        "Cumulative number of preemption from the engine.",
        [(named, work.preemptions) for named, work in works],
    )
    writer.counter(
        "prompt_tokens", "Number of prefill tokens processed.", [(named, work.prompt_tokens) for named, work in works]
    )
    if version >= (0, 16):
        cached = [(named, float(work.prompt_tokens_cached)) for named, work in works]
        computed = [(named, float(work.prompt_tokens - work.prompt_tokens_cached)) for named, work in works]
        writer.counter(
            "prompt_tokens_by_source",
            "Number of prompt tokens by source.",
            [({**named, "source": "local_compute"}, value) for named, value in computed]
            + [({**named, "source": "local_cache_hit"}, value) for named, value in cached]
            + [({**named, "source": "external_kv_transfer"}, 0.0) for named, _ in works],
        )
        writer.counter("prompt_tokens_cached", "Number of cached prompt tokens (local + external).", cached)
        if version >= (0, 33):
            writer.counter(
                "prompt_tokens_cached_by_source",
                "Number of cached prompt tokens by source.",
                [({**named, "source": "device"}, value) for named, value in cached]
                + [({**named, "source": "host"}, 0.0) for named, _ in works],
            )
    writer.counter(
        "generation_tokens",
        "Number of generation tokens processed.",
        [(named, work.generation_tokens) for named, work in works],
    )
    reasons = (
        tuple(FinishReason) if version >= (0, 16) else (FinishReason.STOP, FinishReason.LENGTH, FinishReason.ABORT)
    )
    finished = []
    for named, work in works:
        told = dict(work.requests_by_reason)
        if FinishReason.ERROR not in reasons:  # older versions have no such reason
            told[FinishReason.ABORT] += told.pop(FinishReason.ERROR)
        finished += [({**named, "finished_reason": str(reason)}, float(told[reason])) for reason in reasons]
    writer.counter("request_success", "Count of successfully processed requests.", finished)
    if version >= (0, 33):
        writer.counter(
            "admission_rejections",
            "Requests rejected at admission.",
            [({"model_name": ranks[0].named["model_name"], "reason": "max_num_queued_reqs"}, 0.0)],
        )


def _histograms(writer: _Names, ranks: Sequence[_Rank], version: tuple[int, ...], software: ServingSoftware) -> None:
    is_v0 = version < (0, 8)
    tokens = _one_two_five(software.max_model_len)
    ttft, gap, whole = (_TTFT_V0, _GAP_V0, _WHOLE_V0) if is_v0 else (_TTFT, _GAP, _WHOLE)
    prompt, generated = Quantity.PROMPT_TOKENS, Quantity.GENERATION_TOKENS
    writer.histogram("request_prompt_tokens", "Number of prefill tokens processed.", ranks, prompt, tokens)
    writer.histogram("request_generation_tokens", "Number of generation tokens processed.", ranks, generated, tokens)
    if not is_v0:  # a histogram whose name ends like a counter's
        bounds = tuple(float(2**power) for power in range(3, 15))
        writer.histogram("iteration_tokens_total", "Histogram of tokens per engine_step.", ranks, generated, bounds)
    writer.histogram(
        "time_to_first_token_seconds", "Histogram of time to first token in seconds.", ranks, Quantity.TTFT, ttft
    )
    if version < (0, 12):
        writer.histogram(
            "time_per_output_token_seconds", "Histogram of time per output token.", ranks, Quantity.GAP, gap
        )
    if version >= (0, 11):
        writer.histogram(
            "inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", ranks, Quantity.GAP, gap
        )
        writer.histogram(
            "request_time_per_output_token_seconds",
            "Histogram of time_per_output_token_seconds per request.",
            ranks,
            Quantity.MEAN_GAP,
            gap,
        )
    for name, told, quantity in (
        ("e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", Quantity.E2E),
        ("request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.", Quantity.QUEUE),
        ("request_inference_time_seconds", "Histogram of time spent in RUNNING phase.", Quantity.INFERENCE),
        ("request_prefill_time_seconds", "Histogram of time spent in PREFILL phase.", Quantity.PREFILL),
        ("request_decode_time_seconds", "Histogram of time spent in DECODE phase.", Quantity.DECODE),
    ):
        writer.histogram(name, told, ranks, quantity, whole)


def _cache_config(writer: _Names, ranks: Sequence[_Rank], version: tuple[int, ...], software: ServingSoftware) -> None:
    """The settings of the KV cache as labels of a gauge that is 1; it names no model, and in V0 no engine."""
    values = []
    for rank in ranks:
        state = rank.state
        named = {
            "block_size": str(BLOCK_TOKENS),
            "cache_dtype": "auto",
            "enable_prefix_caching": "True",
            "gpu_memory_utilization": "0.9",
            "num_cpu_blocks": "None",
            "num_gpu_blocks": str(state.kv_cache_tokens // BLOCK_TOKENS),
            "swap_space": "4",
        }
        if "engine" in rank.named:
            named["engine"] = rank.named["engine"]
        if version >= (0, 33):
            named["kv_cache_size_tokens"] = str(state.kv_cache_tokens)
            named["kv_cache_max_concurrency"] = f"{state.kv_cache_tokens / software.max_model_len:.1f}"
        values.append((named, 1.0))
    writer.gauge("cache_config_info", "Information of the LLMEngine CacheConfig", values)


def _one_two_five(largest: int) -> tuple[float, ...]:
    steps = (mantissa * 10.0**power for power in range(8) for mantissa in (1, 2, 5))
    return tuple(step for step in steps if step <= largest)
