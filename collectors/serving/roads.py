"""Which collector reads a `[[sources.serving]]` table: the one that scrapes, or the one that asks Prometheus."""

from collectors.serving.collector import ServingScraper
from collectors.serving.config import ServingConfig
from collectors.serving.through_prometheus import ServingThroughPrometheus
from collectors.source import Collector


def serving_collector(config: ServingConfig) -> Collector:
    """A collector for one table."""
    return ServingThroughPrometheus(config) if config.prometheus is not None else ServingScraper(config)
