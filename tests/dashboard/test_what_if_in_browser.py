"""The what-if page in a real browser, as an operator uses it: few clicks, links that others can open, files to take."""

import re
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import BrowserContext, Download, Page, expect

from dashboard.scenario import Request
from dashboard.scenario_codec import from_link, to_link
from dashboard.what_if_plan import answer
from planner.mig.plan import Target
from tests.dashboard.conftest import Dashboard
from tests.dashboard.fleets import HOSTILE
from tests.dashboard.scenarios import empty, live
from tests.dashboard.test_in_browser import Watched, open_view, settled
from tests.dashboard.test_in_browser import watched as watched
from tests.planner.mig.exports.mig_parted_format import read_mig_parted

pytestmark = pytest.mark.xdist_group("browser")

NUMBER = re.compile(r"(\d+)")


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).first.click()
    settled(page)


def planned(page: Page) -> None:
    expect(page.locator(".gf .verdict")).to_be_visible()
    settled(page)


def section(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()
    settled(page)


def headline(page: Page) -> list[str]:
    planned(page)
    return page.locator(".gf .tiles .figure").all_inner_texts()


def target_of(page: Page) -> Target:
    (link,) = parse_qs(urlsplit(page.url).query)["scenario"]
    return answer(from_link(link), lambda: False).target


def text_of(download: Download) -> str:
    return Path(download.path()).read_text(encoding="utf-8")


def test_from_the_demo_fleet_to_the_mig_parted_file_in_five_clicks(watched: Watched, dashboard: Dashboard) -> None:
    page = open_view(watched, dashboard, "demo", "")
    clicks = 0
    page.get_by_role("link", name="What-if MIG planner").click()
    clicks += 1
    page.get_by_role("button", name="Start from the live fleet").click()
    clicks += 1
    planned(page)
    page.get_by_role("tab", name="Export").click()
    clicks += 1
    with page.expect_download() as waiting:
        page.get_by_role("button", name="mig-parted file").click()
    clicks += 1
    assert clicks <= 5
    assert waiting.value.suggested_filename == "mig-parted.yaml"
    settled(page)
    configs = read_mig_parted(text_of(waiting.value))
    target = target_of(page)
    cut = {tuple(sorted(Counter(one.profile for one in gpu.instances).items())) for gpu in target.gpus if gpu.instances}
    entries = [entry for config in configs.values() for entry in config]
    written = {tuple(sorted(entry["mig-devices"].items())) for entry in entries if entry.get("mig-devices")}
    assert written == cut
    watched.is_well()


def test_every_other_file_can_be_taken_too(watched: Watched, dashboard: Dashboard) -> None:
    page = open_view(watched, dashboard, "demo", f"what_if?scenario={to_link(live())}")
    planned(page)
    section(page, "Export")
    for name in ("GPU Operator ConfigMap", "Node labels", "nvidia-smi scripts", "Plan (JSON)", "Problem (JSON)"):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=name).click()
        assert Path(waiting.value.path()).stat().st_size > 0
    watched.is_well()


def test_the_address_shows_the_same_plan_in_another_browser(
    watched: Watched, dashboard: Dashboard, browser: BrowserContext
) -> None:
    page = open_view(watched, dashboard, "demo", "what_if")
    press(page, "Start from the live fleet")
    planned(page)
    page.get_by_text("as measured", exact=True).first.click()
    settled(page)
    mine, drawn = headline(page), page.locator(".gf .layout").evaluate_all("all => all.map(one => one.ariaLabel)")
    assert browser.browser is not None
    other = browser.browser.new_context(viewport={"width": 1400, "height": 2200})
    try:
        there = other.new_page()
        there.goto(page.url, wait_until="commit")
        assert headline(there) == mine
        assert there.locator(".gf .layout").evaluate_all("all => all.map(one => one.ariaLabel)") == drawn
        assert there.url == page.url
    finally:
        other.close()
    watched.is_well()


