"""A scenario and its address: what is put in comes out, and what somebody tampered with is refused in words."""

import base64
import contextlib
import json
import random
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import scenario_codec
from dashboard.scenario import (
    NodeGroup,
    Request,
    Scenario,
    ScenarioInvalid,
    boards_of,
    empty_scenario,
    plannable_boards,
    problem_of,
    profiles_of,
)
from dashboard.scenario_codec import from_json, from_link, to_json, to_link
from planner.hardware import PlacedInstance, Placement
from planner.mig.fleet_problem import FleetDemand
from planner.mig.measured_fleet import measured_fleet
from planner.mig.plan import Mode
from planner.mig.problem import Rules, Spread, Upsize
from tests.dashboard.fleets import fleet, gpu, pod
from tests.dashboard.scenarios import empty, full, live


def packed(text: str | bytes) -> str:
    raw = text.encode() if isinstance(text, str) else text
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packer.compress(raw) + packer.flush()
    return f"1.{base64.urlsafe_b64encode(data).decode().rstrip('=')}"


def link_of(scenario: Scenario) -> str:
    link = to_link(scenario)
    assert link is not None
    return link


@pytest.mark.parametrize(
    "scenario", [Scenario(), empty_scenario(), live(), full()], ids=["blank", "empty", "live", "full"]
)
def test_a_scenario_comes_out_of_its_address_as_it_went_in(scenario: Scenario) -> None:
    assert from_link(link_of(scenario)) == scenario
    assert from_json(to_json(scenario)) == scenario


def test_equal_scenarios_have_one_address() -> None:
    assert link_of(full()) == link_of(from_link(link_of(full())))
    assert set(link_of(full())) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    requests=st.lists(
        st.builds(
            lambda p, c, s, t: Request(profile=p, count=c, service=s, tenant=t),
            names,
            st.integers(0, 50),
            st.none() | names,
            st.none() | names,
        ),
        max_size=4,
    ),
    title=names,
    pinned=st.frozensets(names, max_size=3),
    mode=st.sampled_from(Mode),
)
def test_any_names_survive_the_address(requests: list[Request], title: str, pinned: frozenset[str], mode: Mode) -> None:
    scenario = Scenario(title=title, mode=mode, requests=tuple(requests), pinned=pinned)
    assert from_link(link_of(scenario)) == scenario


@given(
    text=st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: f"1.{base64.urlsafe_b64encode(raw).decode()}")
)
def test_no_address_breaks_anything(text: str) -> None:
    with pytest.raises(ScenarioInvalid):
        from_link(text)


def test_a_cut_off_or_altered_address_is_refused() -> None:
    link = link_of(full())
    chance = random.Random(1)
    for _ in range(100):
        end = chance.randrange(len(link))
        with pytest.raises(ScenarioInvalid):
            from_link(link[:end])
    for _ in range(200):
        at = chance.randrange(2, len(link))
        with contextlib.suppress(ScenarioInvalid):  # and nothing else
            from_link(link[:at] + chance.choice("AZaz09-_!") + link[at + 1 :])


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ("", "damaged"),
        ("1.", "damaged"),
        ("1.====", "damaged"),
        ("2.AAAA", "version 2"),
        ("99999.AAAA", "damaged"),
        ("x" * 40_000, "more than a scenario may"),
        (packed("not json"), "damaged"),
        (packed("[1]"), "not one that gpufleet wrote"),
        (packed("{}"), "version"),
        (packed('{"version":2}'), "newer gpufleet"),
        (packed('{"version":1,"colour":"red"}'), "colour"),
        (packed('{"version":1,"mode":"fast"}'), "damaged"),
        (packed('{"version":1,"groups":[["n","H100-80GB-SXM",-1,8]]}'), "groups.0.2"),
        (packed('{"version":1,"groups":[["n","H100-80GB-SXM",1e9,8]]}'), "groups.0.2"),
        (packed('{"version":1,"groups":[["n","H1000",1,8]]}'), "no board 'H1000'"),
        (packed('{"version":1,"prices":{"H100-80GB-SXM":1e999}}'), "prices"),
        (packed('{"version":1,"time_limit_s":1e6}'), "time_limit_s"),
        (packed('{"version":1,"requests":[["1g.10gb",3,"' + "s" * 500 + '",null]]}'), "requests.0.2"),
        (packed('{"version":1,"by_hand":' + "[" * 100_000 + "]" * 100_000 + "}"), "damaged"),
        (packed(b"\xff\xfe"), "damaged"),
        (packed(b" " * (5 * 1024 * 1024)), "more than a scenario may"),
    ],
)
def test_what_is_wrong_with_an_address_is_told(link: str, why: str) -> None:
    with pytest.raises(ScenarioInvalid, match=why):
        from_link(link)


