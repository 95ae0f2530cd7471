"""What is asked of one server: parts of files, redirects, and everything that can be wrong with an answer."""

import gzip
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import httpx
import pytest
from pydantic import SecretStr

from gpufleet import model_http
from gpufleet.errors import ModelSourceFailed
from gpufleet.model_http import ModelHttp, Span, address_of
from tests.gpufleet.sites import Asked, Site, file, half, page, redirect, site

CONTENT = bytes(range(256)) * 4
SECRET = "hf_thisIsTheSecret"


@pytest.fixture
def web() -> Iterator[Site]:
    with site() as served:
        yield served


@pytest.fixture
def other() -> Iterator[Site]:
    with site() as served:
        yield served


def test_a_part_of_a_file_and_its_size(web: Site) -> None:
    web.pages["/f"] = file(CONTENT)
    with ModelHttp(address=web.url) as http:
        answer = http.part("/f", Span(first=8, count=16))
        short = http.part("/f", Span(first=1020, count=16))
        behind = http.part("/f", Span(first=2000, count=16))
    assert (answer.status, answer.body, answer.file_bytes) == (206, CONTENT[8:24], 1024)
    assert (short.body, short.file_bytes) == (CONTENT[1020:], 1024)
    assert behind.status == 416
    assert web.asked[0].headers["range"] == "bytes=8-23"


def test_a_server_that_ignores_ranges_is_read_up_to_the_part_and_no_further(web: Site) -> None:
    web.pages["/f"] = page(CONTENT)
    with ModelHttp(address=web.url) as http:
        answer = http.part("/f", Span(first=8, count=16))
        with pytest.raises(ModelSourceFailed, match="sends whole files where a part is asked for"):
            http.part("/f", Span(first=512, count=16))
    assert (answer.body, answer.file_bytes) == (CONTENT[8:24], 1024)


@pytest.mark.parametrize("stated", ["bytes 9-24/1024", "bytes */1024", "", "bytes 8-23"])
def test_another_part_than_the_one_asked_for_is_refused(web: Site, stated: str) -> None:
    web.pages["/f"] = page(CONTENT[8:24], 206, Content_Range=stated)
    with ModelHttp(address=web.url) as http, pytest.raises(ModelSourceFailed, match="another part of the file"):
        http.part("/f", Span(first=8, count=16))


def test_a_redirect_is_followed_only_where_that_is_wanted(web: Site) -> None:
    web.pages |= {"/a": redirect("/b"), "/b": page("there")}
    with ModelHttp(address=web.url) as http:
        assert http.get("/a", limit_bytes=100).status == 302
    with ModelHttp(address=web.url, follows=True) as http:
        assert http.get("/a", limit_bytes=100).body == b"there"


def test_the_token_goes_to_its_own_host_alone(web: Site, other: Site) -> None:
    web.pages |= {"/renamed": redirect("/file", 307), "/file": redirect(f"{other.url}/cdn?Signature=x")}
    other.pages["/cdn?Signature=x"] = file(CONTENT)
    with ModelHttp(address=web.url, bearer=SecretStr(SECRET), follows=True) as http:
        assert http.part("/renamed", Span(first=0, count=8)).body == CONTENT[:8]
    assert web.with_header("authorization") == ["/renamed", "/file"]
    assert web.asked[0].headers["authorization"] == f"Bearer {SECRET}"
    assert [one.headers.get("range") for one in other.asked] == ["bytes=0-7"]
    assert other.with_header("authorization") == []


def test_redirects_in_a_circle_or_to_nowhere_end(web: Site) -> None:
    web.pages |= {"/a": redirect("/b"), "/b": redirect("/a"), "/c": redirect("ftp://x/y"), "/d": redirect("http://[x")}
    web.pages["/e"] = redirect("http://user:word@127.0.0.1/")
    with ModelHttp(address=web.url, follows=True) as http:
        with pytest.raises(ModelSourceFailed, match="redirects more than 5 times"):
            http.get("/a", limit_bytes=100)
        for path in ("/c", "/d", "/e"):
            with pytest.raises(ModelSourceFailed, match="redirects to what is no address"):
                http.get(path, limit_bytes=100)


