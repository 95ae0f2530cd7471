"""Errors of an API server in our words; the answers are those of a real kube-apiserver, written again by hand."""

import json

import pytest
import urllib3

from collectors.errors import BadPayload, CollectorError, Unauthorized, Unreachable, Unsupported
from collectors.kubernetes_errors import (
    MAX_RETRY_AFTER_S,
    Expired,
    MissingRight,
    NotServed,
    Right,
    Throttled,
    error_of_answer,
    error_of_event,
    error_of_failure,
    web_page_error,
)

LIST_PODS = Right(verb="list", verbs=("list", "watch"), resource="pods", namespace="team-a")
WATCH_SLICES = Right(
    verb="watch", verbs=("list", "watch"), group="resource.k8s.io", resource="resourceslices", namespace=None
)
READ_VERSION = Right(verb="get", verbs=("get",), path="/version")


def status(code: int, message: str = "", reason: str = "") -> bytes:
    return json.dumps(
        {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code}
    ).encode()


def error(code: int, body: bytes = b"", *, right: Right = LIST_PODS, **headers: str) -> CollectorError:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return error_of_answer(code, body, told, source="main", target="api:6443", right=right)


def test_a_missing_right_is_named_exactly_with_the_rule_that_grants_it() -> None:
    message = (
        'pods is forbidden: User "system:serviceaccount:gpufleet:gpufleet" cannot list resource "pods" in API group "" '
        'in the namespace "team-a"'
    )
    found = error(403, status(403, message, "Forbidden"))
    assert isinstance(found, MissingRight)
    assert found.permanent
    assert str(found) == (
        "api:6443: system:serviceaccount:gpufleet:gpufleet may not list pods in namespace team-a (403); add to the "
        'rules of its Role in team-a: {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}'
    )
    assert found.right == LIST_PODS


@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b"\xff\x00", status(403), b"[]"])
def test_a_refusal_without_words_still_names_the_right(body: bytes) -> None:
    found = error(403, body, right=WATCH_SLICES)
    assert str(found) == (
        "api:6443: these credentials may not watch resourceslices of the API group resource.k8s.io in the whole "
        'cluster (403); add to the rules of its ClusterRole: {"apiGroups": ["resource.k8s.io"], "resources": '
        '["resourceslices"], "verbs": ["list", "watch"]}'
    )


def test_a_path_is_granted_by_a_rule_of_its_own() -> None:
    found = error(403, right=READ_VERSION)
    assert str(found).endswith(
        'may not get /version (403); add to the rules of its ClusterRole: {"nonResourceURLs": ["/version"], "verbs": '
        '["get"]}'
    )


@pytest.mark.parametrize(
    ("code", "body", "kind", "permanent", "words"),
    [
        (401, status(401, "Unauthorized"), Unauthorized, True, "does not accept these credentials"),
        (404, status(404, "the server could not find the requested resource"), NotServed, True, "not served there"),
        (410, status(410, "too old resource version: 1 (2)", "Expired"), Expired, False, "no longer has the version"),
        (429, status(429, "too many requests"), Throttled, False, "too many requests"),
        (500, status(500, "Internal error occurred: etcd"), Unreachable, False, "etcd"),
        (503, b"no healthy upstream", Unreachable, False, "cannot list pods in namespace team-a now (503)"),
        (504, status(504, "Timeout: request did not complete"), Unreachable, False, "Timeout: request did not"),
        (302, b"", BadPayload, False, "redirects are not followed"),
        (400, status(400, "unable to parse requirement"), BadPayload, False, "unable to parse requirement"),
        (418, b"\x00", BadPayload, False, "status 418"),
    ],
)
def test_every_status_has_its_kind_and_says_what_was_asked(
    code: int, body: bytes, kind: type[CollectorError], words: str, *, permanent: bool
) -> None:
    found = error(code, body)
    assert type(found) is kind
    assert found.permanent is permanent
    assert words in str(found)
    assert str(found).startswith("api:6443")
    assert found.source == "main"


