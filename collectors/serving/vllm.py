"""vLLM's table: V0 (to 0.7) and V1 (0.8 to 0.33), under its own names and under Ray's.

Studied: 0.6, 0.11, 0.16, 0.20, 0.32 and 0.33, by their source and by running servers. Units are in the names: seconds,
tokens; `_perc` is a ratio from 0 to 1 (help text: "1 means 100 percent usage").
"""

from collectors.serving.table import EngineTable, Row, is_zero, ratio
from planner.serving_readings import ServingEngine

V0 = "vLLM 0.6, vllm/engine/metrics.py"
V1 = "vLLM 0.33.0, vllm/v1/metrics/loggers.py"
V1_OLD = "vLLM 0.11.0, vllm/v1/metrics/loggers.py"


def _sleep(state: str) -> str:
    return "" if state == "awake" else state


ROWS: tuple[Row, ...] = (
    Row(source_name="num_requests_running", metric="requests_running", source=V1),
    Row(source_name="num_requests_waiting", metric="requests_waiting", source=V1),
    Row(source_name="num_requests_waiting_by_reason", metric="requests_waiting_by_reason", source=V1, split="reason"),
    Row(source_name="num_requests_swapped", metric="requests_swapped", source=V0),
    Row(source_name="kv_cache_usage_perc", metric="kv_cache_used_ratio", source=V1, convert=ratio),
    Row(source_name="gpu_cache_usage_perc", metric="kv_cache_used_ratio", source=V0, convert=ratio),
    # awake = 1 is the opposite of asleep and stands for both kinds of sleep together
    Row(
        source_name="engine_sleep_state",
        metric="engine_asleep",
        source=V1,
        where=(("sleep_state", "awake"),),
        split="sleep_state",
        label=_sleep,
        convert=is_zero,
        beside=True,
    ),
    Row(
        source_name="engine_sleep_state",
        metric="engine_asleep",
        source=V1,
        where=(("sleep_state", "weights_offloaded"),),
        split="sleep_state",
        beside=True,
    ),
    Row(
        source_name="engine_sleep_state",
        metric="engine_asleep",
        source=V1,
        where=(("sleep_state", "discard_all"),),
        split="sleep_state",
        beside=True,
    ),
    Row(source_name="num_preemptions", metric="preemptions", source=V1),
    Row(source_name="prompt_tokens", metric="prompt_tokens", source=V1),
    Row(source_name="prompt_tokens_cached", metric="prompt_tokens_cached", source=V1),
    Row(source_name="generation_tokens", metric="generation_tokens", source=V1),
    Row(source_name="prefix_cache_queries", metric="prefix_cache_query_tokens", source=V1),
    Row(source_name="prefix_cache_hits", metric="prefix_cache_hit_tokens", source=V1),
    # Until 0.8 these counted blocks (vllm-project/vllm#18003, released with 0.9.0).
    Row(source_name="gpu_prefix_cache_queries", metric="prefix_cache_query_tokens", source=V1_OLD, since=(0, 9)),
    Row(source_name="gpu_prefix_cache_hits", metric="prefix_cache_hit_tokens", source=V1_OLD, since=(0, 9)),
    Row(source_name="request_success", metric="requests_finished", source=V1, split="finished_reason"),
    Row(source_name="admission_rejections", metric="requests_rejected", source=V1, split="reason"),
    Row(source_name="time_to_first_token_seconds", metric="ttft_s", source=V1),
    Row(source_name="inter_token_latency_seconds", metric="itl_s", source=V1),
    # Despite its name: observed at every token, and renamed to the above.
    Row(source_name="time_per_output_token_seconds", metric="itl_s", source=V0),
    Row(source_name="request_time_per_output_token_seconds", metric="tpot_s", source=V1),
    Row(source_name="e2e_request_latency_seconds", metric="e2e_latency_s", source=V1),
    Row(source_name="request_queue_time_seconds", metric="queue_time_s", source=V1),
    Row(source_name="request_prefill_time_seconds", metric="prefill_time_s", source=V1),
    Row(source_name="request_decode_time_seconds", metric="decode_time_s", source=V1),
    Row(source_name="request_inference_time_seconds", metric="inference_time_s", source=V1),
    Row(source_name="request_prompt_tokens", metric="request_prompt_tokens", source=V1),
    Row(source_name="request_generation_tokens", metric="request_generation_tokens", source=V1),
)

