"""Quirks of engines that show over several scrapes or over HTTP, one test each."""

import json
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from collectors.errors import BadPayload
from collectors.serving import collector as collector_module
from collectors.serving.collector import ServingScraper
from collectors.serving.config import ServingConfig
from collectors.serving.gaps import GapBook
from collectors.serving.metrics import TABLES
from collectors.serving.parts import MAX_NAMES, Parts
from collectors.serving.scrape import Server, Understood, understand
from collectors.serving.series import SeriesBook
from collectors.serving.wire import ReadPage
from collectors.source import Attempt
from planner.serving_readings import ServedModel, ServingEngine
from tests.collectors.serving.pages import AT, histogram, told
from tests.collectors.serving.stored import Stored
from tests.collectors.webs import Answer, Web, reply, serving

VLLM = ServingEngine.VLLM
E = 'engine="0",model_name="m"'


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    store = Stored(tmp_path, VLLM)
    yield store
    store.close()


def scrape(*targets: str, now: datetime = AT, **table: Any) -> list[Attempt]:
    config = ServingConfig.model_validate({"name": "test", "timeout_s": 5, "targets": targets, **table})
    return list(ServingScraper(config).collect(now, {}))


def by_path(pages: dict[str, object], **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        page = pages.get(request.path)
        body = page if isinstance(page, str) else json.dumps(page)
        status = 404 if page is None else 200
        kind = "text/plain" if isinstance(page, str) else "application/json"
        reply(status, body.encode(), **{"Content_Type": kind, **headers})(request)

    return answer


def test_vllm_lists_lora_adapters_beside_their_model(web: Web) -> None:
    # /v1/models of vLLM: adapters name their parent and have no length of their own
    cards = [
        {"id": "base", "root": "org/base", "parent": None, "max_model_len": 4096},
        {"id": "sql", "root": "/adapters/sql", "parent": "base", "max_model_len": None},
    ]
    running = 'vllm:num_requests_running{engine="0",model_name="base"} 1\n'
    lora = 'vllm:lora_requests_info{max_lora="4",running_lora_adapters="sql",waiting_lora_adapters=""} 1.79e+09\n'
    web.answer = by_path({"/metrics": running + lora, "/version": {"version": "0.33.0"}, "/v1/models": {"data": cards}})
    (attempt,) = scrape(web.url)
    assert attempt.batch is not None
    (fact,) = attempt.batch.servers
    assert fact.models == (
        ServedModel(name="base", root="org/base", max_model_len=4096, is_loaded=True),
        ServedModel(name="sql", root="/adapters/sql", parent="base", is_loaded=True),
    )
    assert {one.subject.model for one in attempt.batch.gauges} == {"base"}


def test_under_ray_a_hit_rate_of_minus_one_is_not_read() -> None:
    ray = f'Component="core_worker",NodeAddress="10.0.0.1",SessionName="s",WorkerId="w1",{E}'
    found = told(
        f"ray_vllm_gpu_prefix_cache_hit_rate{{{ray}}} -1\nray_vllm_cpu_prefix_cache_hit_rate{{{ray}}} -1\n"
        f"ray_vllm_num_requests_running{{{ray}}} 2\n"
    )
    assert found.gauges == {("requests_running", "w1", ""): 2}
    assert not [gap for gap in found.gaps if "negative" in gap.reason]


def test_several_api_servers_of_one_vllm_tell_no_start_and_a_restart_shows_by_the_fall(stored: Stored) -> None:
    # prometheus-client's multiprocess mode: no process_*, no _created, samples in any order
    def page(count: int) -> str:
        ttft = histogram("vllm:time_to_first_token_seconds", {"0.1": 0, "+Inf": count}, count / 2, E).splitlines()
        return "\n".join([f"vllm:generation_tokens_total{{{E}}} {count * 10}", *reversed(ttft)]) + "\n"

    (first,) = stored.scrape(page(1000)).understood.counters
    assert first.started_at is None
    stored.scrape(page(1010))
    stored.scrape(page(3))
    assert stored.counted("generation_tokens") == 100 + 30
    assert stored.values("ttft_s") == (10 + 3, pytest.approx(6.5))


def test_a_data_parallel_engine_that_joins_or_leaves_makes_the_others_count_nothing_twice(stored: Stored) -> None:
    def page(**tokens: int) -> str:
        name = "vllm:generation_tokens"
        start = AT.timestamp() - 3 * 3600
        return "".join(
            f'{name}_total{{engine="{rank[1:]}",model_name="m"}} {count}\n'
            f'{name}_created{{engine="{rank[1:]}",model_name="m"}} {start}\n'
            for rank, count in tokens.items()
        )

    stored.scrape(page(e0=20_000))
    stored.scrape(page(e0=20_500))
    stored.scrape(page(e0=21_000, e1=100))
    stored.scrape(page(e0=21_500, e1=200))
    stored.scrape(page(e0=22_000))
    stored.scrape(page(e0=22_500, e1=400))
    # an engine's first sight adds nothing, since it says that it is hours old
    assert stored.by_rank("generation_tokens") == {"": 2_500, "1": 300}
    assert stored.resets() == 0


def test_sglang_s_occupancy_that_is_no_number_costs_nothing() -> None:
    found = told(
        'sglang:fwd_occupancy{model_name="m",tp_rank="0"} NaN\nsglang:num_running_reqs{model_name="m",tp_rank="0"} 3\n'
    )
    assert found.gauges == {("requests_running", "", ""): 3}
    assert "no number" not in str(found.gaps)
    assert "not a number" not in str(found.gaps)


def test_a_llama_cpp_router_that_wants_a_model_is_an_error_that_says_so(web: Web) -> None:
    wants = b'{"error":{"code":400,"message":"model name is missing from the request","type":"invalid_request_error"}}'

    def answer(request: BaseHTTPRequestHandler) -> None:
        if request.path == "/metrics":
            reply(400, wants, Content_Type="application/json")(request)
        else:
            reply(404)(request)

    web.answer = answer
    (bare,) = scrape(web.url, engine="llama.cpp")
    assert bare.batch is None
    assert "400" in str(bare.error)
    assert "model name is missing" in str(bare.error)
    assert "read the server of each of its models" in str(bare.error)


def test_the_start_in_llama_cpp_s_header_is_no_time_and_is_not_taken_for_one(web: Web) -> None:
    web.answer = by_path({"/metrics": "llamacpp:tokens_predicted_total 7\n"}, Process_Start_Time_Unix="93184223117")
    (attempt,) = scrape(web.url)
    assert attempt.batch is not None
    assert [(one.value, one.started_at) for one in attempt.batch.counters] == [(7, None)]


def test_a_server_that_is_read_with_an_unthought_of_error_costs_the_others_nothing(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(page: Any, *how: Any, **more: Any) -> Understood:
        if any(values.value == 666 for values in page.values.values()):
            raise OverflowError("too large")
        return understand(page, *how, **more)

    monkeypatch.setattr(collector_module, "understand", breaking)
    with serving() as evil:
        evil.answer = by_path({"/metrics": f"vllm:num_requests_running{{{E}}} 666\n"})
        web.answer = by_path({"/metrics": f"vllm:num_requests_running{{{E}}} 1\n"})
        attempts = {one.target: one for one in scrape(evil.url, web.url)}
    error = attempts[f"127.0.0.1:{evil.port}"].error
    assert isinstance(error, BadPayload)
    assert "OverflowError" in str(error)
    assert attempts[f"127.0.0.1:{web.port}"].batch is not None


def test_values_beyond_belief_end_no_round(web: Web) -> None:
    name = 'sglang:generation_tokens_total{model_name="m",is_streaming='
    web.answer = by_path({"/metrics": f'{name}"true"}} 1e308\n{name}"false"}} 1e308\n'})
    (attempt,) = scrape(web.url)
    assert attempt.batch is not None
    assert attempt.batch.counters == ()
    assert any("larger than anything" in gap.reason for gap in attempt.batch.gaps)


def test_gaps_say_the_same_of_values_that_change() -> None:
    reasons = set()
    for number in range(50):
        found = told(
            f"vllm:num_requests_running{{{E}}} -{number + 1}.5\nvllm:generation_tokens_total{{{E}}} x{number}\n"
            f"vllm:kv_cache_usage_perc{{{E}}} {number + 2}\nvllm:num_requests_waiting{{ {number}\nnode_cpu{{{number}\n"
        )
        reasons |= {(gap.metric, gap.reason) for gap in found.gaps}
    assert len([one for one in reasons if one[0] in ("requests_running", "generation_tokens", None)]) == 4


def test_labels_that_nobody_knows_are_named_plainly_and_not_without_end() -> None:
    table, parts, named = TABLES[VLLM], Parts(), set()
    for number in range(100):
        text = "".join(f'vllm:num_requests_running{{{E},l{number}="{value}"}} 1\n' for value in ("a", "b"))
        named |= set(told(text, parts=parts).reasons("requests_running"))
    assert len(named) == MAX_NAMES + 1  # the last says that there are others
    book, page = SeriesBook(table), ReadPage()
    for value in "ab":  # a Prometheus with names in UTF-8 may hand on such a label
        page.put(book.of_series("vllm:num_requests_running", {"model_name": "m", "\u202e<script>\n": value}), "1")
    gaps = GapBook("e")
    understand(page, table, Server(endpoint="e"), observed_at=AT, gaps=gaps)
    assert [gap.reason for gap in gaps.gaps()] == ["it is split by labels nobody knows here (<script>); added up"]


def test_what_is_remembered_of_series_goes_with_the_pages_that_had_them() -> None:
    book = SeriesBook(TABLES[VLLM])
    for number in range(1000):
        book.of_series("vllm:num_requests_running", {"model_name": "m", "WorkerId": str(number)})
    assert len(book._cells) == 0
    for number in range(1000):  # a time at the end of a line keeps it from being remembered
        line = f'vllm:num_requests_running{{model_name="m{number}"}} 1 1795312835000\n'
        told(line, book=book)
    assert len(book._cells) == 0


def test_what_is_forgotten_within_a_page_tears_no_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectors.serving.series.MAX_SERIES", 3)
    page = histogram("vllm:time_to_first_token_seconds", {str(n): n for n in range(1, 20)} | {"+Inf": 20}, 9.0, E)
    assert told(page, book=SeriesBook(TABLES[VLLM])).histograms["ttft_s", ""].count == 20
