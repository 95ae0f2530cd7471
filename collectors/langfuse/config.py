"""`[[sources.langfuse]]`: one project of a Langfuse server."""

from enum import StrEnum
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from collectors.config import HttpSourceConfig, HttpUrl

Dimension = Literal["environment", "user", "tag"]

CLOUD_CALLS_PER_DAY = 90
"""Below the smallest plan of Langfuse Cloud: 100 a day, of which the last is refused (RateLimitService.ts)."""


class RoadName(StrEnum):
    """A way to the figures, by endpoint."""

    METRICS_V2 = "v2/metrics"
    METRICS_V1 = "metrics"
    DAILY = "metrics/daily"
    OBSERVATIONS_V2 = "v2/observations"
    OBSERVATIONS_V1 = "observations"


def _base(url: str) -> str:
    return url.rstrip("/").removesuffix("/api/public").removesuffix("/api").rstrip("/")


class LangfuseConfig(HttpSourceConfig):
    """One project, by its keys.

    `dimensions` are what use is split by. `roads` are the endpoints that may be used, first choice first.
    `max_calls_per_day` bounds the calls that cost a plan something; without it there is no bound, except on Langfuse
    Cloud, where it is 90. `overlap_h` is how much is read again at each time, and `reread_days` once a day, for traces
    that come late.
    """

    url: Annotated[HttpUrl, AfterValidator(_base)]
    public_key: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\x21-\x39\x3b-\x7e]+$")]
    secret_key: SecretStr
    interval_s: Annotated[float, Field(ge=60, le=86_400)] = 900.0
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 60.0
    dimensions: tuple[Dimension, ...] = ("environment",)
    details: bool = True
    roads: tuple[RoadName, ...] = tuple(RoadName)
    max_calls_per_day: Annotated[int, Field(ge=4, le=10_000_000)] | None = None
    overlap_h: Annotated[int, Field(ge=1, le=168)] = 2
    reread_days: Annotated[int, Field(ge=0, le=31)] = 3
    backfill_days: Annotated[int, Field(ge=0, le=366)] = 3
    max_pages: Annotated[int, Field(ge=1, le=10_000)] = 200
    max_body_bytes: Annotated[int, Field(ge=1024)] = 32 * 1024 * 1024

    @model_validator(mode="after")
    def _keys_are_the_log_in(self) -> "LangfuseConfig":
        if self.bearer_token is not None or self.username is not None:
            raise ValueError("Langfuse knows a project by public_key and secret_key_file, and by nothing else")
        if not self.secret_key.get_secret_value().strip():
            raise ValueError("secret_key is empty")
        if not self.roads or len(set(self.roads)) < len(self.roads):
            raise ValueError("roads names at least one endpoint, and none twice")
        if len(set(self.dimensions)) < len(self.dimensions):
            raise ValueError("dimensions names one more than once")
        return self

    @property
    def calls_per_day(self) -> int | None:
        """How many calls of the figures' endpoints a day may have; None for as many as it takes."""
        if self.max_calls_per_day is not None:
            return self.max_calls_per_day
        host = urlsplit(self.url).hostname or ""
        return CLOUD_CALLS_PER_DAY if host == "langfuse.com" or host.endswith(".langfuse.com") else None
