"""The direct road over real connections, against simulated servers and against odd ones."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from collectors.errors import BadPayload, Unauthorized, Unreachable
from collectors.serving.collector import ServingScraper
from collectors.serving.config import ServingConfig
from collectors.source import Attempt
from planner.readings import Batch
from planner.serving_readings import ServingEngine
from sample_data.cluster import simulated_cluster
from sample_data.faults import FaultKind
from sample_data.request_shapes import FinishReason
from sample_data.serving_endpoints import pod_path
from sample_data.serving_routes import fault_name
from sample_data.serving_state import ServingPod, serving_pods, serving_state
from tests.collectors.simulated_web import Simulated, simulated_web
from tests.collectors.webs import Answer, Web, reply

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
CLUSTER = simulated_cluster(6)
PLACES = {place.deployment.name: place for place in serving_pods(CLUSTER) if place.deployment.software}


@pytest.fixture(scope="module")
def simulated() -> Iterator[Simulated]:
    with simulated_web(CLUSTER, NOW, hang_s=30) as served:
        yield served


@pytest.fixture(autouse=True)
def working(simulated: Simulated) -> Iterator[None]:
    yield
    for place in PLACES.values():
        simulated.faults.clear(fault_name(place.pod.namespace, place.pod.name))
    simulated.now = NOW


def scraper(**table: Any) -> ServingScraper:
    return ServingScraper(ServingConfig.model_validate({"name": "test", "timeout_s": 5, **table}))


def url_of(simulated: Simulated, place: ServingPod) -> str:
    return f"{simulated.url}{pod_path(place.pod)}/metrics"


def run(collector: ServingScraper, now: datetime = NOW) -> list[Attempt]:
    return list(collector.collect(now, {}))


def batch_of(collector: ServingScraper, now: datetime = NOW) -> Batch:
    (attempt,) = run(collector, now)
    assert attempt.error is None
    assert attempt.batch is not None
    return attempt.batch


def total(batch: Batch, metric: str) -> float:
    return sum(one.value for one in batch.counters if one.metric == metric)


@pytest.mark.parametrize("name", sorted(PLACES))
def test_what_is_read_is_what_the_server_did(simulated: Simulated, name: str) -> None:
    place = PLACES[name]
    software = place.deployment.software
    assert software is not None
    batch = batch_of(scraper(url=url_of(simulated, place)))
    work = serving_state(place, NOW).work
    if software.under_ray and not work.requests:
        return
    assert total(batch, "prompt_tokens") == work.prompt_tokens
    assert total(batch, "generation_tokens") == work.generation_tokens
    histograms = {one.metric: 0.0 for one in batch.histograms}
    for one in batch.histograms:
        histograms[one.metric] += one.count
        assert one.subject.model == place.model
    if software.engine is not ServingEngine.LLAMA_CPP:
        assert histograms["e2e_latency_s"] == work.requests
        failed = work.requests_by_reason[FinishReason.ERROR] if software.engine is ServingEngine.TGI else 0
        assert total(batch, "requests_finished") == work.requests - failed
    if software.engine is ServingEngine.VLLM:
        assert total(batch, "preemptions") == work.preemptions
    (fact,) = batch.servers
    assert fact.engine is software.engine
    assert fact.version == (None if software.under_ray else batch.found[0][1])
    if not software.under_ray:
        assert fact.version is not None
        assert fact.version.startswith(software.version)
    assert [model.name for model in fact.models] == [place.model]
    assert fact.endpoint == f"127.0.0.1:{simulated.port}{pod_path(place.pod)}"
    assert {one.subject.endpoint for one in batch.gauges} == {fact.endpoint}


def test_two_data_parallel_ranks_add_up(simulated: Simulated) -> None:
    place = PLACES["qwen3-235b"]
    batch = batch_of(scraper(url=url_of(simulated, place)))
    ranks = {one.subject.rank: one.value for one in batch.counters if one.metric == "generation_tokens"}
    assert set(ranks) == {"", "1"}
    assert sum(ranks.values()) == serving_state(place, NOW).work.generation_tokens


def test_facts_are_asked_for_at_the_start_and_then_now_and_then(simulated: Simulated) -> None:
    place = PLACES["llama-70b"]
    collector = scraper(url=url_of(simulated, place))
    simulated.asked.clear()
    for minute in range(12):  # every ten minutes, or up to a quarter earlier
        fact = batch_of(collector, NOW + timedelta(minutes=minute)).servers[0]
        assert (fact.version, fact.models[0].max_model_len) == ("0.33.0", 32768)  # also when they were not asked for
    assert len(simulated.asked_for(f"{pod_path(place.pod)}/version")) == 2
    assert len(simulated.asked_for("/v1/models")) == 2
    assert len(simulated.asked_for(f"{pod_path(place.pod)}/metrics")) == 12


def test_servers_are_not_asked_for_facts_all_in_the_same_minute(simulated: Simulated) -> None:
    collector = scraper(targets=[url_of(simulated, place) for place in PLACES.values()])
    run(collector)
    simulated.asked.clear()
    asked = []
    for minute in range(1, 11):
        run(collector, NOW + timedelta(minutes=minute))
        asked.append(len(simulated.asked_for("/v1/models")))
    assert asked[-1] == len([place for place in PLACES.values() if place.deployment.name != "qwen-7b"])  # TGI: /info
    assert len(set(asked)) > 2


@pytest.mark.parametrize("name", ["llama-8b", "mistral-small-24b"])  # one tells its start, the other does not
def test_facts_are_asked_for_again_after_a_restart(simulated: Simulated, name: str) -> None:
    place = PLACES[name]
    collector = scraper(url=url_of(simulated, place))
    batch_of(collector)
    simulated.faults.set(fault_name(place.pod.namespace, place.pod.name), FaultKind.COUNTER_RESET, NOW)
    simulated.now = NOW + timedelta(seconds=30)
    batch_of(collector, NOW + timedelta(seconds=30))  # here the restart shows
    simulated.asked.clear()
    batch_of(collector, NOW + timedelta(seconds=60))
    assert simulated.asked_for("/v1/models")


def test_an_upgrade_keeps_the_metrics_and_changes_the_version(simulated: Simulated) -> None:
    place = PLACES["mixtral-8x7b-legacy"]
    collector = scraper(url=url_of(simulated, place))
    before = batch_of(collector)
    simulated.faults.set(fault_name(place.pod.namespace, place.pod.name), FaultKind.GENERATION_CHANGE, NOW)
    batch_of(collector, NOW + timedelta(seconds=30))
    after = batch_of(collector, NOW + timedelta(seconds=60))
    assert (before.servers[0].version, after.servers[0].version) == ("0.6.6", "0.33.0")
    kept = {one.metric for one in before.counters} & {one.metric for one in after.counters}
    assert {"prompt_tokens", "generation_tokens", "requests_finished", "preemptions"} <= kept


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FaultKind.UNAVAILABLE, Unreachable),
        (FaultKind.SERVER_ERROR, Unreachable),
        (FaultKind.UNAUTHORIZED, Unauthorized),
        (FaultKind.HTML, BadPayload),
        (FaultKind.GARBAGE, BadPayload),
        (FaultKind.HALF_BODY, Unreachable),
        (FaultKind.HANG, Unreachable),
    ],
)
def test_a_server_that_fails_is_an_attempt_with_its_error_and_comes_back(
    simulated: Simulated, kind: FaultKind, error: type[Exception]
) -> None:
    place = PLACES["llama-8b"]
    name = fault_name(place.pod.namespace, place.pod.name)
    collector = scraper(url=url_of(simulated, place), timeout_s=1)
    simulated.faults.set(name, kind, NOW)
    (failed,) = run(collector)
    assert failed.batch is None
    assert isinstance(failed.error, error)
    simulated.faults.clear(name)
    assert batch_of(collector, NOW + timedelta(seconds=30)).counters


def test_servers_that_hang_cost_the_others_nothing(simulated: Simulated) -> None:
    # 5 of 12 hang; the other 7 are read in every run, and the hanging ones ever more seldom
    places = [place for place in serving_pods(CLUSTER) if place.deployment.software]
    assert len(places) == 12
    hanging = {fault_name(place.pod.namespace, place.pod.name) for place in places[::2][:5]}
    for name in hanging:
        simulated.faults.set(name, FaultKind.HANG, NOW)
    collector = scraper(targets=[url_of(simulated, place) for place in places], timeout_s=0.8, interval_s=30)
    tries = dict.fromkeys(hanging, 0)
    for step in range(14):
        at = NOW + timedelta(seconds=30 * step)
        attempts = run(collector, at)
        worked = [attempt for attempt in attempts if attempt.error is None]
        assert len(worked) == 7
        # they end before the first of the hanging ones does, and none of them waited for one
        assert attempts[:7] == worked
        for attempt in attempts[7:]:
            assert isinstance(attempt.error, Unreachable)
            tries[next(name for name in hanging if attempt.target.endswith(name))] += 1
    # in seven minutes: the first two in a row, then after pauses of up to 60, 120, 240, 300 s
    assert all(2 <= count <= 13 for count in tries.values())
    assert sum(tries.values()) <= 50
    for name in hanging:
        simulated.faults.clear(name)
    recovered = run(collector, NOW + timedelta(seconds=600 + 300))
    assert [attempt.error for attempt in recovered] == [None] * 12


def test_a_refused_login_is_tried_again_and_recovers(web: Web) -> None:
    collector = scraper(url=web.url, bearer_token="t")
    web.answer = reply(401)
    at = NOW
    while len(web.paths) < 3:
        run(collector, at)
        at += timedelta(seconds=30)
    web.answer = reply(200, b'vllm:num_requests_running{model_name="m"} 1\n')
    assert batch_of(collector, at + timedelta(seconds=300)).gauges


# --- servers that are odd


def paths(known: dict[str, Any], status: int = 404) -> Answer:
    """Answers of JSON or text by path."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        body = known.get(request.path)
        if body is None:
            reply(status, b'{"detail":"Not Found"}', Content_Type="application/json")(request)
        elif isinstance(body, str):
            reply(200, body.encode())(request)
        else:
            reply(200, json.dumps(body).encode(), Content_Type="application/json")(request)

    return answer


