from datetime import timedelta

from dashboard import charts
from dashboard.charts import HeatMap, Line
from dashboard.palette import ACTIVITY_SCALE
from tests.dashboard.fleets import HOSTILE, NOW

START = NOW - timedelta(hours=1)
TIMES = [START + timedelta(minutes=minute) for minute in range(3)]


def drawn(*lines: Line) -> dict[str, object]:
    figure = charts.history(lines, metric=lines[0].metric, title="Activity", start=START, end=NOW)
    result: dict[str, object] = figure.to_dict()
    return result


def test_a_gap_in_the_data_is_a_gap_in_the_line() -> None:
    (trace,) = drawn(Line(name="SM", metric="sm_active_ratio", times=TIMES, values=[0.2, None, 0.4]))["data"]
    assert list(trace["y"]) == [20.0, None, 40.0]
    assert trace["connectgaps"] is False


def test_lines_are_svg_and_not_webgl() -> None:
    (trace,) = drawn(Line(name="SM", metric="sm_active_ratio", times=TIMES, values=[0.2, None, 0.4]))["data"]
    assert trace["type"] == "scatter"


def test_the_whole_window_is_shown_even_where_nothing_was_measured() -> None:
    figure = charts.history((), metric="power_watts", title="Power", start=START, end=NOW)
    assert list(figure.layout.xaxis.range) == [START, NOW]


def test_names_from_the_cluster_cannot_become_markup() -> None:
    for name in HOSTILE:
        figure = drawn(Line(name=name, metric="power_watts", times=TIMES, values=[1.0, 2.0, 3.0]))
        heat = HeatMap(title=name, rows=[name], times=TIMES, values=[[0.1, None, 0.3]])
        for text in (str(figure), str(charts.heat_map(heat, scale=ACTIVITY_SCALE).to_dict())):
            assert "<script" not in text
            assert "<img" not in text


def test_what_was_not_measured_is_blank_on_the_heat_map() -> None:
    heat = HeatMap(title="Activity", rows=["node-a/0"], times=TIMES, values=[[0.0, None, 1.0]])
    (trace,) = charts.heat_map(heat, scale=ACTIVITY_SCALE).to_dict()["data"]
    assert trace["z"] == [[0.0, None, 100.0]]


def test_charts_can_be_read_aloud() -> None:
    line = Line(name="SM", metric="sm_active_ratio", times=TIMES, values=[0.2, None, 0.4])
    assert charts.history_alt([line], "Activity") == "Activity: SM from 20% to 40%, last 40%"
    assert charts.history_alt([], "Activity") == "Activity: no data"
    heat = HeatMap(title="Activity", rows=["a", "b"], times=TIMES, values=[[0.1, 0.2, None], [None, None, None]])
    assert charts.heat_map_alt(heat) == "Activity, newest values: a 20%; b not measured"
