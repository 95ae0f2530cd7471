"""The demo store: made by the collector's own code, with a past up to the present, and the same when made twice."""

import itertools
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from planner.advice import advise
from planner.fleet import Fleet
from sample_data.cluster import simulated_cluster
from sample_data.demo_store import build_demo_store
from store.database import open_engine
from store.fleet_snapshot import take_snapshot

UNTIL = datetime(2026, 11, 18, 10, 7, 30, tzinfo=UTC)


def _fleet(url: str) -> Fleet:
    engine = open_engine(url, read_only=True)
    try:
        return take_snapshot(engine, UNTIL)
    finally:
        engine.dispose()


def _rows(file: Path) -> dict[str, list[tuple[object, ...]]]:
    connection = sqlite3.connect(file)
    try:
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        return {table: sorted(connection.execute(f'select * from "{table}"'), key=repr) for table in tables}
    finally:
        connection.close()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("demo") / "demo.db"
    assert build_demo_store(f"sqlite:///{file}", until=UNTIL, hours=1, step_s=600) == 6 * 7
    return file


def test_the_store_holds_the_whole_cluster_as_it_is(demo: Path) -> None:
    cluster, fleet = simulated_cluster(), _fleet(f"sqlite:///{demo}")
    assert {node.name: [gpu.uuid for gpu in node.gpus] for node in fleet.nodes} == {
        node.name: [gpu.uuid for gpu in node.gpus] for node in cluster.nodes
    }
    simulated = {gpu.uuid: gpu for node in cluster.nodes for gpu in node.gpus}
    for gpu in fleet.gpus():
        expected = simulated[gpu.uuid]
        assert gpu.model_name == expected.board.product
        assert gpu.board is not None or expected.board.name == "L40S"
        assert {each.gi_id: each.profile for each in gpu.instances} == {
            each.gi_id: each.profile for each in expected.instances or ()
        }
        assert [pod.name for pod in gpu.pods] == ([expected.pod.name] if expected.pod else [])


def test_the_past_ends_with_the_present(demo: Path) -> None:
    observed = {int(str(row[1])) for row in _rows(demo)["sample"]}
    assert len(observed) == 7
    assert max(observed) == int(UNTIL.timestamp() * 1000)
    assert all(gpu.last_seen == UNTIL for gpu in _fleet(f"sqlite:///{demo}").gpus())


def test_every_state_of_a_device_is_there_to_be_seen(demo: Path) -> None:
    states = {str(device.verdict.state) for device in _fleet(f"sqlite:///{demo}").devices()}
    assert {"serving", "loaded-idle", "held", "free"} <= states


def test_a_better_cut_frees_half_of_the_gpus_in_use(demo: Path) -> None:
    advice = {board.board.name: board for board in advise(_fleet(f"sqlite:///{demo}")).boards}
    for name in ("A100-40GB", "H100-80GB-SXM"):
        assert advice[name].gpus_needed <= advice[name].gpus_now / 2
        assert not advice[name].unplaced


def test_building_it_again_changes_nothing(demo: Path) -> None:
    before = _rows(demo)
    build_demo_store(f"sqlite:///{demo}", until=UNTIL, hours=1, step_s=600)
    assert _rows(demo) == before


def test_building_it_later_goes_on_from_there(tmp_path: Path) -> None:
    file = tmp_path / "demo.db"
    for until in (UNTIL - timedelta(minutes=20), UNTIL):
        build_demo_store(f"sqlite:///{file}", nodes=1, until=until, hours=0.5, step_s=300)
    observed = sorted({int(str(row[1])) // 1000 for row in _rows(file)["sample"]})
    assert observed[-1] == UNTIL.timestamp()
    assert max(later - earlier for earlier, later in itertools.pairwise(observed)) <= 300


def test_a_time_without_a_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="time zone"):
        build_demo_store(f"sqlite:///{tmp_path / 'demo.db'}", until=UNTIL.replace(tzinfo=None))
