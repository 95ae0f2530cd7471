"""Triton's table: cumulative microseconds per model and version, and the gauges of its TensorRT-LLM backend.

Studied: Triton 2.x, page "Metrics" of its user guide, and the metrics of tensorrtllm_backend. Latency has a sum and a
count and no buckets, so there are means and no percentiles. Versions of a model are its ranks. Triton's vLLM backend
gives vLLM's names beside these.
"""

from collectors.serving.table import EngineTable, Part, Row, ratio
from planner.serving_readings import ServingEngine

SOURCE = "Triton Inference Server, docs/user_guide/metrics.md"
TRT_LLM = "triton-inference-server/tensorrtllm_backend, README.md, Triton Metrics"

_US = 1e-6

ROWS: tuple[Row, ...] = (
    Row(
        source_name="trt_llm_request_metrics",
        metric="requests_running",
        source=TRT_LLM,
        where=(("request_type", "scheduled"),),
    ),
    Row(
        source_name="trt_llm_request_metrics",
        metric="requests_waiting",
        source=TRT_LLM,
        where=(("request_type", "waiting"),),
    ),
    Row(source_name="inference_pending_request_count", metric="requests_waiting", source=SOURCE),
    Row(
        source_name="trt_llm_request_metrics",
        metric="requests_limit",
        source=TRT_LLM,
        where=(("request_type", "max"),),
    ),
    Row(
        source_name="trt_llm_kv_cache_block_metrics",
        metric="kv_cache_used_ratio",
        source=TRT_LLM,
        where=(("kv_cache_block_type", "fraction"),),
        convert=ratio,
    ),
    Row(source_name="inference_request_success", metric="requests_finished", source=SOURCE),
    Row(source_name="inference_request_failure", metric="requests_failed", source=SOURCE, split="reason"),
    Row(
        source_name="inference_request_duration_us",
        metric="e2e_latency_s",
        source=SOURCE,
        fills=Part.TOTAL,
        factor=_US,
    ),
    Row(source_name="inference_request_success", metric="e2e_latency_s", source=SOURCE, fills=Part.COUNT),
    Row(
        source_name="inference_queue_duration_us",
        metric="queue_time_s",
        source=SOURCE,
        fills=Part.TOTAL,
        factor=_US,
    ),
    Row(source_name="inference_request_success", metric="queue_time_s", source=SOURCE, fills=Part.COUNT),
)

_TOKENS = "Triton counts requests and no tokens; its vLLM backend and TensorRT-LLM's own server do"

TABLE = EngineTable(
    engine=ServingEngine.TRITON,
    prefixes=("nv_",),
    rows=ROWS,
    missing={
        "requests_running": "Triton itself tells no running requests; its TensorRT-LLM backend does",
        "requests_waiting": "nv_inference_pending_request_count exists from Triton 24.04 on",
        "kv_cache_used_ratio": "Triton itself knows no KV cache; its TensorRT-LLM backend tells",
        "preemptions": "Triton does not count preemptions",
        "prompt_tokens": _TOKENS,
        "generation_tokens": _TOKENS,
        "ttft_s": "Triton gives a histogram of the first response with --metrics-config histogram_latencies=true for "
        "decoupled models, in milliseconds; it is not read yet",
        "itl_s": _TOKENS,
        "prefix_cache_hit_tokens": _TOKENS,
    },
    model_labels=("model",),
    # Each version is loaded, unloaded and counted on its own; in a sum, one that goes would look like a restart.
    rank_labels=("version",),
    not_read={
        "gpu_": "of the GPU: DCGM and NVML give it better",
        "cpu_": "of the host",
        "energy_consumption": "of the GPU: DCGM and NVML give it better",
        "cache_": "Triton's cache of whole responses",
        "inference_request_summary_us": "quantiles over a window of the server's own",
    },
)