_STATS = "vLLM gives none of its metrics when it is started with --disable-log-stats"

TABLE = EngineTable(
    engine=ServingEngine.VLLM,
    prefixes=("vllm:", "ray_vllm_", "ray_vllm:", "vllm_"),
    rows=ROWS,
    missing={
        "requests_running": _STATS,
        "requests_waiting": _STATS,
        "kv_cache_used_ratio": f"neither kv_cache_usage_perc (from 0.10) nor gpu_cache_usage_perc is there; {_STATS}",
        "preemptions": _STATS,
        "prompt_tokens": _STATS,
        "generation_tokens": _STATS,
        "requests_finished": _STATS,
        "ttft_s": _STATS,
        "itl_s": _STATS,
        "e2e_latency_s": _STATS,
        "queue_time_s": "request_queue_time_seconds exists from vLLM 0.6.5 on; update vLLM",
        "prefix_cache_hit_tokens": "the V0 engine counts no prefix cache hits, and 0.8 counts blocks; vLLM 0.9 or "
        "later with its V1 engine counts tokens",
    },
    facts_paths=("/version", "/v1/models"),
    model_labels=("model_name", "model"),
    rank_labels=("engine",),
    worker_labels=("ReplicaId", "WorkerId"),
    constant=frozenset({"Component", "NodeAddress", "SessionName", "Version"}),
    only={"server": ""},  # vLLM's router repeats what the servers behind it say, with their addresses
    info_names=frozenset({"cache_config_info"}),
    tells_start=True,
    not_read={
        "iteration_tokens_total": "a histogram despite its name, of tokens per step of the engine",
        "lora_requests_info": "its value is a time, not a number of requests",
        "prompt_tokens_by_source": "where prompt tokens came from; the cached ones are read",
        "prompt_tokens_cached_by_source": "parts of prompt_tokens_cached",
        "prompt_tokens_recomputed": "0.16 only",
        "avg_": "averages over a window of the engine's own",
        "cpu_": "the part of the cache that lies on the host (V0)",
        "gpu_prefix_cache_hit_rate": "a rate over a window of the engine's own, -1 when it is off (V0)",
        "external_prefix_cache_": "another server's cache, behind a KV connector",
        "mm_cache_": "inputs that are no text",
        "spec_decode_": "speculative decoding",
        "estimated_": "estimates of work",
        "request_params_": "what requests asked for",
        "request_max_num_generation_tokens": "the same as request_generation_tokens unless n is used",
        "request_num_preemptions": "preemptions per request; their number is read",
        "request_prefill_kv_computed_tokens": "prompt tokens per request without the cached ones",
        "num_requests_kv_fetch_by_stage": "requests at a KV connector",
        "corrupted_requests": "requests whose logits were not numbers",
    },
)


GENERATIONS: tuple[tuple[str, str], ...] = (
    ("prompt_tokens_cached_by_source", "0.33 or about it"),
    ("num_requests_waiting_by_reason", "0.20 or later"),
    ("prompt_tokens_by_source", "0.16 or later"),
    ("inter_token_latency_seconds", "0.11 or later"),
    ("kv_cache_usage_perc", "0.10 or later"),
    ("prefix_cache_queries", "0.8 or later (V1)"),
    ("num_requests_swapped", "0.7 or earlier (V0)"),
)
"""Names that came or went with a release, newest first: what a page tells of its version where nothing else does."""