def test_a_small_address_that_unpacks_to_much_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = packed(b"\0" * (200 * 1024 * 1024))
    monkeypatch.setattr(scenario_codec, "LINK_LIMIT", len(bomb))
    with pytest.raises(ScenarioInvalid, match="more than a scenario may"):
        from_link(bomb)


@pytest.mark.parametrize(
    "change",
    [
        {"gpus": [{"id": "a", "node": "n", "board": 7}]},
        {"gpus": [{"id": "a", "node": "n", "board": 0, "whole": 9}]},
        {"work": [{"id": "w", "profile": "3g.20gb"}]},  # held by nothing
        {"work": [{"id": "w"}, {"id": "w"}]},
        {"at": "yesterday"},
        {"at": "2026-11-22T12:00:00"},  # of no time zone
        {"boards": [["H1000", None]]},
    ],
)
def test_a_measured_fleet_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    fleet = {"at": "2026-11-22T12:00:00+00:00", "boards": [["A100-40GB", None]], "gpus": [], "work": []} | change
    with pytest.raises(ScenarioInvalid):
        from_json(json.dumps({"version": 1, "fleet": fleet}))


def test_a_scenario_too_long_for_an_address_has_none_and_can_still_be_text() -> None:
    chance = random.Random(2)
    pinned = frozenset(f"{chance.getrandbits(128):032x}" for _ in range(3_000))
    assert to_link(Scenario(pinned=pinned)) is None
    assert from_json(to_json(Scenario(pinned=pinned))).pinned == pinned


def test_the_problem_has_the_measured_fleet_the_added_nodes_and_the_requests() -> None:
    problem = problem_of(full()).problem
    assert [gpu.id for gpu in problem.gpus] == [
        "node-a/0", "node-a/1", *(f"new-{n}/{i}" for n in (1, 2) for i in range(4)),
    ]  # fmt: skip
    assert [(w.id, w.profile, w.service, w.tenant) for w in problem.new] == [
        *((f"embed #{n}", "1g.10gb", "embed", "search") for n in range(1, 6)),
        ("3g.40gb #1", "3g.40gb", None, None),
    ]
    assert problem.elastic is not None
    assert problem.elastic.gpus_per_node == 4
    assert [w.pinned for w in problem.workloads if w.id == "llm/chat-0"] == [True]
    assert problem.prices == full().prices
    assert problem.rules.max_moves == 3
    assert problem.rules.untouchable_nodes == frozenset()  # node-x is not there


def test_upsizes_of_the_scenario_and_of_the_measured_demand_are_one_rule_per_profile() -> None:
    scenario = replace(
        live(),
        demand=FleetDemand.AS_MEASURED,
        rules=Rules(upsizes=(Upsize(profile="1g.5gb", to=("2g.10gb",), price=0.5),)),
    )
    rules = problem_of(scenario).problem.rules.upsizes
    assert len({rule.profile for rule in rules}) == len(rules)
    mine = next(rule for rule in rules if rule.profile == "1g.5gb")
    assert mine.price == 0.5
    assert "2g.10gb" in mine.to


