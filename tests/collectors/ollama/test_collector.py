"""Ollama servers over real sockets: what is loaded, where it lies, and every way in which an answer can be odd."""

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from collectors.bounded_http import Answer, BoundedHttp
from collectors.errors import BadPayload, Unauthorized, Unreachable, Unsupported
from collectors.ollama.collector import OllamaCollector
from collectors.ollama.config import OllamaConfig
from collectors.ollama.described_models import SHOWN_PER_ROUND
from collectors.source import Attempt
from planner.readings import Batch
from planner.serving_readings import ServedModel, ServingEngine
from tests.collectors.json_web import JsonWeb, Reply, Told, json_web

NOW = datetime(2026, 11, 16, 12, 0, tzinfo=UTC)
GIB = 2**30

PS, TAGS, VERSION, SHOW = "/api/ps", "/api/tags", "/api/version", "/api/show"


def _loaded(name: str = "llama3.1:8b", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "size": 6 * GIB,
        "size_vram": 6 * GIB,
        "digest": f"digest-of-{name}",
        "details": {"quantization_level": "Q4_K_M", "families": None},
        "expires_at": "2026-11-16T13:30:00.123456789+01:00",
        "context_length": 8192,
        **more,
    }


class Clock:
    """In place of the module `time`: it goes on when somebody lets it."""

    def __init__(self) -> None:
        self.now_s = time.monotonic()

    def monotonic(self) -> float:
        return self.now_s


def _gaps_of(collector: OllamaCollector, now: datetime) -> list[str]:
    """Reasons of a round, without the metrics that Ollama never counts."""
    (attempt,) = collector.collect(now, {})
    assert attempt.batch is not None
    return [gap.reason for gap in attempt.batch.gaps if gap.metric is None]


def _listed(name: str = "llama3.1:8b", **more: Any) -> dict[str, Any]:
    return {"name": name, "size": 4 * GIB, "digest": f"digest-of-{name}", "details": {}, **more}


def _paths(running: list[Any], listed: list[Any], **more: Told) -> dict[str, Told]:
    return {
        PS: {"models": running},
        TAGS: {"models": listed},
        VERSION: {"version": "0.33.0"},
        SHOW: {"model_info": {"general.architecture": "llama", "llama.context_length": 131_072}},
        **more,
    }


def _attempt(web: JsonWeb, **keys: Any) -> Attempt:
    (attempt,) = OllamaCollector(OllamaConfig(name="it", url=web.url, **keys)).collect(NOW, {})
    return attempt


def _batch(paths: dict[str, Told], **keys: Any) -> Batch:
    with json_web(paths) as web:
        attempt = _attempt(web, **keys)
    assert attempt.error is None, attempt.error
    assert attempt.batch is not None
    return attempt.batch


def _models(batch: Batch) -> dict[str, ServedModel]:
    (fact,) = batch.servers
    return {model.name: model for model in fact.models}


def test_a_loaded_model_with_all_that_is_told_of_it() -> None:
    with json_web(_paths([_loaded()], [_listed()])) as web:
        attempt = _attempt(web)
    batch = attempt.batch
    assert batch is not None
    (fact,) = batch.servers
    assert (fact.engine, fact.version, fact.endpoint) == (ServingEngine.OLLAMA, "0.33.0", f"127.0.0.1:{web.port}")
    assert fact.models == (
        ServedModel(
            name="llama3.1:8b",
            max_model_len=131_072,
            is_loaded=True,
            size_bytes=6 * GIB,
            device_bytes=6 * GIB,
            context_tokens=8192,
            expires_at=datetime(2026, 11, 16, 12, 30, 0, 123456, tzinfo=UTC),
            quantization="Q4_K_M",
            digest="digest-of-llama3.1:8b",
        ),
    )
    assert {(one.subject.model, one.metric): one.value for one in batch.gauges} == {
        ("llama3.1:8b", "model_loaded_bytes"): 6.0 * GIB,
        ("llama3.1:8b", "model_device_bytes"): 6.0 * GIB,
    }
    assert dict(batch.found) == {"version": "0.33.0", "loaded": "1"}
    assert attempt.clock_skew_s is not None


