"""A real llama-server: what the store holds is what its clients counted, to the token, over cancels and a restart.

It is compiled for this and removed afterwards; `GPUFLEET_TEST_LLAMA_CPP_VENV` names a folder in which it is kept for
the next time. One server answers a first load that is scraped to its end, then is left by ten clients before it has
answered them, then answers a load that nobody scrapes before it is ended; started anew at the same address, it answers
one that is longer than the first. It tells no start: that its counts began anew is seen by their fall. Started once
more, it counts beyond a million, and at last it is started without its metrics.

Seen of llama.cpp b11434 on two cores: 7 minutes for the installation and 20 seconds for the rest; in one run 17
requests waiting at most, 781 of 2,004 prompt tokens out of the cache, 5,673 tokens generated for clients that had gone.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from planner.serving_readings import ServingEngine
from store.database import open_engine
from store.schema import migrate
from tests.collectors.serving.llama_server import (
    BUILD,
    CONTEXT_TOKENS,
    MODEL,
    SLOTS,
    LlamaServer,
    NotInstallable,
    install,
    write_model,
)
from tests.collectors.serving.llama_story import FIRST, HELD, LAST, LOST, QUEUED, STREAMED, Book, Story, tell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.xdist_group("real_llama_cpp")]

KEPT = "GPUFLEET_TEST_LLAMA_CPP_VENV"
NOT_TOLD = {"kv_cache_used_ratio", "requests_finished", "ttft_s", "itl_s", "e2e_latency_s", "queue_time_s"}
COUNTED = {"prompt_tokens", "prompt_tokens_cached", "generation_tokens", "prompt_busy_s", "generation_busy_s"}
TOLD_NOW = {"requests_running", "requests_waiting", "requests_limit"}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The Python beside which llama-server lies; where that cannot be, tests are skipped, but in CI it is a failure."""
    kept = os.environ.get(KEPT)
    folder = Path(kept) if kept else tmp_path_factory.mktemp("llama.cpp") / "venv"
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
    weights_bytes = write_model(python, folder / "tiny.gguf")
    engine = open_engine(f"sqlite:///{folder / 'store.db'}")
    migrate(engine)
    server = LlamaServer(python, folder / "tiny.gguf", folder / "server.log")
    try:
        with closing(Book(engine, server)) as book:
            yield tell(server, book, weights_bytes)
    finally:
        server.stop()
        engine.dispose()


def _added(after: dict[str, float], before: dict[str, float], metric: str) -> float:
    return after[metric] - before[metric]


def test_every_token_that_a_client_sent_and_got_is_in_the_store_once(story: Story) -> None:
    assert story.first.requests == FIRST
    assert story.after_first["prompt_tokens"] == story.first.prompt_tokens
    assert story.after_first["generation_tokens"] == story.first.generation_tokens
    # The answer k of load n has n + 3 k tokens; nothing here is of the server.
    assert story.first.generation_tokens == sum(150 + 3 * number for number in range(FIRST))


def test_prompts_out_of_the_cache_are_prompt_tokens_and_told_apart(story: Story) -> None:
    assert story.after_first["prompt_tokens_cached"] == story.first.cached_tokens > 0
    assert story.first.cached_tokens < story.first.prompt_tokens


def test_time_spent_is_that_of_the_requests_added_up(story: Story) -> None:
    # The server writes six significant digits.
    assert story.after_first["generation_busy_s"] == pytest.approx(story.first.generation_s, rel=1e-5)
    assert story.after_first["prompt_busy_s"] > 0


def test_requests_that_are_left_before_they_begin_count_nothing_and_others_what_was_done(story: Story) -> None:
    left = story.left
    # Prompts count when they have been read, generated tokens when their request ends.
    held_prompts = sum(wanted.prompt_tokens for wanted in HELD)
    assert _added(left.while_working, story.after_first, "prompt_tokens") == held_prompts
    assert _added(left.while_working, story.after_first, "generation_tokens") == 0
    begun = (*HELD, STREAMED)
    assert len(left.held_at_the_end) == len(begun)
    prompts = sum(wanted.prompt_tokens for wanted in begun)
    generated = sum(left.held_at_the_end) - prompts + len(begun)
    assert _added(left.after, story.after_first, "prompt_tokens") == prompts
    assert _added(left.after, story.after_first, "generation_tokens") == generated
    of_the_streamed = left.held_at_the_end[-1] - STREAMED.prompt_tokens + 1
    assert 100 <= left.received_tokens <= of_the_streamed < STREAMED.generation_tokens


