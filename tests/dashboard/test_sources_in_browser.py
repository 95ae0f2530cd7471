"""The Sources page in a real browser: it can be read and copied from, and runs nothing that a cluster named."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.dashboard.conftest import Dashboard
from tests.dashboard.source_stores import write_troubled
from tests.dashboard.test_in_browser import Watched, open_view
from tests.dashboard.test_in_browser import watched as watched

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def troubled(stores: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("sources") / "troubled.db"
    stores["troubled"] = f"sqlite:///{path}"
    write_troubled(stores["troubled"], datetime.now(UTC))
    return "troubled"


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("demo", "6 targets"),
        ("empty", "Nothing has been collected yet"),
        ("hostile", "1 target"),
        ("missing", "There is no store yet"),
    ],
)
def test_every_store_has_its_words(watched: Watched, dashboard: Dashboard, kind: str, says: str) -> None:
    page = open_view(watched, dashboard, kind, "sources")
    expect(page.get_by_text(says).first).to_be_visible()
    assert page.evaluate("window.pwned") is None
    watched.is_well()


def test_trouble_is_shown_with_what_to_copy(watched: Watched, dashboard: Dashboard, troubled: str) -> None:
    page = open_view(watched, dashboard, troubled, "sources")
    expect(page.get_by_text("onerror=window.pwned=1").first).to_be_visible()
    expect(page.get_by_text("DCGM_FI_PROF_SM_ACTIVE, gauge").first).to_be_visible()
    block = page.get_by_test_id("stCode").first
    block.hover()
    expect(page.get_by_role("button", name="Copy to clipboard").first).to_be_visible()
    assert page.evaluate("window.pwned") is None
    watched.is_well()


@pytest.mark.parametrize("width", [800, 1400])
def test_nothing_is_wider_than_the_page(watched: Watched, dashboard: Dashboard, troubled: str, width: int) -> None:
    watched.page.set_viewport_size({"width": width, "height": 2200})
    page = open_view(watched, dashboard, troubled, "sources")
    expect(page.locator(".src-head").nth(3)).to_be_visible()
    wide = page.evaluate(
        "[...document.querySelectorAll('.gf')].filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.innerText)"
    )
    assert wide == []
