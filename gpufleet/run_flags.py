"""What `gpufleet run` reads where flags say it and no configuration file does."""

from collections.abc import Mapping, Sequence
from typing import Any

Sources = Mapping[str, Sequence[Mapping[str, Any]]]
"""Tables of the configuration file by their kind, as below `[[sources.KIND]]`."""


def sources_of_prometheus(url: str) -> Sources:
    """The GPUs and the serving engines that one Prometheus server scrapes; a gap says so where it scrapes no engine."""
    return {
        "prometheus": [{"name": "prometheus", "url": url}],
        "serving": [{"name": "serving", "prometheus": url}],
    }


def sources_of_exporters(urls: Sequence[str]) -> Sources:
    """These dcgm-exporters, scraped directly."""
    return {"dcgm": [{"name": "dcgm", "targets": list(urls)}]}


def sources_of_this_machine() -> Sources:
    """The GPUs of this machine, by NVML."""
    return {"nvml": [{"name": "nvml"}]}