@pytest.mark.parametrize(("on_device", "told"), [(2 * GIB, 2 * GIB), (0, 0)])
def test_what_lies_in_the_hosts_memory_is_the_difference(on_device: int, told: int) -> None:
    batch = _batch(_paths([_loaded(size_vram=on_device)], []))
    model = _models(batch)["llama3.1:8b"]
    assert (model.size_bytes, model.device_bytes) == (6 * GIB, told)


def test_a_model_that_is_not_loaded_has_no_size_in_memory() -> None:
    model = _models(_batch(_paths([], [_listed()])))["llama3.1:8b"]
    assert (model.is_loaded, model.size_bytes, model.device_bytes) == (False, None, None)


def test_a_model_that_vanished_is_not_loaded_any_more_and_has_no_gauge() -> None:
    with json_web(_paths([_loaded()], [_listed()])) as web:
        collector = OllamaCollector(OllamaConfig(name="it", url=web.url))
        list(collector.collect(NOW, {}))
        web.paths[PS] = {"models": []}
        (attempt,) = collector.collect(NOW, {})
    assert attempt.batch is not None
    assert _models(attempt.batch)["llama3.1:8b"].is_loaded is False
    assert attempt.batch.gauges == ()


def test_a_model_that_was_deleted_while_loaded_is_still_loaded() -> None:
    assert _models(_batch(_paths([_loaded()], [])))["llama3.1:8b"].is_loaded is True


def test_models_of_the_cloud_use_nothing_here() -> None:
    cloud = _listed("gpt-oss:120b-cloud", remote_model="gpt-oss:120b", remote_host="https://ollama.com:443", size=384)
    batch = _batch(_paths([], [_listed(), cloud]))
    assert list(_models(batch)) == ["llama3.1:8b"]
    assert dict(batch.found)["models that run elsewhere"] == "gpt-oss:120b-cloud"


def test_kept_for_ever_is_told_apart_from_not_known() -> None:
    batch = _batch(_paths([_loaded(expires_at="2318-03-01T12:00:00+01:00")], []))
    assert batch.servers[0].settings == (("kept_for_ever", "llama3.1:8b"),)
    assert _models(batch)["llama3.1:8b"].expires_at is None
    loading = _batch(_paths([_loaded(expires_at="0001-01-01T00:00:00Z")], []))
    assert loading.servers[0].settings == ()


def test_an_old_server_without_the_context_says_what_is_missing() -> None:
    old = _loaded()
    del old["context_length"]
    batch = _batch(_paths([old], [], **{VERSION: {"version": "0.6.2"}}))
    assert _models(batch)["llama3.1:8b"].context_tokens is None
    assert any("context" in gap.reason for gap in batch.gaps)


def test_requests_and_tokens_are_gaps_unless_a_gateway_counts_them() -> None:
    assert {gap.metric for gap in _batch(_paths([_loaded()], [])).gaps} == {
        "requests_finished",
        "prompt_tokens",
        "generation_tokens",
    }
    assert _batch(_paths([_loaded()], []), counted_by_gateway=True).gaps == ()


@pytest.mark.parametrize("models", [None, []])
def test_nothing_loaded_and_nothing_there_is_an_answer(models: object) -> None:
    batch = _batch(_paths([], [], **{PS: {"models": models}, TAGS: {"models": models}}))
    assert batch.servers[0].models == ()


def test_one_bad_model_costs_itself() -> None:
    batch = _batch(_paths([_loaded(), {"size": 5}, "x", _loaded("odd", size="large")], []), counted_by_gateway=True)
    assert set(_models(batch)) == {"llama3.1:8b", "odd"}
    assert _models(batch)["odd"].is_loaded is True
    reasons = [gap.reason for gap in batch.gaps]
    assert sum("left out" in reason for reason in reasons) == 2
    assert sum("no number of bytes" in reason for reason in reasons) == 1


