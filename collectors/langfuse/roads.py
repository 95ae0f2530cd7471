"""Which endpoint figures are read from: the first of the allowed ones that the server has, looked for now and then."""

import logging
from datetime import datetime

from collectors.errors import Unsupported
from collectors.langfuse.api import LangfuseApi, RoadClosed
from collectors.langfuse.config import LangfuseConfig, RoadName
from collectors.langfuse.daily_road import DailyRoad
from collectors.langfuse.metrics_road import MetricsRoad
from collectors.langfuse.observations_road import ObservationsRoad
from collectors.langfuse.road import Found, Road
from collectors.langfuse.tally import DAY, HOUR
from collectors.langfuse.windows import Window

log = logging.getLogger("gpufleet.collectors.langfuse")

PROBE_EVERY = DAY
"""How long an endpoint that was found is trusted; a new version of the server ends that at once."""
VERSION_EVERY = HOUR


class Roads:
    """The way in use, and the ways that were found closed."""

    def __init__(self, config: LangfuseConfig, api: LangfuseApi) -> None:
        self._config = config
        self._api = api
        self._in_use: tuple[RoadName, Road] | None = None
        self._expected = self._build(config.roads[0])  # what a round will take calls for, while it is looked for
        self._found_at: datetime | None = None
        self._version_asked_at: datetime | None = None
        self.version: str | None = None

    @property
    def name(self) -> RoadName | None:
        """The endpoint in use; None until one is found."""
        return None if self._in_use is None else self._in_use[0]

    @property
    def whole_days(self) -> bool:
        """Whether the endpoint in use tells days and not hours."""
        return self._in_use is not None and self._in_use[1].whole_days

    def calls(self, hours: int) -> int:
        """How many calls a window of so many hours takes at least."""
        return self._expected.calls(self._config.dimensions, hours)

    def look_around(self, now: datetime) -> None:
        """Ask for the version now and then, and forget the endpoint in use when it is time to look for it anew."""
        asked_at, found_at = self._version_asked_at, self._found_at
        is_new = False
        if asked_at is None or not asked_at <= now < asked_at + VERSION_EVERY:
            version = self._api.version()
            is_new = version != self.version
            self.version, self._version_asked_at = version, now
        if is_new or found_at is None or not found_at <= now < found_at + PROBE_EVERY:
            self._in_use = None

    def read(self, window: Window, now: datetime) -> Found:
        """The window over the way in use, or over the first one that the server has; raises Unsupported for none."""
        closed: dict[RoadName, str] = {}
        if self._in_use is not None:
            name, road = self._in_use
            try:
                return road.read(window, self._config.dimensions)
            except RoadClosed as reason:
                log.info("%s: %s", self._config.name, reason)
                closed[name] = str(reason)
                self._in_use = None
        for name in self._config.roads:
            if name in closed:
                continue
            road = self._build(name)
            try:
                found = road.read(window, self._config.dimensions)
            except RoadClosed as reason:
                closed[name] = str(reason)
                continue
            self._in_use, self._expected, self._found_at = (name, road), road, now
            return found
        raise Unsupported(
            f"This server has none of the endpoints that roads allows: {' '.join(closed.values())}",
            source=self._config.name,
            permanent=False,
        )

    def _build(self, name: RoadName) -> Road:
        config = self._config
        if name in (RoadName.METRICS_V2, RoadName.METRICS_V1):
            return MetricsRoad(self._api, name, details=config.details)
        if name is RoadName.DAILY:
            return DailyRoad(self._api, max_pages=config.max_pages, source=config.name)
        return ObservationsRoad(self._api, name, max_pages=config.max_pages, source=config.name)
