"""Pages into a store: what was counted is there once, whatever the gateway removes and whoever starts anew."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from collectors.litellm.series_memory import SeriesMemory
from store.database import open_engine
from store.schema import migrate
from store.writes import register_source, write_batch
from tests.collectors.litellm.lines import BEGAN_S, NOW, process, understood, used


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = open_engine(f"sqlite:///{tmp_path / 'store.db'}")
    migrate(opened)
    yield opened
    opened.dispose()


class Follower:
    """gpufleet between two of its starts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._memory = SeriesMemory()

    def reads(self, page: str, minute: int) -> None:
        batch = understood(page, dimensions=(), memory=self._memory, minute=minute)
        source_id = register_source(self._engine, cluster="c", name="gateway", kind="litellm", interval_s=60, now=NOW)
        started_at = max(one.observed_at for one in batch.spend)
        write_batch(self._engine, source_id=source_id, target="t", started_at=started_at, seconds=0.1, batch=batch)


def counted(engine: Engine, quantity: str = "requests") -> float:
    statement = text(
        "select coalesce(sum(increment), 0) from spend_hour join spend_series on spend_series.id = series_id "
        "where quantity = :quantity"
    )
    with engine.connect() as connection:
        return float(connection.execute(statement, {"quantity": quantity}).scalar_one())


def page(head: str, *counts: tuple[str, float], began_s: float | None = BEGAN_S) -> str:
    return head + "".join(
        used(count, (count, count), count, user_agent=agent, began_s=began_s) for agent, count in counts
    )


@pytest.mark.parametrize("head", [process(), ""], ids=["one worker", "several workers"])
def test_a_removed_series_is_not_counted_again(engine: Engine, head: str) -> None:
    gpufleet, began_s = Follower(engine), BEGAN_S if head else None
    gpufleet.reads(page(head, ("a", 1_000), ("b", 500_000), began_s=began_s), 0)
    gpufleet.reads(page(head, ("a", 1_010), ("b", 500_010), began_s=began_s), 1)
    gpufleet.reads(page(head, ("b", 500_020), began_s=began_s), 2)
    assert counted(engine) == 30
    assert counted(engine, "cost_usd") == pytest.approx(30)


def test_a_start_of_gpufleet_after_a_removal_counts_nothing_again(engine: Engine) -> None:
    gpufleet = Follower(engine)
    gpufleet.reads(page(process(), ("a", 1_000), ("b", 500_000)), 0)
    gpufleet.reads(page(process(), ("a", 1_010), ("b", 500_010)), 1)
    gpufleet.reads(page(process(), ("b", 500_020)), 2)
    again = Follower(engine)
    for minute in range(3, 30):
        again.reads(page(process(), ("b", 500_020 + 10 * (minute - 2))), minute)
    # 30 until the second minute, and then 10 a minute as soon as the store follows the smaller sum: in ten minutes
    assert 30 + 10 * (29 - 13) <= counted(engine) <= 30 + 10 * 27


def test_a_start_of_gpufleet_without_a_removal_loses_nothing(engine: Engine) -> None:
    Follower(engine).reads(page(process(), ("a", 1_000), ("b", 500_000)), 0)
    Follower(engine).reads(page(process(), ("a", 1_010), ("b", 500_010)), 1)
    Follower(engine).reads(page(process(), ("a", 1_020), ("b", 500_020)), 2)
    assert counted(engine) == 40


def test_a_start_of_the_gateway_counts_what_it_counts_from_then_on(engine: Engine) -> None:
    gpufleet, now_s = Follower(engine), NOW.timestamp()
    gpufleet.reads(page(process(), ("a", 1_000), ("b", 500_000)), 0)
    gpufleet.reads(page(process(now_s + 70), ("a", 7), began_s=now_s + 80), 2)
    gpufleet.reads(page(process(now_s + 70), ("a", 9), ("b", 4), began_s=now_s + 80), 3)
    assert counted(engine) == 7 + 2 + 4


def test_a_model_that_is_new_counts_from_its_first_request(engine: Engine) -> None:
    gpufleet = Follower(engine)
    gpufleet.reads(page(process(), ("a", 1_000)), 0)
    new = used(5, model="org/New", requested_model="new", began_s=NOW.timestamp() + 30)
    gpufleet.reads(page(process(), ("a", 1_000)) + new, 1)
    assert counted(engine) == 5
    young = used(3, model="org/Young", requested_model="young", began_s=NOW.timestamp() + 90)
    Follower(engine).reads(page(process(), ("a", 1_000)) + new + young, 2)  # and by a gpufleet that has just started
    assert counted(engine) == 8
