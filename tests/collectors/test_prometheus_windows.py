"""How far a Prometheus server counts as read when its answers are not whole."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from collectors.prometheus_config import PrometheusConfig
from collectors.prometheus_samples import Remarks
from collectors.prometheus_windows import AGAIN_AFTER, HELD_FOR, PrometheusWindows, Window
from planner.readings import Batch

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MISSING = "the server says that its answer may be incomplete: store sidecar-2 is unreachable"


class Server:
    """A server whose answers lack something as long as `lacks` says so of a window; the store keeps its watermark."""

    target = "prometheus:9090"

    def __init__(self, mark: datetime) -> None:
        self.clock = NOW
        self.mark = mark
        self.lacks: Callable[[Window], bool] = lambda window: False
        self.windows: list[Window] = []
        self.gaps: list[str] = []
        self.road = PrometheusWindows(PrometheusConfig(name="main", url="http://prometheus:9090"))

    def server_time(self) -> datetime:
        return self.clock

    def remarks(self) -> Remarks:
        is_partial = bool(self.windows) and self.lacks(self.windows[-1])
        return Remarks(reasons=(MISSING,) if is_partial else (), is_partial=is_partial)

    def read(self, window: Window) -> Batch:
        self.windows.append(window)
        return Batch(watermark=window.until)

    def round(self, after: timedelta = timedelta(0)) -> list[tuple[datetime, datetime]]:
        """The windows of one round of reading; a store never lets a watermark go back."""
        self.clock += after
        self.windows, self.gaps = [], []
        for attempt in self.road.attempts(self, self.clock, {self.target: self.mark}, self.read):
            assert attempt.error is None
            assert attempt.batch is not None
            assert attempt.batch.watermark is not None
            self.gaps += [gap.reason for gap in attempt.batch.gaps]
            self.mark = max(self.mark, attempt.batch.watermark)
        return [(window.since, window.until) for window in self.windows]


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


def test_the_watermark_does_not_pass_what_an_answer_lacked_and_reading_goes_on() -> None:
    server = Server(ago(hours=3))
    server.lacks = lambda window: window.since == ago(hours=2)
    assert server.round() == [(ago(hours=3), ago(hours=2)), (ago(hours=2), ago(hours=1)), (ago(hours=1), NOW)]
    assert server.mark == ago(hours=2)
    assert server.gaps == [MISSING]
    assert server.round(timedelta(seconds=30)) == [(NOW, NOW + timedelta(seconds=30))]
    assert server.mark == ago(hours=2)


def test_what_was_lacking_is_asked_for_again_and_all_that_followed_it() -> None:
    server = Server(ago(hours=2))
    server.lacks = lambda window: True
    server.round()
    server.lacks = lambda window: False
    there = NOW + AGAIN_AFTER
    assert server.round(AGAIN_AFTER) == [
        (ago(hours=2), ago(hours=1)),
        (ago(hours=1), NOW),
        (NOW, there),
    ]
    assert server.mark == there
    assert server.gaps == []


def test_what_is_still_lacking_is_one_window_of_work() -> None:
    server = Server(ago(hours=4))
    server.lacks = lambda window: window.since == ago(hours=4)
    server.round()
    assert server.round(AGAIN_AFTER) == [(ago(hours=4), ago(hours=3)), (NOW, NOW + AGAIN_AFTER)]
    assert server.mark == ago(hours=4)
    assert server.round(timedelta(seconds=30)) == [(server.clock - timedelta(seconds=30), server.clock)]


def test_a_second_window_that_lacks_something_holds_the_watermark_in_its_turn() -> None:
    server = Server(ago(hours=3))
    server.lacks = lambda window: window.since in (ago(hours=3), ago(hours=1))
    server.round()
    assert server.mark == ago(hours=3)
    server.lacks = lambda window: window.since == ago(hours=1)
    server.round(AGAIN_AFTER)
    assert server.mark == ago(hours=1)
    server.lacks = lambda window: False
    server.round(AGAIN_AFTER)
    assert server.mark == server.clock


def test_what_never_comes_is_passed_in_the_end() -> None:
    server = Server(ago(hours=1))
    server.lacks = lambda window: window.since == ago(hours=1)
    server.round()
    server.round(HELD_FOR)
    assert server.mark == ago(hours=1)
    server.round(AGAIN_AFTER)
    assert server.mark == server.clock


def test_after_a_restart_it_is_read_from_the_watermark() -> None:
    server = Server(ago(hours=2))
    server.lacks = lambda window: window.since == ago(hours=2)
    server.round()
    server.road = PrometheusWindows(PrometheusConfig(name="main", url="http://prometheus:9090"))
    assert server.round()[0] == (ago(hours=2), ago(hours=1))


def test_a_clock_that_was_set_back_waits_no_longer() -> None:
    server = Server(ago(hours=2))
    server.lacks = lambda window: True
    server.round()
    server.lacks = lambda window: False
    assert server.round(timedelta(minutes=-30))[0] == (ago(hours=2), ago(hours=1))
