"""The part "Measured" of "Will it fit?": predictions beside what runs measured, and a start-up log to compare."""

import os
from pathlib import Path
from typing import Protocol

import streamlit as st

from dashboard import measured_runs
from dashboard.html_parts import will_it_fit_part
from dashboard.log_upload import LOG_LIMIT_MIB, measured_from_upload
from dashboard.measured_runs import Known
from dashboard.views import frame
from dashboard.will_it_fit_answer import OptionBar
from dashboard.will_it_fit_figures import VERDICTS
from dashboard.will_it_fit_measured import (
    ENGINES,
    compared_rows,
    key_text,
    outside_count,
    review_rows,
    run_count,
    run_label,
    run_rows,
)
from dashboard.will_it_fit_question import Question, model_of
from planner.catalog import load_catalog
from planner.errors import PlannerError
from planner.memory.devices import device_of
from planner.memory.errors import UnknownMemory
from planner.memory.experience import question_key
from planner.memory.facts import ModelFacts
from planner.memory.learning import Learnt, LogDescription, learn
from planner.memory.measured import Measured
from planner.memory.model_catalogue import find_model
from planner.memory.options import RANKS
from store.errors import StoreError
from store.location import store_url

_ROWS = 25
_WHOLE = "whole GPU"
_LOG = "fit-log"  # (file id, what it measured or None, what is wrong with it)
_SAID = "fit-log-said"


class _File(Protocol):
    """What `st.file_uploader` gives."""

    file_id: str
    name: str

    def getvalue(self) -> bytes: ...


def known() -> Known:
    """What the store holds of measured runs; nothing and the reason where it cannot be read."""
    try:
        store = frame.engine()
        return _known(str(store.url), measured_runs.revision(store))
    except StoreError as error:
        return measured_runs.unknown(error)


@st.cache_resource(show_spinner=False, max_entries=4)
def _known(url: str, revision: str) -> Known:
    return measured_runs.known(frame.engine())


def review(bar: OptionBar, found: Known) -> None:
    """What was measured of the option that is looked at, and what it corrects."""
    if bar.option.run is None:
        return
    key = question_key(bar.option.run)
    st.html(
        will_it_fit_part(
            "measured",
            rows=review_rows(key, found.experience),
            runs=run_count(key, found.experience),
            key=key_text(key),
            problem=found.problem,
            is_missing=found.is_missing,
        )
    )


def runs(question: Question, bar: OptionBar | None, found: Known) -> None:
    """All measured runs, and the place to compare a log."""
    run = bar.option.run if bar is not None else None
    with st.container(border=True, key="fit-measured"):
        st.html(will_it_fit_part("measured_head", runs=len(found.runs), problem=found.problem))
        with st.expander("Compare a start-up log", key="fit-log-expander", icon=":material/upload_file:"):
            _log(question, bar, found)
        rows = run_rows(found.runs, question_key(run) if run is not None else None)
        if rows:
            st.html(
                will_it_fit_part(
                    "measured_runs", rows=rows[:_ROWS], others=max(len(rows) - _ROWS, 0), outside=outside_count(rows)
                )
            )
            with st.popover("Forget a run"):
                _forget({run_label(row): row.run_id for row in rows})


def _log(question: Question, bar: OptionBar | None, found: Known) -> None:
    st.html(
        will_it_fit_part(
            "hint",
            text="What vLLM, llama.cpp or Ollama prints from its start until it serves, at its usual level, such as "
            f"`kubectl logs POD > start.log`. At most {LOG_LIMIT_MIB} MiB. It is read here and not stored.",
        )
    )
    file = st.file_uploader(
        "Start-up log",
        type=["log", "txt"],
        max_upload_size=LOG_LIMIT_MIB,
        key="fit-log-file",
        label_visibility="collapsed",
    )
    said: tuple[str, bool] | None = st.session_state.pop(_SAID, None)
    if file is None:
        return
    measured = _read(file)
    if measured is None:
        return
    described = _described(question, bar, measured, file.file_id)
    if described is None:
        return
    learnt = learn(measured, described)
    st.html(
        will_it_fit_part(
            "compared",
            rows=compared_rows(learnt),
            title=f"{learnt.run.model.name} on {learnt.run.device.name}, {ENGINES[learnt.run.engine]} "
            f"{learnt.run.engine_version or 'of unknown version'}",
            failure=measured.failure.value if measured.failure else None,
            verdict=VERDICTS[learnt.estimate.verdict] if learnt.estimate else None,
            notes=learnt.notes,
        )
    )
    _keep(learnt, found, file.file_id)
    if said is not None:
        st.html(will_it_fit_part("problem" if said[1] else "said", title="Not kept", text=said[0]))


