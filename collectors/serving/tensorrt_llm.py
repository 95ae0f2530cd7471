"""TensorRT-LLM's own server (`trtllm-serve`, `/prometheus/metrics`), and the same through Dynamo.

Studied: tensorrt_llm/metrics/collector.py of 2026 and the five families of 1.1. The server collects only with
`return_perf_metrics: true` and `enable_iter_perf_stats: true` in its options.
"""

from collectors.serving.table import EngineTable, Row, ratio
from planner.serving_readings import ServingEngine

SOURCE = "TensorRT-LLM 2026, tensorrt_llm/metrics/collector.py"

ROWS: tuple[Row, ...] = (
    Row(source_name="num_requests_running", metric="requests_running", source=SOURCE),
    Row(source_name="num_requests_waiting", metric="requests_waiting", source=SOURCE),
    Row(source_name="max_num_active_requests", metric="requests_limit", source=SOURCE),
    Row(source_name="kv_cache_utilization", metric="kv_cache_used_ratio", source=SOURCE, convert=ratio),
    Row(source_name="prompt_tokens", metric="prompt_tokens", source=SOURCE),
    Row(source_name="generation_tokens", metric="generation_tokens", source=SOURCE),
    Row(source_name="request_success", metric="requests_finished", source=SOURCE, split="finished_reason"),
    Row(source_name="request_error", metric="requests_failed", source=SOURCE),
    Row(source_name="time_to_first_token_seconds", metric="ttft_s", source=SOURCE),
    Row(source_name="time_per_output_token_seconds", metric="tpot_s", source=SOURCE),
    Row(source_name="e2e_request_latency_seconds", metric="e2e_latency_s", source=SOURCE),
    Row(source_name="request_queue_time_seconds", metric="queue_time_s", source=SOURCE),
    Row(source_name="request_prefill_time_seconds", metric="prefill_time_s", source=SOURCE),
    Row(source_name="request_decode_time_seconds", metric="decode_time_s", source=SOURCE),
    Row(source_name="request_inference_time_seconds", metric="inference_time_s", source=SOURCE),
)

_ITERATION = "TensorRT-LLM gives it with `enable_iter_perf_stats: true`, in releases of 2026"
_REQUEST = "TensorRT-LLM gives it with `return_perf_metrics: true`, from the first finished request on"
_LATER = "TensorRT-LLM counts it in releases of 2026, with `return_perf_metrics: true`"

TABLE = EngineTable(
    engine=ServingEngine.TENSORRT_LLM,
    prefixes=("trtllm_", "trtllm:"),
    rows=ROWS,
    missing={
        "requests_running": _ITERATION,
        "requests_waiting": _ITERATION,
        "kv_cache_used_ratio": _ITERATION,
        "preemptions": "TensorRT-LLM does not count requests that lose their place",
        "prompt_tokens": _LATER,
        "generation_tokens": _LATER,
        "requests_finished": _REQUEST,
        "ttft_s": _REQUEST,
        "itl_s": "TensorRT-LLM observes one mean per request (tpot_s), not the single gaps",
        "e2e_latency_s": _REQUEST,
        "queue_time_s": _REQUEST,
        "prefix_cache_hit_tokens": "TensorRT-LLM counts reused blocks, not tokens",
    },
    metrics_path="/prometheus/metrics",
    facts_paths=("/version", "/v1/models"),
    not_read={
        "kv_cache_": "blocks and bytes of the cache",
        "spec_decode_": "speculative decoding",
    },
)
