"""What a Prometheus server may answer, over real connections to a small server that plays one."""

import inspect
import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from prometheus_api_client import exceptions as client_exceptions

from collectors import prometheus_session
from collectors.errors import BadPayload, CollectorError, Unauthorized, Unreachable
from collectors.prometheus import PrometheusReader, WindowTooLarge, selector
from collectors.prometheus_config import PrometheusConfig
from collectors.prometheus_samples import Remarks
from collectors.prometheus_session import error_of_exception
from tests.collectors.webs import Web, reply

UNTIL = datetime(2026, 11, 22, 12, 0, 0, 250_000, tzinfo=UTC)


def reader(web: Web, **table: object) -> PrometheusReader:
    return PrometheusReader(PrometheusConfig.model_validate({"name": "main", "url": web.url, "timeout_s": 5, **table}))


def success(result: object, kind: str = "matrix") -> bytes:
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}).encode()


def failure(kind: str, message: str) -> bytes:
    return json.dumps({"status": "error", "errorType": kind, "error": message}).encode()


def error_of(web: Web, **table: object) -> CollectorError:
    with pytest.raises(CollectorError) as caught:
        reader(web, **table).raw_samples("{a}", seconds=60, until=UNTIL)
    assert caught.value.source == "main"
    return caught.value


def asked(web: Web) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(web.paths[-1]).query).items()}


def test_raw_samples_are_asked_for_with_a_range_selector(web: Web) -> None:
    web.answer = reply(
        200, success([{"metric": {"__name__": "A"}, "values": [[1795348750.5, "2"], [1795348800, "NaN"]]}])
    )
    (series,) = reader(web).raw_samples('{__name__=~"A"}', seconds=60, until=UNTIL)
    assert asked(web) == {"query": '{__name__=~"A"}[60s]', "time": "1795348800.250"}
    assert series.metric == {"__name__": "A"}
    assert series.values == [(1795348750.5, "2"), (1795348800.0, "NaN")]


def test_the_clock_of_the_server_is_read(web: Web) -> None:
    web.answer = reply(200, success([1795348800.25, "1795348800.25"], "scalar"))
    assert reader(web).server_time() == UNTIL


def test_label_sets_are_read(web: Web) -> None:
    web.answer = reply(200, success([{"metric": {"job": "a"}, "value": [1, "1"]}], "vector"))
    assert reader(web).label_sets("up", seconds=60, until=UNTIL) == [{"job": "a"}]


def test_nobody_listening(closed_port: int) -> None:
    config = PrometheusConfig(name="main", url=f"http://127.0.0.1:{closed_port}")
    with pytest.raises(Unreachable, match="cannot be connected to") as caught:
        PrometheusReader(config).server_time()
    assert "object at 0x" not in str(caught.value)


def test_a_server_that_hangs(web: Web) -> None:
    released = threading.Event()
    web.answer = lambda request: (released.wait(20), None)[1]
    error = error_of(web, timeout_s=0.3)
    released.set()
    assert type(error) is Unreachable
    assert "in time" in str(error)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Unauthorized), (403, Unauthorized), (500, Unreachable), (503, Unreachable), (404, BadPayload)],
)
def test_a_status_that_is_no_success(web: Web, status: int, kind: type[CollectorError]) -> None:
    web.answer = reply(status, b"no\n")
    assert type(error_of(web)) is kind
    assert len(web.paths) == 1  # the next interval is the next try


def test_the_reason_of_the_server_is_passed_on(web: Web) -> None:
    web.answer = reply(400, failure("bad_data", "1:5: parse error: unclosed left parenthesis"))
    assert str(error_of(web)).endswith("It says: 1:5: parse error: unclosed left parenthesis")


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution"),
        (422, "query processing would load too many samples into memory in query execution"),
        (503, "query timed out in expression evaluation"),
        (422, "expanding series: context deadline exceeded"),
        (422, "the query hit the max number of series limit; err-mimir-max-series-per-query"),
        (413, "payload too large"),
    ],
)
def test_a_limit_of_the_server_asks_for_smaller_windows(web: Web, status: int, message: str) -> None:
    web.answer = reply(status, failure("execution", message))
    assert type(error_of(web)) is WindowTooLarge


