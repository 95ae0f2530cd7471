"""What went wrong over HTTP, in our words: the one place where httpx's exceptions and status codes become our errors.

Messages name the target and never the request's headers, in which the credentials are.
"""

import json
import re
import ssl
from urllib.parse import urlsplit

import httpx

from collectors.errors import BadPayload, CollectorError, Unauthorized, Unreachable
from collectors.plain_text import plain_text

_RULES: tuple[tuple[type[BaseException], type[CollectorError], str], ...] = (
    # from special to general: the first that fits is taken
    (httpx.ConnectTimeout, Unreachable, "did not accept a connection in time"),
    (httpx.PoolTimeout, Unreachable, "had to wait too long for a free connection"),
    (httpx.TimeoutException, Unreachable, "did not answer within {timeout_s:g} s"),
    (TimeoutError, Unreachable, "did not answer within {timeout_s:g} s"),
    (httpx.RemoteProtocolError, Unreachable, "broke off in the middle of its answer, or does not speak HTTP"),
    (httpx.LocalProtocolError, BadPayload, "cannot be asked: the request is not valid HTTP"),
    (httpx.UnsupportedProtocol, BadPayload, "is no http:// or https:// address"),
    (httpx.ProxyError, Unreachable, "cannot be reached: the proxy refused"),
    (httpx.ConnectError, Unreachable, "cannot be connected to"),
    (httpx.NetworkError, Unreachable, "lost the connection"),
    (httpx.DecodingError, BadPayload, "answered with a body that is not compressed as it says"),
    (httpx.TooManyRedirects, BadPayload, "redirects in a circle"),
    (httpx.HTTPStatusError, BadPayload, "answered with an error"),
    (httpx.InvalidURL, BadPayload, "is no valid address"),
    (httpx.CookieConflict, BadPayload, "set contradicting cookies"),
    (httpx.StreamError, BadPayload, "gave an answer that was read in the wrong order, a mistake of this program"),
    (httpx.HTTPError, Unreachable, "cannot be reached"),
    (OSError, Unreachable, "cannot be reached"),
)


def error_of_exception(failure: BaseException, *, source: str, target: str, timeout_s: float) -> CollectorError:
    """Our error for an exception of the HTTP library.

    Raises the exception itself when no rule knows it: an unknown failure must not pass as a network problem.
    """
    for kind, error, sentence in _RULES:
        if isinstance(failure, kind):
            # h11 quotes the header it refuses, and that may be the token.
            told = "" if isinstance(failure, httpx.LocalProtocolError) else plain_text(_message(failure), 160)
            if re.search(r"CERTIFICATE_REQUIRED|certificate required|HANDSHAKE_FAILURE|BAD_CERTIFICATE", told):
                return Unauthorized(
                    f"{target} wants a client certificate, or another one ({told}): set client_cert_file and "
                    "client_key_file.",
                    source=source,
                )
            if "CERTIFICATE_VERIFY_FAILED" in told:
                return Unreachable(
                    f"{target} shows a certificate that is not trusted ({_tls_reason(told)}); name its authority as "
                    "ca_file.",
                    source=source,
                    permanent=True,
                )
            why = f" ({told})" if told else ""
            return error(f"{target} {sentence.format(timeout_s=timeout_s)}{why}.", source=source)
    raise failure


def _message(failure: BaseException) -> str:
    """What an exception says; where it says nothing, what TLS said in the exception that it came from."""
    cause: BaseException | None = failure
    for _ in range(8):
        if cause is None or str(failure):
            break
        if isinstance(cause, ssl.SSLError):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return str(failure)


def error_of_status(status: int, *, location: str | None, source: str, target: str, reason: str = "") -> CollectorError:
    """Our error for an answer that is not 200; `reason` is what the server says of it, see `reason_in`."""
    error = _error_of_status(status, location=location, source=source, target=target)
    if not reason or isinstance(error, Unauthorized):
        return error
    return type(error)(f"{error} It says: {reason}", source=source, permanent=error.permanent)


def reason_in(text: str) -> str:
    """What a JSON body says is wrong: its `message`, `error` or `detail`, on one line; "" where it says nothing."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    for _ in range(4):
        if isinstance(told, dict):
            told = next((told[key] for key in ("message", "error", "detail") if told.get(key)), "")
    return plain_text(told, 200) if isinstance(told, str) else ""


def _error_of_status(status: int, *, location: str | None, source: str, target: str) -> CollectorError:
    if status == 401:
        return Unauthorized(f"{target} wants to know who asks (401): set bearer_token_file.", source=source)
    if status == 403:
        return Unauthorized(f"{target} refuses these credentials (403): they lack the right to read.", source=source)
    if 300 <= status < 400:
        where = _host_of_location(location)
        return BadPayload(
            f"{target} redirects{where} ({status}); redirects are not followed. Configure the final address.",
            source=source,
        )
    if status >= 500 or status == 429:
        return Unreachable(f"{target} is up and cannot answer now ({status}).", source=source)
    if status == 404:
        return BadPayload(f"{target} has nothing at this path (404); check the address.", source=source)
    return BadPayload(f"{target} answered with status {status}.", source=source)


def web_page_error(content_type: str, text: str, *, source: str, target: str) -> CollectorError | None:
    """An error when the answer is a web page, as of a login form or a wrong port; None when it is not."""
    head = text[:512].lstrip("\ufeff \t\r\n").lower()
    if not content_type.lower().startswith("text/html") and not head.startswith(("<!doctype", "<html", "<?xml")):
        return None
    title = re.search(r"<title[^>]{0,200}>([^<]{1,200})", text[:4096], re.IGNORECASE)
    named = f" titled {plain_text(title.group(1), 60)!r}" if title else ""
    return BadPayload(
        f"{target} answered with a web page{named}, not with metrics: a login form, or another service on this port?",
        source=source,
    )


def _host_of_location(location: str | None) -> str:
    try:
        host = urlsplit(location or "").hostname
    except ValueError:
        host = None
    return f" to {plain_text(host, 100)}" if host else ""


def _tls_reason(told: str) -> str:
    return told.rpartition("CERTIFICATE_VERIFY_FAILED")[2].lstrip("] ").removeprefix("certificate verify failed: ")
