"""What `/metrics` of SGLang, Text Generation Inference and the llama.cpp server say.

Names and labels: sglang/srt/observability/metrics_collector.py of 0.5.23; text-generation-inference 3.3, page
"Metrics"; llama.cpp b11434, tools/server/server-context.cpp and a server of that build.
"""

from datetime import datetime

from sample_data.prometheus_text import Page, labels
from sample_data.request_shapes import FinishReason, Quantity
from sample_data.serving_software import ServingSoftware
from sample_data.serving_state import ServingPod, serving_state

_SGLANG_WHOLE = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 200.0, 400.0)
_SGLANG_GAP = (0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06, 0.08, 0.1, 0.2, 0.5, 1.0)
_SGLANG_TOKENS = (100.0, 300.0, 500.0, 700.0, 1000.0, 1500.0, 2000.0, 3000.0, 5000.0, 10000.0, 20000.0, 32000.0)
_TGI_TIME = (0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.0128, 0.0256, 0.0512, 0.1024, 0.2048, 0.4096)
_TGI_TIMES = (*_TGI_TIME, 0.8192, 1.6384, 3.2768, 6.5536, 13.1072, 26.2144, 52.4288)
_TGI_TOKENS = tuple(1.0 + 327.68 * step for step in range(1, 101))
_STREAMED = (("true", 0), ("false", 1))


