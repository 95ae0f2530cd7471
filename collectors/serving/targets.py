"""What is scraped: servers from the configuration, and pods that Kubernetes names and the configuration allows."""

import ipaddress
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from collectors.errors import BadPayload, CollectorError
from collectors.kubernetes_access import KubernetesApi
from collectors.kubernetes_discovery import DiscoveredPod, pods_with_annotation, services_with_label
from collectors.kubernetes_lists import described
from collectors.plain_text import plain_text
from collectors.serving.config import ServingConfig, ServingDiscoveryConfig, base_of, endpoint_of
from collectors.serving.metrics import TABLES
from collectors.source import Attempt
from planner.readings import Batch, Gap
from planner.serving_readings import ServingEngine
from planner.units import NodeName

log = logging.getLogger("gpufleet.collectors.serving")

SCRAPE = "prometheus.io/scrape"
PORT = "prometheus.io/port"
PATH = "prometheus.io/path"
SCHEME = "prometheus.io/scheme"

MAX_NAMED = 5
"""Pods named one by one in a gap."""

_PATH = re.compile(r"(?!.*//)(?!.*/\.\.?(/|$))/[A-Za-z0-9._~/-]{0,254}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One server. `engine` is None until its metrics tell; the pod's names are those of discovery."""

    url: str
    endpoint: str
    engine: ServingEngine | None = None
    is_discovered: bool = False
    namespace: str | None = None
    pod: str | None = None
    pod_ip: str | None = None
    node: NodeName | None = None

    @property
    def base(self) -> str:
        """Where other questions than that for metrics start."""
        return base_of(self.url)


def configured_targets(config: ServingConfig) -> tuple[Target, ...]:
    """The servers that the configuration names; an address without a path means the engine's own."""
    engine = None if config.engine == "auto" else config.engine
    path = "/metrics" if engine is None else TABLES[engine].metrics_path
    return tuple(
        Target(url=url, endpoint=endpoint_of(url), engine=engine)
        for url in (_with_path(url, path) for url in config.urls)
    )


def _with_path(url: str, path: str) -> str:
    return url.rstrip("/") + path if urlsplit(url).path in ("", "/") else url


class Discovery:
    """Asks Kubernetes for pods to scrape, now and then; when it fails, the pods known before stay."""

    def __init__(
        self,
        config: ServingDiscoveryConfig,
        *,
        source: str,
        engine: ServingEngine | None,
        api: Callable[[ServingDiscoveryConfig, str], KubernetesApi] | None = None,
    ) -> None:
        self._config = config
        self._source = source
        self._engine = engine
        self._api = api(config, source) if api is not None else KubernetesApi(config, source=source)
        self._targets: tuple[Target, ...] = ()
        self._due_at: datetime | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"discover-{source}")
        self._asking: Future[tuple[tuple[Target, ...], Attempt]] | None = None

    @property
    def targets(self) -> tuple[Target, ...]:
        """The pods found last."""
        return self._targets

    def refresh(self, now: datetime, began: float, *, patience_s: float | None = None) -> Iterator[Attempt]:
        """Ask again when it is time; an attempt for each time it asked, as soon as that has ended.

        `began` is the run's monotonic start. The question runs in a thread of its own and is waited for no longer than
        `patience_s` (None: to its end): an API server that hangs must not keep the known pods waiting.
        """
        is_due = self._due_at is None or not now < self._due_at <= now + timedelta(seconds=self._config.refresh_s)
        if is_due and self._asking is None:
            self._due_at = now + timedelta(seconds=self._config.refresh_s)
            self._asking = self._thread.submit(self._ask, now + timedelta(seconds=time.monotonic() - began))
        if self._asking is None:
            return
        try:
            targets, attempt = self._asking.result(patience_s)
        except TimeoutError:
            return
        self._asking = None
        if attempt.error is None:
            self._targets = targets
        yield attempt

    def close(self) -> None:
        """Let go of the connection."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._api.close()

    def _ask(self, started_at: datetime) -> tuple[tuple[Target, ...], Attempt]:
        started = time.monotonic()
        targets: tuple[Target, ...] = ()
        batch: Batch | None = None
        error: CollectorError | None = None
        gaps: list[Gap] = []
        try:
            targets = tuple(self._found(gaps))
            batch = Batch(gaps=tuple(gaps))
        except CollectorError as failure:
            error = failure
        except Exception as mistake:  # noqa: BLE001 - the pods known before are scraped all the same
            log.error("%s: discovery fails: %s", self._source, described(mistake))
            error = BadPayload(
                f"{self._api.target} has something that discovery fails on ({type(mistake).__name__}); please report "
                "it.",
                source=self._source,
            )
        seconds = time.monotonic() - started
        return targets, Attempt(
            target=self._api.target, started_at=started_at, seconds=seconds, batch=batch, error=error
        )

    def _found(self, gaps: list[Gap]) -> Iterable[Target]:
        config = self._config
        refused: dict[str, list[str]] = {}
        found: dict[str, Target] = {}
        wanted = self._annotated(refused) if config.by == "annotations" else self._behind_services(refused)
        for pod, scheme, port, path in wanted:
            host = _host(pod.pod_ip)
            if host is None or pod.phase != "Running":
                continue  # not there yet, or not any more
            if port not in config.ports:
                refused.setdefault(f"it asks for port {port}, which ports does not allow", []).append(_name(pod))
                continue
            url = f"{scheme}://{host}:{port}{path}"
            if endpoint_of(url) not in found and len(found) >= config.max_targets:
                refused.setdefault("there are more than max_targets", []).append(_name(pod))
                continue
            found.setdefault(
                endpoint_of(url),
                Target(
                    url=url,
                    endpoint=endpoint_of(url),
                    engine=self._engine,
                    is_discovered=True,
                    namespace=plain_text(pod.namespace, 253),
                    pod=plain_text(pod.name, 253),
                    pod_ip=pod.pod_ip,
                    node=None if pod.node is None else NodeName(plain_text(pod.node, 253)),
                ),
            )
        for reason, names in refused.items():
            shown = ", ".join(names[:MAX_NAMED]) + (f" and {len(names) - MAX_NAMED} more" if names[MAX_NAMED:] else "")
            gaps.append(Gap(subject=self._api.target, metric=None, reason=f"not scraped: {shown}: {reason}"))
        if not found:
            gaps.append(Gap(subject=self._api.target, metric=None, reason="no pod to scrape was found"))
        return found.values()

    def _annotated(self, refused: dict[str, list[str]]) -> Iterator[tuple[DiscoveredPod, str, int, str]]:
        for pod in pods_with_annotation(self._api, SCRAPE, "true", namespaces=self._config.namespaces):
            scheme = pod.annotations.get(SCHEME, "http")
            port = pod.annotations.get(PORT, "")
            path = pod.annotations.get(PATH, "/metrics" if self._engine is None else TABLES[self._engine].metrics_path)
            if scheme not in ("http", "https"):
                refused.setdefault(f"{SCHEME} is neither http nor https", []).append(_name(pod))
            elif not re.fullmatch(r"[0-9]{1,5}", port):
                refused.setdefault(f"{PORT} is missing or no number", []).append(_name(pod))
            elif not _PATH.fullmatch(path):
                refused.setdefault(f"{PATH} is no plain path", []).append(_name(pod))
            else:
                yield pod, scheme, int(port), path

    def _behind_services(self, refused: dict[str, list[str]]) -> Iterator[tuple[DiscoveredPod, str, int, str]]:
        path = "/metrics" if self._engine is None else TABLES[self._engine].metrics_path
        for service in services_with_label(self._api, self._config.labels, namespaces=self._config.namespaces):
            wanted = self._config.port_name
            ports = [port for name, port in service.ports.items() if wanted is None or name == wanted]
            if not ports:
                name = plain_text(f"service {service.namespace}/{service.name}", 200)
                refused.setdefault(f"it has no port named {wanted}", []).append(name)
            for pod in service.pods:
                numbers = [pod.ports.get(port) if isinstance(port, str) else port for port in ports]
                for number in numbers:
                    # of several ports of a service those that are not allowed are simply not meant
                    if number is not None and (wanted is not None or number in self._config.ports):
                        yield pod, "http", number, path


def _host(address: str | None) -> str | None:
    """An IP address as it stands in a URL; None for what is none, or has a zone (`%eth0`), which may hold anything."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.scope_id is not None:
        return None
    return f"[{parsed}]" if parsed.version == 6 else str(parsed)


def _name(pod: DiscoveredPod) -> str:
    return plain_text(f"{pod.namespace}/{pod.name}", 200)
