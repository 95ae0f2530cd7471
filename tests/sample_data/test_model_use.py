"""Who uses the simulated models: the callers of a model are its engine's count, to the request and the token."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sample_data.cluster import simulated_cluster
from sample_data.model_use import CALLERS, added, caller_of, callers, price_nano, use_between
from sample_data.request_shapes import FinishReason
from sample_data.serving_state import ServingPod, requests_between, serving_pods, work_between

CLUSTER = simulated_cluster(6)
PLACES = serving_pods(CLUSTER)
ONE_OF_EACH = list({place.deployment.name: place for place in PLACES}.values())
MONDAY = datetime(2026, 11, 16, 9, 0, tzinfo=UTC)
MOMENTS = st.integers(min_value=0, max_value=14 * 86_400_000).map(lambda ms: MONDAY + timedelta(milliseconds=ms))


@given(st.sampled_from(PLACES), MOMENTS, MOMENTS)
def test_the_callers_of_a_server_add_up_to_what_it_did(place: ServingPod, one: datetime, other: datetime) -> None:
    since, until = sorted((one, other))
    work = work_between(place, since, until)
    use = added(use_between(place, since, until, caller.index) for caller in callers(place.deployment))
    assert use.requests == work.requests
    assert use.failed == work.requests_by_reason[FinishReason.ERROR]
    assert (use.prompt_tokens, use.cached_tokens, use.generation_tokens) == (
        work.prompt_tokens,
        work.prompt_tokens_cached,
        work.generation_tokens,
    )


@given(st.sampled_from(PLACES), MOMENTS, MOMENTS, MOMENTS, st.integers(min_value=0, max_value=CALLERS - 1))
def test_spans_that_lie_end_to_end_add_up(
    place: ServingPod, one: datetime, two: datetime, three: datetime, caller: int
) -> None:
    first, middle, last = sorted((one, two, three))
    parts = (use_between(place, first, middle, caller), use_between(place, middle, last, caller))
    assert added(iter(parts)) == use_between(place, first, last, caller)


@pytest.mark.parametrize("place", ONE_OF_EACH, ids=lambda place: str(place.deployment.name))
def test_single_requests_belong_to_the_caller_who_is_counted(place: ServingPod) -> None:
    until = MONDAY + timedelta(minutes=1)
    counted = [use_between(place, MONDAY, until, index).requests for index in range(CALLERS)]
    single = [0] * CALLERS
    for request in requests_between(place, MONDAY, until):
        single[caller_of(place.deployment, request.shape)] += 1
    assert single == counted


def test_nothing_was_used_before_the_server_started() -> None:
    place = ONE_OF_EACH[0]
    assert use_between(place, place.started_at - timedelta(days=9), place.started_at, 0).requests == 0
    assert use_between(place, MONDAY, MONDAY - timedelta(hours=1), 0).requests == 0  # nor in a span that ends before


def test_prices_are_whole_and_so_are_costs() -> None:
    for place in ONE_OF_EACH:
        price_in, price_out = price_nano(place.deployment)
        assert price_in % 2 == 0  # tokens out of the cache cost half
        use = use_between(place, MONDAY, MONDAY + timedelta(hours=1), 2)
        fresh = use.prompt_tokens - use.cached_tokens
        assert 2 * use.cost_nano(place.deployment) == (
            2 * fresh * price_in + use.cached_tokens * price_in + 2 * use.generation_tokens * price_out
        )


def test_callers_differ_in_what_sources_are_asked_to_tell_apart() -> None:
    for place in ONE_OF_EACH:
        known = callers(place.deployment)
        assert [caller.index for caller in known] == list(range(CALLERS))
        assert {caller.environment for caller in known} == {"production", "staging"}
        assert len({caller.user for caller in known}) == 5
        assert len({caller.key_hash for caller in known}) == 3
        assert {tag for caller in known for tag in caller.tags} == {"chat", "rag", "agent"}
        assert [caller.index for caller in known if caller.trace_delay] == [5]
