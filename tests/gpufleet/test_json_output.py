"""The JSON of the commands: unknown is null, never 0 and never left out."""

import json
from datetime import UTC, datetime

from collectors.errors import Unreachable
from collectors.runner import Outcome
from gpufleet.json_output import collect_document, fleet_document
from planner.fleet import DeviceState, Fleet, Gpu, GpuInstance, Node, Observation, Pod, Verdict
from planner.hardware import MigMode
from planner.metrics import METRICS, Level
from planner.readings import Gap
from planner.units import GpuUuid, NodeName

NOW = datetime(2026, 11, 19, 12, tzinfo=UTC)
UNKNOWN = Verdict(state=DeviceState.UNKNOWN, reason="no samples")


def fleet() -> Fleet:
    instance = GpuInstance(
        gi_id=9,
        profile="1g.5gb",
        start=None,
        metrics={"memory_used_bytes": Observation(value=0.0, observed_at=NOW)},
        pods=(Pod(namespace="ml", name="chat-0"),),
        usage=None,
        verdict=UNKNOWN,
        first_seen=NOW,
        last_seen=NOW,
    )
    gpu = Gpu(
        uuid=GpuUuid("GPU-1"),
        index=None,
        node=NodeName("a"),
        model_name="NVIDIA Something New",
        board=None,
        pci_bus_id=None,
        driver_version=None,
        mig_mode=MigMode.ENABLED,
        metrics={"power_watts": Observation(value=61.5, observed_at=NOW)},
        pods=(),
        instances=(instance,),
        usage=None,
        verdict=UNKNOWN,
        first_seen=NOW,
        last_seen=NOW,
    )
    return Fleet(taken_at=NOW, nodes=(Node(name=NodeName("a"), cluster="default", gpus=(gpu,)),))


def test_every_metric_is_there_and_null_where_it_is_unknown() -> None:
    (gpu,) = fleet_document(fleet())["nodes"][0]["gpus"]
    assert list(gpu["metrics"]) == [metric.name for metric in METRICS]
    assert gpu["metrics"]["power_watts"] == 61.5
    assert gpu["metrics"]["gpu_busy_ratio"] is None
    assert gpu["memory_total_bytes"] is None
    assert gpu["board"] == "NVIDIA Something New"
    assert gpu["mig_mode"] == "enabled"


def test_an_instance_has_no_whole_gpu_metrics_and_a_zero_stays_a_zero() -> None:
    (instance,) = fleet_document(fleet())["nodes"][0]["gpus"][0]["instances"]
    assert "power_watts" not in instance["metrics"]
    assert set(instance["metrics"]) == {metric.name for metric in METRICS if metric.level is Level.DEVICE}
    assert instance["memory_used_bytes"] == 0.0
    assert instance["start"] is None
    assert instance["pods"] == [{"namespace": "ml", "name": "chat-0", "container": None, "uid": None}]


def test_the_document_is_strict_json_with_utc_times() -> None:
    document = json.loads(json.dumps(fleet_document(fleet()), allow_nan=False))
    assert document["taken_at"] == "2026-11-19T12:00:00Z"


def outcome(*, readings: int = 0, error: Unreachable | None = None, gaps: tuple[Gap, ...] = ()) -> Outcome:
    return Outcome(
        source="main", target="p:9090", started_at=NOW, seconds=0.5, readings=readings, facts=1, gaps=gaps, error=error
    )


def test_windows_of_one_target_are_added_up_and_one_failure_is_a_failure() -> None:
    gap = Gap(subject="p:9090", metric="sm_active_ratio", reason="not in the counter list")
    (target,) = collect_document(
        [
            outcome(readings=10, gaps=(gap,)),
            outcome(readings=5, gaps=(gap,)),
            outcome(error=Unreachable("no answer within 10 s", source="main")),
        ]
    )
    assert target["readings"] == 15
    assert target["seconds"] == 1.5
    assert target["ok"] is False
    assert target["error"] == "no answer within 10 s"
    assert target["gaps"] == [{"subject": "p:9090", "metric": "sm_active_ratio", "reason": "not in the counter list"}]
