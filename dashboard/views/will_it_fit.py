"""Will it fit? A model, an engine and a need; which devices hold it, by how much, and what starts it there."""

from collections import Counter
from dataclasses import replace
from urllib.parse import urlencode

import streamlit as st

from dashboard.html_parts import will_it_fit_part
from dashboard.measured_runs import Known
from dashboard.views import frame, will_it_fit_inputs, will_it_fit_measured
from dashboard.views import will_it_fit_state as state
from dashboard.will_it_fit_answer import Answer, OptionBar, answer, curve
from dashboard.will_it_fit_figures import VERDICTS, curve_alt, curve_figure, legend, rows, term_rows
from dashboard.will_it_fit_question import MOST_BOARDS, Question, model_of, to_parameters
from dashboard.will_it_fit_words import (
    assumed,
    cards,
    launch_command,
    launch_notes,
    layers_text,
    order_text,
    parameters_text,
    price_text,
)
from planner.errors import PlannerError
from planner.fleet import Fleet
from planner.memory.estimate import Engine, Verdict
from store.errors import StoreError

_LOOK_WINDOW = frame.WINDOWS["1 h"]
_PLOT = {"displayModeBar": False, "scrollZoom": False}


def show() -> None:
    """Works without a store too: only the boards of the live fleet come from one."""
    st.title("Will it fit?", anchor=False)
    frame.live(frame.banner)
    try:
        question = state.current()
    except PlannerError as error:
        st.html(will_it_fit_part("problem", title="This link asks nothing that can be answered", text=str(error)))
        question = state.current()
    _live_fleet()
    question = will_it_fit_inputs.edited(question)
    state.keep(question)
    if not question.boards:
        st.html(will_it_fit_part("problem", title="No board chosen", text="Choose the boards to look at above."))
        return
    try:
        model = model_of(question)
        st.html(
            will_it_fit_part(
                "model", model=model, layers=layers_text(model), parameters=parameters_text(model.parameters.total)
            )
        )
        known = will_it_fit_measured.known()
        found = answer(question, known.experience)
    except PlannerError as error:
        st.html(will_it_fit_part("problem", title="This cannot be answered", text=str(error)))
        return
    _answer(question, found, known)


def _live_fleet() -> None:
    try:
        fleet = frame.fleet(_LOOK_WINDOW)
    except StoreError:
        frame.wait_for_store()
        return
    if not any(True for _ in fleet.gpus()):
        frame.wait_for_gpus()
        return
    counts, others = _boards_of(fleet)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=frame.measured_key("fit-fleet")):
        st.html(will_it_fit_part("fleet", counts=counts, others=others), width="content")
        if counts and st.button("Look at these boards", key="fit-these-boards", type="tertiary"):
            state.adopt(replace(state.current(), boards=tuple(counts)[:MOST_BOARDS], option=None))
            st.rerun()


def _boards_of(fleet: Fleet) -> tuple[dict[str, int], list[str]]:
    """GPUs by board, most first, and what the boards call themselves that the catalogue does not know."""
    counts = Counter(gpu.board.name for gpu in fleet.gpus() if gpu.board)
    others = {gpu.model_name or "a GPU without a name" for gpu in fleet.gpus() if gpu.board is None}
    return dict(counts.most_common()), sorted(others)


def _answer(question: Question, found: Answer, known: Known) -> None:
    default = found.bar(None)
    if default is None:
        st.html(will_it_fit_part("unanswered", options=found.unanswered))
        will_it_fit_measured.runs(question, None, known)
        return
    counts = {verdict.value: found.count(verdict) for verdict in Verdict}
    counts["total"] = sum(counts.values()) + len(found.unanswered)
    st.html(
        will_it_fit_part("headline", bar=default, chosen=_verdict(default), counts=counts, price=price_text(default))
    )
    holding = [bar for bar in found.bars if bar.option.is_accepted]
    lacking = [bar for bar in found.bars if not bar.option.is_accepted]
    if holding:
        _list("Fits, or is tight", order_text(question), holding)
        question = _closer(question, found, default, known)
        _list("Does not fit", "and why", lacking)
    else:
        _list("Fits nowhere here", "and why", lacking)
        question = _closer(question, found, default, known)
    if found.unanswered:
        st.html(will_it_fit_part("unanswered", options=found.unanswered))
    will_it_fit_measured.runs(question, found.bar(question.option) or default, known)
    _link(question)


def _list(title: str, sub: str, bars: list[OptionBar]) -> None:
    if bars:
        said = f"{sub}; each bar is what one GPU or instance needs for all requests"
        st.html(will_it_fit_part("options", title=title, sub=said, rows=rows(bars), legend=legend(bars)))


def _verdict(bar: OptionBar) -> tuple[str, str, str]:
    return VERDICTS[bar.option.verdict or Verdict.DOES_NOT_FIT]


def _closer(question: Question, found: Answer, default: OptionBar, known: Known) -> Question:
    """One option with its curve, its command, its terms and what was assumed; the question with that choice."""
    devices = [bar.option.device for bar in found.bars]
    bar = found.bar(question.option) or default
    chosen = st.selectbox(
        "Look closer at",
        devices,
        index=devices.index(bar.option.device),
        key=state.key("option", *devices),
        width=420,
    )
    bar = found.bar(chosen) or default
    question = replace(question, option=None if bar is default else bar.option.device)
    state.keep(question)
    option = bar.option
    if option.run is None or option.estimate is None:
        return question
    with st.container(border=True), st.container(key="stacked-fit-closer"):
        left, right = st.columns(2, gap="medium")
        with left:
            st.html(will_it_fit_part("closer", bar=bar, chosen=_verdict(bar), cards=cards(bar)))
            if option.is_accepted:
                st.code(launch_command(bar), language="bash", wrap_lines=True)
                for note in launch_notes(bar):
                    st.html(will_it_fit_part("hint", text=note))
            else:
                st.html(will_it_fit_part("hint", text="No command: with these settings the engine would not start."))
        with right:
            _curve(question, bar, known)
    with st.container(border=True):
        is_vllm = question.engine is Engine.VLLM
        note = "terms err independently: their ranges add as squares" if is_vllm else "the ends of all ranges added"
        st.html(
            will_it_fit_part("terms", rows=term_rows(bar), bar=bar, device=option.run.device, sum_note=note)
            + will_it_fit_part("assumed", sentences=assumed(bar))
        )
    with st.container(border=True):
        will_it_fit_measured.review(bar, known)
    return question


def _curve(question: Question, bar: OptionBar, known: Known) -> None:
    points = curve(question, bar.option, known.experience)
    if not any(point.high > 0 for point in points):
        st.html(will_it_fit_part("hint", text="No request of any length finds room here, so there is no curve."))
        return
    figure = curve_figure(points, context=question.context, concurrency=question.concurrency, engine=question.engine)
    st.plotly_chart(figure, key="fit-curve", config=_PLOT, alt=curve_alt(points, bar.option.device))


def _link(question: Question) -> None:
    base = (st.context.url or "will_it_fit").partition("?")[0]
    st.html(will_it_fit_part("hint", text="This address reproduces the page:"))
    st.code(f"{base}?{urlencode(to_parameters(question))}", language=None, wrap_lines=True)