class TestWhatIsAskedBeside:
    def test_each_digest_is_described_once(self) -> None:
        with json_web(_paths([_loaded()], [_listed(), _listed("copy", digest="digest-of-llama3.1:8b")])) as web:
            collector = OllamaCollector(OllamaConfig(name="it", url=web.url))
            for _ in range(3):
                list(collector.collect(NOW, {}))
        assert web.times(SHOW) == 1
        assert next(each.body for each in web.asked if each.path == SHOW)["model"] == "llama3.1:8b"

    def test_many_new_models_are_described_a_few_at_a_time(self) -> None:
        listed = [_listed(f"m{number}") for number in range(SHOWN_PER_ROUND + 2)]
        with json_web(_paths([], listed)) as web:
            collector = OllamaCollector(OllamaConfig(name="it", url=web.url))
            list(collector.collect(NOW, {}))
            assert web.times(SHOW) == SHOWN_PER_ROUND
            list(collector.collect(NOW, {}))
            assert web.times(SHOW) == SHOWN_PER_ROUND + 2
            list(collector.collect(NOW, {}))
            assert web.times(SHOW) == SHOWN_PER_ROUND + 2

    @pytest.mark.parametrize(
        "failure", [Reply({"error": "no"}, 404), Reply("busy", 503), Reply({}, 401), Reply("<html></html>", 200), "no"]
    )
    def test_a_model_that_cannot_be_described_is_said_and_asked_about_again(self, failure: Told) -> None:
        with json_web(_paths([], [_listed()], **{SHOW: failure})) as web:
            collector = OllamaCollector(OllamaConfig(name="it", url=web.url))
            gaps = [_gaps_of(collector, NOW + timedelta(seconds=30 * each)) for each in range(2)]
            assert web.times(SHOW) == 2
            assert gaps[0] == gaps[1]  # one reason, not one for each round
            (reason,) = gaps[0]
            assert reason.startswith("the context that models were trained for (llama3.1:8b) is not known: ")
            web.paths[SHOW] = _paths([], [])[SHOW]
            assert _gaps_of(collector, NOW + timedelta(hours=1)) == []
            (attempt,) = collector.collect(NOW + timedelta(hours=2), {})
        assert attempt.batch is not None
        assert _models(attempt.batch)["llama3.1:8b"].max_model_len == 131_072
        assert web.times(SHOW) == 3

    def test_a_model_that_is_never_described_is_asked_about_ever_more_seldom(self) -> None:
        with json_web(_paths([], [_listed()], **{SHOW: Reply("busy", 503)})) as web:
            collector = OllamaCollector(OllamaConfig(name="it", url=web.url))
            for each in range(120):
                assert len(_gaps_of(collector, NOW + timedelta(seconds=30 * each))) == 1
        assert 12 <= web.times(SHOW) < 60  # an hour has twelve times five minutes

    def test_models_that_cannot_be_described_keep_no_other_from_it(self) -> None:
        broken = [f"a{number}" for number in range(SHOWN_PER_ROUND + 1)]

        with json_web(_paths([], [*(_listed(name) for name in broken), _listed("good")])) as web:
            described = web.paths[SHOW]
            web.paths[SHOW] = lambda query: described if web.asked[-1].body["name"] == "good" else Reply("<html>", 200)
            collector = OllamaCollector(OllamaConfig(name="it", url=web.url))
            first = _gaps_of(collector, NOW)
            (attempt,) = collector.collect(NOW + timedelta(seconds=30), {})
        assert attempt.batch is not None
        assert _models(attempt.batch)["good"].max_model_len == 131_072
        assert first[0].startswith("the context that models were trained for (a0, a1, a2 and 1 more) is not known")

    def test_a_slow_server_is_not_asked_for_longer_than_it_may_take(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock()
        monkeypatch.setattr("collectors.ollama.collector.time", clock)
        monkeypatch.setattr("collectors.ollama.described_models.time", clock)

        def slowly(query: dict[str, str]) -> Any:
            clock.now_s += 6.0
            return {"models": [_loaded()]}

        with json_web(_paths([], [], **{PS: slowly, TAGS: slowly})) as web:
            batch = _attempt(web, timeout_s=10.0, counted_by_gateway=True).batch
        assert [each.path for each in web.asked] == [PS, TAGS]
        assert batch is not None
        assert _models(batch)["llama3.1:8b"].is_loaded is True
        late = "the answers before it took all of timeout_s"
        assert sorted(gap.reason for gap in batch.gaps) == [
            f"its version is not known: {late}",
            f"the context that models were trained for (llama3.1:8b) is not known: {late}",
        ]

    @pytest.mark.parametrize("path", [TAGS, VERSION, SHOW])
    def test_what_fails_beside_costs_only_itself(self, path: str) -> None:
        batch = _batch(_paths([_loaded()], [_listed()], **{path: Reply("<html></html>", 200)}))
        assert _models(batch)["llama3.1:8b"].is_loaded is True

    def test_a_list_that_fails_is_said(self) -> None:
        batch = _batch(_paths([_loaded()], [], **{TAGS: Reply("oops", 500)}))
        assert any("not loaded are not known" in gap.reason for gap in batch.gaps)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply({"error": "unauthorized"}, 401), Unauthorized),
        (Reply({"error": "no"}, 403), Unauthorized),
        (Reply("busy", 503), Unreachable),
        (Reply("404 page not found", 404), Unsupported),
        (Reply("Ollama is running"), BadPayload),
        (Reply("<!DOCTYPE html><title>Open WebUI</title>"), BadPayload),
        ({"data": []}, BadPayload),
        ([], BadPayload),
        ({"models": {"a": 1}}, BadPayload),
        ({"models": "none"}, BadPayload),
    ],
)
def test_what_is_no_ollama_is_an_error(reply: Told, error: type[Exception]) -> None:
    with json_web(_paths([], [], **{PS: reply})) as web:
        attempt = _attempt(web)
    assert isinstance(attempt.error, error)
    assert attempt.batch is None