def _read(file: _File) -> Measured | None:
    read: tuple[str, Measured | None, str] | None = st.session_state.get(_LOG)
    if read is None or read[0] != file.file_id:
        try:
            read = (file.file_id, measured_from_upload(file.name, file.getvalue()), "")
        except PlannerError as error:
            read = (file.file_id, None, str(error))
        st.session_state[_LOG] = read
    if read[2]:
        st.html(will_it_fit_part("problem", title="This log cannot be compared", text=read[2]))
    return read[1]


def _described(question: Question, bar: OptionBar | None, measured: Measured, file_id: str) -> LogDescription | None:
    """What the log does not say: the device, which no log names, and the model where its name is not known."""
    catalog = load_catalog()
    models = _models(question, measured)
    boards = [board.name for board in catalog.boards]
    chosen = bar.option.board if bar is not None else (question.boards or tuple(boards))[0]
    first, second, third, fourth = st.columns([4, 3, 2, 2], gap="small", vertical_alignment="bottom")
    name = first.selectbox("Model of the log", list(models), key=f"fit-log-model-{file_id}")
    board = catalog.board(
        second.selectbox("Ran on", boards, index=boards.index(chosen), key=f"fit-log-board-{file_id}")
    )
    profiles = {profile.name: profile for profile in board.profiles}
    wanted = bar.option.profile if bar is not None and bar.option.board == board.name else None
    profile = third.selectbox(
        "As",
        [_WHOLE, *profiles],
        index=0 if wanted not in profiles else 1 + list(profiles).index(wanted),
        key=f"fit-log-profile-{file_id}-{board.name}",
    )
    ranks = list(RANKS)
    gpus = fourth.selectbox(
        "GPUs together",
        ranks if measured.tensor_parallel is None else [measured.tensor_parallel],
        disabled=measured.tensor_parallel is not None,
        key=f"fit-log-gpus-{file_id}",
        help="As the log says it, where it does.",
    )
    try:
        device = device_of(board, profiles.get(profile))
    except UnknownMemory as error:
        if measured.device_bytes is None:
            st.html(will_it_fit_part("problem", title="This device cannot be compared", text=str(error)))
            return None
        device = device_of(board, profiles.get(profile), memory_bytes=measured.device_bytes)
    return LogDescription(model=models[name], device=device, tensor_parallel=int(gpus))


def _models(question: Question, measured: Measured) -> dict[str, ModelFacts]:
    """The model that the log names, where the catalogue knows it, and the one that is asked about."""
    found: dict[str, ModelFacts] = {}
    if measured.model is not None:
        try:
            facts = find_model(measured.model)
            found[facts.name] = facts
        except PlannerError:
            pass
    asked = model_of(question)
    found.setdefault(asked.name, asked)
    return found


def _keep(learnt: Learnt, found: Known, file_id: str) -> None:
    why = learnt.refusal or (None if learnt.calibration else "The log and the prediction have no term in common.")
    why = why or found.problem
    if why is not None:
        st.html(will_it_fit_part("hint", text=f"It cannot be kept: {why}"))
    if st.button("Keep this run", key=f"fit-log-keep-{file_id}", disabled=why is not None, type="primary"):
        try:
            is_new = measured_runs.keep(_url(), learnt, frame.now())
        except StoreError as error:
            st.session_state[_SAID] = (str(error), True)
        else:
            said = "Kept: it speaks from now on for this model, engine, version and device."
            st.session_state[_SAID] = (said if is_new else "This measurement was kept before.", False)
        st.rerun()


def _url() -> str:
    return store_url(os.environ, Path.cwd())


def _forget(runs: dict[str, int]) -> None:
    st.html(will_it_fit_part("hint", text="For a run that was described wrongly: it corrects nothing any more."))
    label = st.selectbox("Run", list(runs), key=f"fit-forget-{len(runs)}")
    if st.button("Forget it", key="fit-forget-button"):
        try:
            measured_runs.forget(_url(), runs[label])
        except StoreError as error:
            st.html(will_it_fit_part("problem", title="Not forgotten", text=str(error)))
            return
        st.rerun()
