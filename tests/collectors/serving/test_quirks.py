"""What engines do on the wire that a straightforward reader gets wrong, one test each."""

from datetime import UTC, datetime

import pytest

from collectors.serving.metrics import TABLES, engine_of, generation_of, version_numbers
from collectors.serving.series import SeriesBook
from planner.serving_readings import ServingEngine
from tests.collectors.serving.pages import AT, histogram, told

VLLM = ServingEngine.VLLM
M = 'model_name="m"'
E = f'engine="0",{M}'


def test_a_histogram_whose_name_ends_in_total_is_no_counter() -> None:
    text = histogram("vllm:iteration_tokens_total", {"1": 0, "+Inf": 4}, 674513.0, E)
    found = told(text + f"vllm:generation_tokens_total{{{E}}} 5\n")
    assert found.counters == {("generation_tokens", "", ""): 5}
    assert found.histograms == {}


def test_the_value_of_lora_requests_info_is_a_time_and_is_not_read() -> None:
    found = told(
        f'vllm:lora_requests_info{{max_lora="4",running_lora_adapters="a",waiting_lora_adapters=""}} 1.79e+09\n'
        f"vllm:num_requests_running{{{E}}} 1\n"
    )
    assert found.gauges == {("requests_running", "", ""): 1}


def test_settings_stand_in_the_labels_of_cache_config_info() -> None:
    found = told(
        'vllm:cache_config_info{block_size="32",engine="0",num_gpu_blocks="100",sliding_window="None"} 1.0\n'
        f"vllm:num_requests_running{{{E}}} 1\n"
    )
    assert found.understood.settings == (("block_size", "32"), ("num_gpu_blocks", "100"), ("sliding_window", "None"))
    assert found.gauges["kv_cache_tokens", "", ""] == 3200


def test_the_size_of_the_cache_in_tokens_is_preferred_to_blocks() -> None:
    # from 0.33 on; with hybrid models blocks times block size is not the number of tokens
    found = told(
        'vllm:cache_config_info{block_size="16",engine="0",kv_cache_size_tokens="1000",num_gpu_blocks="100"} 1.0\n'
        f"vllm:num_requests_running{{{E}}} 1\n"
    )
    assert found.gauges["kv_cache_tokens", "", ""] == 1000


@pytest.mark.parametrize("told_size", ["None", "-5", "many", "1" * 30, ""])
def test_a_size_that_is_none_is_no_size(told_size: str) -> None:
    found = told(
        f'vllm:cache_config_info{{block_size="16",num_gpu_blocks="{told_size}"}} 1.0\n'
        f"vllm:num_requests_running{{{E}}} 1\n"
    )
    assert ("kv_cache_tokens", "", "") not in found.gauges


def test_a_lone_engine_label_is_no_rank_and_several_are() -> None:
    running = "vllm:num_requests_running"
    assert told(f'{running}{{engine="0",{M}}} 3\n').gauges == {("requests_running", "", ""): 3}
    both = told(f'{running}{{engine="0",{M}}} 3\n{running}{{engine="1",{M}}} 4\n')
    assert both.gauges == {("requests_running", "", ""): 3, ("requests_running", "1", ""): 4}
    # a server of its own per rank, behind an external balancer
    assert told(f'{running}{{engine="3",{M}}} 3\n').gauges == {("requests_running", "3", ""): 3}


def test_rejections_carry_no_engine_label_and_are_the_whole_server_s() -> None:
    found = told(
        f'vllm:num_requests_running{{engine="0",{M}}} 1\nvllm:num_requests_running{{engine="1",{M}}} 1\n'
        f'vllm:admission_rejections_total{{{M},reason="max_num_queued_reqs"}} 7\n'
    )
    assert found.counters == {("requests_rejected", "", "max_num_queued_reqs"): 7}


