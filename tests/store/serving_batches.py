"""What serving engines, Kubernetes and gateways say, in short: for the tests of the store."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from planner.cluster_facts import ClaimedDevice, KubernetesNode, KubernetesPod, KubernetesQuota, Sharing
from planner.serving_readings import (
    CounterReading,
    GaugeReading,
    HistogramReading,
    ServedModel,
    ServingEngine,
    ServingFact,
    ServingSubject,
)
from planner.token_usage import CumulativeSpend, TokenUsage
from planner.units import GpuUuid, NodeName
from tests.store.batches import NOW, after

ENDPOINT = "10.0.0.7:8000"
MODEL = "meta-llama/Llama-3.1-8B-Instruct"


def who(endpoint: str = ENDPOINT, model: str = MODEL, rank: str = "") -> ServingSubject:
    return ServingSubject(endpoint=endpoint, model=model, rank=rank)


def gauge(at: float, metric: str, value: float, label: str = "", subject: ServingSubject | None = None) -> GaugeReading:
    return GaugeReading(subject=subject or who(), metric=metric, value=value, observed_at=after(at), label=label)


def counter(
    at: float,
    value: float,
    metric: str = "generation_tokens",
    *,
    label: str = "",
    subject: ServingSubject | None = None,
    started: float | None = None,
) -> CounterReading:
    return CounterReading(
        subject=subject or who(),
        metric=metric,
        value=value,
        observed_at=after(at),
        label=label,
        started_at=None if started is None else after(started),
    )


def histogram(
    at: float,
    counts: Sequence[float],
    total: float,
    metric: str = "ttft_s",
    *,
    bounds: Sequence[float] = (0.1, 1.0),
    subject: ServingSubject | None = None,
    started: float | None = None,
) -> HistogramReading:
    """`counts` are cumulative, the last one counts all values."""
    return HistogramReading(
        subject=subject or who(),
        metric=metric,
        bounds=tuple(bounds),
        counts=tuple(counts[:-1]),
        count=counts[-1],
        total=total,
        observed_at=after(at),
        started_at=None if started is None else after(started),
    )


def server(
    at: float,
    endpoint: str = ENDPOINT,
    *,
    engine: ServingEngine = ServingEngine.VLLM,
    version: str | None = "0.33.0",
    models: Sequence[str | ServedModel] = (MODEL,),
    pod: tuple[str, str] | None = None,
    **more: Any,
) -> ServingFact:
    return ServingFact(
        observed_at=after(at),
        endpoint=endpoint,
        engine=engine,
        version=version,
        models=tuple(one if isinstance(one, ServedModel) else ServedModel(name=one) for one in models),
        pod_namespace=pod[0] if pod else None,
        pod_name=pod[1] if pod else None,
        **more,
    )


def node(name: str = "node-a", *, gpus: int = 8, sharing: Sharing | None = None, **more: Any) -> KubernetesNode:
    told: dict[str, Any] = {
        "name": NodeName(name),
        "uid": f"uid-{name}",
        "labels": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
        "capacity": {"nvidia.com/gpu": gpus},
        "allocatable": {"nvidia.com/gpu": gpus},
        "taints": (),
        "unschedulable": False,
        "ready": True,
        "product": "NVIDIA-H100-80GB-HBM3",
        "gpu_count": gpus,
        "replicas": None,
        "sharing": sharing,
        "mig_strategy": None,
        "mig_config": None,
        "mig_config_state": None,
    }
    return KubernetesNode(**told | more)


def kubernetes_pod(
    name: str = "a",
    *,
    namespace: str = "inference",
    on: str | None = "node-a",
    gpus: int = 1,
    created_at: datetime = NOW,
    **more: Any,
) -> KubernetesPod:
    told: dict[str, Any] = {
        "namespace": namespace,
        "name": name,
        "uid": f"uid-{namespace}-{name}",
        "node": None if on is None else NodeName(on),
        "phase": "Running",
        "owner_kind": "Deployment",
        "owner_name": "llm",
        "priority": 0,
        "priority_class": None,
        "requests": {"nvidia.com/gpu": gpus} if gpus else {},
        "containers": ("vllm",),
        "pod_ip": None,
        "host_ip": None,
        "labels": {},
        "claims": (),
        "pending_reason": None,
        "created_at": created_at,
        "started_at": created_at,
    }
    return KubernetesPod(**told | more)


def quota(name: str = "gpus", *, hard: int = 8, used: int = 3) -> KubernetesQuota:
    return KubernetesQuota(
        namespace="inference",
        name=name,
        hard={"requests.nvidia.com/gpu": hard},
        used={"requests.nvidia.com/gpu": used},
    )


def claim(
    name: str = "claim", *, pods: Sequence[str] = ("a",), gpu_uuid: str | None = None, **more: Any
) -> ClaimedDevice:
    told: dict[str, Any] = {
        "claim_namespace": "inference",
        "claim_name": name,
        "pods": tuple(pods),
        "driver": "gpu.nvidia.com",
        "pool": "node-a",
        "device": "gpu-0",
        "node": NodeName("node-a"),
        "gpu_uuid": None if gpu_uuid is None else GpuUuid(gpu_uuid),
        "mig_uuid": None,
        "profile": None,
        "pci_bus_id": None,
    }
    return ClaimedDevice(**told | more)


def usage(hour: int, model: str = MODEL, *, hours: int = 1, **more: Any) -> TokenUsage:
    """What was used in an hour, counted from NOW."""
    return TokenUsage(start=after(3600 * hour), end=after(3600 * (hour + hours)), model=model, **more)


def spend(
    at: float, value: float, quantity: str = "cost_usd", *, started: float | None = None, **more: Any
) -> CumulativeSpend:
    told: dict[str, Any] = {"gateway": "litellm:4000", "model": MODEL, "dimension": "team", "owner": "search"}
    return CumulativeSpend(
        quantity=quantity,
        value=value,
        observed_at=after(at),
        started_at=None if started is None else after(started),
        **told | more,
    )
