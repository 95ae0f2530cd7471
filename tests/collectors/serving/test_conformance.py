"""Recorded and generated answers of real engines, against what they say: worked out by hand from the files."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from collectors.serving.answers import read_facts
from collectors.serving.metrics import TABLES, engine_of
from collectors.serving.table import meanings
from collectors.transport import Page
from planner.serving_metrics import SERVING_METRICS_BY_NAME
from planner.serving_readings import ServingEngine
from tests.collectors.serving.pages import Told, told


@pytest.fixture(scope="module")
def payloads(reference: Path) -> Path:
    return reference / "payloads"


def page(folder: Path, name: str, **how: object) -> Told:
    text = (folder / name).read_text(encoding="utf-8")
    return told(text if text.endswith("\n") else f"{text}\n", **how)  # type: ignore[arg-type]


def test_a_real_vllm_that_ran_out_of_kv_cache(reference: Path) -> None:
    # 19 requests wait for capacity, 2 run, 7 were preempted, 3 ended by length with 2,100 of 3,781 tokens
    found = page(reference / "captured" / "vllm-cpu", "kv_pressure_t2.txt")
    assert found.engine is ServingEngine.VLLM
    assert found.gauges == {
        ("requests_running", "", ""): 2,
        ("requests_waiting", "", ""): 19,
        ("requests_waiting_by_reason", "", "capacity"): 19,
        ("requests_waiting_by_reason", "", "deferred"): 0,
        ("kv_cache_used_ratio", "", ""): 0.8461538461538461,
        ("kv_cache_tokens", "", ""): 14 * 128,
        ("engine_asleep", "", ""): 0,
        ("engine_asleep", "", "weights_offloaded"): 0,
        ("engine_asleep", "", "discard_all"): 0,
    }
    assert found.counters == {
        ("preemptions", "", ""): 7,
        ("prompt_tokens", "", ""): 413,
        ("prompt_tokens_cached", "", ""): 0,
        ("generation_tokens", "", ""): 3781,
        ("prefix_cache_query_tokens", "", ""): 413,
        ("prefix_cache_hit_tokens", "", ""): 0,
        ("requests_finished", "", "stop"): 0,
        ("requests_finished", "", "length"): 3,
        ("requests_finished", "", "abort"): 0,
        ("requests_finished", "", "error"): 0,
        ("requests_finished", "", "repetition"): 0,
        ("requests_rejected", "", "max_num_queued_reqs"): 0,
        ("requests_rejected", "", "max_num_queued_tokens"): 0,
    }
    assert found.missing == set()
    assert {one.subject.model for one in found.understood.gauges} == {"tiny-llama"}


def test_a_real_vllm_after_24_requests_of_700_tokens(reference: Path) -> None:
    found = page(reference / "captured" / "vllm-cpu", "kv_pressure_after.txt")
    assert found.counters["generation_tokens", "", ""] == 24 * 700
    assert found.counters["preemptions", "", ""] == 68
    ttft = found.histograms["ttft_s", ""]
    assert ttft.bounds[:6] == (0.001, 0.005, 0.01, 0.02, 0.04, 0.06)
    assert dict(zip(ttft.bounds, ttft.counts, strict=True))[5.0] == 9
    assert (ttft.count, ttft.total) == (24, 235.24209856987)
    # each gap of each request: 699 per request of 700 tokens; TPOT has one value per request
    assert found.histograms["itl_s", ""].count == 24 * 699
    assert found.histograms["tpot_s", ""].count == 24
    assert found.histograms["request_prompt_tokens", ""].total == found.counters["prompt_tokens", "", ""] == 1504
    assert found.histograms["queue_time_s", ""].total == 234.07991041100195
    # its _created is 1.795312135995767e+09
    assert ttft.started_at == datetime(2026, 11, 22, 1, 48, 55, 995767, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "generated", "stop", "ttft_total", "kv"),
    [
        ("generated_from_wheel_vllm-0.11.0.prom", 56702, 120, 33.896913585118426, 0.6161616084550876),
        ("generated_from_wheel_vllm-0.16.0.prom", None, None, None, None),
        ("generated_from_wheel_vllm-0.20.2.prom", None, None, None, None),
        ("generated_from_wheel_vllm-0.33.0.prom", None, None, None, None),
        ("real_vllm_v1_kops-2026-03_qwen2.5-0.5b.prom", 0, 0, 0.0, 0.0),
    ],
)
def test_every_vllm_of_the_v1_engine_has_all_that_matters(
    payloads: Path, name: str, generated: float | None, stop: float | None, ttft_total: float | None, kv: float | None
) -> None:
    found = page(payloads / "vllm", name)
    assert found.missing == set()
    histograms = {metric for metric, _ in found.histograms}
    assert {
        "ttft_s",
        "itl_s",
        "tpot_s",
        "e2e_latency_s",
        "queue_time_s",
        "prefill_time_s",
        "decode_time_s",
    } <= histograms
    if generated is not None:
        assert found.counters["generation_tokens", "", ""] == generated
        assert found.counters["requests_finished", "", "stop"] == stop
        assert found.histograms["ttft_s", ""].total == ttft_total
        assert found.gauges["kv_cache_used_ratio", "", ""] == kv


def test_deprecated_names_beside_new_ones_count_once(payloads: Path) -> None:
    # 0.11 gives the gaps between tokens twice: as time_per_output_token_seconds and as inter_token_latency_seconds
    found = page(payloads / "vllm", "generated_from_wheel_vllm-0.11.0.prom")
    assert found.histograms["itl_s", ""].count == 2000
    assert found.histograms["tpot_s", ""].count == 132
    assert found.counters["prefix_cache_query_tokens", "", ""] == 360000


def test_two_data_parallel_engines_are_two_ranks(payloads: Path) -> None:
    found = page(payloads / "vllm", "generated_from_wheel_vllm-0.33.0_dp2.prom")
    assert found.gauges["requests_running", "", ""] == 13
    assert found.gauges["requests_running", "1", ""] == 19
    assert found.counters["generation_tokens", "", ""] == 53790
    assert found.counters["generation_tokens", "1", ""] == 53992
    assert found.histograms["ttft_s", "1"].count == 115
    assert found.gauges["kv_cache_tokens", "1", ""] == 27130 * 16
    assert dict(found.understood.settings)["num_gpu_blocks"] == "27130"
    assert "engine" not in dict(found.understood.settings)


def test_vllm_under_ray(payloads: Path) -> None:
    found = page(payloads / "vllm", "datadog_ray_vllm_excerpt.prom")
    worker = "6ad5887a3c1c6cef"  # the WorkerId's beginning tells one replica of the node from another
    assert found.counters == {("prompt_tokens", worker, ""): 58, ("generation_tokens", worker, ""): 300}
    assert found.gauges == {
        ("requests_running", worker, ""): 0,
        ("requests_waiting", worker, ""): 0,
        ("kv_cache_used_ratio", worker, ""): 5.882698982295764e-05,
    }
    itl = found.histograms["itl_s", worker]
    assert (itl.count, itl.total, itl.bounds[-1]) == (299, 16.178537607192993, 2.5)
    assert found.missing == set()  # what Ray leaves out has not counted yet


def test_sglang(payloads: Path) -> None:
    found = page(payloads / "sglang", "generated_from_wheel_sglang-0.5.23.prom")
    assert found.engine is ServingEngine.SGLANG
    assert found.gauges == {
        ("requests_running", "", ""): 14,
        ("requests_waiting", "", ""): 3,
        ("kv_cache_used_ratio", "", ""): 0.57,
        ("kv_cache_tokens", "", ""): 444300,
    }
    assert found.counters == {  # streamed and other requests added up
        ("prompt_tokens", "", ""): 18548 + 42418,
        ("generation_tokens", "", ""): 4394 + 9343,
        ("prompt_tokens_cached", "", ""): 7680,
        ("requests_finished", "", ""): 10 + 30,
        ("requests_failed", "", ""): 1,
    }
    ttft = found.histograms["ttft_s", ""]
    assert (ttft.count, ttft.total) == (40, pytest.approx(3.7237853534322127 + 8.137858493518644))
    queue = found.histograms["queue_time_s", ""]
    assert queue.bounds[:4] == (0.0, 0.001, 0.005, 0.01)  # a bucket for those that did not wait at all
    assert queue.counts[:4] == (0, 0, 5, 8)
    assert found.histograms["itl_s", ""].count == 2000
    assert found.missing == {"preemptions", "prefix_cache_hit_tokens"}
    assert not found.reasons(None)


@pytest.mark.parametrize("name", ["real_b11434_metrics.prom", "real_b11434_metrics.http"])
def test_llama_cpp_counts_cached_prompt_tokens_apart(payloads: Path, name: str) -> None:
    text = (payloads / "llamacpp" / name).read_text(encoding="utf-8").split("\n\n")[-1]
    found = told(text, model="tiny")
    assert found.counters == {
        ("prompt_tokens", "", ""): 32 + 20,
        ("prompt_tokens_cached", "", ""): 20,
        ("generation_tokens", "", ""): 487,
        ("prompt_busy_s", "", ""): 0.043536,
        ("generation_busy_s", "", ""): 0.118376,
    }
    assert found.gauges == {("requests_running", "", ""): 0, ("requests_waiting", "", ""): 0}
    assert {one.subject.model for one in found.understood.counters} == {"tiny"}
    assert found.missing == {
        "kv_cache_used_ratio", "requests_finished", "ttft_s", "itl_s", "e2e_latency_s", "queue_time_s",
    }  # fmt: skip


def test_llama_cpp_under_load(reference: Path) -> None:
    found = page(reference / "captured" / "llama.cpp", "metrics_under_load.txt")
    assert found.gauges == {("requests_running", "", ""): 2, ("requests_waiting", "", ""): 2}
    assert found.counters["generation_tokens", "", ""] == 4048
    assert found.counters["prompt_tokens", "", ""] == 68 + 16


def test_nim_without_a_prefix_and_with_odd_exponents(payloads: Path) -> None:
    found = page(payloads / "nim", "datadog_nim_metrics.prom")
    assert found.engine is ServingEngine.NIM
    assert found.gauges == {
        ("requests_running", "", ""): 1,
        ("requests_waiting", "", ""): 0,
        ("requests_limit", "", ""): 64,
        ("kv_cache_used_ratio", "", ""): 0.0002848191398461977,
    }
    assert found.counters == {  # the five successes are the five that ended by length: counted once
        ("prompt_tokens", "", ""): 109,
        ("generation_tokens", "", ""): 174,
        ("requests_finished", "", "length"): 5,
        ("requests_failed", "", ""): 0,
    }
    assert found.histograms["itl_s", ""].count == 174 - 5  # each token after the first of each request
    assert found.understood.started_at == datetime(2024, 10, 30, 18, 27, 34, 900000, tzinfo=UTC)
    assert found.missing == {"preemptions", "queue_time_s", "prefix_cache_hit_tokens"}


def test_triton_counts_microseconds_per_model(payloads: Path) -> None:
    found = page(payloads / "triton", "datadog_triton_metrics_excerpt.prom")
    assert found.engine is ServingEngine.TRITON
    by_model = {(one.metric, one.subject.model): one for one in found.understood.histograms}
    e2e = by_model["e2e_latency_s", "densenet_onnx"]
    assert (e2e.bounds, e2e.counts, e2e.count, e2e.total) == ((), (), 3, pytest.approx(1.327965))
    assert by_model["queue_time_s", "densenet_onnx"].total == pytest.approx(0.000145)
    counted = {(one.metric, one.subject.model): one.value for one in found.understood.counters}
    assert counted["requests_finished", "densenet_onnx"] == 3
    assert counted["requests_failed", "simple"] == 0
    assert len({one.subject.model for one in found.understood.gauges}) == 8
    assert {"generation_tokens", "ttft_s", "kv_cache_used_ratio"} <= found.missing


def test_every_name_that_tgi_documents_is_read_or_left_aside_on_purpose(payloads: Path) -> None:
    # the reference keeps TGI's openapi.json; its page "Metrics" lists these families
    assert json.loads((payloads / "tgi" / "openapi.json").read_text())["info"]["version"].startswith("3.3")
    documented = {
        "batch_current_max_tokens", "batch_current_size", "batch_decode_duration", "batch_filter_duration",
        "batch_forward_duration", "batch_inference_count", "batch_inference_duration", "batch_inference_success",
        "batch_next_size", "queue_size", "request_count", "request_duration", "request_generated_tokens",
        "request_inference_duration", "request_input_length", "request_max_new_tokens",
        "request_mean_time_per_token_duration", "request_queue_duration", "request_skipped_tokens", "request_success",
        "request_validation_duration",
    }  # fmt: skip
    table = TABLES[ServingEngine.TGI]
    read = {row.source_name for row in table.rows}
    left = {name for name in documented - read if name.startswith(tuple(table.not_read))}
    assert documented - read - left == set()


@pytest.mark.parametrize("version", ["0.11.0", "0.16.0", "0.20.2", "0.33.0"])
def test_every_family_of_vllm_is_read_or_left_aside_on_purpose(payloads: Path, version: str) -> None:
    table = TABLES[ServingEngine.VLLM]
    read = {row.source_name for row in table.rows} | table.info_names
    features = (  # off by default, and of no use here
        "kv_block_", "kv_offload_", "mooncake_", "rl_weight_", "simple_kv_", "sleep_mode_", "websocket_", "watermark_",
    )  # fmt: skip
    names = json.loads((payloads / "vllm" / f"metric_names_{version}.json").read_text())
    for name in names:
        bare = name.removeprefix("vllm:")
        known = bare in read or bare.removesuffix("_total") in read
        assert known or bare.startswith((*table.not_read, *features)), name


def test_facts_of_a_real_vllm(reference: Path) -> None:
    folder = reference / "captured" / "vllm-cpu"
    facts, lacks = read_facts(
        [
            Page(url="http://a/version", status=200, text=(folder / "version.json").read_text()),
            Page(url="http://a/v1/models", status=200, text=(folder / "v1_models.json").read_text()),
        ],
        needs_model=False,
    )
    assert lacks == ()
    assert facts.version == "0.32.0"
    (model,) = facts.models
    assert (model.name, model.root, model.parent, model.max_model_len) == (
        "tiny-llama",
        "/models/tiny-llama",
        None,
        1024,
    )


def test_facts_of_a_real_llama_cpp_server(reference: Path) -> None:
    folder = reference / "captured" / "llama.cpp"
    facts, lacks = read_facts(
        [
            Page(url="http://a/props", status=200, text=(folder / "props.json").read_text()),
            Page(url="http://a/v1/models", status=200, text=(folder / "v1_models.json").read_text()),
        ],
        needs_model=True,
    )
    assert lacks == ()
    assert (facts.model, facts.limit, facts.version) == ("tiny.gguf", 4, "b0-unknown")
    (model,) = facts.models
    assert (model.size_bytes, model.context_tokens, model.quantization) == (5444608, 1024, "all F32")


def test_every_table_gives_metrics_that_exist_and_says_what_it_lacks() -> None:
    for table in TABLES.values():
        for row in table.rows:
            assert row.metric in SERVING_METRICS_BY_NAME
            assert (
                (row.split is None) or SERVING_METRICS_BY_NAME[row.metric].split_by or row.metric == "requests_failed"
            )
        assert set(table.missing) <= set(SERVING_METRICS_BY_NAME)
        assert meanings(table)


def test_pages_that_are_no_engine_s(payloads: Path) -> None:
    for path in sorted((payloads / "litellm").glob("*.prom")) + sorted((payloads / "dcgm-exporter").rglob("*.prom")):
        assert engine_of(path.read_text(encoding="utf-8", errors="replace")) is None, path
