"""`[[sources.dcgm]]`: exporters that are scraped directly."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from collectors.config import HttpSourceConfig, HttpUrl, target_name


def _with_metrics_path(url: str) -> str:
    return f"{url.rstrip('/')}/metrics" if urlsplit(url).path in ("", "/") else url


ExporterUrl = Annotated[HttpUrl, AfterValidator(_with_metrics_path)]


class DcgmConfig(HttpSourceConfig):
    """One exporter (`url`) or several that share everything else (`targets`)."""

    url: ExporterUrl | None = None
    targets: tuple[ExporterUrl, ...] = ()
    max_concurrent: Annotated[int, Field(ge=1, le=256)] = 32
    max_body_bytes: Annotated[int, Field(ge=1024)] = 32 * 1024 * 1024
    node: Annotated[str, Field(min_length=1, max_length=253)] | None = None

    @model_validator(mode="after")
    def _something_to_scrape(self) -> "DcgmConfig":
        if (self.url is None) == (not self.targets):
            raise ValueError("give either url or targets = [...], and not both")
        names = [target_name(url) for url in self.urls]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"targets names {', '.join(twice)} more than once")
        if self.node is not None and self.url is None:
            raise ValueError("node names the machine of one exporter; with targets, give each its own table")
        return self

    @property
    def urls(self) -> tuple[str, ...]:
        """Every address to scrape."""
        return (self.url,) if self.url is not None else self.targets
