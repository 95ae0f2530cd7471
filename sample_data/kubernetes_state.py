"""What the simulated API server holds: objects by kind, a version for every change, and the changes since.

The objects follow from the cluster and never change by themselves; tests and whoever plays change them by `put` and
`delete`. Source of the rules: Kubernetes, "API Concepts" (resource versions, chunks, watches).
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sample_data.cluster import SimulatedCluster
from sample_data.kubernetes_around_pods import quota_objects, replica_set_objects, service_objects
from sample_data.kubernetes_claims import claim_objects, slice_objects
from sample_data.kubernetes_nodes import node_objects
from sample_data.kubernetes_pods import pod_objects

JsonObject = dict[str, Any]
ObjectKey = tuple[str, str]

FIRST_VERSION = 1000
"""The version of everything before the first change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One kind of object: its place in the API and what it is called."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        """`v1`, or `group/version`."""
        return f"{self.group}/{self.version}" if self.group else self.version


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An object as it became (`after` None: deleted) and as it was (`before` None: new)."""

    version: int
    key: ObjectKey
    before: JsonObject | None
    after: JsonObject | None


class TooOld(Exception):
    """The version asked for is no longer kept; `oldest` is."""

    def __init__(self, oldest: int) -> None:
        super().__init__(oldest)
        self.oldest = oldest


class ResourceState:
    """All objects of one resource."""

    def __init__(self, resource: Resource, objects: Iterable[JsonObject]) -> None:
        self.resource = resource
        self._objects: dict[ObjectKey, JsonObject] = {}
        self._changes: list[Change] = []
        self._snapshots: dict[int, dict[ObjectKey, JsonObject]] = {}
        self._oldest = FIRST_VERSION
        for item in objects:
            self._objects[key_of(item)] = self._versioned(item, FIRST_VERSION)

    def snapshot(self, version: int, *, keep: bool = False) -> dict[ObjectKey, JsonObject]:
        """The objects as they are; `keep` lets `kept` find them again under this version."""
        objects = dict(sorted(self._objects.items()))
        if keep:
            self._snapshots.setdefault(version, objects)
        return objects

    def kept(self, version: int) -> dict[ObjectKey, JsonObject]:
        """The objects as they were kept at a version; raises TooOld."""
        if version not in self._snapshots:
            raise TooOld(self._oldest)
        return self._snapshots[version]

    def changes_after(self, version: int) -> list[Change]:
        """What changed after a version; raises TooOld."""
        if version < self._oldest:
            raise TooOld(self._oldest)
        return [change for change in self._changes if change.version > version]

    def change(self, version: int, key: ObjectKey, item: JsonObject | None) -> None:
        """Let an object become this, or be gone."""
        before = self._objects.pop(key, None)
        after = None if item is None else self._versioned(item, version)
        if after is not None:
            self._objects[key] = after
        self._changes.append(Change(version=version, key=key, before=before, after=after))

    def forget_before(self, version: int) -> None:
        """Keep nothing of older versions, as the storage does after some minutes."""
        self._oldest = version
        self._changes = [change for change in self._changes if change.version > version]
        self._snapshots.clear()

    def _versioned(self, item: JsonObject, version: int) -> JsonObject:
        resource = self.resource
        metadata = {**item["metadata"], "resourceVersion": str(version)}
        return {"apiVersion": resource.api_version, "kind": resource.kind, **item, "metadata": metadata}


class KubernetesState:
    """Everything that one simulated API server holds."""

    def __init__(self, cluster: SimulatedCluster, *, host: str, port: int, dra_version: str | None = "v1") -> None:
        """`host` and `port` are those of the simulator, for pods that serve; `dra_version` None: no claims at all."""
        self._lock = threading.Lock()
        self._version = FIRST_VERSION
        self.by_place: dict[tuple[str, str], ResourceState] = {}
        for group, version, plural, kind, namespaced, objects in (
            ("", "v1", "nodes", "Node", False, node_objects(cluster)),
            ("", "v1", "pods", "Pod", True, pod_objects(cluster, host, port)),
            ("", "v1", "services", "Service", True, service_objects(cluster)),
            ("", "v1", "resourcequotas", "ResourceQuota", True, quota_objects(cluster)),
            ("apps", "v1", "replicasets", "ReplicaSet", True, replica_set_objects(cluster)),
        ):
            self._add(Resource(group=group, version=version, plural=plural, kind=kind, namespaced=namespaced), objects)
        if dra_version is not None:
            group = "resource.k8s.io"
            self._add(
                Resource(
                    group=group, version=dra_version, plural="resourceslices", kind="ResourceSlice", namespaced=False
                ),
                slice_objects(cluster, dra_version),
            )
            self._add(
                Resource(
                    group=group, version=dra_version, plural="resourceclaims", kind="ResourceClaim", namespaced=True
                ),
                claim_objects(cluster, dra_version),
            )

    @property
    def version(self) -> int:
        """The version of the last change of anything."""
        return self._version

    def put(self, plural: str, item: JsonObject) -> None:
        """Add an object, or replace the one of its name; KeyError for an unknown resource."""
        self._change(plural, key_of(item), item)

    def delete(self, plural: str, name: str, namespace: str = "") -> JsonObject:
        """Remove an object and return it; KeyError when there is none."""
        key = (namespace, name)
        item = self._of(plural).snapshot(self._version)[key]
        self._change(plural, key, None)
        return item

    def get(self, plural: str, name: str, namespace: str = "") -> JsonObject:
        """The object as it is; KeyError when there is none."""
        return self._of(plural).snapshot(self._version)[namespace, name]

    def edit(self, plural: str, name: str, change: Callable[[JsonObject], JsonObject], namespace: str = "") -> None:
        """Replace an object by what `change` makes of it."""
        self.put(plural, change(self.get(plural, name, namespace)))

    def advance(self) -> None:
        """Let the version move on as if something else in the cluster had changed."""
        with self._lock:
            self._version += 1

    def forget(self) -> None:
        """Keep nothing of older versions: every watch and list that goes on from one has to begin again."""
        with self._lock:
            self._version += 1
            for state in self.by_place.values():
                state.forget_before(self._version)

    def _of(self, plural: str) -> ResourceState:
        return next(state for (_, name), state in self.by_place.items() if name == plural)

    def _change(self, plural: str, key: ObjectKey, item: JsonObject | None) -> None:
        with self._lock:
            self._of(plural).change(self._version + 1, key, item)
            self._version += 1

    def _add(self, resource: Resource, objects: Iterable[JsonObject]) -> None:
        self.by_place[resource.group, resource.plural] = ResourceState(resource, objects)


def key_of(item: JsonObject) -> ObjectKey:
    """Namespace and name."""
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
