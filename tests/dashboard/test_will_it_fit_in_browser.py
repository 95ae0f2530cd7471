"""The page "Will it fit?" in a real browser: choose, upload, copy, and open the same page from its address."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.dashboard.conftest import Dashboard
from tests.dashboard.test_in_browser import Watched, open_view, settled
from tests.dashboard.test_in_browser import watched as watched
from tests.dashboard.test_will_it_fit import CONFIG
from tests.planner.memory.gguf_files import LLAMA, TENSORS, gguf

pytestmark = pytest.mark.xdist_group("browser")


def answered(page: Page) -> list[str]:
    expect(page.locator(".gf .fit-row").first).to_be_visible()
    settled(page)
    return [" ".join(text.split()) for text in page.locator(".gf .fit-row, .gf .fit-tiles").all_inner_texts()]


def upload(page: Page, path: Path) -> None:
    page.get_by_role("button", name="Upload").first.click()
    page.locator('input[type="file"]').set_input_files(path)


def test_a_chosen_model_is_answered_and_its_address_shows_the_same(
    watched: Watched, dashboard: Dashboard, browser: BrowserContext
) -> None:
    page = open_view(watched, dashboard, "demo", "will_it_fit")
    answered(page)
    page.get_by_role("combobox", name="Model").first.click()
    page.get_by_role("combobox", name="Model").first.fill("qwen3-30b")
    page.get_by_role("option", name="Qwen/Qwen3-30B-A3B", exact=True).click()
    expect(page).to_have_url(re.compile("model=Qwen%2FQwen3-30B-A3B"))
    page.get_by_text("llama.cpp", exact=True).first.click()
    expect(page).to_have_url(re.compile("engine=llama.cpp"))
    expect(page.get_by_text("llama-server", exact=False).first).to_be_visible()
    mine = answered(page)
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
    assert browser.browser is not None
    other = browser.browser.new_context(viewport={"width": 1400, "height": 2200})
    try:
        there = other.new_page()
        there.goto(page.url, wait_until="commit")
        assert answered(there) == mine
        assert there.url == page.url
    finally:
        other.close()
    watched.is_well()


def test_a_configuration_and_a_gguf_header_can_be_uploaded_and_rubbish_is_refused(
    watched: Watched, dashboard: Dashboard, tmp_path: Path
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**CONFIG, "_name_or_path": "acme/<b>tiny</b>"}))
    page = open_view(watched, dashboard, "demo", "will_it_fit?engine=llama.cpp&context=1024")
    answered(page)
    upload(page, config)
    expect(page.locator(".gf .fit-model", has_text="acme/<b>tiny</b>")).to_be_visible()
    expect(page).to_have_url(re.compile("facts="))
    header = tmp_path / "tiny.gguf"
    header.write_bytes(gguf(LLAMA, TENSORS))
    page.locator('input[type="file"]').set_input_files(header)
    expect(page.locator(".gf .fit-model", has_text="header of the uploaded tiny.gguf")).to_be_visible()
    expect(page.locator(".fit-basis.measured").first).to_be_visible()
    rubbish = tmp_path / "cut.gguf"
    rubbish.write_bytes(header.read_bytes()[:100])
    page.locator('input[type="file"]').set_input_files(rubbish)
    expect(page.get_by_text("ends within its header")).to_be_visible()
    settled(page)
    watched.is_well()
