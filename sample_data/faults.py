"""What can be made to go wrong with one node's exporter or another simulated server, on purpose."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sample_data.cluster import SimulatedCluster
from sample_data.exporter_versions import WIRE_STYLES, ExporterVersion


class FaultKind(StrEnum):
    """One way to fail; real refusal of a connection needs no simulator, only a port nobody listens on."""

    UNAVAILABLE = "unavailable"  # 503, as a proxy answers for an exporter that is gone
    SERVER_ERROR = "server-error"  # 500
    UNAUTHORIZED = "unauthorized"  # 401
    HTML = "html"  # 200 and a login page
    HALF_BODY = "half-body"  # the connection ends in the middle of a line
    GARBAGE = "garbage"  # 200, text/plain, not the format
    HANG = "hang"  # no answer for a long time
    GENERATION_CHANGE = "generation-change"  # upgraded or rolled back: the other names and units
    COUNTER_RESET = "counter-reset"  # the driver was loaded again when the fault was set


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault of one node and since when, in simulated time."""

    kind: FaultKind
    since: datetime


class Faults:
    """Which nodes and other servers fail and how; at most one fault each."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._others: set[str] = set()
        self._by_node: dict[str, Fault] = {}

    def also(self, names: Collection[str]) -> None:
        """Names of servers that are no node's exporter and may fail too, such as `NAMESPACE/NAME` of a pod."""
        self._others.update(names)

    def set(self, node_name: str, kind: FaultKind, since: datetime) -> None:
        """Let a node or another server fail from now on; KeyError when the cluster has none of that name."""
        self._by_node[self._known(node_name)] = Fault(kind=kind, since=since)

    def clear(self, node_name: str) -> None:
        """Let a node work again; nothing happens when it did."""
        self._by_node.pop(self._known(node_name), None)

    def of(self, node_name: str) -> Fault | None:
        """The node's fault, or None."""
        return self._by_node.get(node_name)

    def _known(self, name: str) -> str:
        return name if name in self._others else self._cluster.node(name).name


def other_generation(version: ExporterVersion) -> ExporterVersion:
    """A version on the other side of the renaming of 4.9."""
    return ExporterVersion.V4_6 if WIRE_STYLES[version].base_units else ExporterVersion.V4_7
