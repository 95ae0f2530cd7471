"""How the tests read a fake machine, and look at what was read."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from collectors.nvml.collector import NvmlCollector
from collectors.nvml.config import NvmlConfig
from collectors.source import Attempt
from planner.readings import Batch
from tests.collectors.nvml.fake_nvml.library import FakeNvml, installed
from tests.collectors.nvml.fake_nvml.machine import FakeGpu

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NODE = "gpu-a"


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


class Machine:
    """A collector over a fake library."""

    def __init__(self, fake: FakeNvml, **table: Any) -> None:
        self.fake = fake
        self.clock = Clock()
        nowhere = Path("/nowhere")
        config = {"name": "local", "node": NODE, "proc_directory": nowhere, "log_directory": nowhere, **table}
        self.collector = NvmlCollector(NvmlConfig.model_validate(config), clock=self.clock, sleep=self.clock.sleep)

    def attempt(self) -> Attempt:
        """One attempt at the machine."""
        (attempt,) = self.collector.collect(AT, {})
        assert (attempt.batch is None) != (attempt.error is None)
        return attempt

    def read(self, *, after_s: float = 0.0) -> Batch:
        """What one attempt yields, some seconds later."""
        self.clock.now_s += after_s
        attempt = self.attempt()
        assert attempt.error is None, attempt.error
        assert attempt.batch is not None
        return attempt.batch

    def error(self) -> str:
        """What one attempt complains of."""
        attempt = self.attempt()
        assert attempt.error is not None
        return str(attempt.error)


@contextmanager
def machine(*gpus: FakeGpu, driver: str = "590.48.01", privileged: bool = True, **table: Any) -> Iterator[Machine]:
    """A machine with these GPUs; at the end everything that was taken from the driver is given back."""
    fake = FakeNvml(list(gpus), driver=driver, privileged=privileged)
    with installed(fake):
        running = Machine(fake, **table)
        try:
            yield running
        finally:
            running.collector.close()
        assert fake.opened == 0, "NVML was opened more often than closed"
        assert fake.samples == {}, "GPM samples were not given back"
        assert fake.event_sets == set(), "an event set was not given back"


def read_once(*gpus: FakeGpu, **more: Any) -> Batch:
    """What the first reading of these GPUs yields."""
    with machine(*gpus, **more) as running:
        return running.read()


def values(batch: Batch) -> dict[tuple[str, str], float]:
    """Every reading by device (`GPU` or `GPU/instance`) and metric."""
    found = {(str(one.subject), one.metric): one.value for one in batch.readings}
    assert len(found) == len(batch.readings), "a value was given twice"
    return found


def of(batch: Batch, subject: str) -> dict[str, float]:
    """The readings of one device."""
    return {metric: value for (device, metric), value in values(batch).items() if device == subject}


def gaps(batch: Batch) -> set[tuple[str, str | None, str]]:
    """Every gap."""
    return {(gap.subject, gap.metric, gap.reason) for gap in batch.gaps}


def reasons(batch: Batch, metric: str | None) -> list[str]:
    """Why a metric is missing somewhere."""
    return sorted(gap.reason for gap in batch.gaps if gap.metric == metric)
