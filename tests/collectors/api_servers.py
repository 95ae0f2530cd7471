"""A simulated Kubernetes API server on a real socket, with TLS where a test wants it."""

import contextlib
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from sample_data.cluster import SimulatedCluster, simulated_cluster
from sample_data.kubernetes_api import KubernetesSimulator
from sample_data.kubernetes_routes import routes
from sample_data.kubernetes_state import KubernetesState
from tests.collectors.ended_servers import forget_connections

CLUSTER: SimulatedCluster = simulated_cluster()
NOW = datetime(2026, 11, 18, 10, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ServedApi:
    """A running server: where it is, what it holds and what can be made of it."""

    simulator: KubernetesSimulator
    port: int
    scheme: str

    @property
    def url(self) -> str:
        """What goes into a kubeconfig as `server`."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def state(self) -> KubernetesState:
        """The objects, which can be changed."""
        return self.simulator.state("127.0.0.1", self.port)


@dataclass(frozen=True, slots=True)
class Authority:
    """Files of an authority and of what it signed: the server's and a client's certificates."""

    ca_file: Path
    cert_file: Path
    key_file: Path
    client_cert_file: Path
    client_key_file: Path


@contextlib.contextmanager
def serving_api(
    simulator: KubernetesSimulator | None = None,
    *,
    authority: Authority | None = None,
    wants_client: bool = False,
    port: int = 0,
) -> Iterator[ServedApi]:
    """Serve a simulator at the root of a port of its own (0: any free one), as a real API server is."""
    simulator = simulator if simulator is not None else KubernetesSimulator(cluster=CLUSTER, bookmark_s=0.1)
    app = Starlette(routes=list(routes(simulator.cluster, lambda: NOW, simulator=simulator, prefix="")))
    with serving_app(app, authority=authority, wants_client=wants_client, port=port) as bound:
        yield ServedApi(simulator, bound, "http" if authority is None else "https")


@contextlib.contextmanager
def serving_app(
    app: Starlette, *, authority: Authority | None = None, wants_client: bool = False, port: int = 0
) -> Iterator[int]:
    """Serve an application on 127.0.0.1, with TLS where there is an authority; the port it is bound to."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        log_level="critical",
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
        ssl_certfile=None if authority is None else str(authority.cert_file),
        ssl_keyfile=None if authority is None else str(authority.key_file),
        ssl_ca_certs=None if authority is None else str(authority.ca_file),
        ssl_cert_reqs=ssl.CERT_REQUIRED if wants_client else ssl.CERT_NONE,
    )
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    while not server.started:
        thread.join(timeout=0.005)
    try:
        yield socket.getsockname()[1]
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(timeout=10)
        socket.close()
        forget_connections()


def make_authority(folder: Path) -> Authority:
    """An authority and two certificates signed by it, for 127.0.0.1 and for a client."""
    key, ca = folder / "ca.key", folder / "ca.crt"
    _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-subj", "/CN=test authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
             "-keyout", str(key), "-out", str(ca))  # fmt: skip
    made = {}
    for name, extension in (("server", "subjectAltName=IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth")):
        own_key, request, cert = folder / f"{name}.key", folder / f"{name}.csr", folder / f"{name}.crt"
        extensions = folder / f"{name}.ext"
        extensions.write_text(extension + "\n")
        _openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                 "-subj", f"/CN={name}", "-keyout", str(own_key), "-out", str(request))  # fmt: skip
        _openssl("x509", "-req", "-in", str(request), "-CA", str(ca), "-CAkey", str(key), "-days", "2",
                 "-set_serial", "7", "-extfile", str(extensions), "-out", str(cert))  # fmt: skip
        made[name] = (cert, own_key)
    return Authority(ca, *made["server"], *made["client"])


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
