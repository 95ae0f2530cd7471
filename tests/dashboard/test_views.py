"""Every view on every kind of store, run by Streamlit's own test driver: no exception and the right words."""

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import data
from dashboard.report import build_report
from dashboard.views import frame
from tests.conftest import ROOT

VIEWS = ("overview", "gpus", "mig_advice", "what_if", "will_it_fit", "sources")


def shown(view: str, **query: str) -> AppTest:
    """One run of a view."""
    script = f"from dashboard.views import {view}\n{view}.show()\n"
    test = AppTest.from_string(script, default_timeout=60)
    for name, value in query.items():
        test.query_params[name] = value
    test.run()
    assert not test.exception, test.exception
    return test


def html(test: AppTest) -> str:
    """Everything the run put on the page as HTML."""
    return "\n".join(element.proto.body for element in test.get("html"))


def words(text: str) -> str:
    """What people read of some HTML."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def test_the_router_opens_on_the_overview(use_store: Callable[[str], str]) -> None:
    use_store("demo")
    test = AppTest.from_file(str(ROOT / "dashboard" / "app.py"), default_timeout=60).run()
    assert not test.exception
    assert test.title[0].value == "Overview"


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", ["demo", "empty", "stale", "broken", "hostile", "newer", "missing"])
def test_every_view_survives_every_kind_of_store(use_store: Callable[[str], str], kind: str, view: str) -> None:
    use_store(kind)
    text = words(html(shown(view)))
    expected = {
        "demo": "targets up to date",
        "empty": "Nothing has been collected yet",
        "stale": "Stale: nothing newer for 2 d",
        "broken": "0 of 2 targets up to date",
        "hostile": "1 of 1 targets up to date",
        "newer": "of different versions",
        "missing": "There is no store yet",
    }
    assert text.count(expected[kind]) == 1


def test_the_overview_counts_every_gpu_and_shows_how_old_its_numbers_are(use_store: Callable[[str], str]) -> None:
    use_store("demo")
    text = words(html(shown("overview")))
    assert re.search(r"Total every GPU in the inventory 48 100%", text)
    assert re.search(r"As of \d\d:\d\d:\d\d UTC newest reading \d+ (s|min) old", text)
    assert len(re.findall(r"data \d+ (?:s|min) old", text)) == 4  # funnel, states, waste, busiest
    for label in ("serving", "loaded-idle", "held", "free", "unknown"):
        assert label in text


def test_a_failing_target_is_shown_with_its_error(use_store: Callable[[str], str]) -> None:
    use_store("broken")
    page = html(shown("overview"))
    assert "Unreachable" in page
    assert "&lt;b&gt;is it up?&lt;/b&gt;" in page


@pytest.mark.parametrize("view", VIEWS)
def test_names_from_the_cluster_never_become_markup(use_store: Callable[[str], str], view: str) -> None:
    use_store("hostile")
    page = html(shown(view, gpu="GPU-0-<script>window.pwned=1</script>"))
    assert "<script" not in page
    assert "<img" not in page
    assert "<u>prod" not in page
    hostile = "&lt;img" if view == "will_it_fit" else "&lt;script&gt;"  # that page names boards only
    assert hostile in page


def test_a_gpu_can_be_linked_to(use_store: Callable[[str], str]) -> None:
    engine = data.open_store(use_store("demo"))
    fleet = data.snapshot(engine, frame.now(), frame.WINDOWS["1 h"])
    cut = next(gpu for gpu in fleet.gpus() if len(gpu.instances) > 1)
    test = shown("gpus", gpu=cut.uuid)
    text = words(html(test))
    assert cut.uuid in text
    assert "assumed arrangement" in text
    assert "How well this board is known" in text
    assert "Absent, which is not zero" in text
    assert len(test.get("plotly_chart")) == 5  # activity, memory, power, temperature; the heat map


def test_an_unknown_gpu_in_the_address_is_told_so(use_store: Callable[[str], str]) -> None:
    use_store("demo")
    assert "No GPU GPU-gone in the fleet now" in words(html(shown("gpus", gpu="GPU-gone")))


def test_filters_come_from_the_address_and_narrow_the_table(use_store: Callable[[str], str]) -> None:
    use_store("demo")
    test = shown("gpus", board="L40S")
    table = test.dataframe[0].value
    assert set(table["Board"]) == {"L40S"}
    assert "8 of 48 shown" in words(html(test))


def test_what_a_gpu_does_not_report_is_missing_in_the_table_and_not_zero(use_store: Callable[[str], str]) -> None:
    use_store("hostile")
    table = shown("gpus").dataframe[0].value
    assert table["Power W"].isna().all()
    assert table["Memory GiB"].notna().all()


def test_the_report_says_the_same_numbers_as_the_pages(
    use_store: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = data.open_store(use_store("demo"))
    now = datetime.now(UTC)
    monkeypatch.setattr(frame, "now", lambda: now)
    report = words(build_report(engine, now, "weekly").html)
    figure = re.compile(
        r"(?:Total|Allocated|Active|Effective|serving|loaded-idle|held|free|unknown)\b[^.0-9–]*[\d.,]+ [^ ]+"
    )
    on_page = figure.findall(words(html(shown("overview"))))
    assert len(on_page) >= 9
    assert [text for text in on_page if text not in report] == []
    totals = re.search(r"\d+ GPUs hold something now \d+ would hold the same work", words(html(shown("mig_advice"))))
    assert totals is not None
    assert totals.group() in report