def test_the_old_name_counts_where_the_new_one_is_not_there_or_not_a_number() -> None:
    old, new = f"vllm:gpu_cache_usage_perc{{{E}}}", f"vllm:kv_cache_usage_perc{{{E}}}"
    assert told(f"{old} 0.5\n").gauges == {("kv_cache_used_ratio", "", ""): 0.5}
    assert told(f"{old} 0.5\n{new} 0.4\n").gauges == {("kv_cache_used_ratio", "", ""): 0.4}
    assert told(f"{new} 0.4\n{old} 0.5\n").gauges == {("kv_cache_used_ratio", "", ""): 0.4}
    assert told(f"{new} NaN\n{old} 0.5\n").gauges == {("kv_cache_used_ratio", "", ""): 0.5}


def test_the_v0_engine_calls_the_gaps_between_tokens_time_per_output_token() -> None:
    text = histogram("vllm:time_per_output_token_seconds", {"0.01": 1, "+Inf": 3}, 0.2, M)
    found = told(text + f"vllm:num_requests_swapped{{{M}}} 0\n")
    assert set(found.histograms) == {("itl_s", "")}
    assert "tpot_s" not in {metric for metric, _ in found.histograms}


def test_prefix_cache_counters_of_0_8_count_blocks_and_are_not_read() -> None:
    text = f"vllm:gpu_prefix_cache_queries_total{{{E}}} 100\nvllm:gpu_prefix_cache_hits_total{{{E}}} 40\n"
    assert told(text, version=(0, 9, 1)).counters[("prefix_cache_hit_tokens", "", "")] == 40
    assert told(text, version=None).counters[("prefix_cache_hit_tokens", "", "")] == 40
    blocks = told(text, version=(0, 8, 5))
    assert blocks.counters == {}
    assert "0.9" in blocks.reasons("prefix_cache_hit_tokens")[0]


def test_sleeping_is_the_opposite_of_awake() -> None:
    state = f"vllm:engine_sleep_state{{{E},sleep_state="
    found = told(f'{state}"awake"}} 0.0\n{state}"weights_offloaded"}} 1.0\n{state}"discard_all"}} 0.0\n')
    assert found.gauges == {
        ("engine_asleep", "", ""): 1,
        ("engine_asleep", "", "weights_offloaded"): 1,
        ("engine_asleep", "", "discard_all"): 0,
    }


def test_ray_writes_a_counter_twice_and_it_counts_once() -> None:
    ray = f'Component="core_worker",ReplicaId="r1",SessionName="s",WorkerId="w1",{E}'
    found = told(f"ray_vllm_prompt_tokens{{{ray}}} 58\nray_vllm_prompt_tokens_total{{{ray}}} 58\n")
    assert found.counters == {("prompt_tokens", "r1", ""): 58}
    # RAY_EXPORT_COUNTER_AS_GAUGE=0 leaves one of them, before Ray 2.10 there is the other alone
    assert told(f"ray_vllm_prompt_tokens_total{{{ray}}} 58\n").counters == {("prompt_tokens", "r1", ""): 58}
    assert told(f"ray_vllm_prompt_tokens{{{ray}}} 58\n").counters == {("prompt_tokens", "r1", ""): 58}


def test_two_replicas_behind_one_ray_agent_are_told_apart() -> None:
    one, two = f'ReplicaId="r1",WorkerId="w1",{E}', f'ReplicaId="r2",WorkerId="w2",{E}'
    found = told(f"ray_vllm:generation_tokens_total{{{one}}} 5\nray_vllm:generation_tokens_total{{{two}}} 7\n")
    assert found.counters == {("generation_tokens", "r1", ""): 5, ("generation_tokens", "r2", ""): 7}


def test_under_ray_the_start_of_the_agent_is_not_that_of_the_engine() -> None:
    found = told(f'process_start_time_seconds 1.79e+09\nray_vllm:generation_tokens_total{{ReplicaId="r1",{E}}} 5\n')
    assert found.understood.counters[0].started_at is None


