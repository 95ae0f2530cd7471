"""SGLang's table, studied at 0.5.23: scheduler gauges per rank, request counters per server.

With priority scheduling every gauge is there once more per priority; `priority=""` is the total and the only one read.
"""

from collectors.serving.table import EngineTable, Row, ratio
from planner.serving_readings import ServingEngine

SOURCE = "SGLang 0.5.23, sglang/srt/observability/metrics_collector.py"

ROWS: tuple[Row, ...] = (
    Row(source_name="num_running_reqs", metric="requests_running", source=SOURCE),
    Row(source_name="num_queue_reqs", metric="requests_waiting", source=SOURCE),
    Row(source_name="token_usage", metric="kv_cache_used_ratio", source=SOURCE, convert=ratio),
    Row(source_name="max_total_num_tokens", metric="kv_cache_tokens", source=SOURCE),
    Row(source_name="prompt_tokens", metric="prompt_tokens", source=SOURCE),
    Row(
        source_name="cached_tokens",
        metric="prompt_tokens_cached",
        source=SOURCE,
        where=(("cache_source", "total"),),
    ),
    # Without the total these are its parts (older releases: the one series, without the label).
    Row(source_name="cached_tokens", metric="prompt_tokens_cached", source=SOURCE),
    Row(source_name="generation_tokens", metric="generation_tokens", source=SOURCE),
    Row(source_name="num_requests", metric="requests_finished", source=SOURCE),
    # Counted when the client goes away; the request may be among the finished ones as well.
    Row(source_name="num_aborted_requests", metric="requests_failed", source=SOURCE),
    Row(source_name="time_to_first_token_seconds", metric="ttft_s", source=SOURCE),
    Row(source_name="inter_token_latency_seconds", metric="itl_s", source=SOURCE),
    Row(source_name="request_time_per_output_token_seconds", metric="tpot_s", source=SOURCE),
    Row(source_name="e2e_request_latency_seconds", metric="e2e_latency_s", source=SOURCE),
    Row(source_name="queue_time_seconds", metric="queue_time_s", source=SOURCE),
    Row(source_name="prompt_tokens_histogram", metric="request_prompt_tokens", source=SOURCE),
    Row(source_name="generation_tokens_histogram", metric="request_generation_tokens", source=SOURCE),
)

_NOT_YET = "SGLang gives it from the first finished request on"

TABLE = EngineTable(
    engine=ServingEngine.SGLANG,
    prefixes=("sglang:", "sglang_"),
    rows=ROWS,
    missing={
        "requests_running": "the scheduler's gauges are missing; SGLang needs --enable-metrics",
        "requests_waiting": "the scheduler's gauges are missing; SGLang needs --enable-metrics",
        "kv_cache_used_ratio": "the scheduler's gauges are missing; SGLang needs --enable-metrics",
        "preemptions": "SGLang has retracted requests as a gauge and counts none",
        "prompt_tokens": _NOT_YET,
        "generation_tokens": _NOT_YET,
        "requests_finished": _NOT_YET,
        "ttft_s": _NOT_YET,
        "itl_s": "inter_token_latency_seconds exists from SGLang 0.4.5 on, from the first request with two tokens on",
        "e2e_latency_s": _NOT_YET,
        "queue_time_s": "queue_time_seconds exists in releases of 2025 and later, from the first request on",
        "prefix_cache_hit_tokens": "SGLang counts cached prompt tokens (prompt_tokens_cached), and gives a hit rate "
        "over a window of its own",
    },
    facts_paths=("/server_info", "/get_server_info", "/v1/models"),
    rank_labels=("dp_rank",),
    sum_over=frozenset({"is_streaming", "cache_source", "engine_type"}),
    lowest_of=frozenset({"tp_rank", "pp_rank", "moe_ep_rank", "pid"}),
    only={"priority": ""},
    info_names=frozenset({"cache_config_info"}),
    not_read={
        "fwd_occupancy": "NaN on most devices",
        "routing_key_": "gauges with gt and le labels, no histogram",
        "num_retracted_reqs": "a gauge per process",
        "gen_throughput": "a rate over a window of the engine's own",
        "cache_hit_rate": "a rate over a window of the engine's own",
    },
)
