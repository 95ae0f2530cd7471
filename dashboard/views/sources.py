"""Sources: whether every source answers, what it lacks, what that costs, and the exact thing to do about it."""

from collections.abc import Sequence

import streamlit as st

from dashboard.html_parts import part, source_part
from dashboard.source_figures import (
    SourceFigures,
    in_states,
    state_counts,
    summed,
)
from dashboard.source_reading import read_strips
from dashboard.target_figures import TargetFigures, TargetState
from dashboard.views import frame
from store.attempt_history import AttemptCount, TargetKey

SHOWN_SOURCES = 12
"""Sources on the page at first; more come on demand."""
SHOWN_TARGETS = 20
STRIP_TARGETS = 50
"""Up to so many targets of a source are summed up in one strip."""
FEW_TARGETS = 6
"""So few targets are listed without being asked for."""

_MORE = "sources-shown"


def show() -> None:
    """One live part: states, ages and attempts all move."""
    frame.page("Sources", lambda: frame.live(_live))


def _live() -> None:
    frame.banner()
    read = frame.source_details()
    for sentence in read.damaged[:3]:
        st.html(source_part("note", text=sentence, is_bad=True))
    if not read.sources:
        frame.nothing_seen_yet()
        return
    if not read.has_diagnoses:
        st.html(
            source_part(
                "note",
                text="No target in this store was diagnosed yet. A running collector does that with its next attempts; "
                "`gpufleet doctor` does it now, in a terminal.",
                is_bad=False,
            )
        )
    sources = _filtered(read.sources)
    shown = int(st.session_state.get(_MORE, SHOWN_SOURCES))
    strips = _strips(sources[:shown])
    for one in sources[:shown]:
        _source(one, strips)
    if not sources:
        st.html(part("hint", text="No source has a target in such a state."))
    if len(sources) > shown and st.button(f"Show {min(SHOWN_SOURCES, len(sources) - shown)} more sources"):
        st.session_state[_MORE] = shown + SHOWN_SOURCES
        st.rerun(scope="fragment")


def _filtered(sources: Sequence[SourceFigures]) -> tuple[SourceFigures, ...]:
    counts = state_counts(sources)
    clusters = list(dict.fromkeys(one.cluster for one in sources))
    st.html(source_part("summary", counts=counts, sources=len(sources), clusters=len(clusters)))
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    states = left.pills(
        "Only sources with a target that is", [state.value for state in counts], selection_mode="multi", key="state"
    )
    picked: Sequence[str] = ()
    if len(clusters) > 1:
        picked = right.multiselect("Cluster", sorted(clusters), key="cluster", placeholder="every cluster")
    chosen = in_states(sources, [TargetState(state) for state in states])
    return tuple(one for one in chosen if not picked or one.cluster in picked)


def _strips(sources: Sequence[SourceFigures]) -> dict[TargetKey, tuple[AttemptCount, ...]]:
    """Attempts of what is on the page: of small sources every target, of large ones none until they are listed."""
    keys = [target.key for one in sources if len(one.targets) <= STRIP_TARGETS for target in one.targets]
    return read_strips(frame.engine(), keys, frame.now())


def _source(one: SourceFigures, strips: dict[TargetKey, tuple[AttemptCount, ...]]) -> None:
    now = frame.now()
    is_small = len(one.targets) <= STRIP_TARGETS
    attempts = summed([strips[target.key] for target in one.targets if target.key in strips]) if is_small else None
    failed = sum(part.failed for part in attempts or ())
    name = f"{one.cluster}/{one.source}"
    with st.container(border=True, key=f"source-card-{_number(name)}"):
        st.html(source_part("source_head", one=one, strip_parts=attempts, failed=failed, now=now))
        if one.errors or one.clock_warning is not None or any(target.trouble for target in one.targets):
            st.html(source_part("errors", one=one, now=now))
        if one.groups or one.natural or one.present:
            st.html(source_part("gaps", one=one, now=now))
        if one.fixes:
            st.html(source_part("to_do"))
        for fix in one.fixes:
            st.html(source_part("fix", fix=fix))
            if fix.text:
                st.code(fix.text, language=None, wrap_lines=True)
        if len(one.targets) > 1:
            _targets(one, name, strips)


def _targets(one: SourceFigures, name: str, strips: dict[TargetKey, tuple[AttemptCount, ...]]) -> None:
    count = len(one.targets)
    if count > FEW_TARGETS and not st.toggle(f"List the {count} targets, the worst first", key=f"list-{name}"):
        return
    rows: Sequence[TargetFigures] = one.targets
    if count > SHOWN_TARGETS:
        wanted = (
            st.text_input("Part of a target's name", key=f"find-{name}", placeholder="every target").strip().lower()
        )
        rows = [target for target in rows if wanted in target.health.target.lower()]
        if not rows:
            st.html(part("hint", text="No target of this source has that in its name."))
            return
    shown = rows[:SHOWN_TARGETS]
    missing = [target.key for target in shown if target.key not in strips]
    known = strips | read_strips(frame.engine(), missing, frame.now()) if missing else strips
    more = len(rows) - len(shown)
    st.html(source_part("targets", rows=shown, strips=known, more=more, now=frame.now()))


def _number(name: str) -> str:
    """A key that a style sheet and an address can carry, whatever the source is called."""
    return name.encode().hex()[:60]