@pytest.mark.parametrize(
    ("code", "header", "kind", "seconds"),
    [
        (429, "7", Throttled, 7.0),
        (429, "0", Throttled, 0.0),
        (429, "999999", Throttled, MAX_RETRY_AFTER_S),
        (429, "Wed, 21 Oct 2026 07:28:00 GMT", Throttled, None),
        (429, "-3", Throttled, None),
        (429, "1e9", Throttled, None),
        (503, "5", Throttled, 5.0),
        (503, "soon", Unreachable, None),
    ],
)
def test_a_server_says_when_to_come_back(
    code: int, header: str, kind: type[CollectorError], seconds: float | None
) -> None:
    found = error(code, status(code), Retry_After=header)
    assert type(found) is kind
    assert getattr(found, "retry_after_s", None) == seconds


def test_words_of_a_server_are_kept_short_and_plain() -> None:
    found = error(500, status(500, "x\x1b[31m\n\u202e" + "y" * 5000))
    assert str(found).isprintable()
    assert len(str(found)) < 500
    user = error(403, status(403, 'x is forbidden: User "a\u202eb" cannot list'))
    assert "a b may not list pods" in str(user)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"kind": "Status", "code": 410, "message": "too old resource version: 1 (2)"}, Expired),
        ({"kind": "Status", "code": 500, "message": "etcd"}, Unreachable),
        ({"kind": "Status"}, Unreachable),
        ({"code": "410"}, Unreachable),
    ],
)
def test_an_event_of_a_watch_can_be_an_error(event: dict[str, object], kind: type[CollectorError]) -> None:
    assert type(error_of_event(event, source="main", target="api:6443", right=LIST_PODS)) is kind


POOL = urllib3.HTTPConnectionPool("api", 6443)
CONNECTION = urllib3.connection.HTTPConnection("api", 6443)


@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        (urllib3.exceptions.ConnectTimeoutError("x"), Unreachable, "did not accept a connection in time"),
        (urllib3.exceptions.NewConnectionError(CONNECTION, "refused"), Unreachable, "cannot be connected to"),
        (
            urllib3.exceptions.NameResolutionError("api", CONNECTION, OSError("unknown")),  # type: ignore[arg-type]
            Unreachable,
            "name that cannot be resolved",
        ),
        (urllib3.exceptions.ReadTimeoutError(POOL, "/", "Read timed out."), Unreachable, "did not answer within 3 s"),
        (urllib3.exceptions.ProtocolError("Connection aborted."), Unreachable, "broke off in the middle"),
        (urllib3.exceptions.ProxyError("x", OSError("refused")), Unreachable, "the proxy refused"),
        (urllib3.exceptions.SSLError("WRONG_VERSION_NUMBER"), Unreachable, "over TLS"),
        (urllib3.exceptions.LocationParseError("x"), BadPayload, "no valid address"),
        (ConnectionResetError(104, "reset"), Unreachable, "cannot be reached"),
    ],
)
def test_every_failure_of_the_network_has_its_kind(failure: Exception, kind: type[CollectorError], words: str) -> None:
    found = error_of_failure(failure, source="main", target="api:6443", timeout_s=3)
    assert type(found) is kind
    assert words in str(found)


def test_a_certificate_that_is_not_trusted_is_permanent_and_says_what_to_set() -> None:
    failure = urllib3.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate")
    found = error_of_failure(failure, source="main", target="api:6443", timeout_s=3)
    assert found.permanent
    assert "ca_file" in str(found)


def test_a_failure_that_nobody_knows_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        error_of_failure(ZeroDivisionError("x"), source="main", target="api:6443", timeout_s=3)


def test_what_is_no_json_is_quoted_in_a_few_words() -> None:
    found = web_page_error(b"<!doctype html><title>Sign in</title>" + b"x" * 900, "text/html", source="a", target="b")
    assert isinstance(found, BadPayload)
    assert "'<!doctype html><title>Sign in</title>" in str(found)
    assert len(str(found)) < 300
    assert not issubclass(NotServed, Unauthorized)
    assert issubclass(NotServed, Unsupported)
