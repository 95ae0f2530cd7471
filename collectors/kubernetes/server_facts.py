"""What the API server says of itself: its version, and in which version it serves claims of devices."""

from collections.abc import Mapping

from collectors.errors import CollectorError
from collectors.kubernetes.resources import Kind, ResourceRow
from collectors.kubernetes.wire_claims import GROUP, VERSIONS
from collectors.kubernetes_access import KubernetesApi
from collectors.kubernetes_errors import MissingRight, NotServed
from collectors.kubernetes_lists import JsonObject, Query
from collectors.plain_text import plain_text

VERSION_PATH = "/version"
GROUP_PATH = f"/apis/{GROUP}"


class ClaimsNotServed(NotServed):
    """The server knows no claims in any version that is understood: nothing is claimed there."""


class ServerFacts:
    """Facts of one API server, read anew with every list: a server may be upgraded while it is watched."""

    def __init__(self, api: KubernetesApi, *, source: str) -> None:
        self._api = api
        self._source = source
        self.version: str | None = None
        self.claims_version: str | None = None
        self.refused: CollectorError | None = None  # the right to read the version

    def read_version(self) -> None:
        """Ask for the version; raises CollectorError, but not where it is only this that may not be read."""
        try:
            told = self._api.get(VERSION_PATH).get("gitVersion")
        except MissingRight as error:
            self.refused = error
            return
        self.refused = None
        self.version = plain_text(told, 60) if isinstance(told, str) else None

    def query(self, row: ResourceRow, namespace: str | None) -> Query:
        """How a kind of object is asked for; raises CollectorError, ClaimsNotServed among them."""
        if row.kind is Kind.NODES:
            self.read_version()
        version = self._version_of_claims() if row.group == GROUP else "v1"
        return Query(
            resource=row.kind,
            group=row.group,
            version=version,
            namespace=namespace if row.namespaced else None,
            field_selector=row.field_selector,
        )

    def _version_of_claims(self) -> str:
        self.claims_version = None
        try:
            served = _versions(self._api.get(GROUP_PATH))
        except MissingRight:
            served = VERSIONS[:1]  # without discovery the newest is tried
        except NotServed:
            served = ()
        version = next((one for one in VERSIONS if one in served), None)
        if version is None:
            told = ", ".join(served) or "no version of it"
            raise ClaimsNotServed(
                f"{self._api.target} serves {plain_text(told, 80)} of {GROUP}; understood are {', '.join(VERSIONS)}.",
                source=self._source,
            )
        self.claims_version = version
        return version


def _versions(group: JsonObject) -> tuple[str, ...]:
    versions = group.get("versions")
    if not isinstance(versions, list):
        return ()
    named = (one.get("version") if isinstance(one, Mapping) else None for one in versions)
    return tuple(one for one in named if isinstance(one, str))
