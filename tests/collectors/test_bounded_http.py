"""One question at a time: what is bounded, what is refused, and what never leaves the machine."""

import gzip
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from collectors.bounded_http import BoundedHttp, TooLarge
from collectors.config import HttpSourceConfig
from collectors.errors import BadPayload, Unauthorized, Unreachable
from collectors.http_answers import same_host_path
from tests.collectors.json_web import Reply, json_web
from tests.collectors.webs import Web, reply

LIMIT = 10_000


def _http(**keys: object) -> BoundedHttp:
    return BoundedHttp(HttpSourceConfig(name="it", timeout_s=2.0, **keys), max_body_bytes=LIMIT)  # type: ignore[arg-type]


def test_an_answer_is_read_whole_with_its_headers() -> None:
    with json_web({"/a": Reply({"x": 1}, 200, {"X-Told": "yes"})}) as web:
        answer = _http().get(f"{web.url}/a", {"q": "a b&c"})
    assert (answer.status, answer.json(), answer.headers["x-told"]) == (200, {"x": 1}, "yes")
    assert answer.target == f"127.0.0.1:{web.port}/a"
    assert answer.served_at is not None
    assert web.asked[0].query == {"q": "a b&c"}


def test_what_is_posted_arrives_as_json() -> None:
    with json_web({"/a": {"ok": True}}) as web:
        _http().post(f"{web.url}/a", {"model": "x"})
    assert (web.asked[0].method, web.asked[0].body) == ("POST", {"model": "x"})


@pytest.mark.parametrize(("size", "is_refused"), [(LIMIT, False), (LIMIT + 1, True)])
@pytest.mark.parametrize("packed", [False, True])
def test_no_more_is_read_than_is_allowed_packed_or_not(size: int, is_refused: bool, packed: bool) -> None:
    body = b"a" * size
    told = Reply(gzip.compress(body, mtime=0), 200, {"Content-Encoding": "gzip"}) if packed else Reply(body)
    with json_web({"/a": told}) as web:
        if is_refused:
            with pytest.raises(TooLarge, match="max_body_bytes"):
                _http().get(f"{web.url}/a")
        else:
            assert _http().get(f"{web.url}/a").body == body


def test_a_small_answer_that_unpacks_to_a_gigabyte_is_refused_before_it_is_one() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000, mtime=0)
    with json_web({"/a": Reply(bomb, 200, {"Content-Encoding": "gzip"})}) as web, pytest.raises(TooLarge):
        _http().get(f"{web.url}/a")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Encoding": "br"}, b"x"),
        ({"Content-Encoding": "gzip"}, b"not packed at all"),
        ({"Content-Encoding": "gzip"}, gzip.compress(b"x" * 3000, mtime=0)[:20]),
    ],
)
def test_an_answer_packed_otherwise_than_it_says_is_no_answer(headers: dict[str, str], body: bytes) -> None:
    with json_web({"/a": Reply(body, 200, headers)}) as web, pytest.raises((BadPayload, Unreachable)):
        _http().get(f"{web.url}/a")


def test_an_answer_that_trickles_is_given_up(web: Web) -> None:
    def trickle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        for _ in range(1000):
            request.wfile.write(b"x")
            request.wfile.flush()
            time.sleep(0.05)

    web.answer = trickle
    http = BoundedHttp(HttpSourceConfig(name="it", timeout_s=0.3), max_body_bytes=LIMIT)
    with pytest.raises(Unreachable, match="did not answer within"):
        http.get(web.url)


def test_nobody_there_and_half_an_answer_are_unreachable(web: Web, closed_port: int) -> None:
    with pytest.raises(Unreachable, match="cannot be connected to"):
        _http().get(f"http://127.0.0.1:{closed_port}/")

    def half(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(b"x" * 10)

    web.answer = half
    with pytest.raises(Unreachable, match="broke off"):
        _http().get(web.url)


def test_the_environment_decides_nothing(monkeypatch: pytest.MonkeyPatch, closed_port: int, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}")
    with json_web({"/a": {}}) as web:
        assert _http().get(f"{web.url}/a").status == 200
    assert "Authorization" not in web.asked[0].headers


def test_redirects_are_not_followed_and_carry_no_key_elsewhere() -> None:
    with json_web() as other, json_web() as web:
        web.paths["/a"] = Reply("", 302, {"Location": f"{other.url}/a"})
        answer = _http(bearer_token="secret").get(f"{web.url}/a")
    assert answer.status == 302
    assert other.asked == []


def test_the_log_in_is_sent_and_never_told(web: Web) -> None:
    web.answer = reply(401, b'{"message": "no"}')
    answer = _http(username="me", password="hush-hush").get(web.url)
    assert web.headers[0]["Authorization"] == "Basic bWU6aHVzaC1odXNo"
    error = answer.error()
    assert isinstance(error, Unauthorized)
    assert "hush" not in str(error)
    assert "It says" not in str(error)  # a server may quote the key that it refuses, whole or in part
    assert "hush" not in repr(answer)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"message": "wrong\nkey"}, "wrong key"),
        ({"error": {"message": "deep"}}, "deep"),
        ({"detail": {"error": "deeper"}}, "deeper"),
        (["a list"], ""),
        ("no json", ""),
        ({"message": 7}, ""),
    ],
)
def test_the_reason_is_found_where_servers_put_it(body: object, reason: str) -> None:
    with json_web({"/a": Reply(body, 400)}) as web:
        assert _http().get(f"{web.url}/a").reason == reason


def test_a_web_page_or_text_is_no_json() -> None:
    with json_web({"/page": "<!DOCTYPE html><title>Sign in</title>", "/text": "hello", "/deep": "[" * 9_000}) as web:
        with pytest.raises(BadPayload, match="Sign in"):
            _http().get(f"{web.url}/page").json()
        with pytest.raises(BadPayload, match="begins: 'hello'"):
            _http().get(f"{web.url}/text").json()
        with pytest.raises(BadPayload, match="no JSON"):
            _http().get(f"{web.url}/deep").json()


def test_certificates_that_are_none_are_an_error_of_the_question_and_not_of_the_program(tmp_path: Path) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_text("not a certificate")
    http = _http(ca_file=broken)
    with pytest.raises(Unreachable, match="ca_file") as caught:
        http.get("https://127.0.0.1:1/")
    assert caught.value.permanent


@pytest.mark.parametrize(
    ("base", "location", "to"),
    [
        ("https://g:4000/metrics", "/metrics/", "https://g:4000/metrics/"),
        ("https://g:4000/metrics", "https://g:4000/metrics/", "https://g:4000/metrics/"),
        ("https://g/metrics", "http://g/metrics/", "https://g/metrics/"),  # a proxy ended TLS: the key stays inside
        ("https://g/metrics", "http://g:8080/metrics/", None),
        ("https://g/metrics", "https://evil/metrics/", None),
        ("https://g/metrics", "//evil/metrics/", None),
        ("https://g/metrics", "https://g@evil/", None),
        ("https://g/metrics", "https://user:pw@g/", None),
        ("https://g/metrics", "ftp://g/metrics/", None),
        ("https://g/metrics", "https://g.evil/", None),
        ("https://g/metrics", "http://[", None),
        ("https://g/metrics", None, None),
        ("https://g/metrics", "", None),
    ],
)
def test_a_redirect_is_followed_on_the_same_host_and_scheme_only(
    base: str, location: str | None, to: str | None
) -> None:
    assert same_host_path(base, location) == to
