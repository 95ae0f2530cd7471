"""Whom to trust and how to show who asks, over TLS: one context for every client of a source."""

import ssl
from pathlib import Path

from collectors.config import HttpSourceConfig
from collectors.errors import Unreachable


def tls_context(config: HttpSourceConfig) -> ssl.SSLContext:
    """Trusts the system's authorities, or the configured one, or (on request only) anyone.

    Raises Unreachable (permanent) when a file of certificates or a key cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=None if config.ca_file is None else str(config.ca_file))
    except (ssl.SSLError, OSError) as error:
        raise _unusable(config, "ca_file", "certificates in PEM form", error) from error
    if not config.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if config.client_cert_file is not None:
        try:
            context.load_cert_chain(config.client_cert_file, config.client_key_file, password=_no_password)
        except (ssl.SSLError, OSError, ValueError) as error:
            what = "a certificate in PEM form with its key, unencrypted and belonging to it"
            raise _unusable(config, "client_cert_file with client_key_file", what, error) from error
    return context


def file_times(config: HttpSourceConfig) -> tuple[int, ...]:
    """When the files behind the context were last written: certificates are replaced while the program runs."""
    files = (config.ca_file, config.client_cert_file, config.client_key_file)
    return tuple(_written_at(path) for path in files if path is not None)


def _written_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _no_password() -> str:
    raise ValueError("the key is encrypted")  # without this, OpenSSL would ask at the terminal


def _unusable(config: HttpSourceConfig, key: str, what: str, error: Exception) -> Unreachable:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return Unreachable(
        f"{config.name} cannot use what {key} names: it has to be {what} ({reason}).",
        source=config.name,
        permanent=True,
    )
