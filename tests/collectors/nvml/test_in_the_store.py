"""From the driver into the store and out as a fleet: placements are known, and Xids, pods and memory are there."""

from datetime import timedelta
from pathlib import Path

from collectors.runner import run_once
from store.database import open_engine
from store.fleet_snapshot import take_snapshot
from store.schema import migrate
from tests.collectors.nvml.fake_nvml.boards import MIB, h100_mixed, h200
from tests.collectors.nvml.readings import AT, NODE, machine


def test_a_fleet_with_known_placements(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/store.db")
    try:
        migrate(engine)
        with machine(h100_mixed(), h200()) as running:
            for minutes in range(3):
                (outcome,) = run_once(engine, running.collector, AT + timedelta(minutes=minutes))
                assert outcome.error is None
                assert outcome.target == NODE
        fleet = take_snapshot(engine, AT + timedelta(minutes=3), window=timedelta(minutes=10))
    finally:
        engine.dispose()
    (node,) = fleet.nodes
    assert node.name == NODE
    cut, whole = sorted(node.gpus, key=lambda gpu: gpu.index or 0)
    assert [(one.gi_id, one.profile, one.start) for one in cut.instances] == [
        (3, "2g.20gb", 0),
        (9, "1g.10gb", 2),
        (10, "1g.10gb", 3),
        (2, "3g.40gb", 4),
    ]
    assert whole.model_name == "NVIDIA H200"
    assert whole.usage is not None
    assert whole.usage.metrics["memory_used_bytes"].maximum == 32362 * MIB
    assert whole.usage.metrics["sm_active_ratio"].maximum == 0.4325
