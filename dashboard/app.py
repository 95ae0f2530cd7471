"""The dashboard's router and page frame; what a page shows is in `dashboard/views`."""

from pathlib import Path

import streamlit as st

from dashboard.html_parts import style_sheet
from dashboard.views import gpus, mig_advice, overview, sources, what_if, will_it_fit

ICON = Path(__file__).with_name("icon.svg")  # a file of ours: a named icon would be fetched from a font host

st.set_page_config(page_title="gpufleet", page_icon=ICON, layout="wide")
st.logo(ICON, size="small")
st.html(f"<style>{style_sheet()}</style>")
st.navigation(
    [
        st.Page(overview.show, title="Overview", icon=":material/filter_alt:", url_path="overview", default=True),
        st.Page(gpus.show, title="GPUs", icon=":material/memory:", url_path="gpus"),
        st.Page(mig_advice.show, title="MIG advice", icon=":material/view_column:", url_path="mig_advice"),
        st.Page(what_if.show, title="What-if MIG planner", icon=":material/tune:", url_path="what_if"),
        st.Page(will_it_fit.show, title="Will it fit?", icon=":material/straighten:", url_path="will_it_fit"),
        st.Page(sources.show, title="Sources", icon=":material/settings_input_component:", url_path="sources"),
    ],
    position="top",
).run()
