"""The labels of one dcgm-exporter line, as the exporter spells them in each generation, validated."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from collectors.exposition import MAX_REMEMBERED, read_labels
from collectors.plain_text import plain_text
from planner.readings import PodFact, Subject
from planner.units import GpuUuid

MAX_LABEL = 253
"""Longest label value that is kept, in characters: the longest name Kubernetes allows."""

PodName = tuple[str, str]
"""Namespace and name of a pod."""


def _text(value: object) -> str | None:
    text = plain_text(str(value), MAX_LABEL)
    return text or None


def _index(value: object) -> int | None:
    return int(str(value)) if re.fullmatch(r"[0-9]{1,4}", str(value)) else None


def _instance_id(value: object) -> object:
    if value == "":
        return None
    if not re.fullmatch(r"[0-9]{1,4}", str(value)):
        raise ValueError("not a number")
    return int(str(value))


Text = Annotated[str | None, BeforeValidator(_text)]


class LineLabels(BaseModel):
    """Labels of a line about a GPU or a GPU instance; other labels (DRA, job, pod labels, error texts) are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    uuid: str = Field(  # an identity is never trimmed into another one: what is not plain is refused
        pattern=r"^GPU-[0-9A-Za-z-]{1,76}$", validation_alias=AliasChoices("UUID", "uuid")
    )
    gpu: Annotated[int | None, BeforeValidator(_index)] = None
    pci_bus_id: Text = None
    model_name: Text = Field(default=None, validation_alias=AliasChoices("modelName", "model_name"))
    gi_id: Annotated[int | None, BeforeValidator(_instance_id)] = Field(default=None, validation_alias="GPU_I_ID")
    gi_profile: Text = Field(default=None, validation_alias="GPU_I_PROFILE")
    hostname: Text = Field(  # Hostname until 4.8.2; exported_ where Prometheus had a label of that name itself
        default=None,
        validation_alias=AliasChoices("exported_Hostname", "exported_hostname", "Hostname", "hostname"),
    )
    driver_version: Text = Field(  # renamed in 4.9.0
        default=None, validation_alias=AliasChoices("DCGM_FI_SYSTEM_DRIVER_VERSION", "DCGM_FI_DRIVER_VERSION")
    )
    vgpu: Text = None  # replica of a time-sliced or MPS-shared GPU
    placement_start: Annotated[int | None, BeforeValidator(_index)] = None  # only `gpufleet agent` writes it


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What the labels of a line say: which device, and which pod holds it (None when no pod does)."""

    labels: LineLabels
    subject: Subject
    pod: PodFact | None

    @property
    def is_per_pod(self) -> bool:
        """Whether the line speaks of one pod's part of a device, not of the device."""
        return self.pod is not None or self.labels.vgpu is not None


class NoDevice(ValueError):
    """The labels name no GPU; the message says what is wrong with them."""


def read_line(labels: Mapping[str, str], *, own_pods: frozenset[PodName] = frozenset()) -> Line:
    """The validated labels of a line.

    `own_pods` are pods of the exporter itself, known from its scrape target: without honor_labels Prometheus puts the
    exporter's pod into `pod` and the workload's into `exported_pod`. Raises NoDevice.
    """
    if not (labels.get("UUID") or labels.get("uuid")):
        raise NoDevice("no UUID label: not about a GPU")
    try:
        line = LineLabels.model_validate(labels)
    except ValidationError as error:
        field = str(error.errors(include_url=False)[0]["loc"][0])
        shown = plain_text(labels.get(field, ""), 60)
        raise NoDevice(f"its {field} label is none that DCGM writes: {shown!r}") from error
    return Line(
        labels=line,
        subject=Subject(gpu_uuid=GpuUuid(line.uuid), gi_id=line.gi_id),
        pod=_pod(labels, line.gi_id, own_pods),
    )


def line_of_block(block: str) -> Line:
    """As `read_line`, for labels as they are written: they stay the same from scrape to scrape."""
    return _remembered_line(block) if len(block) <= MAX_REMEMBERED else read_line(read_labels(block) or {})


@lru_cache(maxsize=65_536)
def _remembered_line(block: str) -> Line:
    return read_line(read_labels(block) or {})


def _pod(labels: Mapping[str, str], gi_id: int | None, own_pods: frozenset[PodName]) -> PodFact | None:
    if labels.get("exported_pod"):
        spelled = _first(labels, "exported_namespace", "namespace"), _first(labels, "exported_pod")
        container = _first(labels, "exported_container", "container")
    else:  # 1.x says pod_name, pod_namespace and container_name
        spelled = _first(labels, "namespace", "pod_namespace"), _first(labels, "pod", "pod_name")
        container = _first(labels, "container", "container_name")
    namespace, name = spelled
    if namespace is None or name is None or (namespace, name) in own_pods:
        return None
    uid = _first(labels, "exported_pod_uid", "pod_uid")
    return PodFact(gi_id=gi_id, namespace=namespace, name=name, container=container, uid=uid)


def _first(labels: Mapping[str, str], *keys: str) -> str | None:
    """The first of these labels that is not empty."""
    return next((text for key in keys if (text := _text(labels.get(key, ""))) is not None), None)
