"""What went wrong at a Kubernetes API server, in our words, down to the right that is missing.

CollectorError of collectors.errors
+-- Unreachable
|   +-- Throttled         429, or 5xx with Retry-After: when to come back
|   +-- Expired           410: the version asked for is gone, list again
+-- Unauthorized
|   +-- MissingRight      403: which verb on which resource, and the rule that would allow it
+-- Unsupported
    +-- NotServed         404: this server does not have that API group or version
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import urllib3
from pydantic import BaseModel, ConfigDict, ValidationError

from collectors.echoed_secrets import SHORTEST_IN_REASON, without_secrets
from collectors.errors import BadPayload, CollectorError, Unauthorized, Unreachable, Unsupported
from collectors.plain_text import plain_text

MAX_RETRY_AFTER_S = 300.0
"""A server that asks for more patience than this is asked again all the same."""

_QUOTABLE_BYTES = 16 * 1024
"""Of an answer that is quoted so much is looked through: no token is cut in two before it is masked."""

_STATEMENT = re.compile(r'User "(?P<user>[^"]{1,253})" cannot')


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """What a request needs to be allowed: a verb on a resource, or on a path that is none (`path`).

    `verbs` is what the whole reading needs, for the rule; `namespace` None is the whole cluster. Source of the words:
    Kubernetes, "Using RBAC Authorization".
    """

    verb: str
    verbs: tuple[str, ...]
    group: str = ""
    resource: str = ""
    namespace: str | None = None
    path: str | None = None

    @property
    def sentence(self) -> str:
        """The right in words: `list pods in namespace team-a`."""
        if self.path is not None:
            return f"{self.verb} {self.path}"
        group = f" of the API group {self.group}" if self.group else ""
        where = f"in namespace {self.namespace}" if self.namespace is not None else "in the whole cluster"
        return f"{self.verb} {self.resource}{group} {where}"

    @property
    def rule(self) -> str:
        """The rule of a Role or ClusterRole that grants it, on one line, as YAML and JSON both read it."""
        if self.path is not None:
            return json.dumps({"nonResourceURLs": [self.path], "verbs": list(self.verbs)})
        return json.dumps({"apiGroups": [self.group], "resources": [self.resource], "verbs": list(self.verbs)})

    @property
    def fix(self) -> str:
        """Where to add the rule: `kubectl auth can-i` says whether it worked."""
        kind = "ClusterRole" if self.namespace is None or self.path is not None else f"Role in {self.namespace}"
        return f"add to the rules of its {kind}: {self.rule}"


class MissingRight(Unauthorized):
    """The API server knows who asks and does not allow it (403)."""

    def __init__(self, message: str, *, source: str, right: Right) -> None:
        super().__init__(message, source=source)
        self.right = right


class Throttled(Unreachable):
    """The API server wants to be left alone for a while (429)."""

    def __init__(self, message: str, *, source: str, retry_after_s: float | None) -> None:
        super().__init__(message, source=source)
        self.retry_after_s = retry_after_s


class Expired(Unreachable):
    """The version or the continuation that was asked for is gone (410): list again."""


class NotServed(Unsupported):
    """The API server has no such group, version or resource (404)."""


class _Status(BaseModel):
    """Kubernetes' own form of an error (`kind: Status`)."""

    model_config = ConfigDict(extra="ignore")

    message: str = ""
    reason: str = ""


def error_of_answer(
    status: int,
    body: bytes,
    headers: Mapping[str, str],
    *,
    source: str,
    target: str,
    right: Right,
    secrets: Sequence[str] = (),
) -> CollectorError:
    """Our error for an answer that is not 200; `right` is what the request needed, `secrets` what is never quoted."""
    message = without_secrets(_status_of(body).message, secrets, shortest=SHORTEST_IN_REASON)
    quoted = plain_text(message, 300)
    why = f" It says: {quoted}" if quoted else ""
    what = right.sentence
    if status == 401:
        return Unauthorized(
            f"{target} does not accept these credentials (401): the token or certificate is missing, wrong or has "
            "ended. Give another; tokens of service accounts are read again from their file.",
            source=source,
        )
    if status == 403:
        user = _STATEMENT.search(message)
        who = f"{plain_text(user['user'], 253)} may not" if user else "these credentials may not"
        return MissingRight(f"{target}: {who} {what} (403); {right.fix}", source=source, right=right)
    if status == 404:
        return NotServed(f"{target} has nothing to {what} (404): this API is not served there.", source=source)
    if status == 410:
        return Expired(f"{target} no longer has the version that was asked for (410) to {what}.", source=source)
    if status == 429 or (status >= 500 and _retry_after_s(headers) is not None):
        return Throttled(
            f"{target} asks for patience ({status}) to {what}.{why}",
            source=source,
            retry_after_s=_retry_after_s(headers),
        )
    if status >= 500:
        return Unreachable(f"{target} is up and cannot {what} now ({status}).{why}", source=source)
    if 300 <= status < 400:
        return BadPayload(
            f"{target} redirects ({status}); redirects are not followed. Configure the final address.", source=source
        )
    return BadPayload(f"{target} answered with status {status} to {what}.{why}", source=source)


