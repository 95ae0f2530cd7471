"""Objects of dynamic resource allocation as resource.k8s.io spells them in v1, v1beta2 and v1beta1.

v1beta1 nests attributes of a device below `basic`. Source: Kubernetes API reference, ResourceSlice and ResourceClaim.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from collectors.kubernetes.wire import Metadata, Name, Part
from collectors.plain_text import plain_text

GROUP = "resource.k8s.io"
VERSIONS = ("v1", "v1beta2", "v1beta1")
"""Versions that are understood, the preferred first."""

MAX_ATTRIBUTES = 64


def _attributes(value: object) -> object:
    """Values by name, whatever their type: `{"uuid": {"string": "GPU-..."}}` becomes `{"uuid": "GPU-..."}`."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        return value
    told: dict[str, str] = {}
    for name, typed in list(value.items())[:MAX_ATTRIBUTES]:
        if isinstance(typed, dict) and len(typed) == 1:
            (content,) = typed.values()
            if isinstance(content, str | int):
                told[plain_text(str(name), 253)] = plain_text(str(content), 253)
    return told


def _flat(value: object) -> object:
    """A device of v1beta1 in the form of its successors."""
    if isinstance(value, dict) and isinstance(value.get("basic"), dict):
        return {**value["basic"], "name": value.get("name")}
    return value


def _without_none(value: object) -> object:
    return () if value is None else value


class Device(Part):
    """`spec.devices[]` of a slice; a qualified name of an attribute says whose it is (`gpu.nvidia.com/uuid`)."""

    name: Name
    attributes: Annotated[dict[str, str], BeforeValidator(_attributes)] = Field(default={})
    node_name: Name | None = Field(default=None, alias="nodeName")

    def attribute(self, *names: str) -> str | None:
        """The first of these attributes that it has, by its own name or qualified with any domain."""
        for name in names:
            for key, value in self.attributes.items():
                if value and key.rpartition("/")[2] == name:
                    return value
        return None


class Pool(Part):
    """`spec.pool`: slices of older generations are no longer true."""

    name: Name
    generation: int = 0


class SliceSpec(Part):
    """`spec` of a ResourceSlice."""

    driver: Name
    pool: Pool
    node_name: Name | None = Field(default=None, alias="nodeName")
    devices: Annotated[tuple[Annotated[Device, BeforeValidator(_flat)], ...], BeforeValidator(_without_none)] = ()


class SliceObject(Part):
    """A ResourceSlice."""

    metadata: Metadata
    spec: SliceSpec


class AllocatedDevice(Part):
    """`status.allocation.devices.results[]`."""

    driver: Name
    pool: Name
    device: Name
    admin_access: bool | None = Field(default=None, alias="adminAccess")


class AllocatedDevices(Part):
    """`status.allocation.devices`."""

    results: Annotated[tuple[AllocatedDevice, ...], BeforeValidator(_without_none)] = ()


class Allocation(Part):
    """`status.allocation`."""

    devices: AllocatedDevices = AllocatedDevices()
    node_selector: dict[str, Any] | None = Field(default=None, alias="nodeSelector")

    @property
    def node(self) -> str | None:
        """The one node that the selector names, as allocations of local devices have it."""
        try:
            (term,) = (self.node_selector or {})["nodeSelectorTerms"]
            (field,) = term["matchFields"]
            (name,) = field["values"]
        except (KeyError, TypeError, ValueError):
            return None
        is_name = field.get("key") == "metadata.name" and field.get("operator") == "In"
        return plain_text(name, 253) if is_name and isinstance(name, str) else None


class Consumer(Part):
    """`status.reservedFor[]`."""

    api_group: Name = Field(default="", alias="apiGroup")
    resource: Name
    name: Name


class ClaimStatus(Part):
    """`status` of a ResourceClaim."""

    allocation: Allocation | None = None
    reserved_for: Annotated[tuple[Consumer, ...], BeforeValidator(_without_none)] = Field(
        default=(), alias="reservedFor"
    )


class ClaimObject(Part):
    """A ResourceClaim."""

    metadata: Metadata
    status: ClaimStatus = ClaimStatus()
