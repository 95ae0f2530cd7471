import inspect
import ssl

import httpx
import pytest

from collectors.errors import BadPayload, CollectorError, Unauthorized, Unreachable
from collectors.http_errors import error_of_exception, error_of_status, reason_in, web_page_error

HTTPX_EXCEPTIONS = sorted(
    (kind for _, kind in inspect.getmembers(httpx, inspect.isclass) if issubclass(kind, Exception)),
    key=lambda kind: kind.__name__,
)


def made(kind: type[Exception]) -> Exception:
    """An instance of an httpx exception, whatever its constructor wants."""
    if kind is httpx.HTTPStatusError:
        request = httpx.Request("GET", "http://gpu-a")
        return httpx.HTTPStatusError("x", request=request, response=httpx.Response(500, request=request))
    try:
        return kind("x")
    except TypeError:
        return kind()


@pytest.mark.parametrize("kind", HTTPX_EXCEPTIONS, ids=lambda kind: kind.__name__)
def test_every_exception_of_httpx_becomes_one_of_ours(kind: type[Exception]) -> None:
    error = error_of_exception(made(kind), source="s", target="gpu-a:9400", timeout_s=10)
    assert isinstance(error, CollectorError)
    assert str(error).startswith("gpu-a:9400 ")
    assert error.source == "s"


@pytest.mark.parametrize("failure", [TimeoutError(), OSError("x"), ConnectionRefusedError("x")])
def test_failures_of_the_machine_become_unreachable(failure: Exception) -> None:
    error = error_of_exception(failure, source="s", target="t", timeout_s=10)
    assert type(error) is Unreachable
    assert not error.permanent


def test_a_mistake_of_our_own_is_not_taken_for_a_network_problem() -> None:
    with pytest.raises(ZeroDivisionError):
        error_of_exception(ZeroDivisionError(), source="s", target="t", timeout_s=10)


def test_a_refused_header_is_not_quoted_because_it_may_be_the_token() -> None:
    error = error_of_exception(
        httpx.LocalProtocolError("Illegal header value b'Bearer s3cret'"), source="s", target="t", timeout_s=10
    )
    assert "s3cret" not in str(error)


def test_an_untrusted_certificate_is_permanent_and_says_what_to_do() -> None:
    error = error_of_exception(
        httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_x)"),
        source="s",
        target="t",
        timeout_s=10,
    )
    assert error.permanent
    assert "self-signed certificate" in str(error)
    assert "ca_file" in str(error)


@pytest.mark.parametrize("alert", ["TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_HANDSHAKE_FAILURE"])
def test_a_missing_client_certificate_is_told_even_where_the_library_says_nothing(alert: str) -> None:
    failure = httpx.ReadError("")
    failure.__cause__ = ssl.SSLError(1, f"[SSL: {alert}] alert")
    error = error_of_exception(failure, source="s", target="t", timeout_s=10)
    assert type(error) is Unauthorized
    assert "client_cert_file" in str(error)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"error":{"code":501,"message":"no"}}', "no"),
        ('{"detail":"Not Found"}', "Not Found"),
        ('{"message":"a\\nb"}', "a b"),
        ('"plain"', "plain"),
        ('{"error":{"error":{"error":{"error":{"error":"deep"}}}}}', ""),
        ("not json", ""),
        ("[]", ""),
        ("", ""),
    ],
)
def test_the_reason_in_a_refusal_is_found(body: str, reason: str) -> None:
    assert reason_in(body) == reason
    error = error_of_status(500, location=None, source="s", target="t", reason=reason)
    assert str(error).endswith(f"It says: {reason}") is bool(reason)


@pytest.mark.parametrize(
    ("status", "kind", "permanent"),
    [
        (401, Unauthorized, True),
        (403, Unauthorized, True),
        (404, BadPayload, False),
        (400, BadPayload, False),
        (204, BadPayload, False),
        (301, BadPayload, False),
        (429, Unreachable, False),
        (500, Unreachable, False),
        (503, Unreachable, False),
    ],
)
def test_a_status_becomes_the_fitting_error(status: int, kind: type[CollectorError], permanent: bool) -> None:
    error = error_of_status(status, location=None, source="s", target="t")
    assert type(error) is kind
    assert error.permanent is permanent
    assert str(status) in str(error)


@pytest.mark.parametrize(
    ("location", "named"),
    [
        ("https://login.example/?token=s3cret", " to login.example"),
        ("/relative", ""),
        (None, ""),
        ("http://[broken", ""),
        ("http://a\x1b2Jb/", " to a 2jb"),
    ],
)
def test_a_redirect_names_the_host_and_nothing_else_of_its_location(location: str | None, named: str) -> None:
    error = error_of_status(302, location=location, source="s", target="t")
    assert str(error).startswith(f"t redirects{named} (302)")
    assert "s3cret" not in str(error)


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        ("text/html; charset=utf-8", "hello"),
        ("text/plain", "\n  <!DOCTYPE html><title>Sign in</title>"),
        ("", "\ufeff<html>"),
        ("application/xml", "<?xml version='1.0'?>"),
    ],
)
def test_a_web_page_is_recognised(content_type: str, text: str) -> None:
    assert isinstance(web_page_error(content_type, text, source="s", target="t"), BadPayload)


def test_a_web_page_is_told_by_its_title() -> None:
    error = web_page_error("text/html", "<html><title>Sign\n in</title>", source="s", target="t")
    assert "titled 'Sign in'" in str(error)


def test_metrics_are_no_web_page() -> None:
    assert web_page_error("text/plain; version=0.0.4", "# HELP a <html>\n", source="s", target="t") is None
