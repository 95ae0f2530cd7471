"""Direct scrape of dcgm-exporters: every target at once, bounded, one attempt each."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from collectors.dcgm.config import DcgmConfig
from collectors.source import Attempt
from planner.readings import Batch


def read_exposition(text: str, *, observed_at: datetime, source: str, target: str, node: str | None = None) -> Batch:
    """What one answer of a dcgm-exporter says."""
    raise NotImplementedError


class DcgmCollector:
    """Scrapes the exporters of one `[[sources.dcgm]]` table."""

    kind = "dcgm"

    def __init__(self, config: DcgmConfig) -> None:
        self.source = config.name
        self.cluster = config.cluster
        self.interval_s = config.interval_s

    def collect(self, now: datetime, watermarks: Mapping[str, datetime]) -> Iterator[Attempt]:
        """Scrape every exporter once; attempts come in the order in which the exporters answer."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is held between scrapes."""