def test_a_layout_by_hand_replaces_the_measured_one_and_keeps_who_still_fits() -> None:
    small = (PlacedInstance("1g.5gb", Placement(0, 1)),)
    same = (PlacedInstance("3g.20gb", Placement(4, 4)),)
    found = problem_of(replace(live(), by_hand={"node-a/0": same, "node-a/1": small}))
    first, second = found.problem.gpus[:2]
    assert [(i.profile, i.start, i.workloads) for i in first.instances] == [("3g.20gb", 4, ("llm/chat-0",))]
    assert [(i.profile, i.start, i.workloads) for i in second.instances] == [("1g.5gb", 0, ())]
    assert any("by hand on node-a/0, node-a/1" in caution for caution in found.cautions)


@pytest.mark.parametrize(
    ("scenario", "why"),
    [
        (empty(nodes=100_000), "added GPUs are more than"),
        (empty(Request(profile="1g.5gb", count=60_000)), "requests are more than"),
        (empty(Request(profile="1g.5gb", count=-1)), "is no count"),
        (empty(board="L40S"), "cannot be cut"),
        (replace(empty(), elastic_boards=("L40S",)), "cannot be cut"),
        (empty(nodes=-1), "count of nodes"),
        (replace(empty(), groups=empty().groups * 2), "there twice"),
    ],
)
def test_what_cannot_be_a_problem_is_told(scenario: Scenario, why: str) -> None:
    with pytest.raises(ScenarioInvalid, match=why):
        problem_of(scenario)


def test_requests_never_take_the_name_of_something_that_runs() -> None:
    scenario = replace(live(), requests=(Request(profile="1g.5gb", count=2, service="llm/chat-0"),))
    problem = problem_of(scenario).problem
    everything = [workload.id for workload in (*problem.workloads, *problem.new)]
    assert len(set(everything)) == len(everything)


def test_profiles_come_from_the_boards_smallest_first() -> None:
    assert boards_of(Scenario()) == ()
    names = profiles_of(empty(board="A100-40GB"))
    assert names[0] == "1g.5gb"
    assert names[-1] == "7g.40gb"
    assert "A30-24GB" in {board.name for board in plannable_boards()}
    assert "L40S" not in {board.name for board in plannable_boards()}


def test_blank_is_what_has_no_gpu() -> None:
    assert Scenario().is_blank
    assert not Scenario(elastic_boards=("H100-80GB-SXM",)).is_blank
    assert not Scenario(groups=(NodeGroup(name="n", board="H100-80GB-SXM", nodes=1, gpus_per_node=8),)).is_blank


def test_prices_count_once_every_board_has_one() -> None:
    half = problem_of(replace(full(), prices={"H100-80GB-SXM": 3.0}))
    assert half.problem.prices == {}
    assert any("until every board has one" in caution for caution in half.cautions)
    more = problem_of(replace(empty(), prices={"A100-40GB": 1.0, "H200-141GB": 4.0}))
    assert more.problem.prices == {"A100-40GB": 1.0}


def test_rules_about_what_is_not_there_are_passed_over_and_named() -> None:
    rules = Rules(
        single_nodes=frozenset({"gone-1", "node-1"}), untouchable_gpus=frozenset({"gone-1/0"}),
        spread={"lost": Spread.GPU, "*": Spread.GPU}, isolated_tenants=frozenset({"left"}),
    )  # fmt: skip
    found = problem_of(replace(empty(), rules=rules))
    assert found.problem.rules == Rules(single_nodes=frozenset({"node-1"}), spread={"*": Spread.GPU})
    assert any("gone-1, gone-1/0, left, lost" in caution for caution in found.cautions)


def test_measured_work_that_would_be_placed_anew_keeps_what_it_has_where_nothing_waiting_is_placed() -> None:
    whole = gpu(
        0,
        pods=(pod("tiny-0"),),
        values={
            "sm_active_ratio": 0.02,
            "gr_engine_active_ratio": 0.02,
            "memory_used_bytes": 2e9,
            "memory_total_bytes": 4.2e10,
        },
    )
    scenario = replace(live(), fleet=measured_fleet(fleet(whole)), demand=FleetDemand.AS_MEASURED)
    kept = problem_of(scenario)
    assert kept.problem.gpus[0].occupied_whole
    assert any("keeps what it has" in caution for caution in kept.cautions)
    assert not problem_of(replace(scenario, mode=Mode.ADD)).problem.gpus[0].occupied_whole
