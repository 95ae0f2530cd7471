"""The what-if page run by Streamlit's own test driver: every start, every section, and whatever can go wrong."""

import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard import data
from dashboard.scenario import Request, Scenario
from dashboard.scenario_codec import from_link, to_link
from dashboard.views import what_if
from dashboard.views.what_if_answer import SECTIONS
from dashboard.what_if_plan import Answer
from planner.errors import PlanningCancelled
from planner.mig.plan import Mode
from store.database import open_engine, writing
from tests.dashboard.fleets import HOSTILE
from tests.dashboard.scenarios import empty, full, live
from tests.dashboard.test_views import html, words

SCRIPT = "from dashboard.views import what_if\nwhat_if.show()\n"


def shown(**query: str) -> AppTest:
    test = AppTest.from_string(SCRIPT, default_timeout=60)
    for name, value in query.items():
        test.query_params[name] = value
    return well(test.run())


def well(test: AppTest) -> AppTest:
    assert not test.exception, test.exception
    return test


def opened(scenario: Scenario) -> AppTest:
    link = to_link(scenario)
    assert link is not None
    return shown(scenario=link)


def click(test: AppTest, label: str) -> AppTest:
    (button,) = [one for one in test.button if one.label == label]
    return well(button.click().run())


def section(test: AppTest, name: str) -> AppTest:
    test.session_state["what-if-section"] = name
    return well(test.run())


def in_hand(test: AppTest) -> Scenario:
    found: Scenario = test.session_state["what-if-scenario"]
    return found


def told(test: AppTest) -> str:
    """The scenario in the address."""
    value = test.query_params["scenario"]
    return value if isinstance(value, str) else value[0]


def plan_words(test: AppTest) -> str:
    return words(html(test))


def test_the_live_fleet_is_planned_at_once(use_store: Callable[[str], str]) -> None:
    use_store("demo")
    test = click(shown(), "Start from the live fleet")
    text = plan_words(test)
    assert "Proven optimal" in text
    assert "GPUs used, of 40" in text
    assert "L40S cannot be cut" in text
    assert "No source tells where the instances" in text
    assert from_link(told(test)) == in_hand(test)
    assert in_hand(test).mode is Mode.RECONFIGURE


@pytest.mark.parametrize("kind", ["missing", "empty", "newer", "hostile", "demo"])
def test_an_empty_start_needs_no_fleet(use_store: Callable[[str], str], kind: str) -> None:
    use_store(kind)
    text = plan_words(click(shown(), "Start empty"))
    assert "of 14 not placed" in text
    assert "Proven optimal" in text


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_of_every_scenario_shows(use_store: Callable[[str], str], name: str) -> None:
    use_store("missing")
    for scenario in (live(), full(), empty(Request(profile="7g.40gb", count=9))):
        section(opened(scenario), name)


@pytest.mark.parametrize("name", SECTIONS)
def test_names_from_a_cluster_never_become_markup(use_store: Callable[[str], str], name: str) -> None:
    use_store("hostile")
    test = section(click(shown(), "Start from the live fleet"), name)
    page = html(test)
    for markup in ("<script", "<img", "<u>prod"):
        assert markup not in page
    labels = [button.label for button in test.button]
    assert not any(label in HOSTILE for label in labels)  # escaped, where a label is Markdown


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ("1.abc", "damaged"),
        ("<script>", "damaged"),
        ("2.AA", "version 2"),
        ("1." + "A" * 40_000, "more than a scenario"),
    ],
)
def test_a_broken_link_is_told_and_one_can_begin_anew(use_store: Callable[[str], str], link: str, why: str) -> None:
    use_store("demo")
    test = shown(scenario=link)
    assert "This link holds no scenario that can be opened" in plan_words(test)
    assert why in plan_words(test)
    assert "<script" not in html(test)
    test = click(test, "Start empty")
    assert "This link holds no scenario" not in plan_words(test)
    assert "Proven optimal" in plan_words(test)