def test_an_illegal_layout_by_hand_is_refused(watched: Watched, dashboard: Dashboard) -> None:
    scenario = empty(Request(profile="3g.20gb", count=2))
    page = open_view(watched, dashboard, "demo", f"what_if?scenario={to_link(scenario)}")
    planned(page)
    page.get_by_role("button", name="node-1/0").click()
    expect(page.get_by_text("What is left")).to_be_visible()
    settled(page)
    press(page, "Empty")
    choose(page, "Profile", "3g.20gb")
    choose(page, "Start", "2")
    press(page, "Add it")
    expect(page.get_by_role("alert")).to_contain_text("Refused. 3g.20gb cannot lie at 2:4 on A100-40GB")
    choose(page, "Start", "4")
    press(page, "Add it")
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_role("button", name="✕ 3g.20gb at 4")).to_be_visible()
    watched.is_well()


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=re.compile(f"{label}$|{label}\\.")).first.click()
    page.get_by_role("option", name=option, exact=True).click()
    settled(page)


def test_a_scenario_is_saved_and_opened_in_another_session(watched: Watched, dashboard: Dashboard) -> None:
    page = open_view(watched, dashboard, "demo", f"what_if?scenario={to_link(live())}")
    planned(page)
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_label("Name", exact=True).fill("ten more <b>GPUs</b>")
    page.get_by_label("Name", exact=True).press("Enter")
    settled(page)
    page.get_by_role("button", name="Save in the store").click()
    expect(page.get_by_text("Saved as “ten more <b>GPUs</b>”.")).to_be_visible()
    mine = headline(page)
    page.goto(f"{dashboard.url}/what_if", wait_until="commit")
    page.get_by_role("button", name="Open it").click()
    assert headline(page) == mine
    expect(page.get_by_text("ten more <b>GPUs</b>", exact=True).first).to_be_visible()
    press(page, "Start over")
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_text("Deleted “ten more <b>GPUs</b>”.")).to_be_visible()
    watched.is_well()


def test_a_broken_address_is_told_and_harms_nothing(watched: Watched, dashboard: Dashboard) -> None:
    link = to_link(live())
    assert link is not None
    for broken in (link[: len(link) // 2], "1.%3Cscript%3Ewindow.pwned=1%3C/script%3E", "x" * 31_000):
        page = open_view(watched, dashboard, "demo", f"what_if?scenario={broken}")
        expect(page.get_by_text("This link holds no scenario that can be opened")).to_be_visible()
        expect(page.get_by_role("button", name="Start from the live fleet")).to_be_visible()
    assert page.evaluate("window.pwned") is None
    watched.is_well()


def test_a_thousand_gpus_stay_usable(watched: Watched, dashboard: Dashboard) -> None:
    requests = [("1g.10gb", 2200), ("1g.20gb", 400), ("2g.20gb", 700), ("3g.40gb", 600), ("4g.40gb", 150)]
    scenario = empty(
        *(Request(profile=name, count=count) for name, count in requests), nodes=125, gpus=8, board="H100-80GB-SXM"
    )
    page = open_view(watched, dashboard, "demo", f"what_if?scenario={to_link(scenario)}")
    assert "of 1,000" in " ".join(headline(page))
    assert page.locator(".gf .layout").count() <= 2 * 8
    expect(page.get_by_text("alike").first).to_be_visible()
    section(page, "Changes")
    expect(page.get_by_text("Who goes where")).to_be_visible()
    assert page.locator(".gf tr").count() < 100
    section(page, "Layouts")
    watched.is_well()


def test_names_from_a_cluster_are_shown_as_they_are_spelled(watched: Watched, dashboard: Dashboard) -> None:
    page = open_view(watched, dashboard, "hostile", "what_if")
    press(page, "Start from the live fleet")
    planned(page)
    for name in ("Layouts", "Changes", "By hand", "Compare", "Export"):
        section(page, name)
        assert page.evaluate("window.pwned") is None
        assert page.locator("img[src=x]").count() == 0
    section(page, "Layouts")
    expect(page.get_by_role("button", name=f"{HOSTILE[1]}/1")).to_be_visible()
    watched.is_well()
