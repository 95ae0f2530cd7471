"""Every view in a real browser: nothing breaks, nothing a cluster named is run, nobody else is asked for anything."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, expect

from dashboard import data
from dashboard.views import frame
from tests.dashboard.conftest import Dashboard
from tests.dashboard.fleets import HOSTILE

pytestmark = pytest.mark.xdist_group("browser")  # one server and one browser for all of them

VIEWS = {"overview": "", "gpus": "gpus", "mig_advice": "mig_advice", "what_if": "what_if", "will_it_fit": "will_it_fit"}
PATIENCE_MS = 60_000  # for a machine that is busy with everything else
expect.set_options(timeout=PATIENCE_MS)

# Streamlit's front end finds out where its server lies by asking below the page's own path first.
_PROBES = re.compile(r"/(?:gpus|mig_advice|what_if|will_it_fit|sources)/_stcore/(?:health|host-config)$")


@dataclass
class Watched:
    """A page and everything it should not have done."""

    page: Page
    host: str
    elsewhere: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def on_request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.netloc != self.host:
            self.elsewhere.append(request.url)

    def on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not _PROBES.search(message.location["url"]):
            self.complaints.append(f"{message.text} ({message.location['url']})")

    def is_well(self) -> None:
        assert self.page.get_by_test_id("stException").count() == 0
        assert self.elsewhere == []
        assert self.complaints == []


@pytest.fixture
def watched(browser: BrowserContext, dashboard: Dashboard) -> Iterator[Watched]:
    page = browser.new_page()
    watching = Watched(page=page, host=urlsplit(dashboard.url).netloc)
    page.set_default_timeout(PATIENCE_MS)
    page.on("request", watching.on_request)
    page.on("console", watching.on_console)
    page.on("pageerror", lambda error: watching.complaints.append(str(error)))
    yield watching
    page.close()


def open_view(watched: Watched, dashboard: Dashboard, kind: str, path: str) -> Page:
    dashboard.show(kind)
    watched.page.goto(f"{dashboard.url}/{path}", wait_until="commit")
    watched.page.locator(".gf").first.wait_for()
    settled(watched.page)
    return watched.page


def settled(page: Page) -> None:
    """The script has run and its charts are drawn."""
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
    for chart in page.get_by_test_id("stPlotlyChart").all():
        chart.locator(".main-svg").first.wait_for()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("demo", "6 of 6 targets up to date"),
        ("empty", "Nothing has been collected yet"),
        ("stale", "Stale: nothing newer for 2 d"),
        ("hostile", "1 of 1 targets up to date"),
    ],
)
def test_every_view_is_well_and_asks_nobody_else(
    watched: Watched, dashboard: Dashboard, view: str, kind: str, words: str
) -> None:
    page = open_view(watched, dashboard, kind, VIEWS[view])
    expect(page.get_by_text(words).first).to_be_visible()
    watched.is_well()
    assert page.evaluate("window.pwned") is None
    greyed = page.locator('[class*="st-key-measured-stale"]').count()
    measured = page.locator('[class*="st-key-measured"]').count()
    assert greyed == (measured if kind == "stale" else 0)
    assert (measured > 0) == (kind != "empty")


def test_a_missing_store_says_what_to_do(watched: Watched, dashboard: Dashboard) -> None:
    page = open_view(watched, dashboard, "missing", "")
    expect(page.get_by_text("gpufleet run --demo")).to_be_visible()
    watched.is_well()


def test_hostile_names_are_shown_as_they_are_spelled(watched: Watched, dashboard: Dashboard) -> None:
    page = open_view(watched, dashboard, "hostile", "gpus?gpu=GPU-0-%3Cscript%3Ewindow.pwned%3D1%3C%2Fscript%3E")
    expect(page.locator(".gf .title", has_text=HOSTILE[0]).first).to_be_visible()
    expect(page.locator(".ytick", has_text=HOSTILE[0]).first).to_be_visible()
    page.get_by_test_id("stMultiSelect").first.get_by_role("combobox").click()
    options = page.get_by_role("option")
    expect(options.first).to_be_visible()
    assert [name for name in HOSTILE if name not in options.all_inner_texts()] == []
    assert page.evaluate("window.pwned") is None
    watched.is_well()


def test_selecting_a_row_opens_that_gpu_and_puts_it_in_the_address(
    watched: Watched, dashboard: Dashboard, stores: dict[str, str]
) -> None:
    page = open_view(watched, dashboard, "demo", "gpus")
    grid = page.get_by_test_id("stDataFrame").first
    grid.scroll_into_view_if_needed()
    grid.click(position={"x": 16, "y": 52})  # the selection box of the first row: the table is one canvas
    expect(page.get_by_text("Current values")).to_be_visible()
    first = next(data.snapshot(data.open_store(stores["demo"]), frame.now(), frame.WINDOWS["1 h"]).gpus())
    expect(page).to_have_url(re.compile(re.escape(f"gpu={first.uuid}")))
    settled(page)
    page.get_by_role("button", name="Close this GPU").click()
    expect(page.get_by_text("Select a row to see one GPU")).to_be_visible()
    watched.is_well()


def test_the_charts_are_svg_and_can_be_read_aloud(
    watched: Watched, dashboard: Dashboard, stores: dict[str, str]
) -> None:
    first = next(data.snapshot(data.open_store(stores["demo"]), frame.now(), frame.WINDOWS["1 h"]).gpus())
    page = open_view(watched, dashboard, "demo", f"gpus?gpu={first.uuid}")
    expect(page.get_by_test_id("stPlotlyChart")).to_have_count(5)
    settled(page)
    assert page.locator(".js-plotly-plot canvas").count() == 0
    assert "Temperature of the whole GPU: " in page.content()
    watched.is_well()


def test_the_overview_leads_to_the_gpu_it_names(watched: Watched, dashboard: Dashboard) -> None:
    page = open_view(watched, dashboard, "demo", "")
    link = page.locator(".gf table a").first
    name = link.inner_text()
    link.click()
    expect(page.get_by_text("Current values")).to_be_visible()
    expect(page.locator(".gf .title", has_text=name.split(" ")[0]).first).to_be_visible()
    settled(page)
    watched.is_well()
