"""How fast scrapes of serving engines are stored, how much room they take, and how fast windows are read back.

Every engine is busy: each scrape holds what vLLM tells, five gauges, ten counters and ten histograms of 21 bounds that
all moved. An idle engine costs next to nothing.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from benchmarks.fleet_batches import INTERVAL, START
from benchmarks.results import keep, machine, table
from planner.readings import Batch
from planner.serving_readings import (
    CounterReading,
    GaugeReading,
    HistogramReading,
    ServedModel,
    ServingEngine,
    ServingFact,
    ServingSubject,
)
from planner.serving_totals import merged
from store.database import open_engine
from store.gauge_queries import latest_gauges
from store.latency_queries import counted_histograms
from store.schema import migrate
from store.serving_queries import counted
from store.writes import register_source, write_batch

_MODEL = "meta-llama/Llama-3.1-8B-Instruct"
_GAUGES = (("requests_running", ""), ("requests_waiting", ""), ("kv_cache_used_ratio", ""))
_LABELLED = (("requests_waiting_by_reason", "capacity"), ("requests_waiting_by_reason", "deferred"))
_COUNTERS = (
    *((name, "") for name in ("preemptions", "prompt_tokens", "prompt_tokens_cached", "generation_tokens")),
    *((name, "") for name in ("prefix_cache_query_tokens", "prefix_cache_hit_tokens")),
    *(("requests_finished", reason) for reason in ("stop", "length", "abort", "error")),
)
_LATENCIES = ("ttft_s", "itl_s", "tpot_s", "e2e_latency_s", "queue_time_s", "prefill_time_s", "decode_time_s")
_HISTOGRAMS = (*_LATENCIES, "inference_time_s", "request_prompt_tokens", "request_generation_tokens")
_BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75)
_BOUNDS += (1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0)
_FILLED = range(4, 14)  # buckets into which values fall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", type=int, default=500)
    parser.add_argument("--steps", type=int, default=20, help="scrapes of each, 30 s apart")
    parser.add_argument("--dry-run", action="store_true", help="print only, leave RESULTS.md as it is")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = _measure(Path(folder) / "bench.db", arguments.endpoints, arguments.steps)
    print(told)
    if not arguments.dry_run:
        keep("serving-ingest", f"{_HEADING}\n\n{told}\n\n{machine()}; one run.")


def _measure(path: Path, endpoints: int, steps: int) -> str:
    engine = open_engine(f"sqlite:///{path}")
    migrate(engine)
    empty_bytes = path.stat().st_size
    source_id = register_source(engine, cluster="default", name="bench", kind="serving", interval_s=30, now=START)
    seconds = 0.0
    for step in range(steps):
        at = START + step * INTERVAL
        scrapes = [_scrape(number, at, step) for number in range(endpoints)]
        started = time.perf_counter()
        for number, batch in enumerate(scrapes):
            write_batch(engine, source_id=source_id, target=f"t-{number}", started_at=at, seconds=0.1, batch=batch)
        seconds += time.perf_counter() - started
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    stored = path.stat().st_size - empty_bytes
    scrapes_told = endpoints * steps
    per_day = stored / scrapes_told * timedelta(days=1) / INTERVAL
    lines = [
        ("milliseconds to store a scrape", f"{1000 * seconds / scrapes_told:.2f}"),
        (f"seconds to store {endpoints} scrapes", f"{seconds / steps:.2f}"),
        ("MB per busy endpoint and day, everything", f"{per_day / 1e6:.1f}"),
        *((name, f"{_timed(question):.2f}") for name, question in _questions(engine, START + steps * INTERVAL).items()),
    ]
    engine.dispose()
    return table((f"{endpoints:,} endpoints, {steps} scrapes each", "measured"), lines)


def _questions(engine: Engine, end: datetime) -> dict[str, Callable[[], object]]:
    return {
        "seconds for what all counters added": lambda: counted(engine, START, end),
        "seconds for the percentiles of one latency of all endpoints": lambda: [
            one.histogram.percentile(0.95)
            for one in merged(counted_histograms(engine, ["ttft_s"], START, end), by=lambda one: one.subject).values()
        ],
        "seconds for the latest gauges": lambda: latest_gauges(engine, end),
    }


def _timed(question: Callable[[], object]) -> float:
    started = time.perf_counter()
    question()
    return time.perf_counter() - started


def _scrape(number: int, at: datetime, step: int) -> Batch:
    subject = ServingSubject(endpoint=f"10.0.{number // 250}.{number % 250}:8000", model=_MODEL)
    counts = [0.0] * len(_BOUNDS)
    for bucket in range(len(_BOUNDS)):
        counts[bucket] = float(step * sum(bucket >= filled for filled in _FILLED))
    return Batch(
        gauges=tuple(
            GaugeReading(subject=subject, metric=name, label=label, value=float(step % 7), observed_at=at)
            for name, label in (*_GAUGES, *_LABELLED)
        ),
        counters=tuple(
            CounterReading(
                subject=subject, metric=name, label=label, value=1000.0 * step, observed_at=at, started_at=START
            )
            for name, label in _COUNTERS
        ),
        histograms=tuple(
            HistogramReading(
                subject=subject,
                metric=name,
                bounds=_BOUNDS,
                counts=tuple(counts),
                count=counts[-1],
                total=3.7 * step,
                observed_at=at,
                started_at=START,
            )
            for name in _HISTOGRAMS
        ),
        servers=(
            ServingFact(
                observed_at=at,
                endpoint=subject.endpoint,
                engine=ServingEngine.VLLM,
                version="0.33.0",
                models=(ServedModel(name=_MODEL, max_model_len=8192),),
                pod_namespace="inference",
                pod_name=f"vllm-{number}",
            ),
        ),
    )


_HEADING = f"""## Ingest of serving engines (`python -m benchmarks.serving_ingest`)

Each scrape is one transaction of {len(_GAUGES) + len(_LABELLED)} gauges, {len(_COUNTERS)} counters and
{len(_HISTOGRAMS)} histograms of {len(_BOUNDS)} bounds, all of which moved, and what is known of the server."""


if __name__ == "__main__":
    main()