def sglang_page(place: ServingPod, software: ServingSoftware, at: datetime, *, since: datetime | None = None) -> str:
    """SGLang in multiprocess mode: no `_created`; every second request is streamed and counts apart.

    With priorities on, `priority=""` is the total and the numbers are its parts.
    """
    state = serving_state(place, at, since=since)
    base = {"engine_type": "unified", "model_name": place.model}
    scheduler = {**base, "moe_ep_rank": "0", "pp_rank": "0", "tp_rank": "0"}
    own = labels(scheduler)
    page = Page(prefix="sglang:")
    for name, told, count in (
        ("num_running_reqs", "The number of running requests.", state.running),
        ("num_queue_reqs", "The number of requests in the waiting queue.", state.waiting),
    ):
        split = [labels({**scheduler, "priority": priority}) for priority in ("", "0", "1")]
        page.gauge(name, told, list(zip(split, (count, count - count // 4, count // 4), strict=True)))
    used = round(state.kv_cache_used_ratio * state.kv_cache_tokens)
    for name, told, value in (
        ("token_usage", "The token usage.", state.kv_cache_used_ratio),
        ("num_used_tokens", "The number of used tokens.", used),
        ("max_total_num_tokens", "Maximum total number of tokens in the KV cache pool.", state.kv_cache_tokens),
        ("context_len", "Maximum context length.", software.max_model_len),
        ("fwd_occupancy", "Forward pass GPU occupancy percentage.", float("nan")),
    ):
        page.gauge(name, told, [(own, value)])
    bounds = (0, 1, 2, 5, 10)
    page.gauge(  # looks like a histogram's buckets and is none
        "routing_key_running_req_count",
        "Distribution of routing keys by running request count (gt < count <= le).",
        [
            (labels({**scheduler, "gt": str(low), "le": str(high)}), 0.0)
            for low, high in zip(bounds, (*bounds[1:], "+Inf"), strict=True)
        ],
    )
    works = [
        ({**base, "is_streaming": streamed}, serving_state(place, at, since=since, rank=rank, ranks=2).work)
        for streamed, rank in _STREAMED
    ]
    whole = [(base, state.work)]
    # a server with several processes collects its samples from files, in no order of time or kind
    page.histogram("queue_time_seconds", "Queueing time.", [(scheduler, state.work)], Quantity.QUEUE, _SGLANG_WHOLE)
    page.counter(
        "prompt_tokens_total",
        "Number of prefill tokens processed.",
        [(labels(named), work.prompt_tokens) for named, work in works],
    )
    page.counter(
        "generation_tokens_total",
        "Number of generation tokens processed.",
        [(labels(named), work.generation_tokens) for named, work in works],
    )
    cached = float(state.work.prompt_tokens_cached)
    page.counter(
        "cached_tokens_total",
        "Number of cached prompt tokens by source (device/host/storage).",
        [(labels({**base, "cache_source": source}), cached) for source in ("total", "device")],
    )
    page.counter(
        "num_requests_total",
        "Number of requests processed.",
        [(labels(named), work.requests) for named, work in works],
    )
    aborted = state.work.requests_by_reason[FinishReason.ABORT]
    page.counter("num_aborted_requests_total", "Number of requests aborted.", [(labels(base), float(aborted))])
    for name, told, quantity, buckets in (
        ("time_to_first_token_seconds", "Time to first token.", Quantity.TTFT, _SGLANG_WHOLE),
        ("e2e_request_latency_seconds", "End-to-end request latency.", Quantity.E2E, _SGLANG_WHOLE),
        ("request_time_per_output_token_seconds", "Per-request TPOT.", Quantity.MEAN_GAP, _SGLANG_GAP),
    ):
        page.histogram(name, told, works, quantity, buckets)
    page.histogram("inter_token_latency_seconds", "Inter-token latency.", whole, Quantity.GAP, _SGLANG_GAP)
    page.histogram("prompt_tokens_histogram", "Prompt length.", whole, Quantity.PROMPT_TOKENS, _SGLANG_TOKENS)
    page.histogram(
        "generation_tokens_histogram", "Generation length.", whole, Quantity.GENERATION_TOKENS, _SGLANG_TOKENS
    )
    return page.text()


def tgi_page(place: ServingPod, software: ServingSoftware, at: datetime, *, since: datetime | None = None) -> str:
    """TGI: no labels but the error of a failure, no suffix on counters, and no counter of tokens."""
    state = serving_state(place, at, since=since)
    work = state.work
    reasons = work.requests_by_reason
    failed = reasons[FinishReason.ERROR]
    page = Page(prefix="tgi_")
    page.gauge("queue_size", "Current queue size", [("", state.waiting)])
    page.gauge("batch_current_size", "Current batch size", [("", state.running)])
    page.counter("request_count", "Total number of requests", [("", work.requests)])
    page.counter("request_success", "Number of successful requests", [("", work.requests - failed)])
    page.counter("request_failure", "Number of failed requests", [(labels({"err": "generation"}), failed)])
    for name, quantity, bounds in (
        ("request_duration", Quantity.E2E, _TGI_TIMES),
        ("request_queue_duration", Quantity.QUEUE, _TGI_TIMES),
        ("request_inference_duration", Quantity.INFERENCE, _TGI_TIMES),
        ("request_mean_time_per_token_duration", Quantity.MEAN_GAP, _TGI_TIMES),
        ("request_input_length", Quantity.PROMPT_TOKENS, _TGI_TOKENS),
        ("request_generated_tokens", Quantity.GENERATION_TOKENS, _TGI_TOKENS),
    ):
        page.histogram(name, name.replace("_", " "), [({}, work)], quantity, bounds)
    return page.text()


def llama_cpp_page(place: ServingPod, at: datetime, *, since: datetime | None = None) -> str:
    """llama.cpp: no labels at all, six significant digits, prompt tokens without the cached ones."""
    state = serving_state(place, at, since=since)
    work = state.work
    rows: tuple[tuple[str, str, str, float], ...] = (
        ("counter", "prompt_tokens_total", "prompt tokens processed", work.prompt_tokens - work.prompt_tokens_cached),
        ("counter", "prompt_tokens_cached_total", "prompt tokens reused from the cache", work.prompt_tokens_cached),
        ("counter", "prompt_seconds_total", "time spent processing prompts", work.prefill_s),
        ("counter", "tokens_predicted_total", "generation tokens processed", work.generation_tokens),
        ("counter", "tokens_predicted_seconds_total", "time spent generating tokens", work.decode_s),
        ("counter", "n_decode_total", "llama_decode() calls", work.generation_tokens),
        ("counter", "n_tokens_max", "largest observed sequence length", 4096 if work.requests else 0),
        ("gauge", "requests_processing", "requests processing", state.running),
        ("gauge", "requests_deferred", "requests deferred", state.waiting),
    )
    return "".join(
        f"# HELP llamacpp:{name} {told}\n# TYPE llamacpp:{name} {kind}\n"
        f"llamacpp:{name} {value if isinstance(value, int) else f'{value:g}'}\n"
        for kind, name, told, value in rows
    )