def test_a_redirect_to_an_unprotected_address_is_not_followed() -> None:
    response = httpx.Response(302, headers={"Location": "http://cdn.example/x"})
    with pytest.raises(ModelSourceFailed, match="from https to http"):
        model_http._next_address("https://hub.example/x", response)


def test_bodies_that_are_cut_too_large_or_packed_are_refused(web: Site) -> None:
    web.pages |= {"/half": half(CONTENT), "/large": page(bytes(2_000_000))}
    web.pages["/packed"] = page(gzip.compress(CONTENT), Content_Encoding="gzip")
    with ModelHttp(address=web.url) as http:
        with pytest.raises(ModelSourceFailed, match="broke off in the middle"):
            http.get("/half", limit_bytes=10_000)
        with pytest.raises(ModelSourceFailed, match="more than 1 MiB"):
            http.get("/large", limit_bytes=2**20)
        with pytest.raises(ModelSourceFailed, match="in an encoding nobody asked for"):
            http.get("/packed", limit_bytes=10_000)
    assert web.asked[0].headers["accept-encoding"] == "identity"


def test_an_answer_without_end_is_given_up(web: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(request: BaseHTTPRequestHandler, asked: Asked) -> None:
        request.send_response(200)
        request.end_headers()
        for _ in range(200):
            request.wfile.write(b" " * 65536)
            time.sleep(0.01)

    monkeypatch.setattr(model_http, "LONGEST_ANSWER_S", 0.02)
    web.pages["/drip"] = drip
    with ModelHttp(address=web.url) as http, pytest.raises(ModelSourceFailed, match="still answering after"):
        http.get("/drip", limit_bytes=2**30)


def test_what_is_no_json_is_said_and_what_the_server_says_is_told(web: Site) -> None:
    web.pages |= {"/page": page("<!doctype html><title>Sign in</title>"), "/cut": page('{"a": ')}
    web.pages |= {
        "/error": page({"error": "model 'x' not found"}, 404),
        "/open": page({"error": {"message": "no"}}, 400),
    }
    with ModelHttp(address=web.url) as http:
        with pytest.raises(ModelSourceFailed, match="answered with a web page"):
            http.get("/page", limit_bytes=1000).json()
        with pytest.raises(ModelSourceFailed, match="answered with no JSON"):
            http.get("/cut", limit_bytes=1000).json()
        assert http.get("/error", limit_bytes=1000).told() == " (model 'x' not found)"
        assert http.get("/open", limit_bytes=1000).told() == " (no)"
        assert http.get("/page", limit_bytes=1000).told() == ""


def test_nobody_there_is_said_without_the_token() -> None:
    with site() as gone:
        address = gone.url
    with (
        ModelHttp(address=address, bearer=SecretStr(SECRET)) as http,
        pytest.raises(ModelSourceFailed, match="cannot be connected to") as caught,
    ):
        http.get("/x", limit_bytes=10)
    assert SECRET not in f"{caught.value}{http!r}"


def test_a_proxy_of_the_environment_counts_only_where_it_is_wanted(
    web: Site, other: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", other.url)
    monkeypatch.setenv("http_proxy", other.url)
    web.pages["/x"] = page("direct")
    other.missing = page("through the proxy")
    with ModelHttp(address=web.url) as http:
        assert http.get("/x", limit_bytes=100).body == b"direct"
    with ModelHttp(address=web.url, through_proxies=True) as http:
        assert http.get("/x", limit_bytes=100).body == b"through the proxy"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://host:8000", "http://host:8000"),
        ("http://host:8000/", "http://host:8000"),
        ("https://host/vllm//", "https://host/vllm"),
    ],
)
def test_an_address_has_no_slash_at_its_end(text: str, address: str) -> None:
    assert address_of(text, "--server") == address


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("host:8000", "whole address"),
        ("http://me:word@host", "no user or password"),
        ("http://host/?key=word", "no query"),
        ("http://host:99999", "the port"),
    ],
)
def test_what_is_no_address_is_refused_and_not_repeated(text: str, why: str) -> None:
    with pytest.raises(ModelSourceFailed, match=why) as caught:
        address_of(text, "--server")
    assert "word@" not in str(caught.value)
    assert "key=" not in str(caught.value)