def test_a_start_comes_from_created_or_else_from_the_process() -> None:
    counter = f"vllm:generation_tokens_total{{{E}}} 5\n"
    process = "process_start_time_seconds 1.795e+09\n"
    (alone,) = told(counter + process).understood.counters
    assert alone.started_at == datetime.fromtimestamp(1.795e9, UTC)
    (both,) = told(counter + process + f"vllm:generation_tokens_created{{{E}}} 1.7950001e+09\n").understood.counters
    assert both.started_at == datetime.fromtimestamp(1795000100, UTC)
    (neither,) = told(counter).understood.counters
    assert neither.started_at is None


@pytest.mark.parametrize("start", ["0", "-1", "NaN", "+Inf", "1e300", "1e-9", "99999999999", "12"])
def test_a_start_that_can_be_none_is_none(start: str) -> None:
    (counter,) = told(
        f"vllm:generation_tokens_total{{{E}}} 5\nvllm:generation_tokens_created{{{E}}} {start}\n"
    ).understood.counters
    assert counter.started_at is None


def test_a_start_ahead_of_the_page_is_not_believed() -> None:
    ahead = AT.timestamp() + 3600
    (counter,) = told(
        f"vllm:generation_tokens_total{{{E}}} 5\nvllm:generation_tokens_created{{{E}}} {ahead}\n"
    ).understood.counters
    assert counter.started_at is None


def test_what_a_router_repeats_of_the_servers_behind_it_is_not_read() -> None:
    own = f"vllm:num_requests_running{{{E}}} 1\n"
    repeated = 'vllm:num_requests_running{server="http://10.0.0.7:8000"} 1\n'
    assert told(own + repeated).gauges == {("requests_running", "", ""): 1}
    assert told(repeated).gauges == {}


def test_sglang_priorities_have_a_total_of_their_own() -> None:
    own = f"sglang:num_queue_reqs{{{M},priority="
    found = told(f'{own}""}} 5\n{own}"0"}} 3\n{own}"1"}} 2\n')
    assert found.gauges == {("requests_waiting", "", ""): 5}


def test_sglang_ranks_of_one_tensor_parallel_group_say_the_same() -> None:
    own = f'sglang:num_running_reqs{{{M},pp_rank="0",tp_rank='
    found = told(f'{own}"1"}} 5\n{own}"0"}} 5\n{own}"10"}} 5\n{own}"2"}} 5\n')
    assert found.gauges == {("requests_running", "", ""): 5}


def test_sglang_data_parallel_ranks_are_ranks() -> None:
    # with data-parallel attention the second group's scheduler is tensor rank 2
    own = f"sglang:num_running_reqs{{{M},"
    found = told(f'{own}dp_rank="0",tp_rank="0"}} 5\n{own}dp_rank="1",tp_rank="2"}} 6\n')
    assert found.gauges == {("requests_running", "", ""): 5, ("requests_running", "1", ""): 6}


def test_sglang_requests_are_split_by_streaming_and_added_up() -> None:
    own = f"sglang:num_requests_total{{{M},is_streaming="
    found = told(f'{own}"true"}} 30\n{own}"false"}} 10\n')
    assert found.counters == {("requests_finished", "", ""): 40}
    text = "".join(
        histogram(
            "sglang:time_to_first_token_seconds", {"0.1": low, "+Inf": all_}, total, f'{M},is_streaming="{streamed}"'
        )
        for streamed, low, all_, total in (("true", 1, 3, 0.9), ("false", 2, 4, 1.1))
    )
    ttft = told(text).histograms["ttft_s", ""]
    assert (ttft.bounds, ttft.counts, ttft.count, ttft.total) == ((0.1,), (3,), 7, pytest.approx(2.0))


def test_sglang_cached_tokens_have_a_total_beside_their_sources() -> None:
    own = f"sglang:cached_tokens_total{{{M},cache_source="
    found = told(f'{own}"total"}} 10\n{own}"device"}} 8\n{own}"host"}} 2\n')
    assert found.counters == {("prompt_tokens_cached", "", ""): 10}
    parts = told(f'{own}"device"}} 8\n{own}"host"}} 2\n')
    assert parts.counters == {("prompt_tokens_cached", "", ""): 10}


