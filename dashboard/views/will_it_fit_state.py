"""What one visitor of "Will it fit?" asks: the question, its address, and which widgets belong to it."""

import hashlib
import time

import streamlit as st

from dashboard.will_it_fit_question import PARAMETERS, Question, from_parameters, to_parameters

_QUESTION = "fit-question"
_BASE = "fit-base"  # the question that the widgets started from
_TOLD = "fit-told"  # the address when question and address last agreed
_FORMER = "fit-former"  # addresses that were written before that one, and when it was written
_GENERATION = "fit-generation"  # counts questions that came from outside the widgets: those are built anew then
_LATE_S = 3.0
_REMEMBERED = 8


def current() -> Question:
    """The question of the address where that is new, else the one in hand; raises PlannerError for a broken one."""
    told = _told()
    found: Question | None = st.session_state.get(_QUESTION)
    agreed: dict[str, str] | None = st.session_state.get(_TOLD)
    if told and told != agreed and not _is_late(told):
        st.session_state[_TOLD] = told  # a broken address is told once; the widgets work on from what was there
        question = from_parameters(told)
        adopt(question)
        return question
    if found is None:
        found = Question()
        adopt(found)
    elif told != agreed and agreed is not None:  # back from another page, or a late browser
        _write(agreed)
    return found


def _told() -> dict[str, str]:
    return {name: st.query_params[name] for name in PARAMETERS if name in st.query_params}


def _is_late(told: dict[str, str]) -> bool:
    """Whether the browser tells an address that was replaced a moment ago: it had not heard of the new one yet."""
    former, written_at = st.session_state.get(_FORMER, ((), 0.0))
    return told in former and time.monotonic() - written_at < _LATE_S


def adopt(question: Question) -> None:
    """A question from outside the widgets: opened by a link, changed by a button."""
    st.session_state[_BASE] = question
    st.session_state[_GENERATION] = generation() + 1
    keep(question)


def keep(question: Question) -> None:
    """The question as its widgets leave it."""
    st.session_state[_QUESTION] = question
    wanted, before = to_parameters(question), st.session_state.get(_TOLD)
    if wanted != before:
        former, _ = st.session_state.get(_FORMER, ((), 0.0))
        st.session_state[_FORMER] = ((*former, before)[-_REMEMBERED:], time.monotonic())
        st.session_state[_TOLD] = wanted
    if _told() != wanted:
        _write(wanted)


def _write(wanted: dict[str, str]) -> None:
    others = {name: st.query_params.get_all(name) for name in st.query_params if name not in PARAMETERS}
    st.query_params.from_dict({**others, **wanted})


def base(question: Question) -> Question:
    """What the widgets start from: they keep what was typed, unless the page was left and they are built anew."""
    if key("context") not in st.session_state:
        st.session_state[_BASE] = question
    found: Question = st.session_state.get(_BASE, question)
    return found


def generation() -> int:
    """Part of the key of every widget."""
    return int(st.session_state.get(_GENERATION, 0))


def key(name: str, *depends: object) -> str:
    """Key of a widget: of this question, and of what its choices depend on."""
    digest = hashlib.sha256(repr(depends).encode("utf-8", "surrogatepass")).hexdigest()[:8] if depends else ""
    return f"fit-{name}-{generation()}-{digest}"
