"""One scrape of `/metrics`: every trap of LiteLLM's labels and counters."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.errors import BadPayload
from collectors.litellm import scrape, series_memory
from collectors.litellm.metrics import ROWS
from collectors.litellm.scrape import CUT, NOBODY_ASKED, REMOVED
from collectors.litellm.series_memory import SeriesMemory
from planner.readings import Batch
from tests.collectors.litellm.lines import BEGAN_S, GATEWAY, NOW, counter, labels, process, understood, used, values


def test_tokens_money_and_requests_are_counted_per_model() -> None:
    batch = understood(process() + used(3, (30, 60), 0.5))
    assert values(batch) == {
        ("org/Model", "", "requests"): 3,
        ("org/Model", "", "input_tokens"): 30,
        ("org/Model", "", "output_tokens"): 60,
        ("org/Model", "", "total_tokens"): 90,
        ("org/Model", "", "cost_usd"): 0.5,
    }
    assert batch.gaps == ()
    one = batch.spend[0]
    assert (one.gateway, one.provider, one.observed_at) == (GATEWAY, "hosted_vllm", NOW)
    assert one.started_at == datetime.fromtimestamp(BEGAN_S, UTC)


def test_parts_of_a_dimension_add_up_to_the_total_and_nobody_is_an_owner_too() -> None:
    text = (
        used(3, dollars=0.5, team="t1", team_alias="search", api_key_alias="search-app")
        + used(2, dollars=0.25, team="t2", api_key_alias="None")
        + used(1, dollars=0.125, hashed_api_key="None")
    )
    batch = understood(text)
    assert values(batch)["org/Model", "", "requests"] == 6
    assert {owner: value for (_, owner, what), value in values(batch, "team").items() if what == "requests"} == {
        "search": 3,
        "t2": 2,  # a team without an alias is told by its id
        "": 1,
    }
    assert {owner: value for (_, owner, what), value in values(batch, "key").items() if what == "cost_usd"} == {
        "search-app": 0.5,
        "unnamed key 88dc28d0": 0.25,
        "": 0.125,
    }


def test_the_literal_none_is_absent() -> None:
    batch = understood(used(team="None", team_alias="None", api_key_alias="None", hashed_api_key="None"))
    assert {one.owner for one in batch.spend} == {""}


def test_the_master_key_is_called_so() -> None:
    batch = understood(used(hashed_api_key="litellm_proxy_master_key"))
    assert {one.owner for one in batch.spend if one.dimension == "key"} == {"master key"}


def test_people_are_not_named_unless_asked_for_and_the_sums_stay_whole() -> None:
    text = (
        used(3, api_key_alias="anna@example.com", user="anna@example.com", user_email="anna@example.com")
        + used(2, api_key_alias="bob@example.com", user="bob@example.com", client_ip="10.0.0.8")
        + used(1, api_key_alias="from 192.168.3.4", user="fe80::1")
    )
    batch = understood(text, dimensions=("key", "user"))
    told = repr(batch)
    for personal in ("anna", "bob", "example.com", "192.168", "10.0.0", "fe80", "curl"):
        assert personal not in told
    by_key = {owner: value for (_, owner, what), value in values(batch, "key").items() if what == "requests"}
    assert by_key == {"(an e-mail address)": 5, "(an IP address)": 1}
    kept = understood(text, dimensions=("key", "user"), keep_personal=True)
    assert {one.owner for one in kept.spend if one.dimension == "user"} == {
        "anna@example.com",
        "bob@example.com",
        "fe80::1",
    }


def test_a_refused_scrape_is_no_request_to_a_model() -> None:
    scraped = {"requested_model": "", "route": "/metrics/", "hashed_api_key": "", "api_provider": "None"}
    batch = understood(
        used(3)
        + counter("proxy_total_requests_metric", 7, **scraped)
        + counter("proxy_failed_requests_metric", 7, **scraped)
    )
    assert values(batch)["org/Model", "", "requests"] == 3
    assert not any(one.quantity == "failed_requests" for one in batch.spend)


def test_failed_requests_know_only_the_public_name_and_get_the_model_behind_it() -> None:
    batch = understood(used(3) + counter("proxy_failed_requests_metric", 2, exception_status="500"))
    assert values(batch)["org/Model", "", "failed_requests"] == 2


def test_a_public_name_for_two_models_stays_the_name_of_what_only_it_names() -> None:
    batch = understood(used(3, model="org/A") + used(4, model="org/B"))
    assert ("public", "", "requests") in values(batch)
    assert {model for model, _, what in values(batch) if what == "input_tokens"} == {"org/A", "org/B"}


def test_series_that_differ_in_what_is_not_kept_become_one_with_the_older_beginning() -> None:
    batch = understood(
        used(3, began_s=BEGAN_S + 60, user_agent="a") + used(4, began_s=BEGAN_S, user_agent="b", client_ip="10.0.0.9")
    )
    assert values(batch)["org/Model", "", "requests"] == 7
    assert {one.started_at for one in batch.spend} == {datetime.fromtimestamp(BEGAN_S, UTC)}


def test_with_several_workers_nothing_says_when_a_series_began() -> None:
    assert {one.started_at for one in understood(used(began_s=None)).spend} == {None}


def test_the_newest_name_wins_and_older_ones_are_read_where_they_stand_alone() -> None:
    both = used(3) + counter("requests_metric", 99, model="org/Model")
    assert values(understood(both))["org/Model", "", "requests"] == 3
    older = counter("input_tokens", 5, model="m")
    batch = understood(older + counter("requests_metric", 2, model="m"))
    assert values(batch) == {("m", "", "input_tokens"): 5, ("m", "", "requests"): 2}


def test_what_prometheus_metrics_config_leaves_out_is_a_gap() -> None:
    batch = understood(counter("proxy_total_requests_metric", 3))
    assert {gap.metric for gap in batch.gaps} == {"input_tokens", "output_tokens", "cost_usd"}
    assert all("prometheus_metrics_config" in gap.reason for gap in batch.gaps)


def test_a_gateway_that_nobody_asked_yet_says_so_and_is_no_error() -> None:
    batch = understood(process() + "litellm_in_flight_requests 0.0\n")
    assert [gap.reason for gap in batch.gaps] == [NOBODY_ASKED]
    assert batch.spend == ()


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1", "many"])
def test_what_is_no_count_is_left_out_and_said(value: str) -> None:
    line = f"litellm_spend_metric_total{labels(model='org/Model', user_agent='x')} {value}\n"
    batch = understood(used(3, dollars=0.5) + line)
    assert values(batch)["org/Model", "", "cost_usd"] == 0.5
    assert any("is no count" in gap.reason for gap in batch.gaps)


def test_one_bad_line_costs_itself() -> None:
    batch = understood(used(3) + "}{ neither this\n")
    assert values(batch)["org/Model", "", "requests"] == 3
    assert any("line not read" in gap.reason for gap in batch.gaps)


def test_an_answer_that_breaks_off_in_a_line_says_so() -> None:
    batch = understood(used(3) + "litellm_spend_metric_total{model=")
    assert any("middle of a line" in gap.reason for gap in batch.gaps)


@pytest.mark.parametrize("text", ["", "go_goroutines 7\n", "hello\nworld\n", "{}"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(BadPayload):
        understood(text)


def test_a_flood_of_series_is_cut_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "MAX_SERIES", 5)
    text = "".join(counter("requests_metric", 1, model=f"m{number}", began_s=None) for number in range(9))
    batch = understood(text, dimensions=())
    assert len(batch.spend) == 5
    assert any("9 series" in gap.reason for gap in batch.gaps)


def requests(batch: Batch) -> float:
    """The newest total of requests to org/Model."""
    return values(batch)["org/Model", "", "requests"]


class TestSeriesThatTheGatewayRemoves:
    """LiteLLM can drop series that nobody used for a while: the sum must not fall, or it would be counted again."""

    @pytest.mark.parametrize("head", [process(), ""], ids=["one worker", "several workers"])
    def test_what_they_had_counted_stays(self, head: str) -> None:
        memory = SeriesMemory()
        one, other = used(3, user_agent="a"), used(4, user_agent="b", began_s=BEGAN_S - 50)
        understood(head + one + other, memory=memory)
        batch = understood(head + one, memory=memory, minute=1)
        assert requests(batch) == 7
        assert {spent.started_at for spent in batch.spend} == {
            datetime.fromtimestamp(BEGAN_S if head else BEGAN_S - 50, UTC)
        }
        assert REMOVED in [gap.reason for gap in batch.gaps]

    def test_one_that_comes_back_counts_on(self) -> None:
        memory = SeriesMemory()
        for minute, text in enumerate((used(3, user_agent="a") + used(4, user_agent="b"), used(3, user_agent="a"))):
            understood(process() + text, memory=memory, minute=minute)
        text = used(5, user_agent="a") + used(2, user_agent="b", began_s=BEGAN_S + 9)
        assert requests(understood(process() + text, memory=memory, minute=2)) == 5 + 4 + 2

    def test_a_restarted_gateway_starts_from_nothing(self) -> None:
        memory = SeriesMemory()
        understood(process() + used(3, user_agent="a") + used(4, user_agent="b"), memory=memory)
        text = process(BEGAN_S + 500) + used(1, user_agent="a", began_s=BEGAN_S + 501)
        batch = understood(text, memory=memory, minute=1)
        assert requests(batch) == 1
        assert {spent.started_at for spent in batch.spend} == {datetime.fromtimestamp(BEGAN_S + 500, UTC)}

    def test_several_workers_that_start_anew_are_told_by_most_series_falling(self) -> None:
        memory = SeriesMemory()
        counts = [("a", 30), ("b", 40), ("c", 50)]
        before = "".join(used(count, (count, count), count, user_agent=agent) for agent, count in counts)
        understood(before, memory=memory)
        text = used(2, (2, 2), 0.2, user_agent="a") + used(1, (1, 1), 0.1, user_agent="b")
        assert requests(understood(text, memory=memory, minute=1)) == 3

    @pytest.mark.parametrize("head", [process(), ""], ids=["one worker", "several workers"])
    @pytest.mark.parametrize("value", ["NaN", "-1", "1e300"])
    def test_one_value_that_is_no_count_neither_falls_nor_counts_again(self, head: str, value: str) -> None:
        memory = SeriesMemory()
        understood(head + used(1000, user_agent="a") + used(500_000, user_agent="b"), memory=memory)
        broken = counter("proxy_total_requests_metric", 1, user_agent="a").replace(" 1\n", f" {value}\n", 1)
        assert value in broken
        batch = understood(head + broken + used(500_010, user_agent="b"), memory=memory, minute=1)
        assert requests(batch) == 501_010
        text = head + used(1010, user_agent="a") + used(500_020, user_agent="b")
        assert requests(understood(text, memory=memory, minute=2)) == 501_030

    def test_nothing_is_taken_from_a_cut_page_and_nothing_is_lost(self) -> None:
        memory = SeriesMemory()
        understood(used(1000, user_agent="a") + used(500_000, user_agent="b") + process(), memory=memory)
        page = used(1010, user_agent="a") + used(500_010, user_agent="b") + process()
        cut = understood(page[: page.index("500010") + 3], memory=memory, minute=1)
        assert (cut.spend, cut.counters, [gap.reason for gap in cut.gaps]) == ((), (), [CUT])
        assert requests(understood(page, memory=memory, minute=2)) == 501_020

    def test_a_page_with_an_unreadable_line_makes_nothing_new_of_what_is_old(self) -> None:
        memory = SeriesMemory()
        old = used(500_000, user_agent="b")
        understood(process() + used(1000, user_agent="a") + old.replace("{", "{{"), memory=memory)
        assert requests(understood(process() + used(1000, user_agent="a") + old, memory=memory, minute=1)) == 1000

    def test_what_is_new_while_gpufleet_runs_counts_from_the_page_before(self) -> None:
        memory = SeriesMemory()
        understood(process() + used(3), memory=memory)
        batch = understood(process() + used(3) + used(2, model="org/New", began_s=None), memory=memory, minute=1)
        assert [
            (one.observed_at, one.value)
            for one in batch.spend
            if (one.model, one.dimension, one.quantity) == ("org/New", "", "input_tokens")
        ] == [(NOW, 0), (NOW + timedelta(minutes=1), 30)]

    def test_a_second_model_behind_a_public_name_moves_no_old_failures(self) -> None:
        memory, failed = SeriesMemory(), counter("proxy_failed_requests_metric", 9)
        understood(process() + used(3) + failed, memory=memory)
        text = used(3) + used(1, model="org/Other") + failed.replace(" 9\n", " 11\n")
        told = values(understood(process() + text, memory=memory, minute=1))
        assert told["org/Model", "", "failed_requests"] == 9
        assert told["public", "", "failed_requests"] == 2

    def test_what_is_remembered_has_a_bound(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(series_memory, "MAX_ABSENT", 10)
        monkeypatch.setattr(series_memory, "MAX_SUMS", 8)
        memory = SeriesMemory()
        for minute in range(9):
            text = "".join(counter("requests_metric", 1, model="m", user_agent=f"{minute}-{n}") for n in range(20))
            batch = understood(process() + text, memory=memory, minute=minute, dimensions=())
            assert memory.remembered <= 20 + 10
        assert values(batch)["m", "", "requests"] == 9 * 20
        text = "".join(counter("requests_metric", 1, model=f"m{n}") for n in range(20))
        batch = understood(process() + text, memory=memory, minute=9, dimensions=())
        assert len({one.model for one in batch.spend}) == 8
        assert any("names of models and owners" in gap.reason for gap in batch.gaps)


def test_sums_of_absurd_values_are_not_infinite() -> None:
    text = used(3, dollars=1e308, user_agent="a") + used(3, dollars=1.2e308, user_agent="b") + used(1, user_agent="c")
    batch = understood(text)
    assert values(batch)["org/Model", "", "cost_usd"] == 0.5
    assert any("is no count" in gap.reason for gap in batch.gaps)


OLLAMA = {"api_provider": "ollama_chat", "requested_model": "house"}


class TestOllamaBehindTheGateway:
    """Ollama counts nothing itself: what the gateway counted for it is kept under its own address."""

    def _success(self, value: float, api_base: str) -> str:
        named = {"litellm_model_name": "llama3.1:8b", "model_group": "house", "api_base": api_base, **OLLAMA}
        return counter("deployment_success_responses", value, **named)

    def test_requests_and_tokens_go_to_the_one_server_of_a_model(self) -> None:
        batch = understood(
            used(3, (30, 60), model="llama3.1:8b", **OLLAMA) + self._success(3, "http://ollama.legal:11434")
        )
        told = {(str(one.subject), one.metric, one.label): one.value for one in batch.counters}
        assert told == {
            ("ollama.legal:11434 llama3.1:8b", "requests_finished", "stop"): 3,
            ("ollama.legal:11434 llama3.1:8b", "prompt_tokens", ""): 30,
            ("ollama.legal:11434 llama3.1:8b", "generation_tokens", ""): 60,
        }

    def test_tokens_of_two_servers_are_not_guessed_apart(self) -> None:
        batch = understood(
            used(3, model="llama3.1:8b", **OLLAMA)
            + self._success(1, "http://a:11434")
            + self._success(2, "http://b:1/api")
        )
        told = {(one.subject.endpoint, one.metric): one.value for one in batch.counters}
        assert told == {("a:11434", "requests_finished"): 1, ("b:1", "requests_finished"): 2}
        assert [gap.metric for gap in batch.gaps] == ["generation_tokens"]
        assert "2 Ollama servers" in batch.gaps[0].reason

    def test_a_server_that_is_not_named_is_a_gap(self) -> None:  # seen of LiteLLM 1.106.2 with mock_response
        batch = understood(used(3, model="llama3.1:8b", **OLLAMA) + self._success(3, ""))
        assert batch.counters == ()
        assert "does not say which" in batch.gaps[0].reason

    def test_engines_that_count_themselves_are_left_to_it(self) -> None:
        named = {"litellm_model_name": "org/Model", "api_base": "http://vllm:8000/v1"}
        assert understood(used(3) + counter("deployment_success_responses", 3, **named)).counters == ()


def test_every_row_says_where_it_was_read() -> None:
    assert all(row.source and row.source_name.startswith("litellm_") for row in ROWS)


@given(st.text(max_size=400))
def test_no_page_brings_it_down(text: str) -> None:
    try:
        batch = understood("litellm_x 1\n" + text)
    except BadPayload:
        return
    assert all(math.isfinite(one.value) and one.value >= 0 for one in batch.spend)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "None", "x@y.org", "10.1.2.3"]),
            st.sampled_from(["m1", "m2", "None"]),
            st.integers(min_value=0, max_value=10**9),
        ),
        min_size=1,
        max_size=20,
        unique_by=lambda one: (one[0], one[1]),
    )
)
def test_parts_always_add_up_to_the_total(series: list[tuple[str, str, int]]) -> None:
    text = "".join(
        counter("requests_metric", count, began_s=None, model=model, team_alias=team, requested_model="None")
        for team, model, count in series
    )
    batch = understood(text, dimensions=("team",))
    total = sum(one.value for one in batch.spend if one.dimension == "")
    assert total == sum(count for _, model, count in series if model != "None")
    assert sum(one.value for one in batch.spend if one.dimension == "team") == total
