"""The tables of a scenario: what they show is what they give back, and half-filled rows harm nothing."""

from dataclasses import replace

import pandas as pd
import pytest

from dashboard import scenario_tables as tables
from dashboard.scenario import Scenario
from dashboard.scenario_tables import rows_in
from planner.mig.problem import Rules
from tests.dashboard.scenarios import empty, full, live

REQUEST = ["Profile", "Count", "Service", "Tenant"]
EDITORS = (
    (tables.requests_frame, tables.with_requests),
    (tables.nodes_frame, tables.with_nodes),
    (tables.groups_frame, tables.with_groups),
    (tables.reserves_frame, tables.with_reserves),
    (tables.upsizes_frame, tables.with_upsizes),
    (tables.prices_frame, tables.with_prices),
)


@pytest.mark.parametrize("scenario", [Scenario(), empty(), live(), full()], ids=["blank", "empty", "live", "full"])
def test_tables_that_are_not_edited_change_nothing(scenario: Scenario) -> None:
    for frame_of, with_rows in EDITORS:
        assert with_rows(scenario, rows_in(frame_of(scenario))) == scenario


@pytest.mark.parametrize("everywhere", [empty(), live()])
def test_one_profile_on_every_node_stays_a_rule_for_every_node(everywhere: Scenario) -> None:
    scenario = replace(everywhere, rules=Rules(single_nodes=frozenset({"*"})))
    for frame_of, with_rows in EDITORS:
        assert with_rows(scenario, rows_in(frame_of(scenario))) == scenario


def test_half_filled_rows_are_passed_over_or_completed() -> None:
    frame = pd.DataFrame([[None, 3, None, None], ["1g.5gb", None, "  ", "blue"]], columns=REQUEST)
    (request,) = tables.with_requests(empty(), rows_in(frame)).requests
    assert (request.profile, request.count, request.service, request.tenant) == ("1g.5gb", 1, None, "blue")


def test_nodes_without_a_name_get_one_that_is_free() -> None:
    frame = pd.DataFrame(
        [["node", "A100-40GB", 1, 8, False], [None, "A30-24GB", None, None, None], [None, None, 4, 8, True]],
        columns=["Name", "Board", "Nodes", "GPUs each", "One profile"],
    )
    groups = tables.with_groups(Scenario(), rows_in(frame)).groups
    assert [(one.name, one.board, one.nodes, one.gpus_per_node) for one in groups] == [
        ("node", "A100-40GB", 1, 8),
        ("node2", "A30-24GB", 1, 8),
    ]


def test_one_profile_of_added_nodes_is_a_rule_for_each_of_them() -> None:
    scenario = empty(nodes=2)
    frame = tables.groups_frame(scenario)
    frame["One profile"] = True
    changed = tables.with_groups(scenario, rows_in(frame))
    assert changed.rules.single_nodes == {"node-1", "node-2"}
    frame["One profile"] = False
    assert tables.with_groups(changed, rows_in(frame)).rules.single_nodes == frozenset()


def test_choices_for_measured_nodes_become_rules() -> None:
    frame = tables.nodes_frame(live())
    assert list(frame["Node"]) == ["node-a", "node-b"]
    frame["Use"] = [True, False]
    frame["Untouched"] = [True, False]
    changed = tables.with_nodes(live(), rows_in(frame))
    assert changed.without_nodes == {"node-b"}
    assert changed.rules.untouchable_nodes == {"node-a"}


def test_a_price_of_nothing_is_none_and_missing_ones_are_named() -> None:
    scenario = replace(empty(), elastic_boards=("A30-24GB",))
    frame = tables.prices_frame(scenario)
    frame["USD per GPU and hour"] = [2.5, 0.0]
    priced = tables.with_prices(scenario, rows_in(frame))
    assert priced.prices == {"A100-40GB": 2.5}
    assert tables.prices_missing(priced) == ("A30-24GB",)
    assert tables.prices_missing(scenario) == ()


def test_counts_are_bounded() -> None:
    frame = pd.DataFrame([["1g.5gb", -5, None, None], ["1g.5gb", 10**12, None, None]], columns=REQUEST)
    assert [one.count for one in tables.with_requests(empty(), rows_in(frame)).requests] == [0, 100_000]