def test_sglang_routing_keys_look_like_buckets_and_are_none() -> None:
    found = told(
        f'sglang:routing_key_running_req_count{{gt="0",le="1",{M}}} 0.0\n'
        f'sglang:routing_key_running_req_count{{gt="200",le="+Inf",{M}}} 0.0\nsglang:num_running_reqs{{{M}}} 1\n'
    )
    assert found.histograms == {}
    assert not found.reasons(None)


def test_sglang_newer_releases_write_an_underscore_for_the_colon() -> None:
    assert told(f"sglang_num_running_reqs{{{M}}} 4\n").gauges == {("requests_running", "", ""): 4}


def test_llama_cpp_names_no_model_and_types_a_maximum_as_a_counter() -> None:
    found = told("llamacpp:n_tokens_max 404\nllamacpp:requests_processing 1\n", model="tiny")
    assert found.counters == {}
    assert found.understood.gauges[0].subject.model == "tiny"


def test_llama_cpp_before_it_counted_cached_tokens() -> None:
    assert told("llamacpp:prompt_tokens_total 32\n").counters == {("prompt_tokens", "", ""): 32}


def test_llama_cpp_of_2024_tells_how_full_its_cache_is() -> None:
    found = told("llamacpp:kv_cache_usage_ratio 0.25\nllamacpp:kv_cache_tokens 512\n")
    assert found.gauges == {("kv_cache_used_ratio", "", ""): 0.25}


def test_tgi_counts_tokens_by_the_sums_of_its_histograms() -> None:
    text = (
        histogram("tgi_request_input_length", {"100": 1, "+Inf": 2}, 250.0)
        + histogram("tgi_request_generated_tokens", {"100": 2, "+Inf": 2}, 120.0)
        + 'tgi_request_success 2\ntgi_request_failure{err="overloaded"} 1\ntgi_request_count 4\ntgi_queue_size 1\n'
    )
    found = told(text, model="m")
    assert found.counters == {
        ("prompt_tokens", "", ""): 250,
        ("generation_tokens", "", ""): 120,
        ("requests_finished", "", ""): 2,
        ("requests_failed", "", "overloaded"): 1,
    }
    assert found.histograms["request_prompt_tokens", ""].count == 2


def test_triton_loads_and_counts_each_version_of_a_model_on_its_own() -> None:
    found = told(
        'nv_inference_request_success{model="a",version="1"} 3\nnv_inference_request_success{model="a",version="2"} 4\n'
        'nv_inference_request_duration_us{model="a",version="1"} 1000000\n'
        'nv_inference_request_duration_us{model="a",version="2"} 500000\n'
    )
    assert found.counters == {("requests_finished", "1", ""): 3, ("requests_finished", "2", ""): 4}
    first, second = found.histograms["e2e_latency_s", "1"], found.histograms["e2e_latency_s", "2"]
    assert (first.bounds, first.counts, first.count, first.total) == ((), (), 3, pytest.approx(1.0))
    assert (second.count, second.total) == (4, pytest.approx(0.5))


def test_triton_with_its_tensorrt_llm_backend_tells_queue_and_cache() -> None:
    requests = 'nv_trt_llm_request_metrics{model="tensorrt_llm",version="1",request_type='
    blocks = 'nv_trt_llm_kv_cache_block_metrics{model="tensorrt_llm",version="1",kv_cache_block_type='
    found = told(
        f'{requests}"active"}} 9\n{requests}"scheduled"}} 4\n{requests}"waiting"}} 5\n{requests}"max"}} 512\n'
        f'{blocks}"fraction"}} 0.5\n{blocks}"used"}} 10\n'
        'nv_inference_pending_request_count{model="tensorrt_llm",version="1"} 77\n'
    )
    assert found.gauges == {
        ("requests_running", "1", ""): 4,
        ("requests_waiting", "1", ""): 5,
        ("requests_limit", "1", ""): 512,
        ("kv_cache_used_ratio", "1", ""): 0.5,
    }


