"""The machine's own GPUs as a source: one attempt per interval, and an error in time where the driver hangs."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from datetime import datetime

from collectors.errors import CollectorError, Unreachable
from collectors.nvml.config import NvmlConfig
from collectors.nvml.reader import NodeReader
from collectors.nvml.xid_events import LastXids
from collectors.source import Attempt
from planner.readings import Batch

log = logging.getLogger("gpufleet.collectors.nvml")


class _Job:
    """One reading in a thread of its own: a driver that hangs cannot be interrupted, only left alone."""

    def __init__(self, work: Callable[[], Batch]) -> None:
        self._done: Future[Batch] = Future()
        threading.Thread(target=self._run, args=(work,), name="nvml-read", daemon=True).start()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return not self._done.done()

    def result(self, within_s: float) -> Batch:
        """What was read; raises TimeoutError, and whatever the reading raised."""
        return self._done.result(within_s)

    def _run(self, work: Callable[[], Batch]) -> None:
        try:
            self._done.set_result(work())
        except BaseException as error:  # noqa: BLE001  # it is raised again by `result`
            self._done.set_exception(error)


class NvmlCollector:
    """Reads the GPUs of the machine that it runs on."""

    kind = "nvml"

    def __init__(
        self,
        config: NvmlConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.source = config.name
        self.cluster = config.cluster
        self.interval_s = config.interval_s
        self._config = config
        self._target = config.node_name()
        self._clock, self._sleep = clock, sleep
        self._xids = LastXids()
        self._reader: NodeReader | None = None
        self._running: _Job | None = None

    def collect(self, now: datetime, watermarks: Mapping[str, datetime]) -> Iterator[Attempt]:
        """Read every GPU once; there is one target, this machine."""
        started = time.monotonic()
        if self._running is not None and self._running.is_running:
            yield self._attempt(now, started, error=self._hangs("still does not answer"))
            return
        self._running = _Job(lambda: self._read(now))
        try:
            batch = self._running.result(self._config.timeout_s)
        except TimeoutError:
            yield self._attempt(now, started, error=self._hangs(f"did not answer within {self._config.timeout_s:g} s"))
        except CollectorError as error:
            yield self._attempt(now, started, error=error)
        else:
            yield self._attempt(now, started, batch=batch)

    def close(self) -> None:
        """Let go of the driver, unless it hangs: then nothing can be done but to leave it."""
        if self._running is not None and self._running.is_running:
            log.warning("%s: the driver hangs and is left alone", self.source)
            return
        self._let_go()

    def _read(self, now: datetime) -> Batch:
        reader = self._reader
        try:
            if reader is None:
                reader = NodeReader(self._config, self._xids, clock=self._clock, sleep=self._sleep)
                reader.open()
                self._reader = reader
            batch = reader.read(now)
        except CollectorError:
            self._xids.clear()  # what speaks next is another driver, or the same one loaded anew
            self._let_go()
            raise
        if reader.is_exhausted:
            self._let_go()
        return batch

    def _let_go(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _hangs(self, what: str) -> CollectorError:
        return Unreachable(
            f"NVML {what}: the driver or the GPU's firmware hangs (Xid 119 or 120 in `dmesg | grep -i xid`; "
            "`nvidia-smi` hangs as well). Drain this node and reboot it.",
            source=self.source,
        )

    def _attempt(
        self, now: datetime, started: float, *, batch: Batch | None = None, error: CollectorError | None = None
    ) -> Attempt:
        return Attempt(
            target=self._target,
            started_at=now,
            seconds=time.monotonic() - started,
            batch=batch,
            error=error,
        )
