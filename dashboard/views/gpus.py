"""GPUs: every GPU in a table, activity over time by node, and all there is to say about one of them."""

from functools import partial

import streamlit as st

from dashboard import charts, data, formatting
from dashboard.gpu_figures import DeviceDetail, GpuRow
from dashboard.gpu_table import FILTERS, choices, gpu_frame, matching, row_ages
from dashboard.html_parts import part
from dashboard.palette import ACTIVITY_SCALE, ACTIVITY_SCALE_DARK
from dashboard.views import frame

WINDOW = frame.WINDOWS["1 h"]
SELECTED = "gpu"  # query parameter with the UUID of the GPU that is looked at
_GENERATION = "gpus-table-generation"  # counts up to forget the table's selection
_PLOT = {"displaylogo": False, "displayModeBar": False}

_COLUMN = st.column_config
_COLUMNS = {
    "Activity": _COLUMN.ProgressColumn(
        format="%.0f%%",
        min_value=0,
        max_value=100,
        color="primary",
        help="SM active where it is reported, else graphics engine active, else GPU busy. Of a cut GPU: the sum over "
        "its instances by compute slices.",
    ),
    "Memory": _COLUMN.ProgressColumn(
        format="%.0f%%", min_value=0, max_value=100, color="gray", help="Occupied, which is no evidence of need."
    ),
    "Memory GiB": _COLUMN.NumberColumn(format="%.1f"),
    "Model": _COLUMN.TextColumn(
        width="medium",
        help="What its serving engines offer. ~ it is likely that they are on this GPU, ? it is a guess, no mark: "
        "certain.",
    ),
    "Tokens/s": _COLUMN.NumberColumn(
        format="localized",
        step=1,
        help="Prompt and generated tokens that are put down to this GPU. Empty where no engine is known, and where one "
        "of them cannot tell: the last column says why.",
    ),
    "Power W": _COLUMN.NumberColumn(format="%.0f"),
    "°C": _COLUMN.NumberColumn(format="%.0f"),
    "Xid": _COLUMN.NumberColumn(format="%d", help="Last Xid error; sticky until the driver is reloaded."),
    "Age s": _COLUMN.NumberColumn(
        format="localized", step=1, help="Seconds since the newest reading of this GPU was observed."
    ),
    "Pods": _COLUMN.TextColumn(width="large"),
    "Why no tokens/s": _COLUMN.TextColumn(width="large"),
}


def show() -> None:
    """Filters and selection live in the address, so that a page can be passed on."""
    frame.page("GPUs", _page)


def _page() -> None:
    frame.live(frame.banner)
    rows = data.gpu_rows(frame.fleet(WINDOW))
    if not rows:
        frame.wait_for_gpus()
        return
    chosen = _filters(rows)
    frame.live(partial(_table, chosen))
    uuid = st.query_params.get(SELECTED)
    if uuid is None:
        st.html(
            part("hint", text="Select a row to see one GPU: its layout, every value with its age, and its history.")
        )
    else:
        _selected(uuid)
    frame.live(partial(_heat_map, chosen), every_s=60)


def _selected(uuid: str) -> None:
    detail = data.gpu_detail(frame.engine(), frame.fleet(WINDOW), uuid)
    if detail is None:
        st.html(part("hint", text=f"No GPU {uuid} in the fleet now; it may have been removed or renamed."))
        _close_button()
        return
    titles = [device.title for device in detail.devices]
    title = titles[0]
    frame.live(partial(_detail, uuid))
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    with right:
        _close_button()
    if len(titles) > 1:
        title = left.segmented_control("Values and history of", titles, default=title, required=True, key=f"of-{uuid}")
    frame.live(partial(_values, uuid, title))
    frame.live(partial(_history, uuid, title), every_s=60)


def _filters(rows: tuple[GpuRow, ...]) -> dict[str, tuple[str, ...]]:
    offered = choices(rows)
    shown = [name for name in FILTERS if len(offered[name]) > 1]
    chosen: dict[str, tuple[str, ...]] = {}
    if not shown:
        return chosen
    for column, name in zip(st.columns(len(shown)), shown, strict=True):
        label = name.capitalize()
        picked = column.multiselect(label, offered[name], key=name, placeholder=f"every {name}", bind="query-params")
        chosen[name] = tuple(picked)
    return chosen


