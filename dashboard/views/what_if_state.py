"""What one visitor of the what-if page has in hand: the scenario, its address, and which editors belong to it."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal
from uuid import uuid4

import pandas as pd
import streamlit as st

from dashboard.formatting import ABSENT
from dashboard.scenario import Scenario
from dashboard.scenario_codec import from_link, to_link
from dashboard.scenario_tables import Row, rows_in

SCENARIO_PARAMETER = "scenario"
SAVED_PARAMETER = "saved"

_SCENARIO = "what-if-scenario"
_LINK = "what-if-link"  # the address when scenario and address last agreed
_FORMER = "what-if-former-links"  # addresses that were written before that one, and when it was written
_GENERATION = "what-if-generation"  # counts scenarios that came from outside the editors: those are built anew then
_LATE_S = 3.0
_REMEMBERED = 8

_SESSION = "what-if-session"
_MESSAGE = "what-if-message"


def session() -> str:
    """Name of this visitor, for plans that are waited for."""
    return str(st.session_state.setdefault(_SESSION, uuid4().hex))


def current() -> Scenario | None:
    """The scenario of the address where that is new, else the one in hand; raises ScenarioInvalid for a broken one."""
    told = st.query_params.get(SCENARIO_PARAMETER)
    link = st.session_state.get(_LINK)
    if told is not None and told != link and not _is_late(told):
        adopt(from_link(told))
        st.session_state[_LINK] = told
    found: Scenario | None = st.session_state.get(_SCENARIO)
    link = st.session_state.get(_LINK)
    if told != link and found is not None and link is not None:  # back from another page, or a late browser
        st.query_params[SCENARIO_PARAMETER] = link
    return found


def _is_late(told: str) -> bool:
    """Whether the browser tells an address that was replaced a moment ago: it had not heard of the new one yet.

    Some time later the same address means that somebody went back to it.
    """
    former, written_at = st.session_state.get(_FORMER, ((), 0.0))
    return told in former and time.monotonic() - written_at < _LATE_S


def adopt(scenario: Scenario) -> None:
    """A scenario from outside the editors: started, loaded, opened by a link, changed by a button."""
    st.session_state[_SCENARIO] = scenario
    st.session_state[_GENERATION] = generation() + 1
    write_address(scenario)


def keep(scenario: Scenario) -> None:
    """The scenario as its editors leave it."""
    st.session_state[_SCENARIO] = scenario
    write_address(scenario)


def write_address(scenario: Scenario) -> None:
    """Put the scenario into the address of the page, where it is short enough for one."""
    link, before = to_link(scenario), st.session_state.get(_LINK)
    if link != before:
        former, _ = st.session_state.get(_FORMER, ((), 0.0))
        st.session_state[_FORMER] = ((*former, before)[-_REMEMBERED:], time.monotonic())
    st.session_state[_LINK] = link
    if link is None:
        st.query_params.pop(SCENARIO_PARAMETER, None)
        if scenario.title:
            st.query_params[SAVED_PARAMETER] = scenario.title
        return
    st.query_params.pop(SAVED_PARAMETER, None)
    if st.query_params.get(SCENARIO_PARAMETER) != link:
        st.query_params[SCENARIO_PARAMETER] = link


def forget() -> None:
    """Begin again at the start."""
    for key in [
        key for key in st.session_state if str(key).startswith("what-if-") and key not in (_SESSION, _GENERATION)
    ]:
        del st.session_state[key]
    st.session_state[_GENERATION] = generation() + 1
    for parameter in (SCENARIO_PARAMETER, SAVED_PARAMETER):
        st.query_params.pop(parameter, None)


def generation() -> int:
    """Part of the key of every editor."""
    return int(st.session_state.get(_GENERATION, 0))


def key(name: str, *depends: object) -> str:
    """Key of an editor: of this scenario, and of what its choices depend on."""
    digest = hashlib.sha256(repr(depends).encode("utf-8", "surrogatepass")).hexdigest()[:8] if depends else ""
    return f"what-if-{name}-{generation()}-{digest}"


def table(
    name: str,
    frame: pd.DataFrame,
    columns: dict[str, Any],
    *,
    depends: Sequence[object] = (),
    rows: Literal["fixed", "dynamic"] = "dynamic",
    disabled: Sequence[str] = (),
    height: int | Literal["auto"] = "auto",
) -> list[Row]:
    """An editable table. It starts from `frame` when it appears and keeps what is typed until its choices change."""
    editor = key(name, *depends)
    base = f"{editor}-base"
    if editor not in st.session_state or base not in st.session_state:
        st.session_state[base] = frame
    edited = st.data_editor(
        st.session_state[base],
        key=editor,
        num_rows=rows,
        column_config=columns,
        hide_index=True,
        disabled=list(disabled),
        height=height,
        width="stretch",
        placeholder=ABSENT,
    )
    return rows_in(edited)


def say(text: str, *, is_bad: bool = False) -> None:
    """Something to tell on the next run of the page, once."""
    st.session_state[_MESSAGE] = (text, is_bad)


def said() -> tuple[str, bool] | None:
    """What the last run left to tell."""
    found: tuple[str, bool] | None = st.session_state.pop(_MESSAGE, None)
    return found


def with_title(title: str) -> None:
    """The scenario in hand is saved under that name now."""
    scenario: Scenario | None = st.session_state.get(_SCENARIO)
    if scenario is not None:
        keep(replace(scenario, title=title))