def test_an_answer_beyond_our_own_limit_asks_for_smaller_windows(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus_session, "MAX_ANSWER_BYTES", 1000)
    web.answer = reply(200, success([]) + b" " * 2000)
    assert type(error_of(web)) is WindowTooLarge


def test_a_redirect_is_not_followed(web: Web) -> None:
    web.answer = reply(302, Location="https://login.example/?next=x")
    assert "redirects to login.example" in str(error_of(web))
    assert len(web.paths) == 1


def test_a_web_page(web: Web) -> None:
    web.answer = reply(200, b"<!doctype html><title>Sign in</title>", Content_Type="text/html")
    assert "web page titled 'Sign in'" in str(error_of(web))


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"",
        b"[]",
        b"null",
        b'{"status":"success"}',
        b'{"data":{"result":[{"metric":{},"values":[["x","1"]]}]}}',
        b'{"data":{"result":[{"metric":{"a":1},"values":[]}]}}',
        b'{"data":{"result":[{"values":[]}]}}',
        b'{"data":{"result":[{"metric":{},"values":[[-1,"1"]]}]}}',
        b'{"data":{"result":7}}',
    ],
)
def test_an_answer_that_is_not_prometheus_s(web: Web, body: bytes) -> None:
    web.answer = reply(200, body, Content_Type="application/json")
    assert type(error_of(web)) is BadPayload


@pytest.mark.parametrize("clock", ["NaN", "1e300", "-1e300", "Infinity", "0", "253402300900", "1" * 5000])
def test_a_clock_that_is_none_is_an_error(web: Web, clock: str) -> None:
    body = f'{{"status":"success","data":{{"resultType":"scalar","result":[{clock},"1"]}}}}'
    web.answer = reply(200, body.encode(), Content_Type="application/json")
    with pytest.raises(BadPayload):
        reader(web).server_time()


def test_an_answer_of_brackets_is_an_error(web: Web) -> None:
    web.answer = reply(200, b"[" * 200_000, Content_Type="application/json")
    assert type(error_of(web)) is BadPayload


AT_S = 1795348770
GOOD = {"metric": {"__name__": "A"}, "values": [[AT_S, "2"]]}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"metric": {"__name__": "B"}, "values": None}, "in a shape that is not Prometheus's"),
        ({"metric": {"__name__": "B"}, "values": [[AT_S, 2]]}, "in a shape that is not Prometheus's"),
        ({"metric": {"__name__": "B"}, "values": [[-1, "2"]]}, "in a shape that is not Prometheus's"),
        ({"metric": {"__name__": "B"}, "histograms": [[AT_S, {}]]}, "native histograms are not read"),
        ({"metric": {"__name__": "B"}, "values": [[1e300, "2"]]}, "dated outside the time that was asked for"),
        ({"metric": {"__name__": "B"}, "values": [[AT_S + 3600, "2"]]}, "dated outside the time that was asked for"),
        ({"metric": {"__name__": "B"}, "values": [[AT_S - 3600, "2"]]}, "dated outside the time that was asked for"),
        ({"metric": {"__name__": "B"}, "values": [[253402300900, "2"]]}, "dated outside the time that was asked for"),
    ],
)
def test_what_cannot_be_read_of_one_series_costs_no_other(web: Web, bad: object, reason: str) -> None:
    web.answer = reply(200, success([bad, GOOD]), Content_Type="application/json")
    asking = reader(web)
    series = asking.raw_samples("{a}", seconds=60, until=UNTIL)
    assert {(one.metric["__name__"], *one.values) for one in series if one.values} == {("A", (AT_S, "2"))}
    told = asking.remarks()
    assert len(told.reasons) == 1
    assert reason in told.reasons[0]
    assert told.reasons[0].endswith("; the first: B")
    assert not told.is_partial
    assert asking.remarks().reasons == ()


