"""Objects of the Kubernetes API as they are spelled there, as far as they are read; everything else is ignored."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from collectors.kubernetes.quantities import gpu_counts
from collectors.kubernetes_lists import JsonObject, NotUnderstood
from collectors.plain_text import plain_text

MAX_NAME = 253
MAX_TEXT = 600


def _name(value: object) -> object:
    return plain_text(value, MAX_NAME) if isinstance(value, str) else value


def _text(value: object) -> object:
    return plain_text(value, MAX_TEXT) if isinstance(value, str) else value


def _without_none(value: object) -> object:
    return () if value is None else value


def _mapping(value: object) -> object:
    """Texts by key, printable; an absent mapping is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        return value
    return {_name(key): _text(item) for key, item in value.items()}


def _aware(value: datetime) -> datetime:
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:  # of year 1 or 9999, with an offset that leads out of it
        raise ValueError("the time is out of range") from None


Name = Annotated[str, BeforeValidator(_name)]
Text = Annotated[str, BeforeValidator(_text)]
Texts = Annotated[dict[str, str], BeforeValidator(_mapping)]
Counts = Annotated[dict[str, int], BeforeValidator(gpu_counts)]
Moment = Annotated[datetime, AfterValidator(_aware)]

_T = TypeVar("_T")
_List = Annotated[tuple[_T, ...], BeforeValidator(_without_none)]


class Part(BaseModel):
    """A part of an object."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class OwnerReference(Part):
    """`metadata.ownerReferences[]`."""

    kind: Name
    name: Name
    controller: bool | None = None


class Metadata(Part):
    """`metadata`, of objects with and without a namespace."""

    name: Name
    namespace: Name = ""
    uid: Name = ""
    labels: Texts = {}
    annotations: Texts = {}
    created_at: Moment | None = Field(default=None, alias="creationTimestamp")
    owners: _List[OwnerReference] = Field(default=(), alias="ownerReferences")

    @property
    def owner(self) -> OwnerReference | None:
        """Whoever controls it; where nobody says so, its only owner."""
        controllers = [owner for owner in self.owners if owner.controller]
        if controllers:
            return controllers[0]
        return self.owners[0] if len(self.owners) == 1 else None


class Condition(Part):
    """`status.conditions[]`."""

    type: Name
    status: Name
    reason: Name = ""
    message: Text = ""


class Taint(Part):
    """`spec.taints[]` of a node."""

    key: Name
    value: Name | None = None
    effect: Name

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


class Address(Part):
    """`status.addresses[]` of a node."""

    type: Name
    address: Name


class NodeSpec(Part):
    """`spec` of a node."""

    unschedulable: bool | None = None
    taints: _List[Taint] = ()


class NodeStatus(Part):
    """`status` of a node; of its resources only GPUs are kept."""

    capacity: Counts = {}
    allocatable: Counts = {}
    conditions: _List[Condition] = ()
    addresses: _List[Address] = ()


class NodeObject(Part):
    """A node, v1."""

    metadata: Metadata
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class ClaimReference(Part):
    """`resources.claims[]` of a container: which of the pod's claims it uses."""

    name: Name


class Resources(Part):
    """`resources` of a container; of them only GPUs and claims are kept."""

    requests: Counts = {}
    limits: Counts = {}
    claims: _List[ClaimReference] = ()

    @property
    def counts(self) -> dict[str, int]:
        """What is asked for: the request, and where there is none the limit, which then stands for it."""
        return {**self.limits, **self.requests}


class Container(Part):
    """A container, or an init container; one that is restarted always is a sidecar."""

    name: Name
    resources: Annotated[Resources, BeforeValidator(lambda value: {} if value is None else value)] = Resources()
    restart_policy: Name | None = Field(default=None, alias="restartPolicy")


class PodClaim(Part):
    """`spec.resourceClaims[]`: a claim by name, or one that is made for the pod."""

    name: Name
    claim_name: Name | None = Field(default=None, alias="resourceClaimName")


class PodSpec(Part):
    """`spec` of a pod."""

    node_name: Name | None = Field(default=None, alias="nodeName")
    containers: _List[Container] = ()
    init_containers: _List[Container] = Field(default=(), alias="initContainers")
    priority: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None
    priority_class: Name | None = Field(default=None, alias="priorityClassName")
    claims: _List[PodClaim] = Field(default=(), alias="resourceClaims")


class PodClaimStatus(Part):
    """`status.resourceClaimStatuses[]`: what the claim that was made is called."""

    claim_name: Name | None = Field(default=None, alias="resourceClaimName")


class PodStatus(Part):
    """`status` of a pod."""

    phase: Name = ""
    pod_ip: Name | None = Field(default=None, alias="podIP")
    host_ip: Name | None = Field(default=None, alias="hostIP")
    started_at: Moment | None = Field(default=None, alias="startTime")
    conditions: _List[Condition] = ()
    claim_statuses: _List[PodClaimStatus] = Field(default=(), alias="resourceClaimStatuses")
    extended_claim: PodClaimStatus | None = Field(default=None, alias="extendedResourceClaimStatus")


class PodObject(Part):
    """A pod, v1."""

    metadata: Metadata
    spec: PodSpec
    status: PodStatus = PodStatus()


class QuotaAmounts(Part):
    """`spec` or `status` of a quota: names of resources with and without `requests.`, every kind of amount."""

    hard: dict[str, Any] | None = None
    used: dict[str, Any] | None = None


class QuotaObject(Part):
    """A ResourceQuota, v1."""

    metadata: Metadata
    spec: QuotaAmounts = QuotaAmounts()
    status: QuotaAmounts = QuotaAmounts()


class ReplicaSetObject(Part):
    """A ReplicaSet, apps/v1: only who owns it matters."""

    metadata: Metadata


_PartT = TypeVar("_PartT", bound=Part)


def reader(model: type[_PartT]) -> Callable[[JsonObject], _PartT]:
    """Reads an object as this model; what it returns raises NotUnderstood with the first thing that is wrong."""

    def read(item: JsonObject) -> _PartT:
        try:
            return model.model_validate(item)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(str(part) for part in problem["loc"])
            raise NotUnderstood(plain_text(f"{where}: {problem['msg']}", 200)) from None

    return read
