"""`[[sources.prometheus]]`: a Prometheus server that already scrapes the fleet."""

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from collectors.config import HttpSourceConfig, HttpUrl

MAX_WINDOW_S = 10_800
"""Three hours: at one sample per second still below the 11,000 points per series that Prometheus and proxies allow."""


class PrometheusConfig(HttpSourceConfig):
    """A Prometheus-compatible server. `jobs` narrows what is read; without it every DCGM series is."""

    url: Annotated[HttpUrl, AfterValidator(lambda url: url.rstrip("/"))]
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    jobs: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = ()
    backfill_s: Annotated[int, Field(ge=60, le=90 * 86_400)] = 86_400
    window_s: Annotated[int, Field(ge=60, le=MAX_WINDOW_S)] = 3_600
    overlap_s: Annotated[int, Field(ge=0, le=600)] = 60

    @model_validator(mode="after")
    def _windows_move_on(self) -> "PrometheusConfig":
        if self.overlap_s >= self.window_s:
            raise ValueError("overlap_s must be shorter than window_s, or reading would never get ahead")
        return self