def test_a_scenario_that_cannot_be_planned_says_what_is_wrong(use_store: Callable[[str], str]) -> None:
    use_store("missing")
    assert "This cannot be planned" in plan_words(opened(empty(Request(profile="9g.99gb", count=1))))


def test_everything_that_is_not_placed_is_listed_with_a_remedy(use_store: Callable[[str], str]) -> None:
    use_store("missing")
    text = plan_words(opened(empty(Request(profile="7g.40gb", count=3))))
    assert "Not everything can be placed" in text
    assert "It would fit if you add 1 × A100-40GB" in text


def test_a_typed_list_joins_the_requests_and_switches_to_a_mode_that_places_them(
    use_store: Callable[[str], str],
) -> None:
    use_store("missing")
    test = opened(live())
    typed = next(one for one in test.text_input if one.label == "Or type a list")
    typed.set_value("2 x 1g.5gb, 3g.20gb")
    test = click(test, "Add to the requests")
    assert [(one.profile, one.count) for one in in_hand(test).requests] == [("1g.5gb", 2), ("3g.20gb", 1)]
    assert in_hand(test).mode is Mode.ADD
    next(one for one in test.text_input if one.label == "Or type a list").set_value("1 x 1g.50gb")
    test = click(test, "Replace them")
    assert "No board of the scenario has a profile 1g.50gb" in plan_words(test)
    assert len(in_hand(test).requests) == 2


def test_mode_demand_and_rules_are_part_of_the_scenario(use_store: Callable[[str], str]) -> None:
    use_store("missing")
    test = opened(live())
    mode = next(one for one in test.segmented_control if one.label == "What may be done")
    mode.set_value(Mode.COMPACT)
    well(test.run())
    assert in_hand(test).mode is Mode.COMPACT
    most = next(one for one in test.number_input if one.label == "Most moves")
    well(most.set_value(0).run())
    assert in_hand(test).rules.max_moves == 0
    toggle = next(one for one in test.toggle if one.label.startswith("Survive"))
    well(toggle.set_value(True).run())
    assert in_hand(test).rules.survive_node_loss
    assert from_link(told(test)) == in_hand(test)


def test_an_illegal_layout_by_hand_is_refused_and_explained(use_store: Callable[[str], str]) -> None:
    use_store("missing")
    test = section(opened(empty(Request(profile="3g.20gb", count=2))), "By hand")
    test = click(test, "Empty")
    profile = next(one for one in test.selectbox if one.label == "Profile")
    start = next(one for one in test.selectbox if one.label == "Start")
    profile.set_value("3g.20gb")
    start.set_value(1)
    well(test.run())
    test = click(test, "Add it")
    assert "Refused. 3g.20gb cannot lie at 1:4 on A100-40GB" in plan_words(test)
    next(one for one in test.selectbox if one.label == "Start").set_value(4)
    well(test.run())
    test = click(test, "Add it")
    assert "Refused" not in plan_words(test)
    assert "✕ 3g.20gb at 4" in [button.label for button in test.button]
    test = click(test, "Plan from this layout")
    assert list(in_hand(test).by_hand) == ["node-1/0"]
    assert "set by hand on node-1/0" in plan_words(test)
    test = click(section(test, "By hand"), "Forget this layout")
    assert in_hand(test).by_hand == {}


def test_clicks_that_overtake_a_choice_act_on_the_choice(use_store: Callable[[str], str]) -> None:
    use_store("missing")
    test = click(section(opened(empty(Request(profile="3g.20gb", count=2))), "By hand"), "Empty")
    next(one for one in test.selectbox if one.label == "Profile").set_value("3g.20gb")
    next(one for one in test.selectbox if one.label == "Start").set_value(4)
    test = click(test, "Add it")
    assert "Refused" not in plan_words(test)
    assert "✕ 3g.20gb at 4" in [button.label for button in test.button]
    next(one for one in test.selectbox if one.label == "Start").set_value(0)
    test = click(click(test, "Add it"), "✕ 3g.20gb at 4")
    assert [button.label for button in test.button if "✕" in button.label] == ["✕ 3g.20gb at 0"]


