"""The llama.cpp server's table, studied at b11434: no labels, no histograms, no count of requests.

`prompt_tokens_total` leaves out what came from the cache; ours has both, so two families are added. `n_tokens_max` is
typed a counter and is a maximum: not read. The model's name is in `/v1/models` and `/props`.

What the numbers cannot say, seen of a server of that build: prompt tokens are counted while a request runs, generated
ones only when it ends or is left, so that a long answer arrives in one piece. Numbers have six significant digits:
beyond a million, a counter moves in steps of ten, beyond a billion of ten thousand. No start is told (the header
Process-Start-Time-Unix holds microseconds since the machine started): a restart is seen when a count falls, and is not
when the new count passes the old one before the next scrape. `requests_deferred` counts clients that have gone away
until, for a second, nobody was answered anything. `tokens_predicted_seconds_total` adds up the time of every request.
"""

from collectors.serving.table import EngineTable, Row, ratio
from planner.serving_readings import ServingEngine

SOURCE = "llama.cpp b11434, tools/server/README.md and a server of that build"
OLDER = "llama.cpp b4000, examples/server/README.md"

ROWS: tuple[Row, ...] = (
    Row(source_name="requests_processing", metric="requests_running", source=SOURCE),
    Row(source_name="requests_deferred", metric="requests_waiting", source=SOURCE),
    Row(source_name="kv_cache_usage_ratio", metric="kv_cache_used_ratio", source=OLDER, convert=ratio),
    Row(source_name="prompt_tokens", metric="prompt_tokens", source=SOURCE, beside=True),
    Row(source_name="prompt_tokens_cached", metric="prompt_tokens", source=SOURCE, beside=True),
    Row(source_name="prompt_tokens_cached", metric="prompt_tokens_cached", source=SOURCE),
    Row(source_name="tokens_predicted", metric="generation_tokens", source=SOURCE),
    Row(source_name="prompt_seconds", metric="prompt_busy_s", source=SOURCE),
    Row(source_name="tokens_predicted_seconds", metric="generation_busy_s", source=SOURCE),
)

_NO_HISTOGRAM = "the llama.cpp server keeps no histograms; a gateway in front of it can measure latency"

TABLE = EngineTable(
    engine=ServingEngine.LLAMA_CPP,
    prefixes=("llamacpp:",),
    rows=ROWS,
    missing={
        "requests_running": "the llama.cpp server gives metrics only with --metrics",
        "requests_waiting": "the llama.cpp server gives metrics only with --metrics",
        "kv_cache_used_ratio": "the llama.cpp server gave kv_cache_usage_ratio until 2025 and gives it no more",
        "prompt_tokens": "the llama.cpp server gives metrics only with --metrics",
        "generation_tokens": "the llama.cpp server gives metrics only with --metrics",
        "requests_finished": "the llama.cpp server does not count requests; a gateway in front of it does",
        "ttft_s": _NO_HISTOGRAM,
        "itl_s": _NO_HISTOGRAM,
        "e2e_latency_s": _NO_HISTOGRAM,
        "queue_time_s": _NO_HISTOGRAM,
    },
    facts_paths=("/props", "/v1/models"),
    model_labels=(),
    not_read={
        "n_tokens_max": "typed a counter, is a maximum",
        "prompt_tokens_seconds": "an average over a window of the server's own",
        "predicted_tokens_seconds": "an average over a window of the server's own",
        "n_decode": "calls, not tokens",
        "n_busy_slots_per_decode": "an average since the start",
        "spec_decode_": "speculative decoding",
        "kv_cache_tokens": "tokens in the cache, not its size (until 2025)",
    },
)
