"""The JSON of the commands: unknown is null, never 0 and never left out."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from collectors.errors import Unreachable
from collectors.runner import Outcome
from gpufleet.json_output import collect_document, fleet_document
from planner.fleet import DeviceEngine, DeviceState, Fleet, Gpu, GpuInstance, Node, Observation, Pod, Verdict
from planner.hardware import MigMode
from planner.links import Certainty
from planner.metrics import METRICS, Level
from planner.readings import Gap
from planner.serving_readings import ServingEngine
from planner.units import GpuUuid, NodeName
from tests.conftest import ROOT

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


def test_a_device_has_its_engines_with_how_sure_and_why() -> None:
    engine: dict[str, Any] = {
        "endpoint": "e:1",
        "engine": ServingEngine.VLLM,
        "version": None,
        "models": ("llama",),
        "is_loaded": True,
        "pod": "ml/chat-0",
        "certainty": Certainty.LIKELY,
        "links": ("A is B.", "B is C."),
        "devices": 2,
        "share_ratio": 0.25,
        "split": "split by something",
        "requests": 1.0,
        "prompt_tokens": 300.0,
        "generation_tokens": 100.0,
        "requests_running": None,
        "covered_s": 50.0,
        "covered_ratio": 0.5,
    }
    split, unsplit = DeviceEngine(**engine), DeviceEngine(**engine | {"share_ratio": None, "models": ("a", "b")})
    (gpu,) = fleet().gpus()
    with_engines = replace(gpu.instances[0], engines=(split, unsplit), not_attributable="two pods share it")
    nodes = (Node(name=NodeName("a"), cluster="default", gpus=(replace(gpu, instances=(with_engines,)),)),)
    (shown,) = fleet_document(Fleet(taken_at=NOW, nodes=nodes))["nodes"][0]["gpus"]
    assert (shown["engines"], shown["tokens_per_s"], shown["not_attributable"]) == ([], None, None)
    (instance,) = shown["instances"]
    assert instance["engines"][0] == {
        "endpoint": "e:1",
        "engine": "vllm",
        "model": "llama",
        "models": ["llama"],
        "model_loaded": True,
        "pod": "ml/chat-0",
        "tokens_per_s": 2.0,  # 400 tokens in 50 s, a quarter of them here
        "tokens_reason": "split by something",
        "certainty": "likely",
        "reason": "A is B. B is C.",
    }
    assert (instance["engines"][1]["model"], instance["engines"][1]["tokens_per_s"]) == (None, None)
    assert "cannot be split" in instance["engines"][1]["tokens_reason"]
    assert (instance["tokens_per_s"], instance["not_attributable"]) == (None, "two pods share it")
    documented = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    assert [
        key for key in instance["engines"][0] if not re.search(rf"`(engines\[\]\.)?{key}(\[\])?`", documented)
    ] == []


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
