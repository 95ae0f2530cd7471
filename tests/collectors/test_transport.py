"""The HTTP seam over real connections: what is followed, trusted, shown and read, and how long it takes at most."""

import gzip
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from collectors.bounded_http import BoundedHttp
from collectors.config import HttpSourceConfig
from collectors.errors import BadPayload, CollectorError, Unauthorized, Unreachable
from collectors.http_answers import same_host
from collectors.kubernetes_access import KubernetesApi
from collectors.kubernetes_access_config import KubernetesAccessConfig
from collectors.prometheus import PrometheusReader
from collectors.prometheus_config import PrometheusConfig
from collectors.transport import Fetched, HttpTransport, Question
from tests.collectors.certificates import Certificates, make_certificates
from tests.collectors.webs import Web, reply, serving


def fetch(*questions: Question | str, max_body_bytes: int = 1024 * 1024, **table: Any) -> list[Fetched]:
    config = HttpSourceConfig.model_validate({"name": "test", "timeout_s": 5, **table})
    transport = HttpTransport(config, max_body_bytes=max_body_bytes)
    return list(transport.fetch_all(questions, max_concurrent=8))


def fetch_one(question: Question | str, **table: Any) -> Fetched:
    (fetched,) = fetch(question, **table)
    return fetched


def redirecting(places: dict[str, str]) -> Any:
    """Redirects these paths to those places, and answers "here" at any other."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        place = places.get(request.path)
        reply(200, b"here")(request) if place is None else reply(307, Location=place)(request)

    return answer


def dated(date: str) -> Any:
    """Answers "m" with this Date."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response_only(200)
        request.send_header("Date", date)
        request.end_headers()
        request.wfile.write(b"m")

    return answer


# --- redirects


def test_a_redirect_is_not_followed_unless_configured(web: Web) -> None:
    web.answer = redirecting({"/metrics": "/metrics/"})
    fetched = fetch_one(f"{web.url}/metrics")
    assert type(fetched.error) is BadPayload
    assert "(307)" in str(fetched.error)
    assert web.paths == ["/metrics"]


def test_a_configured_redirect_is_followed_on_the_same_host_with_the_token(web: Web) -> None:
    web.answer = redirecting({"/metrics": "/metrics/", "/metrics/": f"{web.url}/there"})
    fetched = fetch_one(f"{web.url}/metrics", follow_redirects=True, bearer_token="t")
    assert (fetched.text, fetched.error) == ("here", None)
    assert web.paths == ["/metrics", "/metrics/", "/there"]
    assert {headers["Authorization"] for headers in web.headers} == {"Bearer t"}


def test_no_redirect_leads_to_another_host_or_port(web: Web) -> None:
    with serving() as other:
        web.answer = redirecting({"/metrics": f"{other.url}/metrics"})
        fetched = fetch_one(f"{web.url}/metrics", follow_redirects=True)
        assert type(fetched.error) is BadPayload
        assert other.paths == []


def test_redirects_in_a_circle_end(web: Web) -> None:
    web.answer = redirecting({"/a": "/b", "/b": "/a"})
    fetched = fetch_one(f"{web.url}/a", follow_redirects=True)
    assert "more than 3 times" in str(fetched.error)
    assert len(web.paths) == 4


@pytest.mark.parametrize(
    ("location", "onward"),
    [
        ("/x", "https://a:1/x"),
        ("x?y=1", "https://a:1/m/x?y=1"),
        ("https://a:1/x", "https://a:1/x"),
        ("https://A:1/x", "https://a:1/x"),
        ("http://a:1/x", None),  # what was safe would go in the clear
        ("https://a/x", None),
        ("https://a:2/x", None),
        ("https://b:1/x", None),
        ("//b:1/x", None),
        ("https://u:p@a:1/x", None),
        ("file:///etc/passwd", None),
        ("https://[broken", None),
        ("", None),
        (None, None),
    ],
)
def test_only_the_same_host_is_followed(location: str | None, onward: str | None) -> None:
    assert same_host("https://a:1/m/n", location) == onward


