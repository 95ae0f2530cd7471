"""MIG advice: how each board is cut now, how it could be cut for the same work, why, and what that frees."""

import streamlit as st

from dashboard import csv_tables
from dashboard.data_age import DataAge
from dashboard.html_parts import part
from dashboard.mig_drawing import draw_current, draw_proposed, workload_tones
from dashboard.views import frame
from planner.advice import BoardAdvice

GPUS_PER_SCREEN = 8
ROWS_PER_SCREEN = 12
LEGEND_LIMIT = 12


def show() -> None:
    """Not live: a plan stands still while it is read; it says how old it is."""
    frame.page("MIG advice", _page)


def _page() -> None:
    frame.live(frame.banner)
    name = st.segmented_control(
        "Need measured over the last",
        list(frame.WINDOWS),
        default="24 h",
        required=True,
        key="window",
        bind="query-params",
    )
    figures = frame.advice(frame.WINDOWS[name])
    advice = figures.advice
    now = frame.now()
    if not advice.boards and not advice.not_advised:
        frame.wait_for_gpus()
        return
    with st.container(key=frame.measured_key("advice")):
        st.html(part("advice_totals", figures=figures, now=now))
        for board in advice.boards:
            _board(board, figures.data_age)
        if advice.not_advised:
            st.html(part("not_advised", items=advice.not_advised))
    left, right, _ = st.columns([1, 1, 4])
    left.download_button(
        "Assignments (CSV)", csv_tables.assignments(advice).csv(), "mig-assignments.csv", "text/csv", on_click="ignore"
    )
    right.download_button(
        "Layouts (CSV)", csv_tables.layouts(advice).csv(), "mig-layouts.csv", "text/csv", on_click="ignore"
    )


def _board(board: BoardAdvice, data_age: DataAge | None) -> None:
    key = f"{board.cluster}-{board.board.name}"
    with st.container(border=True, key=f"board-{key}"):
        st.html(part("advice_head", board=board, now=frame.now(), data_age=data_age))
        tones = workload_tones(board)
        if tones and len(tones) <= LEGEND_LIMIT:
            st.html(part("legend", tones=tones))
        screens = max(len(board.current), board.gpus_needed, 1)
        first = _first(screens, GPUS_PER_SCREEN, f"gpus-{key}")
        last = first + GPUS_PER_SCREEN
        left, right = st.columns(2, gap="medium")
        left.html(
            part("layouts", title="Now", sub=f"{len(board.current)} GPUs", items=draw_current(board, first, last))
        )
        right.html(
            part("layouts", title="Proposed", sub=f"{board.gpus_needed} GPUs", items=draw_proposed(board, first, last))
        )
        with st.expander(f"Why: {len(board.assignments)} assignments with the numbers behind them", expanded=True):
            start = _first(len(board.assignments), ROWS_PER_SCREEN, f"rows-{key}")
            st.html(part("assignments", rows=board.assignments[start : start + ROWS_PER_SCREEN]))
        st.html(part("advice_notes", board=board))


def _first(items: int, per_screen: int, key: str) -> int:
    """Index of the first item of the screen that is chosen; no control where one screen holds everything."""
    screens = -(-items // per_screen)
    return (st.pagination(screens, key=key) - 1) * per_screen if screens > 1 else 0
