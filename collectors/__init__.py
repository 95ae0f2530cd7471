"""Collectors: one folder per source, each turning a source's words into readings, facts and gaps."""

from importlib import import_module
from typing import Any

from pydantic import BaseModel

from collectors.diagnosis import FixOfError, RemedyOf, no_special_fix
from collectors.source import Collector

SOURCES: dict[str, tuple[str, str]] = {
    "dcgm": ("collectors.dcgm.config:DcgmConfig", "collectors.dcgm.collector:DcgmCollector"),
    "kubernetes": (
        "collectors.kubernetes.config:KubernetesConfig",
        "collectors.kubernetes.collector:KubernetesCollector",
    ),
    "langfuse": ("collectors.langfuse.config:LangfuseConfig", "collectors.langfuse.collector:LangfuseCollector"),
    "litellm": ("collectors.litellm.config:LiteLlmConfig", "collectors.litellm.collector:LiteLlmCollector"),
    "nvml": ("collectors.nvml.config:NvmlConfig", "collectors.nvml.collector:NvmlCollector"),
    "ollama": ("collectors.ollama.config:OllamaConfig", "collectors.ollama.collector:OllamaCollector"),
    "prometheus": (
        "collectors.prometheus_config:PrometheusConfig",
        "collectors.dcgm.through_prometheus:PrometheusCollector",
    ),
    "serving": ("collectors.serving.config:ServingConfig", "collectors.serving.roads:serving_collector"),
}
"""Kind of source (`[[sources.KIND]]`) to its configuration model and its collector, as `module:class`.

Strings, so that a source's client library is imported only where that source is configured.
"""

REMEDIES: dict[str, str] = {
    "dcgm": "collectors.dcgm.remedies:remedy",
    "kubernetes": "collectors.kubernetes.remedies:remedy",
    "langfuse": "collectors.langfuse.remedies:remedy",
    "litellm": "collectors.litellm.remedies:remedy",
    "nvml": "collectors.nvml.remedies:remedy",
    "ollama": "collectors.ollama.remedies:remedy",
    "prometheus": "collectors.dcgm.remedies:remedy",
    "serving": "collectors.serving.remedies:remedy",
}
"""Kind of source to the function that says what to do about one of its gaps."""

ERROR_FIXES: dict[str, str] = {
    "kubernetes": "collectors.kubernetes.remedies:error_fix",
    "langfuse": "collectors.langfuse.remedies:error_fix",
    "litellm": "collectors.litellm.remedies:error_fix",
    "nvml": "collectors.nvml.remedies:error_fix",
}
"""Kind of source to the function that knows more of its errors than `collectors.diagnosis` does."""


def config_model(kind: str) -> type[BaseModel]:
    """The pydantic model of `[[sources.KIND]]`; raises KeyError for a kind that is not in SOURCES."""
    model: type[BaseModel] = _load(SOURCES[kind][0])
    return model


def build(kind: str, config: BaseModel) -> Collector:
    """A collector for one configured source; raises KeyError for a kind that is not in SOURCES."""
    collector: Collector = _load(SOURCES[kind][1])(config)
    return collector


def remedy_of(kind: str) -> RemedyOf:
    """What says what brings what a source of that kind lacks; raises KeyError for a kind that is not in SOURCES."""
    found: RemedyOf = _load(REMEDIES[kind])
    return found


def error_fix_of(kind: str) -> FixOfError:
    """What says what to do where a source of that kind cannot be read; None from it leaves the general advice."""
    if kind not in ERROR_FIXES:
        return no_special_fix
    found: FixOfError = _load(ERROR_FIXES[kind])
    return found


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