# --- what is asked beside


def test_further_questions_follow_the_first_answer_and_fail_on_their_own(web: Web) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        known = {"/metrics": b"m", "/version": b"v"}
        body = known.get(request.path)
        reply(404)(request) if body is None else reply(200, body)(request)

    web.answer = answer
    seen: list[tuple[int, str]] = []

    def then(status: int, text: str) -> list[str]:
        seen.append((status, text))
        return [f"{web.url}/version", f"{web.url}/none"]

    fetched = fetch_one(Question(url=f"{web.url}/metrics", then=then))
    assert seen == [(200, "m")]
    assert fetched.text == "m"
    assert [(page.status, page.text, type(page.error)) for page in fetched.further] == [
        (200, "v", type(None)),
        (404, None, BadPayload),
    ]


def test_nothing_more_is_asked_of_a_server_that_does_not_answer(closed_port: int) -> None:
    def then(status: int, text: str) -> list[str]:
        raise AssertionError("nothing answered")

    fetched = fetch_one(Question(url=f"http://127.0.0.1:{closed_port}/", then=then))
    assert type(fetched.error) is Unreachable
    assert (fetched.status, fetched.further) == (None, ())


def test_a_refusal_is_told_with_its_reason_and_still_asked_further(web: Web) -> None:
    web.answer = reply(501, b'{"error":{"code":501,"message":"Start it with `--metrics`"}}')
    fetched = fetch_one(Question(url=f"{web.url}/metrics", then=lambda status, text: [f"{web.url}/props"]))
    assert fetched.status == 501
    assert "It says: Start it with `--metrics`" in str(fetched.error)
    assert len(fetched.further) == 1


@pytest.mark.parametrize(
    "body", [b"x" * 100_000, b'{"message":' + b"[" * 5000, b"\xff\xfe", b'{"message":{}}', b"[1]", b"null"]
)
def test_a_refusal_with_an_odd_or_endless_body_is_still_a_refusal(web: Web, body: bytes) -> None:
    web.answer = reply(500, body)
    fetched = fetch_one(f"{web.url}/metrics")
    assert type(fetched.error) is Unreachable
    assert "It says" not in str(fetched.error)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(b'{"error":"no"}')[:-4]),
        ("gzip", b"not packed at all"),
        ("br", b"xx"),
        ("gzip, br", b"xx"),
    ],
)
@pytest.mark.parametrize(("status", "kind"), [(401, Unauthorized), (403, Unauthorized), (503, Unreachable)])
def test_a_refusal_whose_reason_cannot_be_read_is_still_that_refusal(
    web: Web, status: int, kind: type[CollectorError], encoding: str, body: bytes
) -> None:
    web.answer = reply(status, body, Content_Encoding=encoding)
    assert f"({status})" in str(fetch_one(f"{web.url}/metrics").error)
    answer = BoundedHttp(HttpSourceConfig(name="test", timeout_s=5), max_body_bytes=1024).get(web.url)
    assert (answer.status, type(answer.error())) == (status, kind)
    with pytest.raises(kind, match=rf"\({status}\)"):
        PrometheusReader(PrometheusConfig(name="test", url=web.url, timeout_s=5)).server_time()


def test_a_refusal_whose_reason_never_arrives_is_still_that_refusal(web: Web) -> None:
    released = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(401)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.flush()
        released.wait(20)

    web.answer = answer
    assert type(fetch_one(f"{web.url}/metrics", timeout_s=0.5).error) is Unauthorized
    answered = BoundedHttp(HttpSourceConfig(name="test", timeout_s=0.5), max_body_bytes=1024).get(web.url)
    assert type(answered.error()) is Unauthorized
    with pytest.raises(Unauthorized):
        KubernetesApi(KubernetesAccessConfig(url=web.url, timeout_s=0.5), source="test").get("/version")
    released.set()


def test_a_compressed_refusal_is_not_unpacked_beyond_its_beginning(web: Web) -> None:
    web.answer = reply(500, gzip.compress(b"x" * 50_000_000, compresslevel=1), Content_Encoding="gzip")
    assert type(fetch_one(f"{web.url}/metrics").error) is Unreachable


