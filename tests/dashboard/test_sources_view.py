"""The Sources page on every kind of store: states, costs, lines to copy, and nothing that a cluster said as markup."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import streamlit as st
from sqlalchemy import text
from streamlit.testing.v1 import AppTest

from store.database import open_engine
from tests.dashboard.fleets import HOSTILE
from tests.dashboard.source_stores import write_huge, write_troubled
from tests.dashboard.test_views import html, shown, words


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('sources') / 'troubled.db'}"
    write_troubled(url, datetime.now(UTC))
    return url


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('sources') / 'huge.db'}"
    write_huge(url, datetime.now(UTC))
    return url


def page(url: str, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv("GPUFLEET_STORE_URL", url)
    st.cache_resource.clear()
    return shown("sources")


def test_each_source_says_its_state_the_worst_first(troubled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = words(html(page(troubled, monkeypatch)))
    assert "4 targets of 4 sources in 2 clusters: ✕ 1 failing ◐ 2 lacking ✓ 1 ok" in said
    places = [said.index(name) for name in ("litellm · cluster", "dcgm · cluster default · n1:9400", "n0:9400")]
    assert places == sorted(places)


def test_an_error_is_told_in_full_with_since_when_and_what_to_do(
    troubled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = page(troubled, monkeypatch)
    said = words(html(test))
    assert re.search(r"✕ Unreachable(?:&ensp;| )+since .* UTC \(60 min\), 2 attempts gateway:4000 did not answer", said)
    assert "Check the address and port from this machine ( curl -sv URL )" in said
    assert "curl -sv URL" in [block.value for block in test.code]


def test_a_gap_says_its_cost_since_when_and_the_lines_to_copy(troubled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test = page(troubled, monkeypatch)
    said = words(html(test))
    assert re.search(
        r"How many SMs the work needs is unknown: profiles are advised from engine activity alone\. sm_active_ratio "
        r"DCGM_FI_PROF_SM_ACTIVE is not in this exporter&#39;s counter list n1:9400 [\d:\- ]+UTC",
        said,
    )
    assert any("\nDCGM_FI_PROF_SM_ACTIVE, gauge, " in block.value for block in test.code)


def test_version_clock_age_and_attempts_stand_at_the_head(troubled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = html(page(troubled, monkeypatch))
    said = words(body)
    assert re.search(r"Version 4\.8\.2 Newest sample \d+ s old every&nbsp;60 min Clock \+0\.2 s Attempts of 24 h", said)
    assert "△ clock 47.0 s ahead of ours. Its values lie beside those of other moments" in said
    assert "Attempts of 24 h, 2 failed" in said
    assert len(re.findall(r'<i class="failed"[^>]*title="[^"]*: 0 ok, 1 failed"', body)) == 2


def test_a_state_can_be_picked(troubled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test = page(troubled, monkeypatch)
    test.get("button_group")[0].set_value(["ok"]).run()
    said = words(html(test))
    assert "n0:9400" in said
    assert "n1:9400" not in said
    test.get("button_group")[0].set_value(["never answered"]).run()
    assert "No source has a target in such a state." in words(html(test))


def test_nothing_that_a_cluster_said_is_markup(troubled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test = page(troubled, monkeypatch)
    body = html(test)
    assert "<script" not in body
    assert "<img" not in body
    assert "&lt;script&gt;window.pwned=1&lt;/script&gt;" in body
    assert HOSTILE[5] in test.multiselect[0].options


def test_a_store_without_diagnoses_says_so_and_shows_the_gaps(
    troubled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'older.db'}"
    write_troubled(url, datetime.now(UTC))
    _change(url, "DELETE FROM source_diagnosis")
    said = words(html(page(url, monkeypatch)))
    assert "No target in this store was diagnosed yet." in said
    assert "Not looked at yet: the running collector says what this costs with its next attempt." in said
    assert "sm_active_ratio" in said


def test_a_damaged_diagnosis_is_told_and_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'damaged.db'}"
    write_troubled(url, datetime.now(UTC))
    _change(url, "UPDATE source_diagnosis SET body = '{' WHERE target = 'n0:9400'")
    said = words(html(page(url, monkeypatch)))
    assert "the diagnosis of n0:9400 (source well) cannot be understood" in said
    assert "How many SMs the work needs is unknown" in said


def test_a_thousand_targets_are_summed_up_and_listed_on_demand(huge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test = page(huge, monkeypatch)
    said = words(html(test))
    assert "1000 targets: 897 ok, 100 lacking, 3 never answered" in said
    assert "sm_active_ratio DCGM_FI_PROF_SM_ACTIVE is not in this exporter&#39;s counter list 100 targets" in said
    assert "node-0009:9400" not in said
    test.toggle[0].set_value(True).run()
    rows = re.findall(r"<td class=\"name mono\">(node-\d+:9400)</td>", html(test))
    assert rows[:4] == ["node-0005:9400", "node-0505:9400", "node-0995:9400", "node-0009:9400"]
    assert len(rows) == 20
    assert "980 more targets" in words(html(test))
    test.text_input[0].set_value(" NODE-0777 ").run()
    assert re.findall(r"<td class=\"name mono\">(node-\d+:9400)</td>", html(test)) == ["node-0777:9400"]
    test.text_input[0].set_value("nobody").run()
    assert "No target of this source has that in its name." in words(html(test))


def _change(url: str, statement: str) -> None:
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()
