"""Use and cost: told again it replaces, complete spans remove, counters become hours, and nothing is added up twice."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from planner.readings import Batch
from planner.token_usage import UsageSpan
from store.database import reading
from store.token_usage import HOUR_MS
from store.usage_queries import Account, accounts, spend_by_hour, token_usage
from store.writes import register_source
from tests.store.batches import NOW, after, everything, rows, source_of_new_cluster, write
from tests.store.serving_batches import MODEL, spend, usage

HOUR = 3600.0


def tell(engine: Engine, source_id: int, *told: object, at: float = 0, spans: tuple[UsageSpan, ...] = ()) -> None:
    write(engine, source_id, Batch(usage=tuple(told), usage_spans=spans), at=after(at))  # type: ignore[arg-type]


def span(first: int, last: int, dimension: str = "") -> UsageSpan:
    return UsageSpan(start=after(3600 * first), end=after(3600 * last), dimension=dimension)


def test_usage_comes_back_as_it_was_told(engine: Engine, source_id: int) -> None:
    told = usage(
        0,
        dimension="team",
        owner="search",
        provider="openai",
        requests=3,
        input_tokens=100,
        output_tokens=50,
        total_tokens=160,
        cost_usd=0.25,
        usage_details={"input": 100.0, "cache_read_input_tokens": 10.0},
        cost_details={"input": 0.1},
    )
    tell(engine, source_id, told, at=HOUR)
    [found] = token_usage(engine, NOW, after(HOUR))
    assert (found.usage, found.source, found.told_at) == (told, "dcgm", after(HOUR))


def test_what_a_source_does_not_say_stays_unknown(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, usage(0, requests=2))
    [found] = token_usage(engine, NOW, after(HOUR))
    assert (found.usage.requests, found.usage.input_tokens, found.usage.cost_usd) == (2, None, None)


def test_the_same_span_told_again_replaces(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, usage(0, requests=3, cost_usd=1.0), at=60)
    tell(engine, source_id, usage(0, requests=5), at=HOUR)
    [row] = rows(engine, "token_usage")
    assert (row["requests"], row["cost_usd"], row["told_at"]) == (5, None, after(HOUR))


def test_what_a_complete_span_does_not_list_any_more_goes(engine: Engine, source_id: int) -> None:
    other = register_source(engine, cluster="default", name="other", kind="litellm", interval_s=30, now=NOW)
    teams = [usage(0, dimension="team", owner=one, requests=1) for one in ("a", "b")]
    tell(engine, source_id, usage(-1, requests=1), usage(0, requests=2), usage(1, requests=3), *teams)
    tell(engine, other, usage(0, requests=9))
    tell(engine, source_id, usage(1, requests=4), at=60, spans=(span(0, 2),))
    found = [
        (one.source, one.usage.start, one.usage.owner) for one in token_usage(engine, after(-HOUR), after(2 * HOUR))
    ]
    assert found == [
        ("dcgm", after(-HOUR), ""),
        ("dcgm", NOW, "a"),
        ("dcgm", NOW, "b"),
        ("dcgm", after(HOUR), ""),
        ("other", NOW, ""),
    ]
    tell(engine, source_id, at=120, spans=(span(0, 1, "team"),))
    assert len(token_usage(engine, NOW, after(HOUR))) == 1


def test_writing_usage_twice_changes_nothing(engine: Engine, source_id: int) -> None:
    told = Batch(
        usage=(usage(0, requests=1), usage(0, dimension="team", owner="a", requests=1)),
        usage_spans=(span(0, 1), span(0, 1, "team")),
        spend=(spend(0, 1.0, started=-60), spend(0, 10.0, "requests", started=-60)),
    )
    write(engine, source_id, told, at=after(HOUR))
    before = everything(engine)
    write(engine, source_id, told, at=after(HOUR))
    assert everything(engine) == before


def hours(engine: Engine, quantity: str = "cost_usd") -> dict[float, float]:
    found = spend_by_hour(engine, after(-100 * HOUR), after(100 * HOUR))
    return {(one.hour - NOW).total_seconds() / HOUR: one.quantities[quantity] for one in found}


def test_counters_of_gateways_become_hours(engine: Engine, source_id: int) -> None:
    assert NOW.timestamp() % HOUR == 0
    for at, value in ((0, 100.0), (1800, 103.0), (3600, 104.0), (5400, 104.0), (9000, 112.0)):
        write(engine, source_id, Batch(spend=(spend(at, value),)), at=after(at))
    # 8 dollars from 5400 to 9000: half of that hour lies in each.
    assert hours(engine) == {0: 4.0, 1: 4.0, 2: 4.0}


def test_a_gateway_that_starts_again_counts_from_its_start(engine: Engine, source_id: int) -> None:
    for at, value, started in ((0, 100.0, -9000), (60, 101.0, -9000), (7200, 5.0, 3700)):
        write(engine, source_id, Batch(spend=(spend(at, value, started=started),)), at=after(at))
    assert hours(engine) == {0: 1.0, 1: 5.0}
    [series] = rows(engine, "spend_series")
    assert (series["resets"], series["value"]) == (1, 5.0)


def test_an_hour_holds_all_quantities_of_an_owner(engine: Engine, source_id: int) -> None:
    for at in (0.0, 60.0):
        told = (spend(at, at), spend(at, 2 * at, "requests"), spend(at, 3 * at, owner="legal"))
        write(engine, source_id, Batch(spend=told), at=after(at))
    found = spend_by_hour(engine, NOW, after(HOUR))
    assert [(one.owner, one.quantities, one.until) for one in found] == [
        ("legal", {"cost_usd": 180.0}, after(60)),
        ("search", {"cost_usd": 60.0, "requests": 120.0}, after(60)),
    ]


@given(
    steps=st.lists(st.tuples(st.integers(1, 20_000), st.floats(0, 100), st.booleans()), min_size=1, max_size=10),
    repeats=st.integers(0, 2),
)
@settings(max_examples=40, deadline=None)
def test_hours_add_up_to_what_was_spent(
    shared_engine: Engine, steps: list[tuple[int, float, bool]], repeats: int
) -> None:
    source_id, cluster = source_of_new_cluster(shared_engine)
    at, value, started, truth = 0, 0.0, 0, 0.0
    write(shared_engine, source_id, Batch(spend=(spend(0, 0.0, started=0),)))
    for seconds, dollars, is_restarted in steps:
        if is_restarted:
            at += 2
            value, started = 0.0, at
        at, value, truth = at + seconds, value + dollars, truth + dollars
        for _ in range(repeats + 1):
            write(shared_engine, source_id, Batch(spend=(spend(at, value, started=started),)), at=after(at))
    found = spend_by_hour(shared_engine, after(-HOUR), after(400_000), cluster=cluster)
    assert sum(one.quantities["cost_usd"] for one in found) == pytest.approx(truth)
    assert all(one.hour.timestamp() * 1000 % HOUR_MS == 0 for one in found)
    assert all(one.until - one.hour <= timedelta(hours=1) for one in found)


def account(engine: Engine, start: float, end: float, dimension: str = "team") -> tuple[Account, ...]:
    with reading(engine) as connection:
        return accounts(connection, after(start), after(end), cluster="default", dimension=dimension)


def test_an_account_counts_the_part_of_a_span_that_lies_in_the_window(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, usage(-2, requests=10, hours=2), usage(0, requests=6, cost_usd=2.0), at=1800)
    [found] = account(engine, -HOUR, 1800)
    # Half of the two hours before; the hour that is running was told up to the half of it.
    assert [(use.requests, use.cost_usd) for use in found.totals] == [(5.0, None), (6.0, 2.0)]
    [less] = account(engine, -HOUR, 900)
    assert [use.requests for use in less.totals] == [5.0, 3.0]


def test_the_best_account_comes_first_and_sources_are_never_mixed(engine: Engine, source_id: int) -> None:
    gateway = register_source(engine, cluster="default", name="gateway", kind="litellm", interval_s=30, now=NOW)
    tell(engine, source_id, usage(0, requests=900, cost_usd=9.0), at=HOUR)
    told = usage(0, requests=10, cost_usd=0.5), usage(0, dimension="team", owner="search", requests=10, cost_usd=0.5)
    tell(engine, gateway, *told, at=HOUR)
    for at in (0.0, HOUR):
        write(engine, gateway, Batch(spend=(spend(at, at),)), at=after(HOUR + at))
    found = account(engine, 0, HOUR)
    assert [(one.told_by, one.dimension) for one in found] == [
        ("gateway", "team"),
        ("counters of litellm:4000", "team"),
        ("dcgm", ""),
    ]
    assert [use.owner for use in found[0].parts] == ["search"]
    assert [use.model for use in found[2].totals] == [MODEL]


def test_a_source_that_fell_silent_comes_after_one_that_is_heard(engine: Engine, source_id: int) -> None:
    gateway = register_source(engine, cluster="default", name="gateway", kind="litellm", interval_s=60, now=NOW)
    # It knows owners, and told the first ten minutes of the hour; the other one tells all of it.
    tell(engine, gateway, usage(0, dimension="team", owner="search", requests=100, cost_usd=1.0), at=600)
    tell(engine, source_id, usage(0, requests=600, cost_usd=6.0), at=HOUR)
    assert [one.told_by for one in account(engine, 0, HOUR)] == ["dcgm", "gateway"]
    # Heard again, though it has nothing more to tell: that is all there was.
    write(engine, gateway, Batch(), at=after(HOUR - 120))
    assert [one.told_by for one in account(engine, 0, HOUR)] == ["gateway", "dcgm"]


def test_a_source_that_is_asked_seldom_is_not_silent_in_between(engine: Engine, source_id: int) -> None:
    seldom = register_source(engine, cluster="default", name="gateway", kind="litellm", interval_s=1800, now=NOW)
    tell(engine, seldom, usage(0, dimension="team", owner="search", requests=100, cost_usd=1.0), at=900)
    tell(engine, source_id, usage(0, requests=600, cost_usd=6.0), at=HOUR)
    assert [one.told_by for one in account(engine, 0, HOUR)] == ["gateway", "dcgm"]


def test_a_source_that_knows_other_owners_only_is_taken_by_those(engine: Engine, source_id: int) -> None:
    tell(engine, source_id, usage(0, dimension="user", owner="u1", requests=10), at=HOUR)
    [found] = account(engine, 0, HOUR)
    assert (found.dimension, [use.owner for use in found.parts]) == ("user", ["u1"])


def tell_days(engine: Engine) -> int:
    """A gateway that tells its use by day, of all and of one team: 24 requests in the day from NOW on."""
    gateway = register_source(engine, cluster="default", name="gateway", kind="litellm", interval_s=30, now=NOW)
    told = [
        usage(0, hours=24, requests=24, cost_usd=2.4),
        usage(0, hours=24, dimension="team", owner="search", requests=24, cost_usd=2.4),
    ]
    tell(engine, gateway, *told, at=24 * HOUR)
    return gateway


def tell_counters(engine: Engine, gateway: int, *at_and_value: tuple[float, float]) -> None:
    for at, value in at_and_value:
        counted = (spend(at, value, "requests"), spend(at, value / 10))
        write(engine, gateway, Batch(spend=counted), at=after(at))


def test_a_day_that_the_window_cuts_is_said_to_be_spread(engine: Engine, source_id: int) -> None:
    tell_days(engine)
    [cut] = account(engine, 5 * HOUR, 6 * HOUR)
    assert [use.requests for use in cut.parts] == [1.0]
    assert cut.spread == "it tells spans of 24 h, of which this window has its share of time, as if use were even"
    [whole] = account(engine, 0, 24 * HOUR)
    assert ([use.requests for use in whole.parts], whole.spread) == ([24.0], None)


def test_counters_that_were_read_all_through_the_window_come_before_cut_days(engine: Engine, source_id: int) -> None:
    gateway = tell_days(engine)
    # 2 requests before the window, 7 in the hour that is asked for.
    tell_counters(engine, gateway, (2 * HOUR, 10.0), (5 * HOUR, 12.0), (6 * HOUR, 19.0))
    first, second = account(engine, 5 * HOUR, 6 * HOUR)
    assert (first.told_by, first.spread, second.told_by) == ("counters of litellm:4000", None, "gateway")
    assert [(use.owner, use.requests, use.cost_usd) for use in first.parts] == [("search", 7.0, pytest.approx(0.7))]
    assert account(engine, 0, 24 * HOUR)[0].told_by == "gateway"  # which tells this window whole


@pytest.mark.parametrize(
    "read",
    [
        ((5.5 * HOUR, 1.0), (6 * HOUR, 9.0)),  # since the middle of the window
        ((2 * HOUR, 1.0), (5 * HOUR, 5.0), (5.5 * HOUR, 9.0)),  # up to its middle
    ],
)
def test_counters_that_were_read_for_a_part_of_the_window_stay_behind(
    engine: Engine, source_id: int, read: tuple[tuple[float, float], ...]
) -> None:
    tell_counters(engine, tell_days(engine), *read)
    assert [one.told_by for one in account(engine, 5 * HOUR, 6 * HOUR)] == ["gateway", "counters of litellm:4000"]


def test_counters_and_days_of_several_gateways_are_not_taken_for_one(engine: Engine, source_id: int) -> None:
    gateway = tell_days(engine)
    tell_counters(engine, gateway, (2 * HOUR, 1.0), (5 * HOUR, 5.0), (6 * HOUR, 9.0))
    other = tuple(spend(at, at, gateway="other:4000") for at in (5 * HOUR, 6 * HOUR))
    write(engine, gateway, Batch(spend=other), at=after(6 * HOUR))
    assert account(engine, 5 * HOUR, 6 * HOUR)[0].told_by == "gateway"


def test_a_day_of_which_a_half_is_told_again_by_the_hour_counts_once(engine: Engine, source_id: int) -> None:
    day = usage(-12, hours=24, requests=240, cost_usd=24.0, usage_details={"input": 48.0})
    tell(engine, source_id, day, at=12 * HOUR, spans=(span(-12, 12),))
    hours = [usage(hour, requests=11) for hour in range(12)]
    for _ in range(2):
        tell(engine, source_id, *hours, at=13 * HOUR, spans=(span(0, 12),))
        found = [one.usage for one in token_usage(engine, after(-12 * HOUR), after(12 * HOUR))]
        assert sum(one.requests or 0 for one in found) == 120 + 12 * 11
        assert (found[0].start, found[0].end, found[0].cost_usd) == (after(-12 * HOUR), NOW, 12.0)
        assert found[0].usage_details == {"input": 24.0}


def test_an_hour_in_the_middle_of_a_day_leaves_both_ends(engine: Engine, source_id: int) -> None:
    # told after 18 hours: what is left counts over these
    tell(engine, source_id, usage(0, hours=24, requests=180), at=18 * HOUR, spans=(span(0, 24),))
    tell(engine, source_id, at=18 * HOUR, spans=(span(6, 7),))
    found = [(one.usage.end, one.usage.requests) for one in token_usage(engine, NOW, after(24 * HOUR))]
    assert found == [(after(6 * HOUR), 60), (after(24 * HOUR), 110)]


@pytest.mark.parametrize("started", [3000.0, None])
def test_a_counter_that_begins_in_mid_hour_counts_from_there(
    engine: Engine, source_id: int, started: float | None
) -> None:
    for at, value in ((3000.0, 0.0), (3540.0, 90.0)):
        write(engine, source_id, Batch(spend=(spend(at, value, "requests", started=started),)), at=after(at))
    with reading(engine) as connection:
        [found] = accounts(connection, after(2700), after(3600), cluster="default", dimension="team")
    assert [one.requests for one in found.parts] == [90.0]
    [hour] = spend_by_hour(engine, NOW, after(HOUR))
    assert (hour.since, hour.until) == (after(3000), after(3540))
