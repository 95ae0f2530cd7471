"""The direct road over real connections: what answers badly, and how that is told."""

import base64
import gzip
import threading
import zlib
from collections.abc import Generator
from contextlib import closing
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any, cast

import pytest

from collectors.dcgm.collector import DcgmCollector
from collectors.dcgm.config import DcgmConfig
from collectors.errors import BadPayload, CollectorError, Unauthorized, Unreachable
from collectors.source import Attempt
from tests.collectors.dcgm.lines import UUID, line, readings
from tests.collectors.webs import Web, reply

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
BODY = line("DCGM_FI_DEV_POWER_USAGE", 60).encode()


def attempts(**table: Any) -> list[Attempt]:
    collector = DcgmCollector(DcgmConfig.model_validate({"name": "test", "timeout_s": 5, **table}))
    try:
        return list(collector.collect(NOW, {}))
    finally:
        collector.close()


def error_of(**table: Any) -> CollectorError:
    (attempt,) = attempts(**table)
    assert attempt.batch is None
    assert attempt.error is not None
    assert attempt.error.source == "test"
    return attempt.error


def test_an_exporter_is_scraped(web: Web) -> None:
    web.answer = reply(200, BODY)
    (attempt,) = attempts(url=web.url)
    assert attempt.error is None
    assert attempt.batch is not None
    assert readings(attempt.batch) == {(UUID, "power_watts"): 60.0}
    assert attempt.target == f"127.0.0.1:{web.port}"
    assert attempt.batch.readings[0].observed_at == attempt.started_at
    assert attempt.started_at >= NOW
    assert web.paths == ["/metrics"]


def test_a_compressed_answer_is_unpacked(web: Web) -> None:
    web.answer = reply(200, gzip.compress(BODY), Content_Encoding="gzip")
    (attempt,) = attempts(url=web.url)
    assert attempt.batch is not None
    assert len(attempt.batch.readings) == 1


def test_nobody_listening(closed_port: int) -> None:
    error = error_of(url=f"http://127.0.0.1:{closed_port}")
    assert type(error) is Unreachable
    assert "cannot be connected to" in str(error)


def test_a_name_that_does_not_resolve() -> None:
    assert type(error_of(url="http://no-such-host.invalid:9400")) is Unreachable


def test_an_exporter_that_hangs(web: Web) -> None:
    released = threading.Event()
    web.answer = lambda request: (released.wait(20), None)[1]
    error = error_of(url=web.url, timeout_s=0.3)
    released.set()
    assert type(error) is Unreachable
    assert "within 0.3 s" in str(error)


def test_an_exporter_that_drips_does_not_outlast_the_timeout(web: Web) -> None:
    stopped = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not stopped.wait(0.05):
            request.wfile.write(b"#\n")

    web.answer = drip
    error = error_of(url=web.url, timeout_s=0.5)
    stopped.set()
    assert type(error) is Unreachable


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Unauthorized), (403, Unauthorized), (404, BadPayload), (500, Unreachable), (503, Unreachable)],
)
def test_a_status_that_is_no_success(web: Web, status: int, kind: type[CollectorError]) -> None:
    web.answer = reply(status, b"go away\n")
    error = error_of(url=web.url)
    assert type(error) is kind
    assert str(status) in str(error)


def test_a_redirect_is_not_followed(web: Web) -> None:
    web.answer = reply(302, Location="https://elsewhere.example/metrics")
    assert "redirects to elsewhere.example (302)" in str(error_of(url=web.url))
    assert len(web.paths) == 1


def test_a_web_page_instead_of_metrics(web: Web) -> None:
    web.answer = reply(200, b"<!doctype html><title>Sign in</title>", Content_Type="text/html")
    error = error_of(url=web.url)
    assert type(error) is BadPayload
    assert "answered with a web page" in str(error)


def test_half_a_body(web: Web) -> None:
    def stop_in_the_middle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(BODY)
        request.close_connection = True

    web.answer = stop_in_the_middle
    error = error_of(url=web.url)
    assert type(error) is Unreachable
    assert "middle of its answer" in str(error)


def test_half_a_compressed_body(web: Web) -> None:
    web.answer = reply(200, gzip.compress(BODY * 50)[:-20], Content_Encoding="gzip")
    assert type(error_of(url=web.url)) is Unreachable


