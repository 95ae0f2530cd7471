"""`[[sources.serving]]`: servers of models, named, discovered in Kubernetes, or read through a Prometheus server."""

from typing import Annotated, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, Field, model_validator

from collectors.config import HttpSourceConfig, HttpUrl
from collectors.kubernetes_access_config import KubernetesAccessConfig, NamespaceName
from collectors.prometheus_config import MAX_WINDOW_S, PrometheusConfig
from planner.serving_readings import ServingEngine

METRICS_PATHS = ("/prometheus/metrics", "/v1/metrics", "/metrics")
"""Where engines have their metrics; what stands before is the server's own path, behind a proxy for example."""

Port = Annotated[int, Field(ge=1, le=65_535)]
LabelText = Annotated[str, Field(min_length=1, max_length=317)]


def base_of(url: str) -> str:
    """The address of the server without the path of its metrics: what other questions start from."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    for metrics in METRICS_PATHS:
        if path.endswith(metrics):
            path = path.removesuffix(metrics)
            break
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def endpoint_of(url: str) -> str:
    """The name under which a server is kept, the same by every road: host, port and its own path."""
    parts = urlsplit(base_of(url))
    return parts.netloc.lower() + parts.path


class ServingDiscoveryConfig(KubernetesAccessConfig):
    """`[sources.serving.kubernetes]`: which pods may be scraped.

    By `annotations`: pods with `prometheus.io/scrape: "true"`, at their `prometheus.io/port` and `prometheus.io/path`.
    By `services`: the pods behind services with all of `labels`, at the service's port named `port_name` or else at
    every allowed one. Only pods of `namespaces` and only `ports` are ever connected to. Whoever can annotate a pod
    there chooses where requests go, so credentials go along on request only.
    """

    by: Literal["annotations", "services"] = "annotations"
    namespaces: Annotated[tuple[NamespaceName, ...], Field(min_length=1)]
    ports: Annotated[tuple[Port, ...], Field(min_length=1)]
    labels: dict[LabelText, Annotated[str, Field(max_length=63)]] = Field(default_factory=dict)
    port_name: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    refresh_s: Annotated[float, Field(ge=5, le=3600)] = 60.0
    max_targets: Annotated[int, Field(ge=1, le=10_000)] = 1000
    send_credentials: bool = False

    @model_validator(mode="after")
    def _services_are_chosen_by_label(self) -> "ServingDiscoveryConfig":
        if self.by == "services" and not self.labels:
            raise ValueError("by = 'services' needs labels, or every service of the namespaces would be scraped")
        if self.by == "annotations" and (self.labels or self.port_name is not None):
            raise ValueError("labels and port_name belong to by = 'services'")
        return self


class ServingConfig(HttpSourceConfig):
    """One server (`url`), several (`targets`), those that Kubernetes names, or what a Prometheus server has scraped.

    `engine = "auto"` tells the engine by the names of its metrics.
    """

    engine: Literal["auto"] | ServingEngine = "auto"
    url: HttpUrl | None = None
    targets: tuple[HttpUrl, ...] = ()
    kubernetes: ServingDiscoveryConfig | None = None
    prometheus: Annotated[HttpUrl, AfterValidator(lambda url: url.rstrip("/"))] | None = None
    max_concurrent: Annotated[int, Field(ge=1, le=256)] = 32
    max_body_bytes: Annotated[int, Field(ge=1024)] = 16 * 1024 * 1024
    facts_every_s: Annotated[float, Field(ge=30, le=86_400)] = 600.0
    jobs: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = ()
    backfill_s: Annotated[int, Field(ge=60, le=90 * 86_400)] = 86_400
    window_s: Annotated[int, Field(ge=60, le=MAX_WINDOW_S)] = 900
    overlap_s: Annotated[int, Field(ge=0, le=600)] = 60
    resolution_s: Annotated[float, Field(ge=0, le=600)] = 30.0

    @model_validator(mode="after")
    def _one_road(self) -> "ServingConfig":
        roads = [self.url is not None, bool(self.targets), self.kubernetes is not None, self.prometheus is not None]
        if sum(roads) != 1:
            raise ValueError("give one of url, targets = [...], [sources.serving.kubernetes] and prometheus")
        if self.engine is ServingEngine.OLLAMA:
            raise ValueError("Ollama has no metrics; give it as [[sources.ollama]]")
        names = [endpoint_of(url) for url in self.urls]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"targets names {', '.join(twice)} more than once")
        if self.prometheus is None and (self.jobs or {"backfill_s", "window_s", "overlap_s"} & self.model_fields_set):
            raise ValueError("jobs, backfill_s, window_s and overlap_s belong to prometheus")
        if self.overlap_s >= self.window_s:
            raise ValueError("overlap_s must be shorter than window_s, or reading would never get ahead")
        if self.kubernetes is not None and self._has_credentials and not self.kubernetes.send_credentials:
            raise ValueError(
                "credentials would be sent to whatever pod is annotated in the namespaces; if that is meant, set "
                "send_credentials = true in [sources.serving.kubernetes]"
            )
        return self

    @property
    def _has_credentials(self) -> bool:
        return self.bearer_token is not None or self.username is not None or self.client_cert_file is not None

    @property
    def urls(self) -> tuple[str, ...]:
        """Every address that is named in the configuration."""
        return (self.url,) if self.url is not None else self.targets

    def for_prometheus(self) -> PrometheusConfig:
        """The same source as the reader of a Prometheus server wants it."""
        if self.prometheus is None:
            raise ValueError("This source is read directly.")
        shared = {name: getattr(self, name) for name in HttpSourceConfig.model_fields}
        own = {name: getattr(self, name) for name in ("jobs", "backfill_s", "window_s", "overlap_s")}
        # 10 s are the default for one scrape; a window of many series takes a server longer
        patience = self.timeout_s if "timeout_s" in self.model_fields_set else 30.0
        return PrometheusConfig.model_validate({**shared, **own, "url": self.prometheus, "timeout_s": patience})
