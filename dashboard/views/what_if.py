"""What-if MIG planner: a scenario from the live fleet or from nothing, its plan at once, and all to take away."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import streamlit as st

from dashboard import saved_scenarios
from dashboard.html_parts import what_if_part
from dashboard.planning_jobs import Job, JobState, PlanningJobs
from dashboard.scenario import Scenario, ScenarioInvalid, empty_scenario, live_scenario
from dashboard.scenario_codec import LINK_LIMIT, to_link
from dashboard.views import frame, what_if_answer, what_if_inputs, what_if_state
from dashboard.what_if_plan import Answer, answer, scenario_key, weight_of
from planner.fleet import Fleet
from planner.mig.measured_fleet import MeasuredFleet, measured_fleet
from store.errors import StoreError
from store.location import store_url

AT_ONCE_S = 1.0
"""So long the page waits for a plan before it shows that it is being made."""

_POLL_S = 0.5
_NEED_WINDOW = frame.WINDOWS["24 h"]  # as the MIG advice measures need
_LOOK_WINDOW = frame.WINDOWS["1 h"]
_CANCELLED = "what-if-cancelled"  # key of the plan that this visitor does not want
_WAITING_FOR = "what-if-waiting-for"


def show() -> None:
    """Works without a store too: an empty scenario needs none."""
    st.title("What-if MIG planner", anchor=False)
    frame.live(_banner)
    message = what_if_state.said()
    if message is not None:
        st.html(what_if_part("message", text=message[0], is_bad=message[1]))
    try:
        scenario = what_if_state.current() or _saved_in_address()
    except (ScenarioInvalid, StoreError) as error:
        st.html(what_if_part("broken_link", reason=str(error)))
        scenario = None
    if scenario is None:
        _start()
        return
    _bar(scenario)
    edited = what_if_inputs.edited(scenario)
    if edited != scenario:
        what_if_state.keep(edited)
    if edited.is_blank:
        st.html(what_if_part("nothing_to_plan"))
        return
    _plan(edited)


def _banner() -> None:
    frame.banner()


@st.cache_resource(show_spinner=False)
def jobs() -> PlanningJobs[Answer]:
    """Plans of all visitors of this process."""
    return PlanningJobs()


def ask(scenario: Scenario) -> Job[Answer]:
    """The plan of the scenario, begun now if nobody asked for it before."""
    return jobs().ask(
        scenario_key(scenario), what_if_state.session(), partial(answer, scenario), weight=weight_of(scenario)
    )


def _saved_in_address() -> Scenario | None:
    name = st.query_params.get(what_if_state.SAVED_PARAMETER)
    if not name:
        return None
    scenario = saved_scenarios.load(frame.engine(), name)
    what_if_state.adopt(scenario)
    return scenario


def _start() -> None:
    fleet = _fleet()
    with st.container(key="stacked-start"):
        live, empty, saved = st.columns(3, gap="small")
        with live, st.container(border=True, key=_measured_key("start", fleet), height="stretch"):
            _start_live(fleet)
        with empty, st.container(border=True, height="stretch"):
            st.html(what_if_part("start_empty"))
            if st.button("Start empty", width="stretch"):
                what_if_state.adopt(empty_scenario())
                st.rerun()
        with saved, st.container(border=True, height="stretch"):
            st.html(what_if_part("start_saved"))
            _load("start")


def _measured_key(name: str, fleet: Fleet | None) -> str:
    return frame.measured_key(name) if fleet is not None else name


def _fleet() -> Fleet | None:
    """The newest snapshot; None where the store cannot be read, which the banner explains, or has no GPU yet."""
    try:
        fleet = frame.fleet(_LOOK_WINDOW)
    except StoreError:
        frame.wait_for_store()
        return None
    if any(True for _ in fleet.gpus()):
        return fleet
    frame.wait_for_gpus()
    return None


def _start_live(fleet: Fleet | None) -> None:
    clusters = sorted({node.cluster for node in fleet.nodes}) if fleet else []
    if fleet is None:
        st.html(what_if_part("start_live", figures=None, now=frame.now()))
        st.button("Start from the live fleet", type="primary", width="stretch", disabled=True)
        return
    cluster = clusters[0]
    if len(clusters) > 1:
        cluster = st.selectbox("Cluster", clusters, key="what-if-cluster")
    st.html(what_if_part("start_live", figures=_look(fleet, cluster), now=frame.now()))
    if st.button("Start from the live fleet", type="primary", width="stretch"):
        what_if_state.adopt(live_scenario(_measured(cluster)))
        st.rerun()


def _look(fleet: Fleet, cluster: str) -> MeasuredFleet:
    return measured_fleet(fleet, cluster=cluster)


def _measured(cluster: str | None) -> MeasuredFleet:
    return measured_fleet(frame.fleet(_NEED_WINDOW), cluster=cluster)


def _bar(scenario: Scenario) -> None:
    """Where the scenario comes from, and what can be done with it as a whole."""
    left, right = st.columns([3, 2], vertical_alignment="center", gap="small")
    left.html(what_if_part("origin", scenario=scenario, now=frame.now()))
    with right, st.container(horizontal=True, horizontal_alignment="right", gap="small"):
        if scenario.fleet is not None and st.button(
            "Measure again", help="The same changes on the fleet as it is now."
        ):
            _measure_again(scenario)
        with st.popover("Save"):
            _save(scenario)
        with st.popover("Open"):
            _load("bar")
        with st.popover("Share"):
            _share(scenario)
        if st.button("Start over"):
            what_if_state.forget()
            st.rerun()


def _measure_again(scenario: Scenario) -> None:
    try:
        measured = _measured(scenario.fleet.cluster if scenario.fleet else None)
    except StoreError as error:
        what_if_state.say(str(error), is_bad=True)
    else:
        what_if_state.adopt(replace(scenario, fleet=measured))
    st.rerun()


def _save(scenario: Scenario) -> None:
    name = st.text_input("Name", value=scenario.title, max_chars=80, key=what_if_state.key("save-name", scenario.title))
    again = st.toggle("Replace the one of that name", value=bool(scenario.title), key=what_if_state.key("replace"))
    if not st.button("Save in the store", type="primary", width="stretch"):
        return
    try:
        saved = saved_scenarios.save(_url(), name, scenario, frame.now(), overwrite=again)
    except StoreError as error:
        what_if_state.say(f"Not saved, your scenario is still here: {error}.", is_bad=True)
    else:
        what_if_state.with_title(saved.title)
        what_if_state.say(f"Saved as “{saved.title}”.")
    st.rerun()


def _load(place: str) -> None:
    try:
        known = saved_scenarios.listed(frame.engine())
    except StoreError:
        st.html(what_if_part("no_saved", is_readable=False))
        return
    if not known:
        st.html(what_if_part("no_saved", is_readable=True))
        return
    when = {one.name: f"{one.saved_at:%Y-%m-%d %H:%M} UTC" for one in known}
    name = st.selectbox(
        "Saved scenario", list(when), format_func=lambda one: f"{one} · {when[one]}", key=f"what-if-{place}-saved"
    )
    with st.container(horizontal=True, gap="small"):
        is_wanted = st.button("Open it", key=f"what-if-{place}-open", type="primary")
        is_unwanted = st.button("Delete it", key=f"what-if-{place}-delete")
    try:
        if is_wanted:
            what_if_state.adopt(saved_scenarios.load(frame.engine(), name))
        elif is_unwanted:
            saved_scenarios.delete(_url(), name)
            what_if_state.say(f"Deleted “{name}”.")
        else:
            return
    except (StoreError, ScenarioInvalid) as error:
        what_if_state.say(str(error), is_bad=True)
    st.rerun()


def _url() -> str:
    return store_url(os.environ, Path.cwd())


def _share(scenario: Scenario) -> None:
    link = to_link(scenario)
    if link is None:
        st.html(what_if_part("too_long", limit=LINK_LIMIT, title=scenario.title))
        return
    base = (st.context.url or "what_if").partition("?")[0]
    st.html(what_if_part("share", length=len(link)))
    st.code(f"{base}?{what_if_state.SCENARIO_PARAMETER}={link}", language=None, wrap_lines=False)


def _plan(scenario: Scenario) -> None:
    key = scenario_key(scenario)
    former = st.session_state.get(_WAITING_FOR)
    if former is not None and former != key:
        jobs().leave(former, what_if_state.session())
    if st.session_state.get(_CANCELLED) == key:
        st.html(what_if_part("cancelled"))
        if st.button("Plan it after all", type="primary"):
            del st.session_state[_CANCELLED]
            st.rerun()
        return
    job = ask(scenario)
    st.session_state[_WAITING_FOR] = key
    if not job.wait(what_if_state.session(), AT_ONCE_S):
        _progress(scenario, job)
        return
    if job.state is JobState.CANCELLED:
        st.html(what_if_part("cancelled"))
        if st.button("Plan it after all", type="primary"):
            st.rerun()
    elif job.answer is None:
        st.html(what_if_part("no_plan", lines=job.problem.splitlines()))
    else:
        what_if_answer.show(job.answer, ask)


def _progress(scenario: Scenario, job: Job[Answer]) -> None:
    def look() -> None:
        if job.wait(what_if_state.session(), 0):
            st.rerun()
        elapsed = job.elapsed_s()
        words = (
            "waits for its turn"
            if job.state is JobState.QUEUED
            else f"{elapsed:.0f} s of {scenario.time_limit_s:.0f} s"
        )
        st.progress(min(1.0, elapsed / scenario.time_limit_s), text=f"Planning: {words}")
        if st.button("Cancel", key="what-if-cancel"):
            job.leave(what_if_state.session())
            st.session_state[_CANCELLED] = scenario_key(scenario)
            st.rerun()

    with st.container(border=True):
        st.fragment(look, run_every=_POLL_S)()