def test_all_questions_to_one_target_share_its_time(web: Web) -> None:
    released = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        if request.path != "/metrics":
            released.wait(20)
        reply(200, b"m")(request)

    web.answer = answer
    asked = Question(url=f"{web.url}/metrics", then=lambda status, text: [f"{web.url}/{n}" for n in range(50)])
    fetched = fetch_one(asked, timeout_s=0.3)
    released.set()
    assert fetched.text == "m"  # what was there in time is kept
    assert [type(page.error) for page in fetched.further] == [Unreachable] * 50


# --- time


def test_a_try_ends_before_the_next_interval_begins(web: Web) -> None:
    released = threading.Event()
    web.answer = lambda request: (released.wait(20), None)[1]
    fetched = fetch_one(f"{web.url}/metrics", timeout_s=600, interval_s=1)
    released.set()
    assert "within 0.9 s" in str(fetched.error)


def test_failing_targets_are_left_out_when_the_interval_is_nearly_over(web: Web) -> None:
    # one place, and a first answer that uses the interval up; a working target is asked all the same
    released = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        if request.path == "/slow":
            released.wait(0.5)
        reply(200, b"m")(request)

    web.answer = answer
    config = HttpSourceConfig.model_validate({"name": "test", "timeout_s": 0.8, "interval_s": 1})
    transport = HttpTransport(config, max_body_bytes=1000)
    asked = [
        Question(url=f"{web.url}/slow"),
        Question(url=f"{web.url}/works"),
        Question(url=f"{web.url}/failed", is_failing=True),
    ]
    found = [fetched.url for fetched in transport.fetch_all(asked, max_concurrent=1)]
    released.set()
    assert found == [f"{web.url}/slow", f"{web.url}/works"]


