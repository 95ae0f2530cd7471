"""One GPU cut by hand: what the board refuses is refused here too, with its reason."""

from dataclasses import replace
from functools import partial

import streamlit as st

from dashboard import hand_layout
from dashboard.html_parts import what_if_part
from dashboard.views import what_if_state
from dashboard.what_if_figures import GpuChange, demanded, placement_of
from dashboard.what_if_plan import Answer
from planner.hardware import Board, Layout, PlacedInstance

_GPU = "what-if-hand-gpu"
_LAYOUT = "what-if-hand-layout"  # (GPU, generation) and its layout as tried so far
_REFUSED = "what-if-hand-refused"


def choose(gpu: str) -> None:
    """The GPU that is looked at from now on."""
    st.session_state[_GPU] = gpu
    st.session_state.pop(_LAYOUT, None)
    st.session_state.pop(_REFUSED, None)


def show(answer: Answer, changes: tuple[GpuChange, ...]) -> None:
    """Choose a GPU, cut it, and use that as its layout at the start."""
    by_id = {change.id: change for change in changes}
    chosen = st.session_state.get(_GPU)
    names = list(by_id)
    name = st.selectbox(
        "GPU", names, index=names.index(chosen) if chosen in by_id else 0, key=f"what-if-hand-pick-{chosen}", width=360
    )
    if name != chosen:
        choose(name)
    change = by_id[name]
    if change.whole is not None:
        st.html(what_if_part("muted", text=f"{change.whole} holds this GPU without MIG: it cannot be cut beside that."))
        return
    layout = _layout(change)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        _edit(change.board, layout, change)
    with right:
        figures = hand_layout.figures(change.board, layout, demanded(answer))
        st.html(what_if_part("hand_figures", board=change.board, f=figures))
        _use(answer, change, layout)


def _layout(change: GpuChange) -> Layout:
    """What was tried so far on this GPU, else its layout before, else the one of the plan."""
    marker = (change.id, what_if_state.generation())
    known = st.session_state.get(_LAYOUT)
    if known is not None and known[0] == marker:
        found: Layout = known[1]
        return found
    return _start_from(change, planned=not change.before)


def _start_from(change: GpuChange, *, planned: bool) -> Layout:
    spots = change.after if planned else change.before or ()
    layout = tuple(PlacedInstance(spot.profile, placement_of(change.board, spot)) for spot in spots)
    _remember(change, layout)
    return layout


def _remember(change: GpuChange, layout: Layout) -> None:
    st.session_state[_LAYOUT] = ((change.id, what_if_state.generation()), layout)
    st.session_state.pop(_REFUSED, None)


def _edit(board: Board, layout: Layout, change: GpuChange) -> None:
    st.html(what_if_part("one_drawing", d=hand_layout.draw(board, layout, f"{change.id} · {board.name}")))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        st.selectbox("Profile", [one.name for one in board.profiles], key=_profile_key(board), width=180)
        st.selectbox("Start", list(range(board.placement_grid)), key=_start_key(board), width=110)
        st.button("Add it", type="primary", on_click=partial(_add, change))
    refusal = st.session_state.get(_REFUSED)
    if refusal:
        st.html(what_if_part("refused", reason=refusal))
    with st.container(horizontal=True, gap="small"):
        for number, placed in enumerate(layout):
            st.button(
                f"✕ {placed.profile} at {placed.placement.start}",
                key=f"what-if-hand-remove-{number}",
                help="Take this GPU instance away",
                on_click=partial(_remove, change, placed),
            )
    with st.container(horizontal=True, gap="small"):
        if change.before is not None:
            st.button("As it is now", on_click=partial(_start_from_again, change, planned=False))
        st.button("As planned", on_click=partial(_start_from_again, change, planned=True))
        st.button("Empty", on_click=partial(_remember, change, ()))


def _start_from_again(change: GpuChange, *, planned: bool) -> None:
    _start_from(change, planned=planned)


# Both read what holds when the click arrives: a click that overtakes the run of a choice made just before it would
# otherwise act on what the page showed before that choice.
def _add(change: GpuChange) -> None:
    profile, start = (st.session_state[key(change.board)] for key in (_profile_key, _start_key))
    tried = hand_layout.add(change.board, _layout(change), profile, start)
    _remember(change, tried.layout)
    if tried.refusal is not None:
        st.session_state[_REFUSED] = tried.refusal


def _remove(change: GpuChange, placed: PlacedInstance) -> None:
    _remember(change, hand_layout.remove(_layout(change), placed))


def _profile_key(board: Board) -> str:
    return f"what-if-hand-profile-{board.name}"


def _start_key(board: Board) -> str:
    return f"what-if-hand-start-{board.name}"


def _use(answer: Answer, change: GpuChange, layout: Layout) -> None:
    scenario = answer.scenario
    if change.before is None:
        st.html(what_if_part("muted", text="This GPU does not exist yet: its layout is only tried here."))
        return
    is_set = change.id in scenario.by_hand
    with st.container(horizontal=True, gap="small"):
        if st.button(
            "Plan from this layout",
            disabled=scenario.by_hand.get(change.id) == layout,
            help="Take it as the layout of this GPU at the start. Work that no longer has its profile waits.",
        ):
            what_if_state.adopt(replace(scenario, by_hand={**scenario.by_hand, change.id: layout}))
            st.rerun()
        if is_set and st.button("Forget this layout"):
            kept = {name: cut for name, cut in scenario.by_hand.items() if name != change.id}
            what_if_state.adopt(replace(scenario, by_hand=kept))
            st.rerun()
