"""Names of pods and containers, from the names of the kubelet's log folders; no log is opened.

Source: Kubernetes, pkg/kubelet/kuberuntime: /var/log/pods/NAMESPACE_POD_UID/CONTAINER/ and the links
/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log. A static pod's folder carries the same uid as its cgroup.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_ENTRIES = 20_000
"""Entries of a folder that are looked at; the kubelet runs 110 pods by default."""

_NAME = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_POD_FOLDER = re.compile(rf"(?P<namespace>{_NAME})_(?P<pod>{_NAME})_(?P<uid>[0-9a-f-]{{32,36}})")
_CONTAINER_LINK = re.compile(
    rf"(?P<pod>{_NAME})_(?P<namespace>{_NAME})_(?P<container>{_NAME})-(?P<id>[0-9a-f]{{64}})\.log"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodName:
    """A pod, and its container where that is known."""

    namespace: str
    name: str
    container: str | None = None


class PodNames:
    """What the log folders tell, read again when a pod is asked for that was not there before."""

    def __init__(self, log_directory: Path) -> None:
        self._pods_folder = log_directory / "pods"
        self._links_folder = log_directory / "containers"
        self._by_uid: dict[str, PodName] = {}
        self._by_container: dict[str, PodName] = {}
        self._is_fresh = False

    def begin(self) -> None:
        """A new reading begins: the folders may be looked at once more."""
        self._is_fresh = False

    def name_of(self, pod_uid: str | None, container_id: str | None) -> PodName | None:
        """The names behind these ids; None when the folders do not tell, or cannot be read."""
        found = self._known(pod_uid, container_id)
        wants_more = found is None or (found.container is None and container_id is not None)
        if wants_more and not self._is_fresh and (pod_uid is not None or container_id is not None):
            self._read()
            found = self._known(pod_uid, container_id)
        return found

    def _known(self, pod_uid: str | None, container_id: str | None) -> PodName | None:
        container = self._by_container.get(container_id or "")
        pod = self._by_uid.get(pod_uid or "")
        if container is None or pod is None:
            return container or pod
        is_same = (container.namespace, container.name) == (pod.namespace, pod.name)
        return container if is_same else pod  # the uid is the surer of the two

    def _read(self) -> None:
        self._is_fresh = True
        self._by_uid = {
            match["uid"]: PodName(namespace=match["namespace"], name=match["pod"])
            for match in map(_POD_FOLDER.fullmatch, _names(self._pods_folder))
            if match is not None
        }
        self._by_container = {
            match["id"]: PodName(namespace=match["namespace"], name=match["pod"], container=match["container"])
            for match in map(_CONTAINER_LINK.fullmatch, _names(self._links_folder))
            if match is not None
        }


def _names(folder: Path) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            for count, entry in enumerate(entries):
                if count >= MAX_ENTRIES:
                    return
                yield entry.name
    except OSError:  # not there, or not ours to read: then names are not known, which the caller says
        return
