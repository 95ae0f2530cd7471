"""What `gpufleet run` hands to its background collection where flags say what to read."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from collectors.dcgm.through_prometheus import PrometheusCollector
from collectors.serving.through_prometheus import ServingThroughPrometheus
from gpufleet import launch, service
from gpufleet.cli import app
from gpufleet.config import Config, load_config
from gpufleet.launch import Part

URL = "http://prometheus.monitoring:9090"


class Started:
    """The parts that a run would have started, and the configuration that the collection was given."""

    def __init__(self) -> None:
        self.parts: Sequence[Part] = ()
        self.raw: dict[str, Any] = {}
        self.config: Config | None = None

    def __call__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        path = Path(parts[0].command[-1])
        self.raw = tomllib.loads(path.read_text(encoding="utf-8"))
        self.config = load_config(path, environ={})


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Started:
    found = Started()
    monkeypatch.setattr(launch, "run_together", found)
    monkeypatch.setenv("GPUFLEET_STORE_URL", f"sqlite:///{tmp_path}/gpufleet.db")
    monkeypatch.chdir(tmp_path)
    return found


def run(*arguments: str) -> str:
    answer = CliRunner().invoke(app, ["run", *arguments], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_a_prometheus_is_read_for_gpus_and_for_serving_engines(started: Started) -> None:
    run("--prometheus", URL)
    assert started.raw["sources"] == {
        "prometheus": [{"name": "prometheus", "url": URL}],
        "serving": [{"name": "serving", "prometheus": URL}],
    }
    assert started.config is not None
    collectors = service.build_collectors(started.config)
    try:
        assert {type(one) for one in collectors} == {PrometheusCollector, ServingThroughPrometheus}
        assert {one.cluster for one in collectors} == {"default"}
    finally:
        for one in collectors:
            one.close()


def test_exporters_are_one_source(started: Started) -> None:
    run("--dcgm", "http://node-a:9400/metrics", "http://node-b:9400/metrics")
    targets = ["http://node-a:9400/metrics", "http://node-b:9400/metrics"]
    assert started.raw["sources"] == {"dcgm": [{"name": "dcgm", "targets": targets}]}


def test_the_configuration_made_from_flags_is_gone_after_the_run(started: Started, tmp_path: Path) -> None:
    run("--prometheus", URL)
    assert [part.name for part in started.parts] == ["background collection", "dashboard"]
    assert list(tmp_path.glob(".gpufleet-run-*")) == []


def test_an_address_that_is_none_is_refused_before_anything_starts(started: Started, tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["run", "--prometheus", "prometheus:9090"])
    assert answer.exit_code == 2
    assert "write a whole address" in answer.stderr
    assert (started.parts, list(tmp_path.iterdir())) == ((), [])
