"""What every source that is reached over HTTP can be told: its name, its cluster, how patient to be, how to log in."""

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, model_validator

DEFAULT_CLUSTER = "default"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


def _http_url(url: str) -> str:
    """The URL as it will be used: http or https, with a host, without credentials, query or fragment."""
    try:
        parts = urlsplit(url.strip())
    except ValueError as error:  # brackets that hold no IPv6 address
        raise ValueError("write a whole address: http://host:port/path, an IPv6 address in brackets") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("write a whole address: http://host:port/path")
    if "@" in parts.netloc:
        raise ValueError("an address carries no user or password; use username and password_file")
    if parts.query or parts.fragment:
        raise ValueError("an address carries no query (?...) and no fragment (#...)")
    if re.search(r"[\x00-\x20\x7f]", parts.netloc + parts.path):
        raise ValueError("an address has no blanks and no control characters")
    _refuse_odd_host(parts.hostname)
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError("the port is a number from 1 to 65535") from error
    if port == 0:
        raise ValueError("the port is a number from 1 to 65535")
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))


def _refuse_odd_host(host: str) -> None:
    """What the libraries below would answer with errors of their own kinds, in the middle of a round."""
    if ":" in host:
        if not re.fullmatch(r"[0-9a-f:.]+(%[a-z0-9_.-]+)?", host, re.IGNORECASE):
            raise ValueError("the host is no IPv6 address")
        return
    try:
        host.encode("idna")
    except UnicodeError as error:  # name resolution would raise the same
        raise ValueError("the host is no name: its parts have 1 to 63 characters, between single dots") from error


HttpUrl = Annotated[str, AfterValidator(_http_url)]


class HttpSourceConfig(BaseModel):
    """Keys that all HTTP sources share.

    Secret fields are filled in by the shell: from `<field>_file` in the table, or from the environment. A client
    certificate may hold its key in the same file; an encrypted key is not supported. Redirects are followed on request
    only, and never to another host.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Name
    cluster: Name = DEFAULT_CLUSTER
    interval_s: Annotated[float, Field(ge=1, le=86_400)] = 30.0
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    bearer_token: SecretStr | None = None
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    verify_tls: bool = True
    follow_redirects: bool = False

    @model_validator(mode="after")
    def _one_way_to_log_in(self) -> "HttpSourceConfig":
        if self.bearer_token is not None and self.username is not None:
            raise ValueError("give either a bearer token or username and password, not both")
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together; one of them is missing")
        if self.bearer_token is not None and not re.fullmatch(r"[\x21-\x7e]+", self.bearer_token.get_secret_value()):
            raise ValueError("bearer_token is empty or has blanks or line breaks, which HTTP cannot carry")
        if self.ca_file is not None and not self.verify_tls:
            raise ValueError("ca_file says whom to trust and verify_tls = false trusts everyone; keep one")
        if self.client_key_file is not None and self.client_cert_file is None:
            raise ValueError("client_key_file belongs to client_cert_file, which is missing")
        return self

    @model_validator(mode="after")
    def _certificates_lie_beside_the_configuration(self, info: ValidationInfo) -> "HttpSourceConfig":
        directory = (info.context or {}).get("directory")
        for key in ("ca_file", "client_cert_file", "client_key_file"):
            given: Path | None = getattr(self, key)
            if given is None:
                continue
            path = given if directory is None else Path(directory) / given
            if not path.is_file():
                raise ValueError(f"{key} names {path}, which is no file")
            object.__setattr__(self, key, path)  # frozen for everyone else; this is still construction
        return self


def target_name(url: str) -> str:
    """Short name of what a URL points at, for messages and attempt rows: host, port and telling path."""
    parts = urlsplit(url)
    return parts.netloc + parts.path.removesuffix("/metrics").rstrip("/")