RUNNING = 'vllm:num_requests_running{model_name="m"} 1\n'
LLAMA = "llamacpp:requests_processing 1\nllamacpp:tokens_predicted_total 7\n"


def test_a_llama_cpp_server_without_metrics_still_tells_its_model(web: Web) -> None:
    refused = (
        b'{"error":{"code":501,"message":"This server does not support metrics endpoint. Start it with `--metrics`"}}'
    )

    def answer(request: BaseHTTPRequestHandler) -> None:
        if request.path == "/metrics":
            reply(501, refused)(request)
        else:
            paths({"/props": {"total_slots": 2, "model_alias": "tiny"}})(request)

    web.answer = answer
    batch = batch_of(scraper(url=web.url))
    assert batch.servers[0].engine is ServingEngine.LLAMA_CPP
    assert [model.name for model in batch.servers[0].models] == ["tiny"]
    assert [(one.metric, one.value) for one in batch.gauges] == [("requests_limit", 2)]
    assert any("--metrics" in gap.reason for gap in batch.gaps if gap.metric == "generation_tokens")


def test_a_501_of_anything_else_is_an_error(web: Web) -> None:
    web.answer = reply(501)
    (attempt,) = run(scraper(url=web.url, engine="vllm"))
    assert type(attempt.error) is Unreachable


