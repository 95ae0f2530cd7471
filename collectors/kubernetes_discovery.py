"""Finding what can be scraped by asking Kubernetes: pods by annotation, and the pods behind services by label.

Only lists, no watches: whoever discovers asks again on its own interval. All of it raises CollectorError, MissingRight
when the account may not list pods or services.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from collectors.kubernetes_access import KubernetesApi
from collectors.kubernetes_lists import JsonObject, NotUnderstood, ObjectName, Query, Reader

_ALIVE = "status.phase!=Succeeded,status.phase!=Failed"
_LABEL_KEY = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


def _or_empty(value: object) -> object:
    return {} if value is None else value


def _or_none(value: object) -> object:
    return () if value is None else value


Texts = Annotated[dict[str, str], BeforeValidator(_or_empty)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Port(_Part):
    name: str | None = None
    container_port: int = Field(alias="containerPort")


class _Container(_Part):
    ports: Annotated[tuple[_Port, ...], BeforeValidator(_or_none)] = ()


class _Metadata(_Part):
    namespace: str
    name: str
    uid: str = ""
    labels: Texts = {}
    annotations: Texts = {}


class _PodSpec(_Part):
    node_name: str | None = Field(default=None, alias="nodeName")
    containers: tuple[_Container, ...]


class _PodStatus(_Part):
    phase: str = ""
    pod_ip: str | None = Field(default=None, alias="podIP")


class _Pod(_Part):
    metadata: _Metadata
    spec: _PodSpec
    status: _PodStatus = _PodStatus()


class _ServicePort(_Part):
    name: str | None = None
    port: int
    target_port: int | str | None = Field(default=None, alias="targetPort")


class _ServiceSpec(_Part):
    selector: Texts = {}
    ports: Annotated[tuple[_ServicePort, ...], BeforeValidator(_or_none)] = ()


class _Service(_Part):
    metadata: _Metadata
    spec: _ServiceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveredPod:
    """A pod that may serve; `pod_ip` is None as long as it has no address. Names and texts are hostile input."""

    namespace: str
    name: str
    uid: str
    node: str | None
    phase: str
    pod_ip: str | None
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    ports: Mapping[str, int]  # container ports by name; unnamed ones by their number as text


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveredService:
    """A service and the pods that it sends requests to; each of them is scraped, not the service in front."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    ports: Mapping[str, int | str]  # target port (number, or name of a container's port) by the service's port name
    pods: tuple[DiscoveredPod, ...]


def pods_with_annotation(
    api: KubernetesApi, annotation: str, value: str | None = None, *, namespaces: tuple[str, ...] = ()
) -> tuple[DiscoveredPod, ...]:
    """Pods that are not finished and carry the annotation (with this value, when one is given), by name.

    `namespaces` empty means all. `kubectl get pods -A -o json` shows the same. Pods that are not understood are left
    out: they could not be scraped either.
    """

    def read(item: JsonObject) -> DiscoveredPod | None:
        pod = _pod(item)
        given = pod.annotations.get(annotation)
        return pod if given is not None and (value is None or given == value) else None

    return _pods(api, namespaces, read, selector=None)


def pods_with_label(
    api: KubernetesApi, labels: Mapping[str, str], *, namespaces: tuple[str, ...] = ()
) -> tuple[DiscoveredPod, ...]:
    """Pods that are not finished and carry all these labels; raises ValueError for what can be no label."""
    return _pods(api, namespaces, _pod, selector=label_selector(labels))


def services_with_label(
    api: KubernetesApi, labels: Mapping[str, str], *, namespaces: tuple[str, ...] = ()
) -> tuple[DiscoveredService, ...]:
    """Services that carry all these labels, each with the pods that its selector chooses; by name.

    Services without a selector have no pods here. Raises ValueError for what can be no label.
    """
    found: dict[ObjectName, _Service] = {}
    for namespace in namespaces or (None,):
        query = Query(resource="services", namespace=namespace, label_selector=label_selector(labels), verbs=("list",))
        found |= api.list_all(query, _service).objects
    services = []
    for name, service in sorted(found.items()):
        try:
            chosen = label_selector(service.spec.selector)
        except ValueError:
            chosen = ""  # no API server lets such a selector in
        pods = _pods(api, (name[0],), _pod, selector=chosen) if chosen else ()
        services.append(
            DiscoveredService(
                namespace=service.metadata.namespace,
                name=service.metadata.name,
                labels=service.metadata.labels,
                annotations=service.metadata.annotations,
                ports={
                    port.name or str(port.port): port.port if port.target_port is None else port.target_port
                    for port in service.spec.ports
                },
                pods=pods,
            )
        )
    return tuple(services)


def label_selector(labels: Mapping[str, str]) -> str:
    """`a=b,c=d` out of labels, which are checked: nothing in them can widen the selection. Raises ValueError."""
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise ValueError(f"{key!r}: {value!r} can be no label of Kubernetes")
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _pods(
    api: KubernetesApi, namespaces: tuple[str, ...], read: Reader[DiscoveredPod], *, selector: str | None
) -> tuple[DiscoveredPod, ...]:
    found: dict[ObjectName, DiscoveredPod] = {}
    for namespace in namespaces or (None,):
        query = Query(
            resource="pods", namespace=namespace, label_selector=selector, field_selector=_ALIVE, verbs=("list",)
        )
        found |= api.list_all(query, read).objects
    return tuple(pod for _, pod in sorted(found.items()))


def _pod(item: JsonObject) -> DiscoveredPod:
    try:
        pod = _Pod.model_validate(item)
    except ValidationError as error:
        raise NotUnderstood(_first_problem(error)) from None
    ports = [port for container in pod.spec.containers for port in container.ports]
    return DiscoveredPod(
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        uid=pod.metadata.uid,
        node=pod.spec.node_name,
        phase=pod.status.phase,
        pod_ip=pod.status.pod_ip or None,
        labels=pod.metadata.labels,
        annotations=pod.metadata.annotations,
        ports={port.name or str(port.container_port): port.container_port for port in ports},
    )


def _service(item: JsonObject) -> _Service:
    try:
        return _Service.model_validate(item)
    except ValidationError as error:
        raise NotUnderstood(_first_problem(error)) from None


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