def busy(status: int, retry_after: str, date: str = "Mon, 16 Nov 2026 10:30:00 GMT") -> Any:
    """Cannot answer now, and says when it may."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response_only(status)
        for name, value in {"Date": date, "Retry-After": retry_after, "Content-Length": "0"}.items():
            request.send_header(name, value)
        request.end_headers()

    return answer


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("header", ["120", "Mon, 16 Nov 2026 10:32:00 GMT"])
def test_a_server_that_asks_to_be_left_alone_is_heeded_by_its_own_clock(web: Web, status: int, header: str) -> None:
    web.answer = busy(status, header)
    fetched = fetch_one(web.url)
    assert type(fetched.error) is Unreachable
    assert str(fetched.error).endswith(f"cannot answer now ({status}). It asks to be left alone for 120 s.")
    assert fetched.retry_after == timedelta(seconds=120 + fetched.seconds)


@pytest.mark.parametrize(("status", "header"), [(503, "soon"), (503, "-1"), (500, "120"), (200, "120")])
def test_what_asks_for_nothing_is_not_left_alone(web: Web, status: int, header: str) -> None:
    web.answer = busy(status, header)
    fetched = fetch_one(web.url)
    assert fetched.retry_after is None
    assert "left alone" not in str(fetched.error)


def test_the_server_s_clock_is_compared(web: Web) -> None:
    web.answer = dated("Sun, 22 Nov 2026 12:05:00 GMT")
    fetched = fetch_one(f"{web.url}/metrics")
    assert fetched.served_at == datetime(2026, 11, 22, 12, 5, tzinfo=UTC)
    skew_s = fetched.clock_skew_s(datetime(2026, 11, 22, 12, 0, tzinfo=UTC))
    assert skew_s is not None
    assert 290 < skew_s <= 300.5


@pytest.mark.parametrize("date", ["", "yesterday", "Sun, 99 Nov 2026 12:05:00 GMT"])
def test_a_date_that_is_none_tells_no_time(web: Web, date: str) -> None:
    web.answer = dated(date)
    assert fetch_one(f"{web.url}/metrics").clock_skew_s(datetime(2026, 11, 22, tzinfo=UTC)) is None


# --- TLS


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def tls_server(certificates: Certificates, *, wants_client: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server)
    if wants_client:
        context.load_verify_locations(certificates.authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.fixture(scope="module")
def secure(certificates: Certificates) -> Iterator[Web]:
    with serving(tls_server(certificates, wants_client=False)) as web:
        web.answer = reply(200, b"m")
        yield web


@pytest.fixture(scope="module")
def mutual(certificates: Certificates) -> Iterator[Web]:
    with serving(tls_server(certificates, wants_client=True)) as web:
        web.answer = reply(200, b"m")
        yield web


def test_a_certificate_of_an_unknown_authority_is_refused_and_what_to_do_is_told(secure: Web) -> None:
    fetched = fetch_one(f"{secure.url}/metrics")
    assert fetched.error is not None
    assert fetched.error.permanent
    assert "ca_file" in str(fetched.error)


def test_a_named_authority_is_trusted(secure: Web, certificates: Certificates) -> None:
    assert fetch_one(f"{secure.url}/metrics", ca_file=certificates.authority).text == "m"


def test_on_request_anyone_is_trusted(secure: Web) -> None:
    assert fetch_one(f"{secure.url}/metrics", verify_tls=False).text == "m"


def test_a_certificate_for_another_name_is_refused(secure: Web, certificates: Certificates) -> None:
    url = f"https://localhost:{secure.port}/metrics"
    assert fetch_one(url, ca_file=certificates.authority).text is None


def test_a_server_that_wants_a_client_certificate_says_so(mutual: Web, certificates: Certificates) -> None:
    # in TLS 1.3 the refusal comes after the handshake, and may be overtaken by the end of the connection
    fetched = fetch_one(f"{mutual.url}/metrics", ca_file=certificates.authority)
    assert type(fetched.error) in (Unauthorized, Unreachable)
    assert "client_cert_file" in str(fetched.error)


def test_a_client_certificate_is_shown(mutual: Web, certificates: Certificates, tmp_path: Path) -> None:
    table = {"ca_file": certificates.authority, "client_cert_file": certificates.client}
    assert fetch_one(f"{mutual.url}/metrics", client_key_file=certificates.client_key, **table).text == "m"
    both = tmp_path / "both.pem"
    both.write_text(certificates.client.read_text() + certificates.client_key.read_text())
    assert fetch_one(f"{mutual.url}/metrics", **(table | {"client_cert_file": both})).text == "m"


@pytest.mark.parametrize("wrong", ["encrypted", "no pem", "another's key", "no key"])
def test_a_key_that_cannot_be_used_is_a_permanent_failure_of_every_target(
    mutual: Web, certificates: Certificates, tmp_path: Path, wrong: str
) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    keys = {"encrypted": certificates.encrypted_key, "no pem": nonsense, "another's key": certificates.server}
    table: dict[str, Any] = {"ca_file": certificates.authority, "client_cert_file": certificates.client}
    if wrong in keys:
        table["client_key_file"] = keys[wrong]
    found = fetch(f"{mutual.url}/a", f"{mutual.url}/b", **table)
    assert [fetched.error is not None and fetched.error.permanent for fetched in found] == [True, True]
    assert "client_cert_file with client_key_file" in str(found[0].error)


def test_certificates_that_are_replaced_are_used_without_a_restart(
    mutual: Web, certificates: Certificates, tmp_path: Path
) -> None:
    cert = tmp_path / "client.pem"
    cert.write_text("nonsense")
    config = HttpSourceConfig.model_validate(
        {
            "name": "test",
            "timeout_s": 5,
            "ca_file": certificates.authority,
            "client_cert_file": cert,
            "client_key_file": certificates.client_key,
        }
    )
    transport = HttpTransport(config, max_body_bytes=1000)
    (before,) = transport.fetch_all([f"{mutual.url}/metrics"], max_concurrent=1)
    cert.write_text(certificates.client.read_text())
    (after,) = transport.fetch_all([f"{mutual.url}/metrics"], max_concurrent=1)
    assert before.error is not None
    assert after.text == "m"
