"""Objects of the API written by hand, as short as a test allows."""

from typing import Any

from collectors.kubernetes.wire import NodeObject, PodObject, reader
from collectors.kubernetes.wire_claims import ClaimObject, SliceObject

JsonObject = dict[str, Any]

CREATED = "2026-11-01T08:00:00Z"


def node_json(name: str = "n1", labels: dict[str, str] | None = None, **status: Any) -> JsonObject:
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "creationTimestamp": CREATED, "labels": labels or {}},
        "spec": {},
        "status": status,
    }


def node(name: str = "n1", labels: dict[str, str] | None = None, **status: Any) -> NodeObject:
    return reader(NodeObject)(node_json(name, labels, **status))


def container(name: str = "main", resources: JsonObject | None = None, **rest: Any) -> JsonObject:
    return {"name": name, "image": "x", "resources": resources or {}, **rest}


def asks(**counts: Any) -> JsonObject:
    """`resources` with requests and limits alike; `gpu` and `mig_1g_5gb` stand for the names of resources."""
    names = {"gpu": "nvidia.com/gpu", "mig_1g_5gb": "nvidia.com/mig-1g.5gb", "mig_2g_10gb": "nvidia.com/mig-2g.10gb"}
    given = {names[key]: str(count) for key, count in counts.items()}
    return {"requests": given, "limits": given}


def pod_json(
    *containers: JsonObject,
    name: str = "p1",
    namespace: str = "team-a",
    metadata: JsonObject | None = None,
    spec: JsonObject | None = None,
    status: JsonObject | None = None,
) -> JsonObject:
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "creationTimestamp": CREATED,
            **(metadata or {}),
        },
        "spec": {"containers": list(containers) or [container()], **(spec or {})},
        "status": {"phase": "Running", **(status or {})},
    }


def pod(*containers: JsonObject, **rest: Any) -> PodObject:
    return reader(PodObject)(pod_json(*containers, **rest))


def owned_by(kind: str, name: str) -> JsonObject:
    reference = {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u", "controller": True}
    return {"ownerReferences": [reference]}


def slice_json(
    *devices: JsonObject,
    node_name: str | None = "n1",
    driver: str = "gpu.nvidia.com",
    pool: str = "n1",
    generation: int = 1,
    name: str = "s1",
) -> JsonObject:
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "creationTimestamp": CREATED},
        "spec": {
            "driver": driver,
            "pool": {"name": pool, "generation": generation, "resourceSliceCount": 1},
            "nodeName": node_name,
            "devices": list(devices),
        },
    }


def slice_of(*devices: JsonObject, **rest: Any) -> SliceObject:
    return reader(SliceObject)(slice_json(*devices, **rest))


def device(name: str, **attributes: Any) -> JsonObject:
    """A device of v1; values are texts unless given as `{"version": ...}` and the like."""
    typed = {key: value if isinstance(value, dict) else {"string": value} for key, value in attributes.items()}
    return {"name": name, "attributes": typed}


def claim_json(
    *results: JsonObject,
    name: str = "c1",
    namespace: str = "team-a",
    pods: tuple[str, ...] = ("p1",),
    node_selector: JsonObject | None = None,
) -> JsonObject:
    allocation: JsonObject = {"devices": {"results": list(results)}}
    if node_selector is not None:
        allocation["nodeSelector"] = node_selector
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", "creationTimestamp": CREATED},
        "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.nvidia.com"}}]}},
        "status": {
            "allocation": allocation,
            "reservedFor": [{"resource": "pods", "name": one, "uid": "u"} for one in pods],
        },
    }


def claim(*results: JsonObject, **rest: Any) -> ClaimObject:
    return reader(ClaimObject)(claim_json(*results, **rest))


def given(device_name: str, *, driver: str = "gpu.nvidia.com", pool: str = "n1", **rest: Any) -> JsonObject:
    return {"request": "gpu", "driver": driver, "pool": pool, "device": device_name, **rest}
