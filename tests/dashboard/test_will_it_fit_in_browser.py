"""The page "Will it fit?" in a real browser: choose, upload, copy, and open the same page from its address."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.dashboard.conftest import Dashboard
from tests.dashboard.measured_runs import log_text
from tests.dashboard.test_in_browser import Watched, open_view, settled
from tests.dashboard.test_in_browser import watched as watched
from tests.dashboard.test_will_it_fit import CONFIG
from tests.planner.memory.gguf_files import LLAMA, TENSORS, gguf

MODEL_FILE = '[data-testid="stPopoverBody"] input[type="file"]'
LOG_FILE = '.st-key-fit-measured input[type="file"]'

pytestmark = pytest.mark.xdist_group("browser")


def answered(page: Page) -> list[str]:
    expect(page.locator(".gf .fit-row").first).to_be_visible()
    settled(page)
    return [" ".join(text.split()) for text in page.locator(".gf .fit-row, .gf .fit-tiles").all_inner_texts()]


def upload(page: Page, path: Path) -> None:
    page.get_by_role("button", name="Upload").first.click()
    page.locator(MODEL_FILE).set_input_files(path)


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
    page.locator(MODEL_FILE).set_input_files(header)
    expect(page.locator(".gf .fit-model", has_text="header of the uploaded tiny.gguf")).to_be_visible()
    expect(page.locator(".fit-basis.measured").first).to_be_visible()
    rubbish = tmp_path / "cut.gguf"
    rubbish.write_bytes(header.read_bytes()[:100])
    page.locator(MODEL_FILE).set_input_files(rubbish)
    expect(page.get_by_text("ends within its header")).to_be_visible()
    settled(page)
    watched.is_well()


def test_a_start_up_log_is_compared_kept_once_and_then_corrects(
    watched: Watched, dashboard: Dashboard, tmp_path: Path
) -> None:
    log = tmp_path / "start.log"
    log.write_text(log_text(weights="15.31"))
    page = open_view(watched, dashboard, "measured", "will_it_fit?boards=L4,H100-80GB-SXM&option=H100-80GB-SXM")
    answered(page)
    expect(page.get_by_text("2 runs of meta-llama/Meta-Llama-3.1-8B with vLLM 0.31")).to_be_visible()
    page.get_by_text("Compare a start-up log", exact=True).click()
    page.locator(LOG_FILE).set_input_files(log)
    expect(page.get_by_text("Llama-3.1-8B on H100-80GB-SXM, vLLM 0.31.0")).to_be_visible()
    page.get_by_role("button", name="Keep this run").click()
    expect(page.get_by_text("Kept: it speaks from now on")).to_be_visible()
    expect(page.get_by_text("3 runs of meta-llama/Meta-Llama-3.1-8B with vLLM 0.31")).to_be_visible()
    page.get_by_role("button", name="Keep this run").click()
    expect(page.get_by_text("This measurement was kept before.")).to_be_visible()
    page.get_by_role("button", name="Forget a run").click()
    page.get_by_role("combobox", name="Run", exact=True).click()
    page.get_by_role("option").filter(has_text="H100-80GB-SXM, kept").last.click()
    page.get_by_role("button", name="Forget it").click()
    expect(page.get_by_text("2 runs of meta-llama/Meta-Llama-3.1-8B with vLLM 0.31")).to_be_visible()
    settled(page)
    watched.is_well()


def test_the_log_of_another_device_and_rubbish_are_not_kept(
    watched: Watched, dashboard: Dashboard, tmp_path: Path
) -> None:
    log = tmp_path / "start.log"
    log.write_text(log_text(total="22.10"))
    page = open_view(watched, dashboard, "measured", "will_it_fit?boards=H100-80GB-SXM&option=H100-80GB-SXM")
    answered(page)
    page.get_by_text("Compare a start-up log", exact=True).click()
    page.locator(LOG_FILE).set_input_files(log)
    expect(page.get_by_text("this is the log of another device")).to_be_visible()
    expect(page.get_by_role("button", name="Keep this run")).to_be_disabled()
    rubbish = tmp_path / "rubbish.log"
    rubbish.write_text("<script>window.pwned = 1</script>")
    page.locator(LOG_FILE).set_input_files(rubbish)
    expect(page.get_by_text("holds no start of vLLM")).to_be_visible()
    assert page.evaluate("window.pwned") is None
    settled(page)
    watched.is_well()


def test_prices_are_typed_and_stand_in_the_address(watched: Watched, dashboard: Dashboard) -> None:
    page = open_view(watched, dashboard, "missing", "will_it_fit?boards=H100-80GB-SXM,L4&model=Qwen%2FQwen3-8B")
    answered(page)
    page.get_by_role("button", name="Prices").click()
    page.get_by_role("spinbutton", name="L4").fill("0.7")
    page.get_by_role("spinbutton", name="L4").press("Enter")
    expect(page).to_have_url(re.compile("prices=L4%3A0.7"))
    expect(page.locator(".fit-row").first).to_contain_text("1.40 USD/h")
    settled(page)
    watched.is_well()