def test_triton_s_vllm_backend_is_read_as_vllm() -> None:
    text = 'nv_inference_count{model="m"} 1\nvllm:generation_tokens_total{model="m",version="1"} 5\n'
    found = told(text)
    assert found.engine is VLLM
    assert found.understood.counters[0].subject.model == "m"


@pytest.mark.parametrize("prefix", ["trtllm_", "trtllm:"])
def test_tensorrt_llm_observes_one_mean_per_request(prefix: str) -> None:
    own = f'{M},engine_type="trtllm"'
    found = told(
        histogram(f"{prefix}time_per_output_token_seconds", {"0.01": 1, "+Inf": 1}, 0.01, own)
        + f'{prefix}request_success_total{{{own},finished_reason="length"}} 1\n'
    )
    assert set(found.histograms) == {("tpot_s", "")}
    assert found.counters == {("requests_finished", "", "length"): 1}
    assert "tpot_s" in found.reasons("itl_s")[0]


def test_exponents_in_every_spelling_are_numbers() -> None:
    values = {"1.15891634176e+011": 115891634176.0, "1.7e9": 1.7e9, "5": 5.0, "5.0E+00": 5.0}
    for text, value in values.items():
        assert told(f"vllm:generation_tokens_total{{{E}}} {text}\n").counters == {("generation_tokens", "", ""): value}


@pytest.mark.parametrize("bad", ["NaN", "+Inf", "-Inf", "-1", "1e999"])
def test_a_count_that_no_counter_can_have_is_a_gap(bad: str) -> None:
    found = told(f"vllm:generation_tokens_total{{{E}}} {bad}\nvllm:num_requests_running{{{E}}} 1\n")
    assert found.counters == {}
    (reason,) = found.reasons("generation_tokens")
    assert reason.startswith("generation_tokens: ")


@pytest.mark.parametrize("bad", ["1_000", "many", "0x10", "--"])
def test_what_is_no_number_is_a_gap(bad: str) -> None:
    found = told(f"vllm:generation_tokens_total{{{E}}} {bad}\n")
    assert found.counters == {}
    assert found.reasons("generation_tokens") == ["generation_tokens is not a number"]


def test_a_ratio_slightly_above_one_is_one_and_a_percentage_is_a_gap() -> None:
    name = f"vllm:kv_cache_usage_perc{{{E}}}"
    assert told(f"{name} 1.02\n").gauges == {("kv_cache_used_ratio", "", ""): 1.0}
    found = told(f"{name} 57\n")
    assert found.gauges == {}
    assert found.reasons("kv_cache_used_ratio") == ["kv_cache_usage_perc: the value is above 1 and no ratio"]


def test_a_series_given_twice_counts_once_and_is_told_where_it_differs() -> None:
    name = f"vllm:generation_tokens_total{{{E}}}"
    same = told(f"{name} 5\n{name} 5\n")
    assert same.counters == {("generation_tokens", "", ""): 5}
    assert not same.reasons("generation_tokens")
    other = told(f"{name} 5\n{name} 6\n")
    assert other.counters == {("generation_tokens", "", ""): 5}
    assert "given twice" in other.reasons("generation_tokens")[0]


def test_a_label_that_nobody_knows_is_added_up_and_told() -> None:
    name = f"vllm:num_requests_running{{{E},shard="
    found = told(f'{name}"a"}} 2\n{name}"b"}} 3\n')
    assert found.gauges == {("requests_running", "", ""): 5}
    assert found.reasons("requests_running") == ["it is split by labels nobody knows here (shard); added up"]


def test_a_ratio_that_is_split_is_the_largest_and_no_sum() -> None:
    name = f"vllm:kv_cache_usage_perc{{{E},shard="
    assert told(f'{name}"a"}} 0.7\n{name}"b"}} 0.6\n').gauges == {("kv_cache_used_ratio", "", ""): 0.7}


def test_extra_labels_change_nothing() -> None:
    # of a relabelling, of Ray, of a newer release
    found = told(f'vllm:num_requests_running{{{E},cluster="east",team="a"}} 2\n')
    assert found.gauges == {("requests_running", "", ""): 2}
    assert not found.reasons("requests_running")


