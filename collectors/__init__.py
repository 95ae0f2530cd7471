"""Collectors: one folder per source, each turning a source's words into readings, facts and gaps."""

from importlib import import_module
from typing import Any

from pydantic import BaseModel

from collectors.source import Collector

SOURCES: dict[str, tuple[str, str]] = {
    "dcgm": ("collectors.dcgm.config:DcgmConfig", "collectors.dcgm.collector:DcgmCollector"),
    "prometheus": (
        "collectors.prometheus_config:PrometheusConfig",
        "collectors.dcgm.through_prometheus:PrometheusCollector",
    ),
}
"""Kind of source (`[[sources.KIND]]`) to its configuration model and its collector, as `module:class`.

Strings, so that a source's client library is imported only where that source is configured.
"""


def config_model(kind: str) -> type[BaseModel]:
    """The pydantic model of `[[sources.KIND]]`; raises KeyError for a kind that is not in SOURCES."""
    model: type[BaseModel] = _load(SOURCES[kind][0])
    return model


def build(kind: str, config: BaseModel) -> Collector:
    """A collector for one configured source; raises KeyError for a kind that is not in SOURCES."""
    collector: Collector = _load(SOURCES[kind][1])(config)
    return collector


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