def test_a_404_names_the_flags_and_paths_that_engines_want(web: Web) -> None:
    web.answer = reply(404)
    (attempt,) = run(scraper(url=web.url))
    assert "--enable-metrics" in str(attempt.error)
    assert "/prometheus/metrics" in str(attempt.error)


@pytest.mark.parametrize(
    ("engine", "path"), [("vllm", "/metrics"), ("nim", "/v1/metrics"), ("tensorrt-llm", "/prometheus/metrics")]
)
def test_an_address_without_a_path_means_the_engine_s_own(web: Web, engine: str, path: str) -> None:
    web.answer = reply(404)
    (attempt,) = run(scraper(url=f"{web.url}/", engine=engine))
    assert web.paths[0] == path
    assert attempt.target == f"127.0.0.1:{web.port}"


def test_another_engine_than_configured_is_told(web: Web) -> None:
    web.answer = paths({"/metrics": LLAMA})
    (attempt,) = run(scraper(url=web.url, engine="vllm"))
    assert type(attempt.error) is BadPayload
    assert "has the metrics of llama.cpp" in str(attempt.error)


def test_metrics_of_no_engine_are_told_with_what_they_begin(web: Web) -> None:
    web.answer = paths({"/metrics": "node_cpu_seconds_total 1\n"})
    (attempt,) = run(scraper(url=web.url))
    assert "none of which is a serving engine's; it begins: 'node_cpu_seconds_total 1'" in str(attempt.error)
    assert "--disable-log-stats" in str(attempt.error)


def test_a_nim_that_speaks_vllm_is_a_nim(web: Web) -> None:
    web.answer = paths(
        {"/v1/metrics": 'vllm:num_requests_running{model_name="m"} 1\n', "/v1/version": {"release": "1.8.0"}}
    )
    batch = batch_of(scraper(url=web.url, engine="nim"))
    assert batch.servers[0].engine is ServingEngine.NIM
    assert batch.gauges[0].value == 1


