"""Two scenarios side by side: A is the one in hand, B a copy that was put aside or a saved one."""

from collections.abc import Callable

import streamlit as st

from dashboard import saved_scenarios
from dashboard.html_parts import what_if_part
from dashboard.planning_jobs import Job
from dashboard.scenario import Scenario, ScenarioInvalid
from dashboard.scenario_codec import from_link, to_link
from dashboard.views import frame, what_if_state
from dashboard.what_if_differences import differences
from dashboard.what_if_drawing import look_of, rows_of
from dashboard.what_if_figures import gpu_changes
from dashboard.what_if_plan import Answer
from store.errors import StoreError

B_PARAMETER = "b"
DRAWINGS = 10
AT_ONCE_S = 5.0

_ASIDE = "what-if-b"


def show(answer: Answer, ask: Callable[[Scenario], Job[Answer]]) -> None:
    """Choose B, then see what differs."""
    other = _choose(answer.scenario)
    if other is None:
        st.html(
            what_if_part(
                "muted",
                text="Put the present scenario aside as B, change what you like above, and see both here; or choose a "
                "saved one as B.",
            )
        )
        return
    job = ask(other)
    if not job.wait(what_if_state.session(), AT_ONCE_S):
        st.html(what_if_part("muted", text="Scenario B is still being planned."))

        def look() -> None:
            if job.wait(what_if_state.session(), 0):
                st.rerun()

        st.fragment(look, run_every=1.0)()
        return
    if job.answer is None:
        st.html(what_if_part("no_plan", lines=job.problem.splitlines() or ["Planning B was cancelled."]))
        return
    _both(answer, job.answer)


def _choose(scenario: Scenario) -> Scenario | None:
    aside = _aside()
    try:
        saved = [one.name for one in saved_scenarios.listed(frame.engine())]
    except StoreError:
        saved = []
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        if st.button("Put this scenario aside as B"):
            st.session_state[_ASIDE] = aside = scenario
            link = to_link(scenario)
            if link is not None:
                st.query_params[B_PARAMETER] = link
        options = ["the one put aside"] * (aside is not None) + saved
        name = None
        if options:
            name = st.selectbox("B is", options, key=f"what-if-b-{len(options)}-{aside is not None}", width=280)
        if aside is not None and st.button("Go on with B", help="B becomes the scenario in hand."):
            what_if_state.adopt(aside)
            st.rerun()
    if name is None:
        return None
    if aside is not None and name == options[0]:
        return aside
    try:
        return saved_scenarios.load(frame.engine(), name)
    except (StoreError, ScenarioInvalid) as error:
        st.html(what_if_part("message", text=str(error), is_bad=True))
        return None


def _aside() -> Scenario | None:
    found: Scenario | None = st.session_state.get(_ASIDE)
    told = st.query_params.get(B_PARAMETER)
    if found is None and told is not None:
        try:
            found = from_link(told)
        except ScenarioInvalid as error:
            st.html(what_if_part("message", text=f"B of this address: {error}", is_bad=True))
        else:
            st.session_state[_ASIDE] = found
    return found


def _both(a: Answer, b: Answer) -> None:
    st.html(what_if_part("differences", rows=differences(a, b), a=a.scenario.title, b=b.scenario.title))
    look = look_of(a.problem, b.problem)
    for column, name, answer in zip(st.columns(2, gap="medium"), "AB", (a, b), strict=True):
        rows = rows_of(gpu_changes(answer), look)
        used = [row for row in rows if row.after.cells]
        with column:
            st.html(
                what_if_part(
                    "compared",
                    name=name,
                    title=answer.scenario.title,
                    items=[row.after for row in used[:DRAWINGS]],
                    more=sum(len(row.ids) for row in used[DRAWINGS:]),
                )
            )