def test_a_body_that_is_not_compressed_as_it_says(web: Web) -> None:
    web.answer = reply(200, BODY, Content_Encoding="gzip")
    assert type(error_of(url=web.url)) is BadPayload


def test_an_encoding_that_nobody_asked_for(web: Web) -> None:
    web.answer = reply(200, zlib.compress(BODY), Content_Encoding="deflate")
    assert "encoding nobody asked for" in str(error_of(url=web.url))


def test_a_body_of_fifty_megabytes(web: Web) -> None:
    chunk = b"# " + b"x" * 65_533 + b"\n"

    def flood(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        for _ in range(800):
            request.wfile.write(chunk)

    web.answer = flood
    error = error_of(url=web.url, timeout_s=60)
    assert type(error) is BadPayload
    assert "more than 32 MiB" in str(error)


def test_a_small_body_that_unpacks_to_a_huge_one(web: Web) -> None:
    web.answer = reply(200, gzip.compress(b"#" * 50_000_000, compresslevel=1), Content_Encoding="gzip")
    error = error_of(url=web.url, max_body_bytes=1024 * 1024)
    assert type(error) is BadPayload
    assert "more than 1 MiB" in str(error)


def test_bytes_that_are_no_text_cost_their_lines_only(web: Web) -> None:
    web.answer = reply(200, b'A{x="\xff\xfe} 1\n' + BODY)
    (attempt,) = attempts(url=web.url)
    assert attempt.batch is not None
    assert len(attempt.batch.readings) == 1


def test_the_token_is_sent_and_never_told(web: Web) -> None:
    web.answer = reply(401)
    error = error_of(url=web.url, bearer_token="s3cret")
    assert web.headers[0]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in str(error)


def test_user_and_password_are_sent_and_never_told(web: Web) -> None:
    web.answer = reply(403)
    error = error_of(url=web.url, username="u", password="s3cret")
    assert web.headers[0]["Authorization"] == "Basic " + base64.b64encode(b"u:s3cret").decode()
    assert "s3cret" not in str(error)


def test_proxies_of_the_environment_are_not_used(web: Web, monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    web.answer = reply(200, BODY)
    assert attempts(url=web.url)[0].error is None


def test_one_failing_exporter_does_not_stop_the_others(web: Web, closed_port: int) -> None:
    web.answer = reply(200, BODY)
    found = attempts(targets=[f"http://127.0.0.1:{closed_port}", web.url])
    assert {attempt.target: attempt.error is None for attempt in found} == {
        f"127.0.0.1:{closed_port}": False,
        f"127.0.0.1:{web.port}": True,
    }


def test_many_exporters_are_scraped_at_once_and_never_more_than_allowed(web: Web) -> None:
    four_at_once = threading.Barrier(4, timeout=20)
    lock = threading.Lock()
    running = most = 0

    def answer(request: BaseHTTPRequestHandler) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        four_at_once.wait()
        with lock:
            running -= 1
        reply(200, BODY)(request)

    web.answer = answer
    found = attempts(targets=[f"{web.url}/nodes/n{n}/metrics" for n in range(20)], max_concurrent=4, timeout_s=30)
    assert [attempt.error for attempt in found] == [None] * 20
    assert most == 4


def test_a_caller_that_stops_early_leaves_nothing_running(web: Web) -> None:
    web.answer = reply(200, BODY)
    config = DcgmConfig.model_validate(
        {"name": "test", "targets": [f"{web.url}/nodes/n{n}/metrics" for n in range(10)], "max_concurrent": 2}
    )
    with closing(cast(Generator[Attempt, None, None], DcgmCollector(config).collect(NOW, {}))) as collecting:
        next(collecting)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("scrape-")]


def test_an_exporter_that_changes_its_generation_between_scrapes_keeps_its_columns(web: Web) -> None:
    web.answer = reply(200, line("DCGM_FI_DEV_FB_USED", 5120).encode())
    first = attempts(url=web.url)[0].batch
    web.answer = reply(200, line("DCGM_FI_DEV_FB_USED_BYTES", 5120 * 2**20).encode())
    second = attempts(url=web.url)[0].batch
    assert first is not None
    assert second is not None
    assert readings(first) == readings(second) == {(UUID, "memory_used_bytes"): 5120.0 * 2**20}
