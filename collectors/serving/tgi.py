"""Text Generation Inference's table, studied at 3.3: no model label, no suffix on counters, no counter of tokens.

Tokens are counted by the sums of the two histograms of request sizes. The project is in maintenance since 2026.
"""

from collectors.serving.table import EngineTable, Part, Row
from planner.serving_readings import ServingEngine

SOURCE = "text-generation-inference 3.3, docs/source/reference/metrics.md"

ROWS: tuple[Row, ...] = (
    Row(source_name="batch_current_size", metric="requests_running", source=SOURCE),
    Row(source_name="queue_size", metric="requests_waiting", source=SOURCE),
    Row(source_name="request_input_length", metric="prompt_tokens", source=SOURCE, of=Part.TOTAL),
    Row(source_name="request_generated_tokens", metric="generation_tokens", source=SOURCE, of=Part.TOTAL),
    Row(source_name="request_success", metric="requests_finished", source=SOURCE),
    Row(source_name="request_failure", metric="requests_failed", source=SOURCE, split="err"),
    Row(source_name="request_mean_time_per_token_duration", metric="tpot_s", source=SOURCE),
    Row(source_name="request_duration", metric="e2e_latency_s", source=SOURCE),
    Row(source_name="request_queue_duration", metric="queue_time_s", source=SOURCE),
    Row(source_name="request_inference_duration", metric="inference_time_s", source=SOURCE),
    Row(source_name="request_input_length", metric="request_prompt_tokens", source=SOURCE),
    Row(source_name="request_generated_tokens", metric="request_generation_tokens", source=SOURCE),
)

_NOT_YET = "TGI gives it from the first request on"

TABLE = EngineTable(
    engine=ServingEngine.TGI,
    prefixes=("tgi_",),
    rows=ROWS,
    missing={
        "requests_running": _NOT_YET,
        "requests_waiting": _NOT_YET,
        "kv_cache_used_ratio": "TGI does not tell how full its KV cache is; vLLM and SGLang do",
        "preemptions": "TGI takes no request back once it has begun",
        "prompt_tokens": _NOT_YET,
        "generation_tokens": _NOT_YET,
        "requests_finished": _NOT_YET,
        "ttft_s": "TGI has no histogram of the time to the first token; a gateway in front of it can measure it",
        "itl_s": "TGI has one mean per request (tpot_s), not the single gaps",
        "e2e_latency_s": _NOT_YET,
        "queue_time_s": _NOT_YET,
        "prefix_cache_hit_tokens": "TGI does not count what its prefix cache saves",
    },
    facts_paths=("/info",),
    model_labels=(),
    not_read={
        "batch_": "of batches, not of requests",
        "request_count": "requests that came in; those that ended are read",
        "request_max_new_tokens": "what requests asked for",
        "request_skipped_tokens": "speculative decoding",
        "request_validation_duration": "part of the whole",
    },
)
