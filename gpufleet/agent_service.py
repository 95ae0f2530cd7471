"""What runs behind `gpufleet agent`: the machine is read in a thread of its own, and the newest reading is served.

Old numbers are never served as new ones: once a reading failed, or the newest is older than three intervals because the
driver hangs, the answer is 503 with the reason.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from collectors.source import Collector
from gpufleet.agent_exposition import CONTENT_TYPE, exposition, gauge
from planner.readings import Batch, GpuFact

log = logging.getLogger("gpufleet.agent")

MAX_AGE_INTERVALS = 3
"""A sample that is older than so many intervals is not served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """The newest reading: its text, or why there is none."""

    taken_at_s: float
    seconds: float
    batch: Batch | None
    text: str
    error: str | None


class Agent:
    """Reads one source again and again, and answers for the newest reading."""

    def __init__(
        self,
        collector: Collector,
        *,
        clock: Callable[[], float] = time.monotonic,
        utc_now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._collector = collector
        self._clock, self._utc_now = clock, utc_now
        self._newest: _Sample | None = None
        self._known: dict[str, GpuFact] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="agent", daemon=True)

    def start(self) -> None:
        """Begin to read, at once and then at every interval."""
        self._thread.start()

    def stop(self, patience_s: float = 5.0) -> None:
        """Stop reading and let go of the driver; a driver that hangs is left alone."""
        self._stopping.set()
        self._thread.join(patience_s)
        if not self._thread.is_alive():
            self._collector.close()

    def read_once(self) -> None:
        """Read the machine now; a failure is kept as the newest answer."""
        started_s = self._clock()
        for attempt in self._collector.collect(self._utc_now(), {}):
            batch = attempt.batch
            text = ""
            if batch is not None:
                text = exposition(batch, known=self._known)
                self._known |= {str(fact.gpu_uuid): fact for fact in batch.facts}
                log.info("%d readings, %d GPUs, %d gaps", len(batch.readings), len(batch.facts), len(batch.gaps))
            else:
                log.warning("%s", attempt.error)
            self._newest = _Sample(
                taken_at_s=started_s,
                seconds=attempt.seconds,
                batch=batch,
                text=text,
                error=None if attempt.error is None else str(attempt.error),
            )

    def app(self) -> Starlette:
        """The ASGI application."""

        async def index(request: Request) -> Response:
            return PlainTextResponse("gpufleet agent: /metrics (dcgm-exporter's format), /healthz\n")

        async def metrics(request: Request) -> Response:
            return self._metrics()

        async def health(request: Request) -> Response:
            return self._health()

        return Starlette(routes=[Route("/", index), Route("/metrics", metrics), Route("/healthz", health)])

    def _metrics(self) -> Response:
        sample, trouble = self._newest, self._trouble()
        if sample is None or trouble is not None:
            return PlainTextResponse(f"{trouble}\n", 503)
        own = gauge("gpufleet_agent_sample_age_seconds", "Age of the values in this answer.", self._age_s(sample))
        own += gauge("gpufleet_agent_reading_seconds", "How long it took to read all GPUs.", sample.seconds)
        return Response(sample.text + own, media_type=CONTENT_TYPE)

    def _health(self) -> Response:
        sample, trouble = self._newest, self._trouble()
        document: dict[str, Any] = {"ok": trouble is None, "trouble": trouble}
        if sample is not None:
            document["age_s"] = round(self._age_s(sample), 3)
        if sample is not None and sample.batch is not None:
            document["gpus"] = len(sample.batch.facts)
            document["gaps"] = [
                {"subject": gap.subject, "metric": gap.metric, "reason": gap.reason} for gap in sample.batch.gaps
            ]
        return JSONResponse(document, 200 if trouble is None else 503)

    def _trouble(self) -> str | None:
        """Why the newest sample must not be served."""
        sample = self._newest
        if sample is None:
            return "nothing was read yet"
        if sample.error is not None:
            return sample.error
        age_s = self._age_s(sample)
        if age_s > MAX_AGE_INTERVALS * self._collector.interval_s:
            return (
                f"the newest values are {age_s:.0f} s old, more than {MAX_AGE_INTERVALS} intervals of "
                f"{self._collector.interval_s:g} s: the driver hangs, or this machine is overloaded"
            )
        if not sample.text:
            return "no GPU of this machine gave a value; /healthz says why"
        return None

    def _age_s(self, sample: _Sample) -> float:
        return max(self._clock() - sample.taken_at_s, 0.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            began_s = time.monotonic()
            try:
                self.read_once()
            except Exception:  # a fault of ours must not end the readings; what is served grows old, and says so
                log.exception("this reading failed")
            self._stopping.wait(max(self._collector.interval_s - (time.monotonic() - began_s), 0.05))