def test_models_behind_an_api_key_are_a_gap_and_asked_for_again_soon(web: Web) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        metrics = paths(
            {"/metrics": 'vllm:num_requests_running{model_name="m"} 1\n', "/version": {"version": "0.20.0"}}
        )
        (metrics if request.path != "/v1/models" else reply(401))(request)

    web.answer = answer
    collector = scraper(url=web.url)
    for second in (0, 30):  # the gap stays until the next answer
        batch = batch_of(collector, NOW + timedelta(seconds=second))
        assert "the models it serves are unknown: /v1/models wants an API key (401); give it as bearer_token_file" in [
            gap.reason for gap in batch.gaps
        ]
        assert [model.name for model in batch.servers[0].models] == ["m"]  # as the metrics name it
    web.paths.clear()
    batch_of(collector, NOW + timedelta(seconds=90))
    assert "/v1/models" in web.paths


def test_a_ray_agent_that_serves_nothing_but_metrics_lacks_nothing(web: Web) -> None:
    web.answer = paths({"/metrics": 'ray_vllm_num_requests_running{ReplicaId="r",model_name="m"} 1\n'})
    batch = batch_of(scraper(url=web.url))
    assert not [gap for gap in batch.gaps if gap.metric is None]


def test_a_label_less_server_whose_model_is_unknown_says_so(web: Web) -> None:
    web.answer = paths({"/metrics": LLAMA})
    batch = batch_of(scraper(url=web.url))
    assert {one.subject.model for one in batch.counters} == {""}
    assert any("its settings are unknown" in gap.reason for gap in batch.gaps)


@pytest.mark.parametrize(
    "answer",
    [
        "not json",
        [],
        {"data": "x"},
        {"data": [1, None, {"id": ""}, {"noid": 1}]},
        {"data": [{"id": "m" * 100_000, "max_model_len": "long"}]},
        "[" * 100_000,
    ],
)
def test_odd_answers_cost_what_they_would_have_told(web: Web, answer: Any) -> None:
    web.answer = paths(
        {"/metrics": 'vllm:num_requests_running{model_name="m"} 1\n', "/v1/models": answer, "/version": answer}
    )
    batch = batch_of(scraper(url=web.url))
    assert batch.gauges[0].value == 1
    assert batch.servers[0].version is None
    assert all(len(model.name) <= 253 for model in batch.servers[0].models)


def test_adapters_and_odd_entries_among_the_models(web: Web) -> None:
    cards = [
        {"id": "base", "root": "/models/base", "parent": None, "max_model_len": 4096},
        "odd",
        {"id": "lora", "root": "/loras/a", "parent": "base", "max_model_len": None},
    ]
    web.answer = paths({"/metrics": 'vllm:num_requests_running{model_name="base"} 1\n', "/v1/models": {"data": cards}})
    models = batch_of(scraper(url=web.url)).servers[0].models
    assert [(model.name, model.parent, model.max_model_len) for model in models] == [
        ("base", None, 4096),
        ("lora", "base", None),
    ]


def test_sglang_s_start_arguments_hold_its_api_key_which_is_not_read(web: Web) -> None:
    web.answer = paths(
        {
            "/metrics": 'sglang:num_running_reqs{model_name="m"} 1\n',
            "/server_info": {"version": "0.5.23", "api_key": "s3cret", "tp_size": 2, "mem_fraction_static": 0.88},
        }
    )
    batch = batch_of(scraper(url=web.url))
    assert batch.servers[0].version == "0.5.23"
    assert dict(batch.servers[0].settings) == {"tp_size": "2", "mem_fraction_static": "0.88"}
    assert "s3cret" not in repr(batch)


def test_half_a_page_keeps_what_was_whole(web: Web) -> None:
    web.answer = paths({"/metrics": 'vllm:num_requests_running{model_name="m"} 1\nvllm:num_requests_wai'})
    batch = batch_of(scraper(url=web.url))
    assert [one.metric for one in batch.gauges] == ["requests_running"]
    assert any("middle of a line" in gap.reason for gap in batch.gaps)


def test_the_token_goes_along_and_is_never_told(web: Web) -> None:
    web.answer = reply(403)
    (attempt,) = run(scraper(url=web.url, bearer_token="s3cret"))
    assert web.headers[0]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in repr(attempt)


def test_found_tells_engine_version_and_the_generation_of_names(simulated: Simulated) -> None:
    batch = batch_of(scraper(url=url_of(simulated, PLACES["qwen-coder-32b"])))
    assert dict(batch.found) == {"engine": "vllm", "names": "0.20 or later"}


def test_a_page_of_many_megabytes_is_refused(web: Web) -> None:
    def flood(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        line = b'vllm:num_requests_running{model_name="m"} 1\n' * 1000
        for _ in range(100):
            request.wfile.write(line)

    web.answer = flood
    (attempt,) = run(scraper(url=web.url, max_body_bytes=1024 * 1024))
    assert "more than 1 MiB" in str(attempt.error)