def _table(chosen: dict[str, tuple[str, ...]]) -> None:
    now = frame.now()
    every = data.gpu_rows(frame.fleet(WINDOW))
    rows = matching(every, chosen)
    generation = st.session_state.get(_GENERATION, 0)
    with st.container(key=frame.measured_key("table")):
        st.html(part("table_head", shown=len(rows), total=len(every), span=row_ages(rows), now=now))
        event = st.dataframe(
            gpu_frame(rows, now),
            key=f"gpus-{generation}-{sorted(chosen.items())}",
            on_select="rerun",
            selection_mode="single-row",
            hide_index=True,
            height=min(420, 38 + 32 * max(1, len(rows))),
            row_height=32,
            placeholder=formatting.ABSENT,
            column_config=_COLUMNS,
        )
    picked = event.selection.rows
    if picked and picked[0] < len(rows) and rows[picked[0]].uuid != st.query_params.get(SELECTED):
        st.query_params[SELECTED] = rows[picked[0]].uuid
        st.rerun()


def _detail(uuid: str) -> None:
    detail = data.gpu_detail(frame.engine(), frame.fleet(WINDOW), uuid)
    if detail is None:
        return
    with st.container(key=frame.measured_key("detail")):
        st.html(part("gpu_head", detail=detail, now=frame.now()))
        st.html(part("gpu_layout", detail=detail, now=frame.now()))
        chains = data.gpu_chains(frame.joined(WINDOW), uuid)
        if chains is not None:
            st.html(part("gpu_chains", chains=chains, window_s=WINDOW.total_seconds()))


def _values(uuid: str, title: str) -> None:
    device = _device(uuid, title)
    if device is None:
        return
    with st.container(key=frame.measured_key("values")):
        st.html(part("gpu_values", device=device, now=frame.now()))
    with st.expander("What these values are"):
        st.html(part("meanings", device=device))


def _device(uuid: str, title: str) -> DeviceDetail | None:
    """The chosen device; None once it or its GPU is gone."""
    detail = data.gpu_detail(frame.engine(), frame.fleet(WINDOW), uuid)
    return next((device for device in detail.devices if device.title == title), None) if detail else None


def _close_button() -> None:
    if st.button("Close this GPU", key="close-gpu", width="stretch"):
        st.session_state[_GENERATION] = st.session_state.get(_GENERATION, 0) + 1
        del st.query_params[SELECTED]
        st.rerun()


def _history(uuid: str, title: str) -> None:
    detail = data.gpu_detail(frame.engine(), frame.fleet(WINDOW), uuid)
    device = _device(uuid, title)
    if detail is None or device is None:
        return
    name = st.segmented_control(
        "History of the last", list(frame.WINDOWS), default="6 h", required=True, key="history", bind="query-params"
    )
    window = frame.WINDOWS[name]
    columns = st.columns(2, gap="small")
    for number, chart in enumerate(data.histories(frame.engine(), detail, device.gi_id, frame.now(), window)):
        figure = charts.history(chart.lines, metric=chart.metric, title=chart.title, start=chart.start, end=chart.end)
        alt = charts.history_alt(chart.lines, chart.title)
        columns[number % 2].plotly_chart(figure, key=f"history-{number}", config=_PLOT, alt=alt)


def _heat_map(chosen: dict[str, tuple[str, ...]]) -> None:
    name = st.segmented_control(
        "Activity of the last", list(frame.WINDOWS), default="24 h", required=True, key="heat", bind="query-params"
    )
    rows = matching(data.gpu_rows(frame.fleet(WINDOW)), chosen)
    heat = data.heat_map(frame.engine(), rows, frame.now(), frame.WINDOWS[name])
    if heat is None:
        st.html(part("hint", text="No activity was stored for these GPUs in this window."))
        return
    scale = ACTIVITY_SCALE_DARK if st.context.theme.type == "dark" else ACTIVITY_SCALE
    figure = charts.heat_map(heat, scale=scale)
    st.plotly_chart(figure, key="heat-map", config=_PLOT, alt=charts.heat_map_alt(heat))
