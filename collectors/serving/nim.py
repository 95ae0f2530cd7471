"""NVIDIA NIM's table: vLLM's names without a prefix, under `/v1/metrics` (first releases: `/metrics`).

Studied: a NIM of 2024 and the page "Observability" of NIM for LLMs. Later NIMs that run vLLM may give vLLM's own names;
those are read by vLLM's table.
"""

from collectors.serving.table import EngineTable, Row, ratio
from planner.serving_readings import ServingEngine

SOURCE = "NVIDIA NIM for LLMs, Observability"

ROWS: tuple[Row, ...] = (
    Row(source_name="num_requests_running", metric="requests_running", source=SOURCE),
    Row(source_name="num_requests_waiting", metric="requests_waiting", source=SOURCE),
    Row(source_name="num_request_max", metric="requests_limit", source=SOURCE),
    Row(source_name="gpu_cache_usage_perc", metric="kv_cache_used_ratio", source=SOURCE, convert=ratio),
    Row(source_name="prompt_tokens", metric="prompt_tokens", source=SOURCE),
    Row(source_name="generation_tokens", metric="generation_tokens", source=SOURCE),
    Row(source_name="request_finish", metric="requests_finished", source=SOURCE, split="finished_reason"),
    Row(source_name="request_success", metric="requests_finished", source=SOURCE),
    Row(source_name="request_failure", metric="requests_failed", source=SOURCE),
    Row(source_name="time_to_first_token_seconds", metric="ttft_s", source=SOURCE),
    # Observed at every token, as in the vLLM it comes from.
    Row(source_name="time_per_output_token_seconds", metric="itl_s", source=SOURCE),
    Row(source_name="e2e_request_latency_seconds", metric="e2e_latency_s", source=SOURCE),
    Row(source_name="request_prompt_tokens", metric="request_prompt_tokens", source=SOURCE),
    Row(source_name="request_generation_tokens", metric="request_generation_tokens", source=SOURCE),
)

TABLE = EngineTable(
    engine=ServingEngine.NIM,
    prefixes=("",),
    rows=ROWS,
    missing={
        "preemptions": "NIM does not count preemptions",
        "requests_finished": "NIM gives request_finish_total from the first finished request on",
        "queue_time_s": "NIM has no histogram of waiting time",
        "prefix_cache_hit_tokens": "NIM does not count prefix cache hits",
    },
    metrics_path="/v1/metrics",
    facts_paths=("/v1/models", "/v1/version"),
    tells_start=True,
)