def test_a_restart_counts_nothing_twice_and_is_seen(story: Story) -> None:
    assert not story.while_down.ok
    assert story.lost.requests == LOST  # answered, and gone with the server before anyone read of them
    assert story.last.requests == LAST
    for metric, told in (
        ("prompt_tokens", story.last.prompt_tokens),
        ("prompt_tokens_cached", story.last.cached_tokens),
        ("generation_tokens", story.last.generation_tokens),
    ):
        assert _added(story.after_last, story.left.after, metric) == told > 0, metric
    resets = {one.metric: one.before for one in story.resets}
    assert len(resets) == len(story.resets)  # one per count
    assert set(resets) == COUNTED
    for metric in ("prompt_tokens", "prompt_tokens_cached", "generation_tokens"):
        assert resets[metric] == story.left.after[metric], metric


def test_beyond_a_million_it_tells_six_digits(story: Story) -> None:
    cached = story.many.cached_tokens
    told = float(f"{cached:.6g}")  # as C++ writes a number that nobody gave a precision
    assert told != cached > 1_000_000
    assert _added(story.after_many, story.after_last, "prompt_tokens_cached") == told
    computed = story.many.prompt_tokens - cached
    assert _added(story.after_many, story.after_last, "prompt_tokens") == told + computed


def test_requests_that_run_and_wait_are_seen(story: Story) -> None:
    assert story.highest["requests_running"] == story.highest["requests_limit"] == SLOTS
    assert len(QUEUED) <= story.highest["requests_waiting"] <= FIRST - SLOTS
    idle = {one.metric: one.value for one in story.batches[-1].gauges}
    assert (idle["requests_running"], idle["requests_waiting"]) == (0, 0)


def test_what_it_does_not_tell_is_a_gap_with_a_reason_and_no_number(story: Story) -> None:
    for batch in story.batches:
        assert {gap.metric for gap in batch.gaps} == NOT_TOLD
        assert all(gap.reason for gap in batch.gaps)
        assert batch.histograms == ()
        assert {one.metric for one in batch.gauges} == TOLD_NOW
    # it tells no start, so the first counts of either restart are handed over with the scrape after them
    held = [at for at, batch in enumerate(story.batches) if not batch.counters]
    assert len(held) == 2
    for at, batch in enumerate(story.batches):
        if at not in held:
            assert {one.metric for one in batch.counters} == COUNTED
            assert len(batch.counters) == len(COUNTED) * (2 if at - 1 in held else 1)
    assert set(story.after_last) == COUNTED
    assert set(story.highest) == TOLD_NOW


def test_the_server_says_what_it_is(story: Story) -> None:
    [fact] = story.batches[-1].servers
    assert fact.engine is ServingEngine.LLAMA_CPP
    assert fact.version == f"b{BUILD}-unknown"
    [model] = fact.models
    assert (model.name, model.is_loaded, model.quantization) == (MODEL, True, "all F32")
    assert (model.context_tokens, model.size_bytes) == (CONTEXT_TOKENS, story.weights_bytes)
    settings = dict(fact.settings)
    assert (settings["n_ctx"], settings["total_slots"]) == (str(CONTEXT_TOKENS), str(SLOTS))


def test_without_its_metrics_it_tells_its_model_and_no_number(story: Story) -> None:
    batch = story.without_metrics
    [fact] = batch.servers
    assert [model.name for model in fact.models] == [MODEL]
    assert (batch.counters, batch.histograms) == ((), ())
    assert [(one.metric, one.value) for one in batch.gauges] == [("requests_limit", SLOTS)]
    reasons = {gap.metric: gap.reason for gap in batch.gaps}
    assert {name for name, reason in reasons.items() if "--metrics" in reason} == {
        "requests_running",
        "requests_waiting",
        "prompt_tokens",
        "generation_tokens",
    }
