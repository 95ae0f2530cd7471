"""Overview: what we have, what really works, and who holds the rest."""

import streamlit as st

from dashboard.html_parts import part
from dashboard.views import frame

WINDOW = frame.WINDOWS["1 h"]


def show() -> None:
    """The whole page is one live part: each of its numbers moves."""
    frame.page("Overview", lambda: frame.live(_live))


def _live() -> None:
    frame.banner()
    now = frame.now()
    figures = frame.overview(WINDOW)
    if figures.has_gpus:
        with st.container(key=frame.measured_key("overview")):
            left, right = st.columns(2, gap="small")
            left.html(part("funnel", overview=figures, now=now))
            right.html(part("states", overview=figures, now=now))
            st.html(part("tokens", overview=figures, now=now))
            with st.container(key="stacked-lists"):
                left, right = st.columns(2, gap="small")
                left.html(part("wasteful", overview=figures, now=now, link=True))
                right.html(part("busiest", overview=figures, now=now, link=True))
    else:
        frame.nothing_seen_yet()
    st.html(part("sources", overview=figures, now=now))