def error_of_event(
    body: Mapping[str, object], *, source: str, target: str, right: Right, secrets: Sequence[str] = ()
) -> CollectorError:
    """Our error for an event of type ERROR in a watch, whose object is a Status with the code."""
    code = body.get("code")
    return error_of_answer(
        code if isinstance(code, int) else 500,
        json.dumps(body).encode(),
        {},
        source=source,
        target=target,
        right=right,
        secrets=secrets,
    )


_RULES: tuple[tuple[type[BaseException], type[CollectorError], str], ...] = (
    # from special to general: the first that fits is taken
    (urllib3.exceptions.NameResolutionError, Unreachable, "has a name that cannot be resolved"),
    (urllib3.exceptions.NewConnectionError, Unreachable, "cannot be connected to"),
    (urllib3.exceptions.ConnectTimeoutError, Unreachable, "did not accept a connection in time"),
    (urllib3.exceptions.TimeoutError, Unreachable, "did not answer within {timeout_s:g} s"),
    (urllib3.exceptions.ProxyError, Unreachable, "cannot be reached: the proxy refused"),
    (urllib3.exceptions.SSLError, Unreachable, "cannot be spoken to over TLS"),
    (urllib3.exceptions.ProtocolError, Unreachable, "broke off in the middle of its answer, or does not speak HTTP"),
    (urllib3.exceptions.LocationValueError, BadPayload, "is no valid address"),
    (urllib3.exceptions.HTTPError, Unreachable, "cannot be reached"),
    (OSError, Unreachable, "cannot be reached"),
)


_NEW_CONNECTION = "Failed to establish a new connection: "  # before it urllib3 says where to, which is said already


def error_of_failure(failure: Exception, *, source: str, target: str, timeout_s: float) -> CollectorError:
    """Our error for an exception of the client library's transport; raises one that no rule knows.

    urllib3 names the address in its messages and never the headers, in which the credentials are.
    """
    for kind, error, sentence in _RULES:
        if isinstance(failure, kind):
            told = plain_text(str(failure).rpartition(_NEW_CONNECTION)[2], 200)
            if "CERTIFICATE_VERIFY_FAILED" in told:
                return Unreachable(
                    f"{target} shows a certificate that is not trusted; name its authority as ca_file. ({told})",
                    source=source,
                    permanent=True,
                )
            why = f" ({told})" if told else ""
            return error(f"{target} {sentence.format(timeout_s=timeout_s)}{why}.", source=source)
    raise failure


def web_page_error(
    body: bytes, content_type: str, *, source: str, target: str, secrets: Sequence[str] = ()
) -> CollectorError:
    """Our error for an answer that is no JSON object: a login page, a proxy's words, half an answer."""
    head = body[:_QUOTABLE_BYTES].decode("utf-8", errors="replace")
    begins = plain_text(without_secrets(head, secrets, shortest=SHORTEST_IN_REASON), 80)
    kind = plain_text(without_secrets(content_type, secrets, shortest=SHORTEST_IN_REASON), 60) or "no content type"
    return BadPayload(
        f"{target} answered with something that is no JSON object ({kind}); it begins: {begins!r}. Is this the address "
        "of an API server?",
        source=source,
    )


def _status_of(body: bytes) -> _Status:
    try:
        return _Status.model_validate_json(body)
    except ValidationError:
        return _Status()


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header; a date, which API servers do not send, counts as none."""
    value = headers.get("Retry-After", "")
    return min(float(value), MAX_RETRY_AFTER_S) if re.fullmatch(r"[0-9]{1,9}", value) else None
