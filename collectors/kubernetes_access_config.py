"""How a Kubernetes API server is reached: the keys that the Kubernetes source and discovery share."""

import ipaddress
import os
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from collectors.config import HttpUrl

NamespaceName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]

_FILES = ("kubeconfig", "bearer_token_file", "ca_file", "client_cert_file", "client_key_file")
_WITH_URL = ("bearer_token_file", "ca_file", "client_cert_file", "client_key_file")


def is_readable_on_the_way(url: str) -> bool:
    """Whether what is sent to this address could be read by others: plain HTTP that leaves this machine."""
    parts = urlsplit(url)
    if parts.scheme != "http":
        return False
    try:
        return not ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname != "localhost"


class KubernetesAccessConfig(BaseModel):
    """Where the API server is and who asks.

    Without `url` and `kubeconfig` it is the cluster in which gpufleet itself runs, as its service account. The token
    stands in a file that is read again and again, because tokens of service accounts live for about an hour.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: HttpUrl | None = None
    bearer_token_file: Path | None = None
    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    verify_tls: bool = True
    kubeconfig: Path | None = None
    context: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    allow_exec_plugins: bool = False
    proxy_url: HttpUrl | None = None
    namespaces: tuple[NamespaceName, ...] = ()
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    page_size: Annotated[int, Field(ge=1, le=5000)] = 500
    max_body_bytes: Annotated[int, Field(ge=1024)] = 64 * 1024 * 1024

    @model_validator(mode="after")
    def _one_way_in(self) -> "KubernetesAccessConfig":
        if self.url is not None and self.kubeconfig is not None:
            raise ValueError("give either url or kubeconfig, not both")
        if self.kubeconfig is None and (self.context is not None or self.allow_exec_plugins):
            raise ValueError("context and allow_exec_plugins belong to kubeconfig, which is missing")
        if self.url is None:
            given = [key for key in _WITH_URL if getattr(self, key) is not None]
            if given or not self.verify_tls:
                raise ValueError(
                    f"{' and '.join(given) or 'verify_tls = false'} belongs to url, which is missing; a kubeconfig and "
                    "a service account bring their own"
                )
        elif self.bearer_token_file is not None and is_readable_on_the_way(self.url):
            raise ValueError("a token is not sent over http://, where everyone on the way can read it; use https://")
        if self.client_key_file is not None and self.client_cert_file is None:
            raise ValueError("client_key_file belongs to client_cert_file, which is missing")
        if self.ca_file is not None and not self.verify_tls:
            raise ValueError("ca_file says whom to trust and verify_tls = false trusts everyone; keep one")
        if len(set(self.namespaces)) != len(self.namespaces):
            raise ValueError("namespaces names one of them more than once")
        return self

    @model_validator(mode="after")
    def _files_lie_beside_the_configuration(self, info: ValidationInfo) -> "KubernetesAccessConfig":
        directory = (info.context or {}).get("directory")
        for key in _FILES:
            path: Path | None = getattr(self, key)
            if path is None:
                continue
            path = Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises where there is no home
            if directory is not None:
                path = Path(directory) / path
            if not path.is_file():
                raise ValueError(f"{key} names {path}, which is no file")
            object.__setattr__(self, key, path)  # frozen for everyone else; this is still construction
        return self
