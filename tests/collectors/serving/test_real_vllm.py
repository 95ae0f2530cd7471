"""A real vLLM whose KV cache is too small: what the store holds is what its clients counted, to the request and token.

It is installed for this (3.5 GB) and removed afterwards; `GPUFLEET_TEST_VLLM_VENV` names a folder in which it is kept
for the next time. One server answers a first load that is scraped to its end, a second that nobody scrapes before the
server is ended, and, started anew at the same address, a third that is longer than the first: no count falls over the
restart, only their beginnings tell of it.

Seen of vLLM 0.32.0 on two cores: 2 to 4 minutes beside the installation, 77 and 87 preemptions among 64 requests, the
cache full, 36 requests waiting at most; tokens of requests that were preempted are counted once.
"""

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from collectors.runner import Outcome, run_once
from collectors.serving.collector import ServingScraper
from collectors.serving.config import ServingConfig
from collectors.source import Attempt, Collector
from planner.histograms import Histogram
from planner.serving_readings import ServingEngine, ServingFact
from store.database import open_engine
from store.gauge_queries import gauge_usage
from store.latency_queries import counted_histograms
from store.schema import migrate
from store.serving_queries import CountReset, count_resets, counted
from tests.collectors.serving.vllm_server import (
    AT_ONCE,
    BLOCK_TOKENS,
    BLOCKS,
    CONTEXT_TOKENS,
    MODEL,
    VERSION,
    Answered,
    Load,
    NotInstallable,
    VllmServer,
    install,
    write_model,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400), pytest.mark.xdist_group("real_vllm")]

KEPT = "GPUFLEET_TEST_VLLM_VENV"
FIRST, LOST, LAST = 24, 6, 40
HISTOGRAMS = (
    "ttft_s",
    "itl_s",
    "e2e_latency_s",
    "queue_time_s",
    "request_prompt_tokens",
    "request_generation_tokens",
)


