"""Facts of a cluster in short, for the tests of the join."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from planner.cluster_facts import ClaimedDevice, KubernetesNode, KubernetesPod, Sharing
from planner.fleet import Pod
from planner.join_facts import DeviceFacts, EngineTraffic, JoinFacts, ModelUse, ServerFacts
from planner.readings import Subject
from planner.serving_readings import ServedModel, ServingEngine, ServingFact
from planner.units import GpuUuid, NodeName

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def gpu(number: int, gi_id: int | None = None) -> Subject:
    return Subject(gpu_uuid=GpuUuid(f"GPU-{number}"), gi_id=gi_id)


def device(
    number: int = 0,
    *pods: str | Pod,
    gi_id: int | None = None,
    node: str = "node-a",
    sm: float | None = None,
    **more: Any,
) -> DeviceFacts:
    """A device with pods of the namespace `team`, by name."""
    return DeviceFacts(
        subject=gpu(number, gi_id),
        node=NodeName(node),
        pods=tuple(Pod(namespace="team", name=one) if isinstance(one, str) else one for one in pods),
        sm_active_ratio=sm,
        **more,
    )


def traffic(
    model: str = LLAMA, *, requests: float | None = None, tokens: float | None = None, **more: Any
) -> EngineTraffic:
    """What an engine counted in the hour; `tokens` are generated ones."""
    return EngineTraffic(
        model=model, requests=requests, generation_tokens=tokens, **{"covered_s": HOUR.total_seconds()} | more
    )


def server(
    endpoint: str = "10.0.0.7:8000",
    *counted: EngineTraffic,
    pod: str | None = None,
    engine: ServingEngine = ServingEngine.VLLM,
    models: Sequence[str | ServedModel] = (LLAMA,),
    is_asleep: bool = False,
    **more: Any,
) -> ServerFacts:
    """A server that runs in a pod of the namespace `team`, where discovery names it."""
    return ServerFacts(
        fact=ServingFact(
            observed_at=NOW,
            endpoint=endpoint,
            engine=engine,
            version="0.33.0",
            models=tuple(one if isinstance(one, ServedModel) else ServedModel(name=one) for one in models),
            pod_namespace="team" if pod else None,
            pod_name=pod,
            **more,
        ),
        traffic=counted,
        is_asleep=is_asleep,
    )


def kubernetes_pod(name: str, *, node: str | None = "node-a", gpus: int = 1, **more: Any) -> KubernetesPod:
    told: dict[str, Any] = {
        "namespace": "team",
        "name": name,
        "uid": f"uid-{name}",
        "node": None if node is None else NodeName(node),
        "phase": "Running",
        "owner_kind": "Deployment",
        "owner_name": None,
        "priority": None,
        "priority_class": None,
        "requests": {"nvidia.com/gpu": gpus} if gpus else {},
        "containers": ("vllm",),
        "pod_ip": None,
        "host_ip": None,
        "labels": {},
        "claims": (),
        "pending_reason": None,
        "created_at": NOW,
        "started_at": NOW,
    }
    return KubernetesPod(**told | more)


def kubernetes_node(
    name: str = "node-a", *, sharing: Sharing | None = None, replicas: int | None = None, addresses: Sequence[str] = ()
) -> KubernetesNode:
    return KubernetesNode(
        name=NodeName(name),
        uid=f"uid-{name}",
        labels={},
        capacity={"nvidia.com/gpu": 8},
        allocatable={"nvidia.com/gpu": 8},
        taints=(),
        unschedulable=False,
        ready=True,
        product=None,
        gpu_count=8,
        replicas=replicas,
        sharing=sharing,
        mig_strategy=None,
        mig_config=None,
        mig_config_state=None,
        addresses=tuple(addresses),
    )


def claim(*pods: str, **more: Any) -> ClaimedDevice:
    told: dict[str, Any] = {
        "claim_namespace": "team",
        "claim_name": "claim",
        "pods": pods,
        "driver": "gpu.nvidia.com",
        "pool": "node-a",
        "device": "gpu-0",
        "node": NodeName("node-a"),
        "gpu_uuid": None,
        "mig_uuid": None,
        "profile": None,
        "pci_bus_id": None,
    }
    return ClaimedDevice(**told | more)


def use(
    model: str = LLAMA, owner: str = "", *, requests: float | None = None, cost: float | None = None, **more: Any
) -> ModelUse:
    return ModelUse(model=model, owner=owner, requests=requests, cost_usd=cost, **more)


def facts(
    *devices: DeviceFacts,
    servers: Sequence[ServerFacts] = (),
    uses: Sequence[ModelUse] = (),
    aliases: Mapping[str, str] | None = None,
    **more: Any,
) -> JoinFacts:
    """An hour of one cluster."""
    return JoinFacts(
        start=NOW - HOUR,
        end=NOW,
        devices=devices,
        servers=tuple(servers),
        uses=tuple(uses),
        aliases=aliases or {},
        **{name: tuple(value) if isinstance(value, list) else value for name, value in more.items()},
    )