def test_names_from_a_server_are_kept_plain_and_short() -> None:
    hostile = "\u202e<script>" + "x" * 1000
    (gauge,) = told(f'vllm:num_requests_running{{engine="0",model_name="{hostile}"}} 1\n').understood.gauges
    assert len(gauge.subject.model) <= 253
    assert gauge.subject.model.isprintable()


def test_a_page_that_makes_up_models_does_not_fill_the_store() -> None:
    lines = "".join(f'vllm:num_requests_running{{engine="0",model_name="m{n}"}} 1\n' for n in range(1000))
    found = told(lines)
    assert len(found.understood.gauges) == 256
    assert any("more than 256 models" in reason for reason in found.reasons(None))


def test_several_models_of_one_server_are_several_subjects() -> None:
    found = told('vllm:num_requests_running{model_name="a"} 1\nvllm:num_requests_running{model_name="b"} 2\n')
    assert {one.subject.model: one.value for one in found.understood.gauges} == {"a": 1, "b": 2}
    assert found.understood.models == ("a", "b")


@pytest.mark.parametrize(
    ("text", "engine"),
    [
        ("vllm:num_requests_running 1\n", ServingEngine.VLLM),
        ("ray_vllm_num_requests_running 1\n", ServingEngine.VLLM),
        ("# HELP vllm:x y\nsglang:num_running_reqs 1\n", ServingEngine.SGLANG),
        ("llamacpp:requests_processing 1\n", ServingEngine.LLAMA_CPP),
        ("tgi_queue_size 1\n", ServingEngine.TGI),
        ("nv_inference_count 1\n", ServingEngine.TRITON),
        ("trtllm_request_success_total 1\n", ServingEngine.TENSORRT_LLM),
        ("num_requests_running{} 1\ngpu_cache_usage_perc 0\n", ServingEngine.NIM),
        ("num_requests_running 1\n", None),
        ("nv_gpu_utilization 1\n", None),
        ("my_vllm:num_requests_running 1\n", None),
        ("", None),
    ],
)
def test_an_engine_is_told_by_its_names(text: str, engine: ServingEngine | None) -> None:
    assert engine_of(text) is engine


@pytest.mark.parametrize(
    ("version", "numbers"),
    [
        ("0.11.0", (0, 11, 0)),
        ("v0.6.3.post1", (0, 6, 3)),
        ("0.32.0rc2.dev1+g1234", (0, 32, 0)),
        ("0.9", (0, 9, 0)),
        ("b11434-0000000", None),
        ("", None),
        (None, None),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str | None, numbers: tuple[int, ...] | None) -> None:
    assert version_numbers(version) == numbers


def test_names_tell_a_version_where_nothing_else_does() -> None:
    assert generation_of(VLLM, f"vllm:num_requests_waiting_by_reason{{{E}}} 1\n") == "0.20 or later"
    assert generation_of(VLLM, f"vllm:num_requests_swapped{{{M}}} 0\n") == "0.7 or earlier (V0)"
    assert generation_of(ServingEngine.TGI, "tgi_queue_size 1\n") is None


def test_what_is_remembered_of_series_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectors.serving.series.MAX_SERIES", 10)
    book = SeriesBook(TABLES[VLLM])
    for number in range(100):
        found = told(f'vllm:num_requests_running{{engine="0",model_name="m{number}"}} {number}\n', book=book)
        assert found.understood.gauges[0].value == number
        assert len(book.known) <= 10


def test_a_page_is_read_the_same_the_second_time() -> None:
    text = (
        histogram("vllm:time_to_first_token_seconds", {"0.1": 1, "+Inf": 3}, 0.9, E)
        + f"vllm:generation_tokens_total{{{E}}} 5\nprocess_start_time_seconds 1.795e+09\n"
    )
    book = SeriesBook(TABLES[VLLM])
    assert told(text, book=book) == told(text, book=book) == told(text)