class Book:
    """A store that one collector writes what it scrapes of one server."""

    def __init__(self, engine: Engine, server: VllmServer) -> None:
        self.engine = engine
        self.facts: list[ServingFact] = []
        self._begin = datetime.now(UTC) - timedelta(hours=2)
        self._collector = ServingScraper(ServingConfig(name="vllm", url=server.url))

    def close(self) -> None:
        self._collector.close()

    def scrape(self) -> Outcome:
        [outcome] = run_once(self.engine, self._collector, datetime.now(UTC), written=self._note)
        return outcome

    def scrape_while(self, load: Load) -> Answered:
        """Scrape until the last request is answered."""
        while load.is_running:
            assert self.scrape().ok
            time.sleep(0.3)
        return load.answered()

    def scrape_until(self, requests: int) -> None:
        """Scrape until so many requests are in the store: vLLM counts a request just after it has answered."""
        deadline = time.monotonic() + 60
        while self.counts()["requests_finished"] < requests and time.monotonic() < deadline:
            assert self.scrape().ok
            time.sleep(0.3)

    def counts(self) -> dict[str, float]:
        """What the store holds of every counter, over all time and all labels."""
        sums: defaultdict[str, float] = defaultdict(float)
        for one in counted(self.engine, self._begin, self._end):
            sums[one.metric] += one.increment
        return sums

    def reasons(self) -> dict[str, float]:
        found = counted(self.engine, self._begin, self._end, metrics=["requests_finished"])
        return {one.label: one.increment for one in found if one.increment}

    def histograms(self) -> dict[str, Histogram]:
        found = counted_histograms(self.engine, HISTOGRAMS, self._begin, self._end)
        assert len(found) == len({one.metric for one in found})
        return {one.metric: one.histogram for one in found}

    def highest(self) -> dict[str, float]:
        [usage] = gauge_usage(self.engine, self._begin, self._end)
        return {name: seen.maximum for name, seen in usage.metrics.items()}

    def resets(self) -> tuple[CountReset, ...]:
        return count_resets(self.engine, self._begin, self._end)

    @property
    def _end(self) -> datetime:
        return datetime.now(UTC) + timedelta(hours=1)

    def _note(self, _: Collector, attempt: Attempt) -> None:
        if attempt.batch is not None:
            self.facts += attempt.batch.servers


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the store held at one moment, and what was sent and told by then."""

    answered: Answered
    preemptions: float  # as the server tells them
    counts: dict[str, float]
    reasons: dict[str, float]
    histograms: dict[str, Histogram]
    highest: dict[str, float]
    resets: tuple[CountReset, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """The store before the restart, what nobody scraped, what a scrape of the ended server was, and the store after."""

    before: Seen
    lost: Answered
    while_down: Outcome
    after: Seen
    last: Answered
    facts: list[ServingFact]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The Python that vLLM is installed in; where it cannot be, tests are skipped, but in CI that is a failure."""
    kept = os.environ.get(KEPT)
    folder = Path(kept) if kept else tmp_path_factory.mktemp("vllm") / "venv"
    try:
        yield install(folder)
    except NotInstallable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def story(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("served")
    assert 100_000 < write_model(python, folder / "model") < 1_000_000
    engine = open_engine(f"sqlite:///{folder / 'store.db'}")
    migrate(engine)
    server = VllmServer(python, folder / "model", folder / "server.log")
    try:
        with closing(Book(engine, server)) as book:
            yield _told(server, book)
    finally:
        server.stop()
        engine.dispose()


def _told(server: VllmServer, book: Book) -> Story:
    server.start()
    assert book.scrape().ok
    first = book.scrape_while(Load(server, FIRST, tokens=300))
    book.scrape_until(first.requests)
    first_preemptions = server.told("vllm:num_preemptions_total")
    before = _seen(book, first, first_preemptions)
    lost = Load(server, LOST, tokens=50).answered()
    server.stop()
    while_down = book.scrape()
    server.start()
    last = book.scrape_while(Load(server, LAST, tokens=300))
    book.scrape_until(first.requests + last.requests)
    assert book.scrape().ok  # once more: nothing is added
    after = _seen(book, first + last, first_preemptions + server.told("vllm:num_preemptions_total"))
    return Story(before=before, lost=lost, while_down=while_down, after=after, last=last, facts=book.facts)


def _seen(book: Book, answered: Answered, preemptions: float) -> Seen:
    return Seen(
        answered=answered,
        preemptions=preemptions,
        counts=book.counts(),
        reasons=book.reasons(),
        histograms=book.histograms(),
        highest=book.highest(),
        resets=book.resets(),
    )


@pytest.fixture(params=["before", "after"])
def seen(request: pytest.FixtureRequest, story: Story) -> Seen:
    """The store before the restart and after it: the same must be true of both."""
    return {"before": story.before, "after": story.after}[request.param]


def test_every_request_and_every_token_is_in_the_store_once(seen: Seen) -> None:
    assert seen.counts["requests_finished"] == seen.answered.requests
    assert seen.counts["prompt_tokens"] == seen.answered.prompt_tokens
    assert seen.counts["generation_tokens"] == seen.answered.generation_tokens
    assert seen.reasons == {"length": seen.answered.requests}


def test_histograms_hold_the_same_requests(seen: Seen) -> None:
    for metric in ("ttft_s", "e2e_latency_s", "queue_time_s", "request_prompt_tokens", "request_generation_tokens"):
        assert seen.histograms[metric].count == seen.answered.requests, metric
    assert seen.histograms["request_prompt_tokens"].total == seen.answered.prompt_tokens
    assert seen.histograms["request_generation_tokens"].total == seen.answered.generation_tokens
    # A gap lies before every token but the first of a request, those after a preemption included.
    assert seen.histograms["itl_s"].count == seen.answered.generation_tokens - seen.answered.requests
    assert 0 < seen.histograms["ttft_s"].total < seen.histograms["e2e_latency_s"].total


def test_a_cache_that_is_too_small_is_seen(seen: Seen) -> None:
    assert seen.counts["preemptions"] == seen.preemptions > 0
    assert 0.9 < seen.highest["kv_cache_used_ratio"] <= 1
    assert seen.highest["requests_waiting"] > 0
    assert 0 < seen.highest["requests_running"] <= AT_ONCE


def test_a_restart_counts_nothing_twice_and_is_seen(story: Story) -> None:
    assert not story.while_down.ok
    assert story.lost.requests == LOST  # answered, and gone with the server before anyone read of them
    assert story.before.resets == ()
    resets = {(one.metric, one.label): one.before for one in story.after.resets}
    assert len(resets) == len(story.after.resets)  # one per count
    first = story.before.answered
    # The new counts had grown beyond the old ones: they did not fall, and were told apart by when they began.
    assert story.last.generation_tokens > first.generation_tokens
    assert resets["generation_tokens", ""] == first.generation_tokens
    assert resets["prompt_tokens", ""] == first.prompt_tokens
    assert resets["requests_finished", "length"] == resets["ttft_s", ""] == first.requests


def test_the_server_says_what_it_is(story: Story) -> None:
    fact = story.facts[-1]
    assert fact.engine is ServingEngine.VLLM
    assert fact.version is not None
    assert fact.version.startswith(VERSION)
    [model] = fact.models
    assert (model.name, model.max_model_len) == (MODEL, CONTEXT_TOKENS)
    settings = dict(fact.settings)
    assert (settings["block_size"], settings["num_gpu_blocks"]) == (str(BLOCK_TOKENS), str(BLOCKS))
