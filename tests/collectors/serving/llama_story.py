"""What happens to a real llama-server, and what the store that one collector writes holds of it by then."""

import time
from collections import defaultdict
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
from sqlalchemy import Engine

from collectors.runner import Outcome, run_once
from collectors.serving.collector import ServingScraper
from collectors.serving.config import ServingConfig
from collectors.source import Attempt, Collector
from planner.readings import Batch
from store.gauge_queries import gauge_usage
from store.serving_queries import CountReset, count_resets, counted
from tests.collectors.serving.llama_clients import Abandoned, Answered, Load, Wanted, complete
from tests.collectors.serving.llama_server import SLOTS, LlamaServer, wait_until

FIRST, LOST, LAST = 24, 6, 36
HELD = tuple(Wanted(prompt_tokens=100 + 7 * number, generation_tokens=60_000) for number in range(SLOTS))
QUEUED = tuple(Wanted(prompt_tokens=300 + 11 * number, generation_tokens=50) for number in range(5))
STREAMED = Wanted(prompt_tokens=77, generation_tokens=60_000, is_streamed=True)
LONG = Wanted(prompt_tokens=15_987, generation_tokens=1, may_be_cached=True)


class Book:
    """A store that one collector writes what it scrapes of one server.

    Scrapes follow each other at once and are dated an interval apart, as those of a fleet are: of two that lie a few
    seconds apart, the store cannot know which one looked first.
    """

    def __init__(self, engine: Engine, server: LlamaServer) -> None:
        self.engine = engine
        self.batches: list[Batch] = []
        self._begin = self._now = datetime.now(UTC) - timedelta(hours=2)
        self._collector = ServingScraper(ServingConfig(name="llama.cpp", url=server.url))

    def close(self) -> None:
        self._collector.close()

    def scrape(self) -> Outcome:
        self._now += timedelta(seconds=self._collector.interval_s)
        [outcome] = run_once(self.engine, self._collector, self._now, written=self._note)
        return outcome

    def scrape_while(self, load: Load) -> Answered:
        """Scrape until the last request is answered, and until it is counted: a moment after its answer."""
        while load.is_running:
            assert self.scrape().ok
            time.sleep(0.2)
        answered = load.answered()
        self.scrape_until(0, 0)
        return answered

    def scrape_until(self, running: int, waiting: int) -> None:
        """Scrape until so many requests are worked on and wait; so seldom that the server sees who has gone away."""
        what = f"{running} requests run and {waiting} wait"
        wait_until(lambda: self._is_at(running, waiting), what, pause_s=1.5)

    def counts(self) -> dict[str, float]:
        """What the store holds of every counter, over all time and all labels."""
        sums: defaultdict[str, float] = defaultdict(float)
        for one in counted(self.engine, self._begin, self._end):
            sums[one.metric] += one.increment
        return sums

    def highest(self) -> dict[str, float]:
        [usage] = gauge_usage(self.engine, self._begin, self._end)
        return {name: seen.maximum for name, seen in usage.metrics.items()}

    def resets(self) -> tuple[CountReset, ...]:
        return count_resets(self.engine, self._begin, self._end)

    @property
    def _end(self) -> datetime:
        return self._now + timedelta(hours=1)

    def _is_at(self, running: int, waiting: int) -> bool:
        assert self.scrape().ok
        now = {one.metric: one.value for one in self.batches[-1].gauges}
        return (now["requests_running"], now["requests_waiting"]) == (running, waiting)

    def _note(self, _: Collector, attempt: Attempt) -> None:
        if attempt.batch is not None:
            self.batches.append(attempt.batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What came of the requests whose clients went away."""

    while_working: dict[str, float]  # the counts, before any of them had ended
    held_at_the_end: list[int]  # tokens in the slots, by the server's log
    received_tokens: int  # of the one that was streamed
    after: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """The store after each load, what was sent and told by then, and what a scrape of the ended server was."""

    first: Answered
    after_first: dict[str, float]
    highest: dict[str, float]
    left: Left
    lost: Answered
    while_down: Outcome
    last: Answered
    after_last: dict[str, float]
    resets: tuple[CountReset, ...]
    many: Answered
    after_many: dict[str, float]
    batches: list[Batch]
    weights_bytes: int
    without_metrics: Batch


def tell(server: LlamaServer, book: Book, weights_bytes: int) -> Story:
    """Load it, leave it, end it and start it anew, as the story says."""
    server.start()
    assert book.scrape().ok
    first = book.scrape_while(Load(server, FIRST, tokens=150))
    after_first = book.counts()
    left = _left(server, book)
    highest = book.highest()
    lost = Load(server, LOST, tokens=50).answered()
    server.stop()
    while_down = book.scrape()
    server.start()
    assert book.scrape().ok
    last = book.scrape_while(Load(server, LAST, tokens=150))
    assert book.scrape().ok  # once more: nothing is added
    after_last, resets = book.counts(), book.resets()
    server.stop()
    server.start()
    assert book.scrape().ok
    many = _million(server)
    assert book.scrape().ok
    after_many = book.counts()
    server.stop()
    server.start(with_metrics=False)
    batches = [*book.batches]
    assert book.scrape().ok
    return Story(
        first=first,
        after_first=after_first,
        highest=highest,
        left=left,
        lost=lost,
        while_down=while_down,
        last=last,
        after_last=after_last,
        resets=resets,
        many=many,
        after_many=after_many,
        batches=batches,
        weights_bytes=weights_bytes,
        without_metrics=book.batches[-1],
    )


def _left(server: LlamaServer, book: Book) -> Left:
    """Fill the slots and the queue, go away from the queue, then from the slots, then from a streamed answer."""
    wait_until(lambda: len(server.held_at_the_end()) == FIRST, "the log tells of the end of every request before")
    with ExitStack() as held:
        for wanted in HELD:
            held.enter_context(closing(Abandoned(server, wanted)))
        book.scrape_until(SLOTS, 0)
        with ExitStack() as queued:
            for wanted in QUEUED:
                queued.enter_context(closing(Abandoned(server, wanted)))
            book.scrape_until(SLOTS, len(QUEUED))
        book.scrape_until(SLOTS, 0)
        while_working = book.counts()
    book.scrape_until(0, 0)
    with closing(Abandoned(server, STREAMED)) as streamed:
        received_tokens = streamed.receive(100)
    book.scrape_until(0, 0)
    ended = FIRST + len(HELD) + 1
    wait_until(lambda: len(server.held_at_the_end()) >= ended, "the log tells of the end of every request that began")
    return Left(
        while_working=while_working,
        held_at_the_end=server.held_at_the_end()[FIRST:],
        received_tokens=received_tokens,
        after=book.counts(),
    )


def _million(server: LlamaServer) -> Answered:
    """One long prompt, sent until more than a million of its tokens have come out of the cache."""
    answered = Answered()
    with httpx.Client(timeout=60) as client:
        while answered.cached_tokens < 1_000_000:
            answered += complete(server, client, LONG)
    return answered
