"""A server that repeats our credentials in its answer: they are taken out before anyone quotes it.

Pages that show a request's headers, and errors such as "token ... is not valid", would else bring them into messages,
logs and the store.
"""

import base64
import binascii
import contextlib
import json
import re
from collections.abc import Sequence

from collectors.config import HttpSourceConfig
from collectors.errors import CollectorError

MASK = "********"
SHORTEST_IN_DATA = 8
"""Characters from which on a secret is looked for in what is measured; a shorter one could be part of a number."""
SHORTEST_IN_REASON = 4
"""The same in what a server says is wrong, where nothing is measured."""


def secrets_of(config: HttpSourceConfig) -> tuple[str, ...]:
    """Everything secret that goes along with a question, in the forms in which it does, the longest first."""
    found: list[str] = []
    if config.bearer_token is not None:
        found.append(config.bearer_token.get_secret_value())
    if config.username is not None and config.password is not None:
        found += secrets_of_login(config.username, config.password.get_secret_value())
    return _in_every_form(found)


def secrets_of_login(username: str, password: str) -> tuple[str, ...]:
    """The same for a user and a password."""
    return _in_every_form([password, base64.b64encode(f"{username}:{password}".encode()).decode()])


def secrets_sent(authorization: str | None) -> tuple[str, ...]:
    """The same for what a header Authorization carries: for clients that log in by themselves."""
    scheme, _, sent = (authorization or "").partition(" ")
    if not sent:
        return ()
    found = [sent]
    if scheme.lower() == "basic":
        with contextlib.suppress(binascii.Error, UnicodeDecodeError):  # nobody reads a password out of that either
            found.append(base64.b64decode(sent, validate=True).decode().partition(":")[2])
    return _in_every_form(found)


def bytes_without_secrets(body: bytes, secrets: Sequence[str]) -> bytes:
    """As `without_secrets`, for a body that is measured and not decoded yet."""
    if not any(secret.encode() in body for secret in secrets if len(secret) >= SHORTEST_IN_DATA):
        return body
    return without_secrets(body.decode("utf-8", "surrogateescape"), secrets).encode("utf-8", "surrogateescape")


def without_secrets(text: str, secrets: Sequence[str], *, shortest: int = SHORTEST_IN_DATA) -> str:
    """The text with a mask in place of each of them that has at least `shortest` characters."""
    for secret in secrets:
        if len(secret) >= shortest and secret in text:
            # within a longer number, digits are a measurement, which would be lost
            pattern = rf"(?<![0-9.]){secret}(?![0-9.])" if secret.isdigit() else re.escape(secret)
            text = re.sub(pattern, MASK, text)
    return text


def error_without_secrets(error: CollectorError, secrets: Sequence[str]) -> CollectorError:
    """The error as it is, or the same with a mask where its words hold a secret: libraries quote what they cannot read.

    For errors of the kinds in `collectors.errors`, and others that are made as these are.
    """
    told = without_secrets(str(error), secrets, shortest=SHORTEST_IN_REASON)
    return error if told == str(error) else type(error)(told, source=error.source, permanent=error.permanent)


def _in_every_form(secrets: Sequence[str]) -> tuple[str, ...]:
    """As they are, and as JSON writes them, the longest first."""
    written = [json.dumps(secret)[1:-1] for secret in secrets]
    return tuple(sorted(dict.fromkeys([*secrets, *written]), key=len, reverse=True))
