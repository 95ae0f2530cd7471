"""The configuration file: what is accepted, and what each refusal says."""

from pathlib import Path
from typing import Any

import pytest

from gpufleet.config import load_config, parse_config, shown
from gpufleet.errors import ConfigurationError

GOOD = """
version = 1
[store]
url = "sqlite:///gpufleet.db"
[[sources.prometheus]]
name = "main"
url = "http://prometheus:9090"
bearer_token_file = "token"
[[sources.dcgm]]
name = "node-a"
url = "http://node-a:9400/metrics"
[[reports]]
name = "weekly"
cron = "0 7 * * MON"
directory = "reports"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "gpufleet.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(raw: dict[str, Any], directory: Path, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse_config(raw, origin="test", directory=directory, environ=environ or {})
    return caught.value.problems


def test_the_documented_file_is_accepted_and_paths_start_at_its_folder(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n", encoding="utf-8")
    config = load_config(write(tmp_path, GOOD), environ={})
    assert config.store.url == f"sqlite:///{tmp_path}/gpufleet.db"
    assert config.report("weekly").directory == tmp_path / "reports"
    assert [table.name for table in config.sources["prometheus"]] == ["main"]
    assert config.sources["prometheus"][0].bearer_token.get_secret_value() == "s3cret"
    assert config.sources["dcgm"][0].cluster == "default"


def test_a_secret_is_masked_wherever_the_configuration_is_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret", encoding="utf-8")
    config = load_config(write(tmp_path, GOOD), environ={})
    assert "s3cret" not in repr(config)
    assert "s3cret" not in str(shown(config))
    assert shown(config)["sources"]["prometheus"][0]["bearer_token"] == "********"


def test_the_password_in_a_store_url_is_masked(tmp_path: Path) -> None:
    raw = {"version": 1, "store": {"url": "postgresql://fleet:hunter2@db/fleet"}}
    config = parse_config(raw, origin="test", directory=tmp_path, environ={})
    assert shown(config)["store"]["url"] == "postgresql://fleet:********@db/fleet"


def test_a_secret_comes_from_the_environment(tmp_path: Path) -> None:
    raw = {"version": 1, "sources": {"prometheus": [{"name": "main", "url": "http://p:9090"}]}}
    config = parse_config(
        raw, origin="test", directory=tmp_path, environ={"GPUFLEET_PROMETHEUS_MAIN_BEARER_TOKEN": "from-env"}
    )
    assert config.sources["prometheus"][0].bearer_token.get_secret_value() == "from-env"


def test_a_secret_in_the_file_itself_is_refused_without_repeating_it(tmp_path: Path) -> None:
    raw = {"version": 1, "sources": {"prometheus": [{"name": "m", "url": "http://p", "bearer_token": "s3cret"}]}}
    (problem,) = problems(raw, tmp_path)
    assert "bearer_token_file" in problem
    assert "s3cret" not in problem


@pytest.mark.parametrize(("content", "said"), [(None, "cannot be read"), ("", "is empty")])
def test_a_secret_file_that_gives_nothing_is_an_error(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "token").write_text(content, encoding="utf-8")
    raw = {
        "version": 1,
        "sources": {"prometheus": [{"name": "m", "url": "http://p", "bearer_token_file": "token"}]},
    }
    (problem,) = problems(raw, tmp_path)
    assert said in problem


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"version": 1, "sorces": {}}, "sorces: unknown key; did you mean 'sources'?"),
        ({"version": 1, "store": {"ulr": "x"}}, "store.ulr: unknown key; did you mean 'url'?"),
        (
            {"version": 1, "sources": {"dcmg": []}},
            "sources.dcmg: there is no such kind of source; did you mean 'dcgm'?",
        ),
        (
            {"version": 1, "sources": {"dcgm": [{"name": "a", "url": "http://a/metrics", "intervall_s": 3}]}},
            "sources.dcgm[0].intervall_s: unknown key; did you mean 'interval_s'?",
        ),
        ({"version": 2}, "version: this gpufleet reads version 1 of the configuration file; write version = 1"),
        ({}, "version: missing"),
        ({"version": 1, "sources": {"dcgm": {"name": "a"}}}, "sources.dcgm: write it with two brackets"),
        (
            {"version": 1, "reports": [{"name": "w", "cron": "7 o'clock", "directory": "r"}]},
            'reports.0.cron: "7 o\'clock" is no cron expression',
        ),
        (
            {"version": 1, "reports": [{"name": "../w", "cron": "0 7 * * *", "directory": "r"}]},
            "reports.0.name: String should match pattern",
        ),
        (
            {"version": 1, "reports": [{"name": "w", "cron": "0 7 * * *", "directory": "r", "timezone": "Mars/X"}]},
            "reports.0.timezone: 'Mars/X' is no time zone",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place_and_a_way_out(tmp_path: Path, raw: dict[str, Any], said: str) -> None:
    assert any(problem.startswith(said) for problem in problems(raw, tmp_path)), problems(raw, tmp_path)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    raw = {"version": 3, "stor": {}, "sources": {"dcmg": []}}
    assert len(problems(raw, tmp_path)) == 3


def test_two_sources_of_one_name_are_refused_within_a_cluster_and_allowed_across(tmp_path: Path) -> None:
    def raw(second_cluster: str) -> dict[str, Any]:
        return {
            "version": 1,
            "sources": {
                "dcgm": [
                    {"name": "a", "url": "http://a/metrics"},
                    {"name": "a", "url": "http://b/metrics", "cluster": second_cluster},
                ]
            },
        }

    assert problems(raw("default"), tmp_path) == ["two sources of cluster 'default' are named 'a'; rename one"]
    parse_config(raw("other"), origin="test", directory=tmp_path, environ={})


@pytest.mark.parametrize(
    ("text", "said"),
    [("version = ", "not valid TOML"), (None, "no such file"), ("version = 1\n\x80", "not UTF-8")],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "gpufleet.toml"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError, match=said):
        load_config(path, environ={})
