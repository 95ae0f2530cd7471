"""From the configuration of an access to a connection: the client library's transport, and who asks.

Three ways: as the service account of the pod (nothing is given), by a kubeconfig, or by an address. Proxies come from
the configuration or the kubeconfig and never from the environment.
"""

import os
import re
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import urllib3
from kubernetes.client import Configuration
from kubernetes.client.rest import RESTClientObject
from kubernetes.config import ConfigException
from kubernetes.config.incluster_config import InClusterConfigLoader
from kubernetes.config.kube_config import KubeConfigLoader

from collectors.errors import BadPayload, Unauthorized, Unsupported
from collectors.kubernetes_access_config import KubernetesAccessConfig, is_readable_on_the_way
from collectors.kubernetes_kubeconfig import KubeconfigContext

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_AGE_S = 60.0
"""A token is read from its file again after this: those of service accounts are replaced there before they end."""
BEFORE_END = timedelta(seconds=60)
"""What a credential plugin gave is replaced this long before it ends."""
MAX_CONNECTIONS = 64


class TokenFile:
    """A bearer token that others replace in its file."""

    def __init__(self, path: Path, *, source: str) -> None:
        self._path = path
        self._source = source
        self._lock = threading.Lock()
        self._token = ""
        self._read_at = float("-inf")

    def token(self) -> str:
        """The token as the file holds it, at most TOKEN_AGE_S old; raises Unauthorized."""
        with self._lock:
            if time.monotonic() - self._read_at > TOKEN_AGE_S:
                self._token = self._read()
                self._read_at = time.monotonic()
            return self._token

    def _read(self) -> str:
        try:
            token = self._path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Unauthorized(
                f"the token file {self._path} cannot be read: {getattr(error, 'strerror', 'it is not text')}.",
                source=self._source,
            ) from None
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise Unauthorized(
                f"the token file {self._path} is empty, or has blanks or line breaks, which HTTP cannot carry.",
                source=self._source,
            )
        return token


class Connection:
    """A pool of connections to one API server, with the login of whoever asks."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        source: str,
        token: TokenFile | str | None = None,
        basic: tuple[str, str] | None = None,
        ends_at: datetime | None = None,
    ) -> None:
        host = str(configuration.host)
        parts = urlsplit(host)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise BadPayload("the address of the API server is no https://host:port.", source=source, permanent=True)
        self.url = host.rstrip("/")
        self.target = parts.netloc + parts.path.rstrip("/")
        self._token = token
        self._basic = basic
        self._ends_at = ends_at
        self.pool: urllib3.PoolManager = RESTClientObject(configuration).pool_manager

    def headers(self) -> dict[str, str]:
        """Headers of a request, the login among them; raises Unauthorized when a token cannot be read."""
        headers = {"Accept": "application/json", "User-Agent": "gpufleet"}
        if self._token is not None:
            token = self._token if isinstance(self._token, str) else self._token.token()
            headers["Authorization"] = f"Bearer {token}"
        elif self._basic is not None:
            headers |= urllib3.util.make_headers(basic_auth=":".join(self._basic))
        return headers

    @property
    def has_ended(self) -> bool:
        """Whether what a credential plugin gave must be asked for again."""
        return self._ends_at is not None and datetime.now(UTC) > self._ends_at - BEFORE_END

    def close(self) -> None:
        """Let go of connections that nobody uses; those in use end with their answers."""
        self.pool.clear()


def connect(
    config: KubernetesAccessConfig,
    *,
    source: str,
    environ: Mapping[str, str] = os.environ,
    service_account: Path = SERVICE_ACCOUNT,
) -> Connection:
    """A connection as the configuration says; nothing is sent yet.

    Raises Unauthorized, Unsupported or BadPayload when credentials or files are not what they should be.
    """
    configuration = _plain_configuration()
    if config.url is not None:
        connection = _by_address(config, config.url, configuration, source)
    elif config.kubeconfig is not None:
        connection = _by_kubeconfig(config, config.kubeconfig, configuration, source)
    else:
        connection = _in_cluster(config, configuration, source, environ, service_account)
    return connection


def _plain_configuration() -> Configuration:
    """The client library's settings without anything of the environment and without retries of its own."""
    configuration = Configuration()
    configuration.proxy = None
    configuration.no_proxy = None
    configuration.retries = False  # redirects are not followed either; repeating is the caller's business
    configuration.keep_alive = True  # a watch through a silent network is noticed
    configuration.connection_pool_maxsize = MAX_CONNECTIONS
    return configuration