def test_a_gpu_is_chosen_by_its_button(use_store: Callable[[str], str]) -> None:
    use_store("missing")
    test = click(opened(empty(Request(profile="3g.20gb", count=2))), "node\\-1/0")
    assert test.session_state["what-if-section"] == "By hand"
    assert "What is left" in plan_words(test)


@pytest.fixture
def own_store(use_store: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A demo store of one's own, which may be written."""
    copied = tmp_path / "own.db"
    source = Path(use_store("demo").removeprefix("sqlite:///"))
    for file in source.parent.glob(f"{source.name}*"):
        shutil.copy(file, copied.with_name(file.name.replace(source.name, copied.name)))
    monkeypatch.setenv("GPUFLEET_STORE_URL", f"sqlite:///{copied}")
    st.cache_resource.clear()
    return f"sqlite:///{copied}"


def save_as(test: AppTest, name: str) -> AppTest:
    next(one for one in test.text_input if one.label == "Name").set_value(name)
    return click(test, "Save in the store")


def test_a_scenario_is_saved_opened_and_deleted(own_store: str) -> None:
    test = save_as(opened(live()), "my plan")
    assert "Saved as “my plan”" in plan_words(test)
    assert in_hand(test).title == "my plan"
    other = shown()
    assert "my plan" in next(one for one in other.selectbox if one.label == "Saved scenario").options[0]
    other = click(other, "Open it")
    assert in_hand(other) == in_hand(test)
    other = click(other, "Delete it")
    assert "Deleted “my plan”" in plan_words(other)
    assert in_hand(other).title == "my plan"  # what is in hand stays


def test_a_saved_scenario_can_be_named_in_the_address(own_store: str) -> None:
    save_as(opened(live()), "my plan")
    assert in_hand(shown(saved="my plan")).fleet == live().fleet
    assert re.search("no scenario .*gone.* is saved", plan_words(shown(saved="gone")))


def test_a_taken_name_and_a_bad_one_are_told_and_the_scenario_stays(own_store: str) -> None:
    save_as(opened(live()), "taken")
    test = save_as(opened(empty()), "taken")
    assert "Not saved, your scenario is still here: a scenario" in plan_words(test)
    assert "is saved already" in plan_words(test)
    assert in_hand(test) == empty()
    assert "needs a name" in plan_words(save_as(test, "  "))


def test_a_store_that_cannot_be_written_keeps_the_scenario(own_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboard.store_writing._PATIENCE_MS", 50)
    engine = open_engine(own_store)
    test = opened(live())
    with writing(engine):
        test = save_as(test, "busy")
    engine.dispose()
    assert "Not saved, your scenario is still here" in plan_words(test)
    assert "try again" in plan_words(test)
    assert in_hand(test).fleet == live().fleet


def test_two_scenarios_are_compared(own_store: str) -> None:
    test = section(opened(live()), "Compare")
    assert "Put the present scenario aside" in plan_words(test)
    test = click(test, "Put this scenario aside as B")
    assert "≠" not in plan_words(test)
    most = next(one for one in test.number_input if one.label == "Most moves")
    test = well(most.set_value(0).run())
    text = plan_words(test)
    assert "≠ GPUs used" in text
    assert "≠ Rules" in text
    test = click(test, "Go on with B")
    assert in_hand(test).rules.max_moves is None


def test_b_of_the_address_is_opened_too_and_a_broken_one_is_told(use_store: Callable[[str], str]) -> None:
    use_store("missing")
    link = to_link(live())
    assert link is not None
    test = section(shown(scenario=link, b=link), "Compare")
    assert "what differs is marked" in plan_words(test)
    test = section(shown(scenario=link, b="1.nothing"), "Compare")
    assert "B of this address" in plan_words(test)


def test_measuring_again_keeps_what_was_changed(own_store: str) -> None:
    test = click(shown(), "Start from the live fleet")
    most = next(one for one in test.number_input if one.label == "Most moves")
    test = well(most.set_value(3).run())
    before = in_hand(test)
    test = click(test, "Measure again")
    after = in_hand(test)
    assert after.rules.max_moves == 3
    assert after.fleet is not None
    assert before.fleet is not None
    assert after.fleet.gpus == before.fleet.gpus


def test_starting_over_leads_back_to_the_start(use_store: Callable[[str], str]) -> None:
    use_store("demo")
    test = click(click(shown(), "Start empty"), "Start over")
    assert "The live fleet" in plan_words(test)
    assert "scenario" not in test.query_params


def test_a_long_plan_shows_how_long_it_takes_and_can_be_cancelled(
    use_store: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_store("missing")
    monkeypatch.setattr(what_if, "AT_ONCE_S", 0.1)
    stopped = threading.Event()

    def slow(scenario: Scenario, stopping: Callable[[], bool]) -> Answer:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if stopping():
                stopped.set()
                raise PlanningCancelled("stopped")
            time.sleep(0.01)
        raise AssertionError("nobody stopped it")

    monkeypatch.setattr(what_if, "answer", slow)
    test = opened(live())
    assert "Cancel" in [button.label for button in test.button]
    assert "The plan" not in plan_words(test)
    test = click(test, "Cancel")
    assert stopped.wait(20)
    assert "Planning was cancelled" in plan_words(test)
    monkeypatch.undo()
    use_store("missing")
    test = click(test, "Plan it after all")
    for _ in range(100):
        if "Proven optimal" in plan_words(test):
            break
        time.sleep(0.1)
        test.run()
    assert "Proven optimal" in plan_words(test)


def test_an_edit_while_a_plan_is_made_stops_that_plan(
    use_store: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_store("missing")
    monkeypatch.setattr(what_if, "AT_ONCE_S", 0.1)
    stopped = threading.Event()
    real = what_if.answer

    def slow_at_first(scenario: Scenario, stopping: Callable[[], bool]) -> Answer:
        if scenario.rules.max_moves == 0:
            return real(scenario, stopping)
        while not stopping():
            time.sleep(0.01)
        stopped.set()
        raise PlanningCancelled("stopped")

    monkeypatch.setattr(what_if, "answer", slow_at_first)
    test = opened(live())
    most = next(one for one in test.number_input if one.label == "Most moves")
    well(most.set_value(0).run())
    assert stopped.wait(20)


def test_answers_are_shared_between_visitors(use_store: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    use_store("missing")
    calls: list[Scenario] = []
    real = what_if.answer

    def counted(scenario: Scenario, stopping: Callable[[], bool]) -> Answer:
        calls.append(scenario)
        return real(scenario, stopping)

    monkeypatch.setattr(what_if, "answer", counted)
    for _ in range(3):
        opened(live()).run()
    assert len(calls) == 1


def test_the_snapshot_is_the_one_of_the_other_pages(use_store: Callable[[str], str]) -> None:
    engine = data.open_store(use_store("demo"))
    assert engine is not None
    test = click(shown(), "Start from the live fleet")
    fleet = in_hand(test).fleet
    assert fleet is not None
    assert len(fleet.gpus) + sum(len(left.gpus) for left in fleet.left_out) == 48
    engine.dispose()


def test_an_address_that_comes_late_does_not_undo_an_edit_and_going_back_does(
    use_store: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_store("missing")
    test = opened(live())
    before = told(test)
    most = next(one for one in test.number_input if one.label == "Most moves")
    test = well(most.set_value(0).run())
    after = told(test)
    assert before != after
    test.query_params["scenario"] = before  # the browser has not heard of the new address yet
    test = well(test.run())
    assert in_hand(test).rules.max_moves == 0
    assert told(test) == after
    monkeypatch.setattr("dashboard.views.what_if_state._LATE_S", 0.0)
    test.query_params["scenario"] = before
    test = well(test.run())
    assert in_hand(test).rules.max_moves is None
