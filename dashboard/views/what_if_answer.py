"""A plan on the page: the numbers, the layouts before and after, the way there, and files to take away."""

from collections.abc import Callable
from functools import partial

import streamlit as st

from dashboard import what_if_exports
from dashboard.html_parts import what_if_part
from dashboard.planning_jobs import Job
from dashboard.scenario import Scenario
from dashboard.views import what_if_compare, what_if_hand, what_if_state
from dashboard.what_if_drawing import GpuRow, look_of, rows_of
from dashboard.what_if_figures import GpuChange, gpu_changes, headline, moves, remedy_text, step_text
from dashboard.what_if_plan import Answer

GPUS_PER_SCREEN = 8
LINES_PER_SCREEN = 20
LEGEND_LIMIT = 24
PREVIEW_LINES = 60

_TAB = "what-if-section"
_LAYOUTS, _CHANGES, _HAND, _COMPARE, _EXPORT = SECTIONS = ("Layouts", "Changes", "By hand", "Compare", "Export")


def show(answer: Answer, ask: Callable[[Scenario], Job[Answer]]) -> None:
    """Only the section that is looked at is computed."""
    changes = gpu_changes(answer)
    with st.container(key="what-if-answer"):
        st.html(what_if_part("headline", h=headline(answer, changes), exists=bool(answer.problem.gpus)))
        if answer.target.unplaced:
            _unplaced(answer)
        if answer.cautions:
            st.html(what_if_part("cautions", lines=answer.cautions))
        if answer.scenario.fleet and answer.scenario.fleet.left_out:
            st.html(what_if_part("left_out", items=answer.scenario.fleet.left_out))
    for section, tab in zip(SECTIONS, st.tabs(list(SECTIONS), key=_TAB, on_change="rerun"), strict=True):
        if not tab.open:
            continue
        with tab:
            if section == _CHANGES:
                _changes(answer, changes)
            elif section == _HAND:
                what_if_hand.show(answer, changes)
            elif section == _COMPARE:
                what_if_compare.show(answer, ask)
            elif section == _EXPORT:
                _export(answer)
            else:
                _layouts(answer, changes)


def _unplaced(answer: Answer) -> None:
    items = answer.target.unplaced
    first = _first(len(items), LINES_PER_SCREEN, "unplaced")
    remedies = [remedy_text(remedy) for remedy in answer.target.remedies]
    st.html(
        what_if_part("unplaced", items=items[first : first + LINES_PER_SCREEN], total=len(items), remedies=remedies)
    )


def _layouts(answer: Answer, changes: tuple[GpuChange, ...]) -> None:
    look = look_of(answer.problem)
    rows = rows_of(changes, look)
    changed = sum(change.is_changed for change in changes)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        only = st.toggle(
            f"Only the {changed} GPUs that change",
            value=False,
            key=what_if_state.key("only-changed"),
            disabled=not changed,
        )
        st.html(what_if_part("signs"), width="content")
    if only and changed:
        rows = tuple(row for row in rows if row.is_changed)
    if look.legend and len(look.legend) <= LEGEND_LIMIT:
        st.html(what_if_part("legend", tones=look.legend))
    first = _first(len(rows), GPUS_PER_SCREEN, "layouts")
    with st.container(key="what-if-layouts"):
        left, middle, right = st.columns([2, 5, 5], gap="small")
        left.html(what_if_part("column_head", title="GPU", sub="choose one to try a layout"))
        middle.html(what_if_part("column_head", title="Before", sub=_before_words(answer)))
        right.html(what_if_part("column_head", title="After", sub="as planned"))
        for row in rows[first : first + GPUS_PER_SCREEN]:
            _gpu(row)


def _before_words(answer: Answer) -> str:
    return "as measured" if answer.scenario.fleet else "as given"


def _gpu(row: GpuRow) -> None:
    left, middle, right = st.columns([2, 5, 5], gap="small")
    with left:
        st.button(
            _button_text(row.title),
            key=f"what-if-gpu-{row.title}",
            type="tertiary",
            help="Try a layout of this GPU by hand",
            on_click=partial(_try_by_hand, row.title),
        )
        st.html(what_if_part("gpu_side", row=row))
    if row.before is None:
        middle.html(what_if_part("not_there"))
    else:
        middle.html(what_if_part("bare", d=row.before))
    right.html(what_if_part("bare", d=row.after))


def _button_text(name: str) -> str:
    """A name in a label, which is Markdown: every sign of it stands for itself."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]()<>#+-.!|$:~^" else sign for sign in name)


def _try_by_hand(gpu: str) -> None:
    what_if_hand.choose(gpu)
    st.session_state[_TAB] = _HAND


def _changes(answer: Answer, changes: tuple[GpuChange, ...]) -> None:
    found = moves(answer, changes)
    first = _first(len(found), LINES_PER_SCREEN, "moves")
    st.html(what_if_part("moves", rows=found[first : first + LINES_PER_SCREEN], total=len(found)))
    steps = answer.change.steps
    start = _first(len(steps), LINES_PER_SCREEN, "steps")
    lines = [(step, step_text(step)) for step in steps[start : start + LINES_PER_SCREEN]]
    st.html(what_if_part("steps", rows=lines, total=len(steps), title="Steps", waves=_waves(answer)))
    with st.expander(f"The way back: {len(answer.change.rollback)} steps"):
        back = answer.change.rollback
        start = _first(len(back), LINES_PER_SCREEN, "rollback")
        lines = [(step, step_text(step)) for step in back[start : start + LINES_PER_SCREEN]]
        st.html(what_if_part("steps", rows=lines, total=len(back), title="Rollback", waves=0))


def _waves(answer: Answer) -> int:
    return max((step.wave for step in answer.change.steps), default=0)


def _export(answer: Answer) -> None:
    offered = what_if_exports.downloads(answer)
    with st.container(horizontal=True, gap="small"):
        for number, one in enumerate(offered):
            st.download_button(
                one.label,
                one.make,
                one.file_name,
                one.mime,
                key=f"what-if-download-{one.file_name}",
                help=one.help,
                type="primary" if number == 0 else "secondary",
                on_click="ignore",
            )
    preview = offered[0].make()
    text = preview if isinstance(preview, str) else preview.decode("utf-8")
    lines = text.splitlines()
    st.html(what_if_part("column_head", title=offered[0].file_name, sub=f"{len(lines)} lines"))
    more = f"\n… {len(lines) - PREVIEW_LINES} more lines" if len(lines) > PREVIEW_LINES else ""
    st.code("\n".join(lines[:PREVIEW_LINES]) + more, language="yaml")


def _first(items: int, per_screen: int, name: str) -> int:
    """Index of the first item of the screen that is chosen; no control where one screen holds everything."""
    screens = -(-items // per_screen)
    return (st.pagination(screens, key=what_if_state.key(name, screens)) - 1) * per_screen if screens > 1 else 0
