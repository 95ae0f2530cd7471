"""`[[sources.litellm]]`: a LiteLLM gateway."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from collectors.config import HttpSourceConfig, HttpUrl

Dimension = Literal["team", "key", "user", "tag"]

_LAST_PATHS = ("/metrics", "/v1")


def _base(url: str) -> str:
    base = url.rstrip("/")
    for path in _LAST_PATHS:
        base = base.removesuffix(path).rstrip("/")
    return base


class LiteLlmConfig(HttpSourceConfig):
    """One gateway; the key goes into `bearer_token_file`.

    `dimensions` are what use is split by. `keep_personal` keeps names that are e-mail or IP addresses as they are.
    The daily figures are read every `activity_interval_s` and overlap by `activity_overlap_days`, because the gateway
    writes them to its database late.
    """

    url: Annotated[HttpUrl, AfterValidator(_base)]
    interval_s: Annotated[float, Field(ge=1, le=86_400)] = 60.0
    read_metrics: bool = True
    read_daily_activity: bool = True
    dimensions: tuple[Dimension, ...] = ("team", "key")
    keep_personal: bool = False
    activity_interval_s: Annotated[float, Field(ge=60, le=7 * 86_400)] = 3_600.0
    activity_overlap_days: Annotated[int, Field(ge=1, le=31)] = 2
    activity_backfill_days: Annotated[int, Field(ge=1, le=366)] = 30
    page_size: Annotated[int, Field(ge=1, le=1_000)] = 1_000
    max_pages: Annotated[int, Field(ge=1, le=1_000)] = 50
    max_owners: Annotated[int, Field(ge=1, le=1_000)] = 50
    max_body_bytes: Annotated[int, Field(ge=1024)] = 32 * 1024 * 1024

    @model_validator(mode="after")
    def _something_to_read(self) -> "LiteLlmConfig":
        if not self.read_metrics and not self.read_daily_activity:
            raise ValueError("read_metrics and read_daily_activity are both false; nothing would be read")
        if len(set(self.dimensions)) < len(self.dimensions):
            raise ValueError("dimensions names one more than once")
        return self

    @property
    def server(self) -> str:
        """Host and port, as they stand in the address."""
        return urlsplit(self.url).netloc

    @property
    def gateway(self) -> str:
        """The name under which this gateway's readings are kept: host and port, and the path where there is one."""
        parts = urlsplit(self.url)
        return parts.netloc + parts.path
