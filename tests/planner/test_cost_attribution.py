"""Whose money is behind each device: by name, by tokens, by SMs, and the rest with its reason; the sum is the bill."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.attribution import attribute
from planner.cost_attribution import USE_QUANTITIES, CostAttribution, attribute_costs
from planner.join_facts import JoinFacts, ModelUse
from planner.links import Certainty, LinkReason
from planner.model_uses import adding_up
from planner.serving_readings import ServedModel, ServingEngine
from tests.planner.joins import LLAMA, device, facts, server, traffic, use
from tests.planner.test_attribution import clusters


def costs(told: JoinFacts) -> CostAttribution:
    return attribute_costs(told, attribute(told))


def test_money_of_a_team_goes_to_the_device_that_served_it() -> None:
    told = facts(
        device(0, "a"),
        servers=[server("e:1", traffic(tokens=100), pod="a")],
        uses=[use(f"hosted_vllm/{LLAMA}", "search", requests=10, cost=2.0)],
        dimension="team",
        told_by="gateway",
    )
    found = costs(told)
    [part] = found.parts
    assert (str(part.subject), part.endpoint, part.served_model, part.use.owner) == ("GPU-0", "e:1", LLAMA, "search")
    assert (part.quantity("cost_usd"), part.quantity("requests"), part.quantity("input_tokens")) == (2.0, 10, None)
    assert (part.certainty, part.splits) == (Certainty.LIKELY, ())
    [link] = found.links
    assert link.reason is LinkReason.WITHOUT_PROVIDER
    assert (found.told_by, found.dimension, found.unattributed) == ("gateway", "team", ())


def test_replicas_share_by_tokens_and_devices_by_sms_and_both_are_said() -> None:
    devices = (device(0, "a"), device(1, "b", sm=0.3), device(2, "b", sm=0.1))
    servers = [server("e:1", traffic(tokens=300), pod="a"), server("e:2", traffic(tokens=100), pod="b")]
    found = costs(facts(*devices, servers=servers, uses=[use(cost=8.0)]))
    assert {str(part.subject): part.quantity("cost_usd") for part in found.parts} == pytest.approx(
        {"GPU-0": 6.0, "GPU-1": 1.5, "GPU-2": 0.5}
    )
    assert {str(part.subject): part.splits for part in found.parts}["GPU-1"] == (
        "split over 2 servers by the tokens that each counted for it",
        "split over 2 devices by the SM activity of each, since no engine counts tokens by device",
    )


def test_an_engine_that_counts_nothing_has_all_of_what_it_alone_offers() -> None:
    ollama = [
        server(f"e:{number}", pod=pod, engine=ServingEngine.OLLAMA, models=["llama3:latest"])
        for number, pod in enumerate("ab")
    ]
    devices = (device(0, "a"), device(1, "b"))
    [part] = costs(facts(*devices, servers=ollama[:1], uses=[use("ollama/llama3", cost=1.0)])).parts
    assert part.quantity("cost_usd") == 1.0
    two = costs(facts(*devices, servers=ollama, uses=[use("ollama/llama3", cost=1.0)]))
    assert (two.parts, [one.reason for one in two.unattributed]) == (
        (),
        ["2 servers offer it, and not all of them count its tokens or its requests"],
    )


def test_requests_stand_in_where_tokens_are_not_counted() -> None:
    ollama = [
        server(
            f"e:{pod}", traffic("llama3", requests=requests), pod=pod, engine=ServingEngine.OLLAMA, models=["llama3"]
        )
        for pod, requests in (("a", 30.0), ("b", 10.0))
    ]
    found = costs(facts(device(0, "a"), device(1, "b"), servers=ollama, uses=[use("ollama/llama3", cost=4.0)]))
    assert {part.endpoint: part.quantity("cost_usd") for part in found.parts} == {"e:a": 3.0, "e:b": 1.0}
    assert found.parts[0].splits == ("split over 2 servers by the requests that each counted for it",)


def test_servers_that_all_counted_nothing_do_not_share() -> None:
    idle = [server(f"e:{pod}", traffic(tokens=0.0, requests=0.0), pod=pod) for pod in "ab"]
    found = costs(facts(device(0, "a"), device(1, "b"), servers=idle, uses=[use(cost=4.0)]))
    assert [one.reason for one in found.unattributed] == [
        "2 servers offer it, and none of them counted a token or a request of it"
    ]


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (use("gpt-4o", cost=1.0, provider="azure"), "azure served it, not this cluster"),
        (use("mystery", cost=1.0), "no server that is read offers it"),
    ],
)
def test_what_did_not_run_here_stays_with_its_reason(told: ModelUse, reason: str) -> None:
    found = costs(facts(device(0, "a"), servers=[server("e:1", traffic(tokens=1), pod="a")], uses=[told]))
    assert (found.parts, [one.reason for one in found.unattributed]) == ((), [reason])
    assert (found.attributed("cost_usd"), found.rest("cost_usd")) == (0, 1.0)


def test_a_name_that_may_be_two_models_is_neither() -> None:
    servers = [server("e:1", traffic("org/Llama", tokens=1), models=["org/Llama"], pod="a")]
    servers += [server("e:2", traffic("other/llama", tokens=1), models=["other/llama"], pod="b")]
    found = costs(facts(device(0, "a"), device(1, "b"), servers=servers, uses=[use("llama", cost=1.0)]))
    assert [one.reason for one in found.unattributed] == ["2 served models may be it: org/Llama, other/llama"]
    assert [one.subject for one in found.conflicts] == ["llama"]


def test_a_surer_name_is_taken_before_a_guess() -> None:
    servers = [server("e:1", traffic("llama", tokens=1), models=["llama"], pod="a")]
    servers += [server("e:2", traffic("other/llama", tokens=9), models=["other/llama"], pod="b")]
    found = costs(facts(device(0, "a"), device(1, "b"), servers=servers, uses=[use("llama", cost=1.0)]))
    assert [part.endpoint for part in found.parts] == ["e:1"]


def test_an_adapter_shares_by_all_tokens_of_its_engine() -> None:
    models = [LLAMA, ServedModel(name="team-adapter", parent=LLAMA)]
    servers = [
        server("e:1", traffic(tokens=300), pod="a", models=models),
        server("e:2", traffic(tokens=100), pod="b", models=models),
    ]
    found = costs(facts(device(0, "a"), device(1, "b"), servers=servers, uses=[use("team-adapter", cost=4.0)]))
    assert {part.endpoint: part.quantity("cost_usd") for part in found.parts} == {"e:1": 3.0, "e:2": 1.0}


def test_the_share_of_a_server_without_a_device_stays_with_its_reason() -> None:
    servers = [server("e:1", traffic(tokens=300), pod="a"), server("e:2", traffic(tokens=100), pod="nowhere")]
    found = costs(facts(device(0, "a"), servers=servers, uses=[use(cost=4.0)]))
    assert found.attributed("cost_usd") == pytest.approx(3.0)
    [left] = found.unattributed
    assert (left.share_ratio, left.reason) == (
        0.25,
        "e:2 served it, and no device is known to belong to its pod team/nowhere",
    )


def test_an_alias_of_the_configuration_is_certain() -> None:
    told = facts(
        device(0, "a"),
        servers=[server("e:1", traffic(tokens=1), pod="a")],
        uses=[use("fast", cost=1.0)],
        aliases={"fast": LLAMA},
    )
    [part] = costs(told).parts
    assert part.certainty is Certainty.CERTAIN


def test_an_alias_decides_before_prefixes_and_before_servers_of_the_same_name() -> None:
    told = facts(
        device(0, "a"),
        servers=[server("e:1", traffic(tokens=1), pod="a", models=[LLAMA, "chat"])],
        uses=[use("mistral/m", cost=1.0), use("chat", cost=2.0)],
        aliases={"mistral/m": LLAMA, "chat": "chat-70b"},  # nobody serves chat-70b now
    )
    found = costs(told)
    assert [(part.use.model, part.served_model, part.certainty) for part in found.parts] == [
        ("mistral/m", LLAMA, Certainty.CERTAIN)
    ]
    assert [(one.use.model, one.reason) for one in found.unattributed] == [("chat", "no server that is read offers it")]


def test_owners_and_what_nobody_owns_add_up_to_the_total() -> None:
    found = adding_up(
        totals=[use("m", requests=6, cost=1.0), use("m", requests=4, cost=1.0)],
        parts=[use("m", "a", requests=5, cost=0.5), use("m", "b", requests=3, cost=0.5), use("alone", "a", cost=9.0)],
    )
    assert {(one.model, one.owner): (one.requests, one.cost_usd) for one in found.uses} == {
        ("alone", "a"): (None, 9.0),
        ("m", "a"): (5, 0.5),
        ("m", "b"): (3, 0.5),
        ("m", ""): (2, 1.0),
    }
    assert found.overlapping == ()


def test_owners_that_overlap_leave_the_total_alone() -> None:
    # A request with two tags is counted for both.
    found = adding_up(totals=[use("m", requests=10)], parts=[use("m", "x", requests=8), use("m", "y", requests=7)])
    assert [(one.owner, one.requests) for one in found.uses] == [("", 10)]
    assert found.overlapping == ("m",)


@pytest.mark.parametrize("dimension", ["team", "key", "user", "environment"])
def test_owners_that_were_told_after_their_total_are_kept(dimension: str) -> None:
    # The total of the running day is asked first; requests come in before the teams are asked, one after the other.
    found = adding_up(
        totals=[use("m", requests=518_523, cost=2.43), use("n", requests=10)],
        parts=[use("m", "x", requests=518_600, cost=2.44), use("m", "y", requests=26), use("n", "x", requests=7)],
        dimension=dimension,
    )
    assert {(one.model, one.owner): (one.requests, one.cost_usd) for one in found.uses} == {
        ("m", "x"): (518_600, 2.44),
        ("m", "y"): (26, None),
        ("n", "x"): (7, None),
        ("n", ""): (3, None),
    }
    assert found.overlapping == ()


def test_tags_overlap_however_little() -> None:
    found = adding_up(totals=[use("m", requests=100)], parts=[use("m", "chat", requests=101)], dimension="tag")
    assert [one.owner for one in found.uses] == [""]


def test_rounding_is_no_overlap_and_leaves_no_rest() -> None:
    found = adding_up(totals=[use("m", cost=0.3)], parts=[use("m", "x", cost=0.1), use("m", "y", cost=0.2)])
    assert 0.1 + 0.2 > 0.3
    assert [one.owner for one in found.uses] == ["x", "y"]


def test_an_hour_without_a_price_leaves_a_cost_of_a_part_and_says_of_how_much() -> None:
    hours = [use("m", "x", requests=100), use("m", "x", requests=60, cost=5.0), use("m", "x", requests=40)]
    for told in (hours, hours[::-1]):
        [found] = adding_up([], told).uses
        assert (found.requests, found.cost_usd, found.unpriced_requests) == (200, 5.0, 140)
    assert [one.unpriced_requests for one in adding_up([], hours[:1] * 2).uses] == [None]  # no cost at all
    assert [one.unpriced_requests for one in adding_up([], hours[1:2] * 2).uses] == [None]  # every hour has its cost
    # What no owner has of the total: 60 requests, of which 10 have no price.
    totals = [use("m", requests=150), use("m", requests=110, cost=9.0)]
    rest = next(one for one in adding_up(totals, hours, "team").uses if not one.owner)
    assert (rest.requests, rest.cost_usd, rest.unpriced_requests) == (60, 4.0, 10)


USES = st.lists(
    st.builds(
        use,
        st.sampled_from([LLAMA, f"openai/{LLAMA}", "other", "Llama-3.1-8B-Instruct", "gpt-4o", "azure/gpt-4o"]),
        st.sampled_from(["", "search", "legal"]),
        requests=st.none() | st.floats(0, 1e6),
        cost=st.none() | st.floats(0, 1e4),
        provider=st.sampled_from(["", "azure", "openai"]),
    ),
    max_size=6,
)


@given(told=clusters(), uses=USES)
def test_parts_and_rest_add_up_to_the_bill(told: JoinFacts, uses: list[ModelUse]) -> None:
    whole = JoinFacts(
        start=told.start,
        end=told.end,
        devices=told.devices,
        servers=told.servers,
        pods=told.pods,
        nodes=told.nodes,
        uses=tuple(uses),
    )
    found = costs(whole)
    for quantity in USE_QUANTITIES:
        billed = sum(value for one in uses if (value := getattr(one, quantity)) is not None)
        assert found.attributed(quantity) + found.rest(quantity) == pytest.approx(billed)


@given(totals=USES, parts=USES)
def test_uses_that_add_up_are_the_totals(totals: list[ModelUse], parts: list[ModelUse]) -> None:
    totals = [use(one.model, requests=one.requests, cost=one.cost_usd) for one in totals]
    parts = [use(one.model, one.owner or "x", requests=one.requests, cost=one.cost_usd) for one in parts]
    found = adding_up(totals, parts)
    for model in {one.model for one in totals}:
        for quantity in ("requests", "cost_usd"):
            told = [value for one in totals if one.model == model and (value := getattr(one, quantity)) is not None]
            if told:
                kept = [getattr(one, quantity) or 0.0 for one in found.uses if one.model == model]
                assert sum(kept) == pytest.approx(sum(told), rel=1e-5)