def test_one_that_hangs_or_is_gone_delays_no_other(closed_port: int) -> None:
    with json_web(_paths([_loaded()], [])) as web:
        config = OllamaConfig(name="it", targets=(web.url, f"http://127.0.0.1:{closed_port}"))
        attempts = list(OllamaCollector(config).collect(NOW, {}))
    assert {attempt.target: attempt.error is None for attempt in attempts} == {
        f"127.0.0.1:{web.port}": True,
        f"127.0.0.1:{closed_port}": False,
    }


def test_a_server_that_fails_is_left_alone_for_a_while_and_comes_back_by_itself() -> None:
    with json_web(_paths([_loaded()], [], **{PS: Reply("busy", 503)})) as web:
        collector = OllamaCollector(OllamaConfig(name="it", url=web.url))
        for second in range(0, 3600, 30):
            list(collector.collect(NOW.replace(minute=second // 60, second=second % 60), {}))
        assert web.times(PS) < 60
        web.paths[PS] = {"models": []}
        (attempt,) = collector.collect(NOW.replace(hour=14), {})
    assert attempt.error is None


def test_where_not_all_can_be_asked_side_by_side_the_quick_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("collectors.ollama.collector.time", clock)
    order: list[str] = []

    def answering(name: str, seconds: float) -> dict[str, Told]:
        def answer(query: dict[str, str]) -> Any:
            order.append(name)
            clock.now_s += seconds
            return {"models": []}

        return _paths([], [], **{PS: answer})

    with json_web(answering("slow", 8.0)) as slow, json_web(answering("quick", 0.1)) as quick:
        config = OllamaConfig(name="it", targets=(slow.url, quick.url), max_concurrent=1)
        collector = OllamaCollector(config)
        for each in range(2):
            assert len(list(collector.collect(NOW + timedelta(seconds=30 * each), {}))) == 2
    assert order == ["slow", "quick", "quick", "slow"]


def test_servers_are_asked_side_by_side() -> None:
    both = threading.Barrier(2, timeout=20.0)

    def answer(query: dict[str, str]) -> Any:
        both.wait()  # for ever, if one had to wait for the other
        return {"models": []}

    with json_web(_paths([], [], **{PS: answer})) as one, json_web(_paths([], [], **{PS: answer})) as other:
        config = OllamaConfig(name="it", targets=(one.url, other.url), timeout_s=30.0)
        attempts = list(OllamaCollector(config).collect(NOW, {}))
    assert [attempt.error for attempt in attempts] == [None, None]


def test_a_server_on_which_the_program_fails_costs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = BoundedHttp.get

    def get(http: BoundedHttp, url: str, *more: Any) -> Answer:
        if "odd.example" in url:
            raise UnicodeError("label empty or too long")
        return ask(http, url, *more)

    monkeypatch.setattr(BoundedHttp, "get", get)
    with json_web(_paths([_loaded()], [])) as web:
        collector = OllamaCollector(OllamaConfig(name="it", targets=("http://odd.example:11434", web.url)))
        attempts = {attempt.target: attempt for attempt in collector.collect(NOW, {})}
    assert isinstance(attempts["odd.example:11434"].error, BadPayload)
    assert attempts[f"127.0.0.1:{web.port}"].error is None


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example", ".a", "\u00fc" * 70 + ".example"])
def test_a_host_that_is_no_name_is_refused(host: str) -> None:
    with pytest.raises(ValidationError, match="the host is no name"):
        OllamaConfig(name="it", targets=(f"http://{host}:11434", "http://ollama:11434"))


@pytest.mark.parametrize("host", ["ollama", "ollama.", "10.0.0.7", "[fd00::7]", "m\u00fcnchen.example", "a_b.example"])
def test_a_host_that_is_a_name_or_an_address_is_taken(host: str) -> None:
    assert OllamaConfig(name="it", url=f"http://{host}:11434").url == f"http://{host}:11434"


def test_more_on_devices_than_in_all_is_not_believed() -> None:
    batch = _batch(_paths([_loaded(size=4 * GIB, size_vram=6 * GIB)], []), counted_by_gateway=True)
    model = _models(batch)["llama3.1:8b"]
    assert (model.size_bytes, model.device_bytes) == (4 * GIB, None)
    assert [(one.metric, one.value) for one in batch.gauges] == [("model_loaded_bytes", 4.0 * GIB)]
    (gap,) = batch.gaps
    assert (gap.metric, gap.reason) == (
        "model_device_bytes",
        "size_vram in /api/ps is more than size, of which it is a part: one of them is wrong",
    )


def test_the_log_in_of_a_proxy_in_front_is_sent() -> None:
    with json_web(_paths([], [])) as web:
        _attempt(web, bearer_token="hush")
    assert {each.headers["Authorization"] for each in web.asked} == {"Bearer hush"}


@pytest.mark.parametrize("path", ["", "/", "/api", "/api/"])
def test_the_address_may_be_written_as_people_have_it(path: str) -> None:
    assert OllamaConfig(name="it", url=f"http://ollama:11434{path}").url == "http://ollama:11434"


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"url": "http://a:1", "targets": ("http://b:1",)},
        {"targets": ("http://a:1", "http://a:1/")},
        {"targets": ("http://a:1",), "node": "n"},
        {"targets": ("http://a:1",), "gpu_uuids": ("GPU-1",)},
        {"url": "http://a:1", "gpu_uuids": ("not a uuid",)},
        {"url": "http://a:1", "surprise": 1},
    ],
)
def test_what_makes_no_sense_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        OllamaConfig(name="it", **keys)


def test_where_it_runs_can_be_told() -> None:
    batch = _batch(_paths([], []), node="gpu-7", gpu_uuids=("GPU-aaaa",))
    assert (batch.servers[0].node, batch.servers[0].gpu_uuids) == ("gpu-7", ("GPU-aaaa",))
