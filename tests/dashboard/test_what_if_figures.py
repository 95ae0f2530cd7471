"""What the page says of a plan: the numbers, who moves, what differs; each against plans small enough to know."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from dashboard import what_if_figures as figures
from dashboard.scenario import Request, Scenario, ScenarioInvalid
from dashboard.what_if_differences import differences, rule_lines
from dashboard.what_if_drawing import LEAVES, MOVED, NEW, look_of, rows_of
from dashboard.what_if_exports import downloads
from dashboard.what_if_figures import Headline, gpu_changes, headline, moves, remedy_text, step_text
from dashboard.what_if_plan import Answer, answer, scenario_key, weight_of
from planner.errors import InvalidProblem
from planner.mig.fleet_problem import FleetDemand
from planner.mig.measured_fleet import measured_fleet
from planner.mig.plan import Action, Mode, Remedy
from planner.mig.problem import Reserve, Rules, Spread, Upsize
from tests.dashboard.fleets import fleet, gpu, instance, pod
from tests.dashboard.scenarios import FREE, empty, full, live


def planned(scenario: Scenario) -> Answer:
    return answer(scenario, lambda: False)


def numbers(found: Answer) -> Headline:
    return headline(found, gpu_changes(found))


def test_two_half_empty_gpus_become_one_with_one_move() -> None:
    found = planned(live())
    h = numbers(found)
    assert (h.gpus_before, h.gpus_after, h.gpus_bound, h.gpus_total) == (3, 2, 2, 3)  # one is held without MIG
    assert (h.moves, h.down, h.max_down, h.unplaced, h.placed) == (1, 0, 0, 0, 2)
    assert (h.status, h.is_proven, h.moves_are_least) == ("Proven optimal", True, True)
    (move,) = moves(found, gpu_changes(found))
    assert move.workload.startswith("llm/chat-")
    assert move.before is not None
    assert "3g.20gb at" in move.before
    assert "node-a/" in move.after
    assert not move.is_down


def test_gpus_that_change_come_first_and_held_ones_are_drawn_as_held() -> None:
    found = planned(live())
    changes = gpu_changes(found)
    assert [change.is_changed for change in changes] == [True, True, False]
    assert (changes[2].id, changes[2].whole, changes[2].is_used) == ("node-b/0", "research/llama-70b-0", True)
    rows = rows_of(changes, look_of(found.problem))
    held = rows[2]
    assert held.before is not None
    assert held.before.cells == held.after.cells
    assert held.after.cells[0].detail == "llama-70b-0"


def test_drawings_are_to_scale_and_say_who_comes_and_goes() -> None:
    found = planned(live())
    look = look_of(found.problem)
    assert set(look.tones.values()) == {look.legend["llm/chat"]}
    details = []
    for row in rows_of(gpu_changes(found), look):
        for drawing in (row.before, row.after):
            assert drawing is not None
            units = sorted(unit for cell in drawing.cells for unit in range(cell.start, cell.start + cell.size))
            assert units == list(range(drawing.units))
            details += [cell.detail for cell in drawing.cells]
        assert row.before is None or row.before.assumed == (row.title != "node-b/0")
    assert sum(text.startswith(f"{LEAVES} chat-") for text in details) == 1
    assert sum(text.startswith(f"{MOVED} chat-") for text in details) == 1


def test_gpus_that_look_alike_are_one_drawing_with_a_count() -> None:
    found = planned(empty(Request(profile="3g.20gb", count=20), nodes=2, gpus=8))
    rows = rows_of(gpu_changes(found), look_of(found.problem))
    assert [len(row.ids) for row in rows] == [10, 6]
    assert rows[0].after.count == 10
    assert [cell.detail for cell in rows[0].after.cells] == [f"{NEW} 3g.20gb"] * 2
    assert rows[0].is_changed
    assert not rows[1].is_changed


def test_added_gpus_as_many_as_needed_are_not_there_before() -> None:
    found = planned(replace(Scenario(requests=(Request(profile="3g.20gb", count=3),)), elastic_boards=("A100-40GB",)))
    h = numbers(found)
    assert (h.gpus_total, h.gpus_after, h.gpus_bound) == (0, 2, 2)
    assert all(row.before is None for row in rows_of(gpu_changes(found), look_of(found.problem)))


def test_what_is_not_placed_is_counted_with_its_reason_and_a_remedy() -> None:
    found = planned(empty(Request(profile="7g.40gb", count=3)))
    h = numbers(found)
    assert (h.unplaced, h.placed, h.status_tone) == (1, 2, "warn")
    assert found.target.unplaced[0].reason
    assert any("A100-40GB" in remedy_text(remedy) for remedy in found.target.remedies)


def test_remedies_are_sentences() -> None:
    assert remedy_text(Remedy(add_gpus={"A100-40GB": 2})) == "add 2 × A100-40GB"
    assert remedy_text(Remedy(drop_rules=("spread", "reserve"))) == "give up the rule spread and reserve"
    assert remedy_text(Remedy(drop_rules=("spread",), add_gpus={"A30-24GB": 1})).startswith("add 1 × A30-24GB; give up")
    assert remedy_text(Remedy()) == "no smaller change is known"


def test_a_reserve_is_drawn_and_counted() -> None:
    found = planned(
        replace(
            empty(Request(profile="3g.20gb", count=1)), rules=Rules(reserves=(Reserve(profile="2g.10gb", count=1),))
        )
    )
    assert numbers(found).reserved == 1
    cells = [c for row in rows_of(gpu_changes(found), look_of(found.problem)) for c in row.after.cells]
    assert [cell.tone for cell in cells if cell.title == "2g.10gb"] == ["reserve"]


def test_stranded_slices_are_counted_for_what_is_in_demand_and_drawn() -> None:
    found = planned(empty(Request(profile="4g.20gb", count=1), Request(profile="2g.10gb", count=1), gpus=1))
    h = numbers(found)
    assert h.stranded_after == 2  # beside 4 + 2 of 8 nothing of the two fits
    cells = [c for row in rows_of(gpu_changes(found), look_of(found.problem)) for c in row.after.cells]
    assert sum(cell.size for cell in cells if cell.tone == "stranded") == 2


def test_a_larger_profile_than_asked_for_is_marked() -> None:
    rules = Rules(upsizes=(Upsize(profile="1g.5gb", to=("7g.40gb",)),), untouchable_gpus=frozenset())
    scenario = replace(
        live(),
        fleet=measured_fleet(fleet(gpu(0, instances=(instance(1, "7g.40gb", start=0, pods=(pod("a-0"),)),)))),
        demand=FleetDemand.AS_MEASURED,
        rules=rules,
    )
    found = planned(scenario)
    h = numbers(found)
    assert (h.moves, h.upsized) == (0, int(found.problem.workloads[0].profile != "7g.40gb"))


def test_costs_before_and_after_are_at_the_given_prices() -> None:
    h = numbers(planned(replace(live(), prices={"A100-40GB": 2.0})))
    assert (h.cost_before, h.cost_after) == (6.0, 4.0)
    assert numbers(planned(live())).cost_after is None


def test_work_that_leaves_a_whole_gpu_is_told_as_such() -> None:
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
    scenario = replace(live(), fleet=measured_fleet(fleet(whole)), demand=FleetDemand.AS_MEASURED, mode=Mode.ADD)
    found = planned(scenario)
    (change,) = gpu_changes(found)
    assert (change.whole, change.was_whole, change.is_changed, change.was_used) == (None, "llm/tiny-0", True, True)
    (move,) = moves(found, (change,))
    assert move.before == "node-a/0 whole GPU"
    (row,) = rows_of((change,), look_of(found.problem))
    assert row.before is not None
    assert row.before.cells[0].detail == f"{LEAVES} tiny-0"
    assert numbers(found).gpus_before == 1


def test_moves_between_boards_are_a_caution() -> None:
    lonely = (instance(1, "1g.10gb", pods=(pod("a-0"),)), instance(2, "1g.10gb", state=FREE))
    both = measured_fleet(
        fleet(
            gpu(0, board="H100-80GB-SXM", instances=lonely),
            gpu(1, instances=(instance(1, "1g.10gb", pods=(pod("b-0"),)), instance(2, "2g.10gb", pods=(pod("c-0"),)))),
        )
    )
    found = planned(replace(live(), fleet=both, rules=Rules()))
    assert numbers(found).gpus_after == 1
    assert any("to A100-40GB" in caution or "to H100-80GB-SXM" in caution for caution in found.cautions)


def test_every_step_is_a_line() -> None:
    found = planned(replace(live(), mode=Mode.ADD, requests=(Request(profile="7g.40gb", count=1),)))
    lines = [step_text(step) for step in (*found.change.steps, *found.change.rollback)]
    assert all(lines)
    assert set(figures._ACTIONS) == set(Action)


def test_two_answers_are_compared_line_by_line() -> None:
    a = planned(live())
    b = planned(replace(live(), mode=Mode.COMPACT, prices={"A100-40GB": 1.0}, rules=Rules(max_moves=0)))
    lines = {line.name: line for line in differences(a, b)}
    assert lines["GPUs used"].is_different
    assert (lines["Mode"].a, lines["Mode"].b) == ("reconfigure", "compact")
    assert lines["Rules"].b == "at most 0 moves"
    assert not lines["Requests"].is_different
    assert not any(line.is_different for line in differences(a, a))


def test_every_rule_is_a_line_of_the_comparison() -> None:
    rules = replace(full().rules, survive_node_loss=True, spread={"*": Spread.NODE})
    text = "; ".join(rule_lines(replace(planned(live()), scenario=replace(full(), rules=rules))))
    for words in (
        "one profile on 1 node", "replicas apart: every service by node", "GPUs not shared by 1 tenant",
        "2 × 1g.10gb free", "room for the loss of any node", "1g.10gb may be 1g.20gb or 2g.20gb at 0.25",
        "untouched: 1 node, 1 GPU", "1 workload pinned", "at most 3 moves",
    ):  # fmt: skip
        assert words in text


def test_the_page_refuses_what_the_command_line_refuses() -> None:
    with pytest.raises(InvalidProblem, match=r"1g\.99gb"):
        planned(empty(Request(profile="1g.99gb", count=1)))
    with pytest.raises(ScenarioInvalid):
        planned(empty(nodes=100_000))


def test_a_title_changes_no_plan_and_everything_else_has_a_key_of_its_own() -> None:
    assert scenario_key(live()) == scenario_key(replace(live(), title="x"))
    changed = [
        empty(), replace(live(), mode=Mode.ADD), replace(live(), prices={"A100-40GB": 1.0}),
        replace(live(), demand=FleetDemand.AS_MEASURED), replace(live(), time_limit_s=10.0), full(),
    ]  # fmt: skip
    assert len({scenario_key(one) for one in (live(), *changed)}) == len(changed) + 1
    assert weight_of(empty(nodes=3, gpus=8)) == 24


@pytest.mark.parametrize("number", range(6))
def test_every_download_is_made_and_the_same_each_time(number: int) -> None:
    offered = downloads(planned(live()))
    assert len(offered) == 6
    make: Callable[[], str | bytes] = offered[number].make
    assert make()
    assert make() == make()
    assert offered[number].file_name == (
        "mig-parted.yaml", "mig-config.yaml", "label-nodes.sh", "nvidia-smi.zip", "plan.json", "problem.json",
    )[number]  # fmt: skip