def test_one_malformed_label_set_costs_no_other(web: Web) -> None:
    web.answer = reply(200, success([7, {"metric": {"job": "a"}, "value": [1, "1"]}], "vector"))
    assert reader(web).label_sets("up", seconds=60, until=UNTIL) == [{"job": "a"}]


@pytest.mark.parametrize(
    ("beside", "is_partial", "reasons"),
    [
        ({}, False, ()),
        (
            {"warnings": ["No StoreAPIs matched for this query"]},
            True,
            ("the server says that its answer may be incomplete: No StoreAPIs matched for this query",),
        ),
        ({"isPartial": True}, True, ("the server says that its answer is incomplete (isPartial)",)),
        ({"isPartial": False}, False, ()),
        (
            {"warnings": ["PromQL warning: w"], "infos": ["PromQL info: i"]},
            False,
            ("the server remarks on its answer: PromQL warning: w", "the server remarks on its answer: PromQL info: i"),
        ),
        ({"infos": ["sidecar-2 is odd"]}, False, ("the server remarks on its answer: sidecar-2 is odd",)),
        ({"warnings": "none", "infos": [7, None]}, False, ()),
        (
            {"warnings": ["a\n\u202eb"] * 100},
            True,
            ("the server says that its answer may be incomplete: a b",),
        ),
    ],
)
def test_what_a_server_says_beside_its_samples_is_kept(
    web: Web, beside: dict[str, object], is_partial: bool, reasons: tuple[str, ...]
) -> None:
    told = {"status": "success", "data": {"resultType": "matrix", "result": [GOOD]}, **beside}
    web.answer = reply(200, json.dumps(told).encode(), Content_Type="application/json")
    asking = reader(web)
    assert len(asking.raw_samples("{a}", seconds=60, until=UNTIL)) == 1
    assert asking.remarks() == Remarks(reasons=reasons, is_partial=is_partial)


def test_the_token_is_sent_and_never_told(web: Web, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login nobody password nothing\n")
    monkeypatch.setenv("HOME", str(tmp_path))  # requests would let ~/.netrc replace the token
    web.answer = reply(403)
    assert "s3cret" not in str(error_of(web, bearer_token="s3cret"))
    assert web.headers[0]["Authorization"] == "Bearer s3cret"


def test_user_and_password_are_sent(web: Web) -> None:
    web.answer = reply(401)
    error_of(web, username="u", password="p")
    assert web.headers[0]["Authorization"] == "Basic dTpw"


@pytest.mark.parametrize(
    "kind",
    [
        *(
            kind
            for _, kind in inspect.getmembers(requests.exceptions, inspect.isclass)
            if issubclass(kind, requests.exceptions.RequestException) and not issubclass(kind, Warning)
        ),
        client_exceptions.PrometheusApiClientException,
    ],
    ids=lambda kind: kind.__name__,
)
def test_every_exception_of_the_libraries_becomes_one_of_ours(kind: type[Exception]) -> None:
    made = kind("x", "y", 0) if issubclass(kind, json.JSONDecodeError) else kind("x")
    error = error_of_exception(made, source="s", target="t")
    assert isinstance(error, CollectorError)
    assert error.permanent is (kind is requests.exceptions.SSLError)


def test_a_mistake_of_our_own_is_not_taken_for_a_network_problem() -> None:
    with pytest.raises(ZeroDivisionError):
        error_of_exception(ZeroDivisionError(), source="s", target="t")


def test_names_and_jobs_are_escaped_in_a_selector() -> None:
    assert selector(["A", "B"]) == '{__name__=~"A|B"}'
    assert selector(["A"], jobs=['a.b"} or {x="', "c\\d"]) == (
        '{__name__=~"A",job=~"a\\\\.b\\"\\\\}\\\\ or\\\\ \\\\{x=\\"|c\\\\\\\\d"}'
    )
