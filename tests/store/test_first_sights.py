"""A label that a known engine tells for the first time counts from when it was still 0."""

import pytest
from sqlalchemy import Engine

from planner.readings import Batch
from store.serving_queries import counted
from tests.store.batches import after, write
from tests.store.serving_batches import counter

OLD = -90_000.0


def tell(engine: Engine, source_id: int, at: float, started: float | None = OLD, **labels: float) -> None:
    told = tuple(
        counter(at, value, "requests_finished", label=label, started=started) for label, value in labels.items()
    )
    write(engine, source_id, Batch(counters=told), at=after(at))


def added(engine: Engine, label: str) -> float:
    return sum(one.increment for one in counted(engine, after(-200_000), after(200_000)) if one.label == label)


@pytest.mark.parametrize("started", [OLD, None])
def test_the_first_requests_that_end_in_another_way_are_counted(
    engine: Engine, source_id: int, started: float | None
) -> None:
    tell(engine, source_id, 0, started, stop=100)
    tell(engine, source_id, 30, started, stop=110, abort=4)
    tell(engine, source_id, 60, started, stop=112, abort=5)
    assert (added(engine, "stop"), added(engine, "abort")) == (12, 5)


def test_labels_of_several_pages_in_one_batch_are_judged_by_the_page_before(engine: Engine, source_id: int) -> None:
    pages = ((0, "stop", 100), (30, "stop", 110), (30, "abort", 4), (60, "stop", 111), (60, "abort", 6))
    told = tuple(counter(at, value, "requests_finished", label=label) for at, label, value in pages)
    write(engine, source_id, Batch(counters=told), at=after(60))
    assert (added(engine, "stop"), added(engine, "abort")) == (11, 6)


def test_labels_that_a_road_dropped_until_now_are_not_new(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, 0, stop=100_000)
    tell(engine, source_id, 30, stop=100_010, abort=5_000)
    assert added(engine, "abort") == 0


def test_a_reset_of_the_other_label_says_nothing_about_the_new_one(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, 0, None, stop=100)
    tell(engine, source_id, 30, None, stop=10, abort=4)
    assert added(engine, "abort") == 0


def test_the_first_page_of_an_engine_adds_nothing(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, 0, stop=100, abort=4)
    assert (added(engine, "stop"), added(engine, "abort")) == (0, 0)


def test_a_label_with_a_start_in_a_long_outage_counts_from_there(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, 0, stop=100)
    own = counter(10_800, 250, "requests_finished", label="abort", started=1_200)
    other = counter(10_800, 400, "requests_finished", label="stop", started=OLD)
    write(engine, source_id, Batch(counters=(other, own)), at=after(10_800))
    assert (added(engine, "stop"), added(engine, "abort")) == (300, 250)
    [found] = [one for one in counted(engine, after(0), after(10_800)) if one.label == "abort"]
    assert found.covered_s == 9_600


def test_a_label_older_than_the_first_look_at_the_engine_adds_nothing(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, 0, stop=100)
    own = counter(30, 250, "requests_finished", label="abort", started=-50_000)
    write(engine, source_id, Batch(counters=(own,)), at=after(30))
    assert added(engine, "abort") == 0