def _by_address(config: KubernetesAccessConfig, url: str, configuration: Configuration, source: str) -> Connection:
    configuration.host = url
    configuration.verify_ssl = config.verify_tls
    configuration.ssl_ca_cert = None if config.ca_file is None else str(config.ca_file)
    configuration.cert_file = None if config.client_cert_file is None else str(config.client_cert_file)
    configuration.key_file = None if config.client_key_file is None else str(config.client_key_file)
    _set_proxy(config, configuration)
    token = None if config.bearer_token_file is None else TokenFile(config.bearer_token_file, source=source)
    return Connection(configuration, source=source, token=token)


def _by_kubeconfig(config: KubernetesAccessConfig, path: Path, configuration: Configuration, source: str) -> Connection:
    chosen = KubeconfigContext(path, config.context, source=source)
    user = chosen.user
    token: TokenFile | str | None = None
    ends_at: datetime | None = None
    certificate: dict[str, str] = {}
    if user.token is not None:
        token = user.token.get_secret_value()
    elif chosen.token_file is not None:
        token = TokenFile(chosen.token_file, source=source)
    elif user.exec is not None:
        if not config.allow_exec_plugins:
            raise Unsupported(
                f"{path}: the user of context {chosen.name!r} logs in by a program. Set allow_exec_plugins = true "
                "to let it be started, or use a context with a token or a certificate.",
                source=source,
            )
        answer = chosen.run_plugin(user.exec)
        token = None if answer.token is None else answer.token.get_secret_value()
        certificate, ends_at = answer.certificate_entries, answer.ends_at
        if token is None and not certificate:
            raise Unauthorized(f"{path}: the credential plugin gave neither token nor certificate.", source=source)
    elif user.auth_provider is not None:
        raise Unsupported(
            f"{path}: the user of context {chosen.name!r} logs in by an auth-provider, which is not supported. Use a "
            "credential plugin (exec), a token or a certificate.",
            source=source,
        )
    basic = None
    if token is None and user.username is not None and user.password is not None:
        basic = (user.username, user.password.get_secret_value())
    if (token is not None or basic is not None) and is_readable_on_the_way(chosen.cluster.server):
        raise BadPayload(
            f"{path}: context {chosen.name!r} would send its login over http://, where everyone on the way can read "
            "it; use https://.",
            source=source,
            permanent=True,
        )
    loader = KubeConfigLoader(chosen.without_login(certificate), config_base_path=str(path.parent))  # type: ignore[no-untyped-call]
    try:
        loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, ValueError, OSError):
        # its message may repeat what the file holds
        raise BadPayload(
            f"{path}: the certificates of context {chosen.name!r} cannot be used.", source=source, permanent=True
        ) from None
    _set_proxy(config, configuration)
    return Connection(configuration, source=source, token=token, basic=basic, ends_at=ends_at)


def _in_cluster(
    config: KubernetesAccessConfig,
    configuration: Configuration,
    source: str,
    environ: Mapping[str, str],
    service_account: Path,
) -> Connection:
    token_file = service_account / "token"
    try:
        loader = InClusterConfigLoader(  # type: ignore[no-untyped-call]
            token_filename=str(token_file),
            cert_filename=str(service_account / "ca.crt"),
            try_refresh_token=False,
            environ=environ,
        )
        loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError):
        raise Unsupported(
            f"this is no pod with a service account: $KUBERNETES_SERVICE_HOST or {service_account} is missing. Outside "
            "a cluster, name a kubeconfig or a url; in one, do not set automountServiceAccountToken to false.",
            source=source,
        ) from None
    _set_proxy(config, configuration)
    return Connection(configuration, source=source, token=TokenFile(token_file, source=source))


def _set_proxy(config: KubernetesAccessConfig, configuration: Configuration) -> None:
    if config.proxy_url is not None:
        configuration.proxy = config.proxy_url
