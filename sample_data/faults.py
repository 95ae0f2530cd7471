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


CHANGES_OF_PROCESS = frozenset({FaultKind.GENERATION_CHANGE, FaultKind.COUNTER_RESET})
"""What is no failing answer: the server goes on as another process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault of one node and since when, in simulated time."""

    kind: FaultKind
    since: datetime


class Faults:
    """Which nodes and other servers fail and how: at most one failing answer each, over at most one other process."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._others: set[str] = set()
        self._answers: dict[str, Fault] = {}
        self._processes: dict[str, Fault] = {}

    def also(self, names: Collection[str]) -> None:
        """Names of servers that are no node's exporter and may fail too, such as `NAMESPACE/NAME` of a pod."""
        self._others.update(names)

    def set(self, node_name: str, kind: FaultKind, since: datetime) -> None:
        """Let a node or another server fail from now on; KeyError when the cluster has none of that name.

        Another process answers: it ends a failing answer that was set before.
        """
        name = self._known(node_name)
        if kind in CHANGES_OF_PROCESS:
            self._answers.pop(name, None)
            self._processes[name] = Fault(kind=kind, since=since)
        else:
            self._answers[name] = Fault(kind=kind, since=since)

    def clear(self, node_name: str) -> None:
        """Let a node answer again, as the process that it is by now; where it did, let it be the first one again."""
        name = self._known(node_name)
        if self._answers.pop(name, None) is None:
            self._processes.pop(name, None)

    def of(self, node_name: str) -> Fault | None:
        """How the node answers, if not as at first: by a failing answer, or else as another process."""
        return self._answers.get(node_name) or self._processes.get(node_name)

    def process_of(self, node_name: str) -> Fault | None:
        """Which other process runs there, whatever it answers."""
        return self._processes.get(node_name)

    def _known(self, name: str) -> str:
        return name if name in self._others else self._cluster.node(name).name


def other_generation(version: ExporterVersion) -> ExporterVersion:
    """A version on the other side of the renaming of 4.9."""
    return ExporterVersion.V4_6 if WIRE_STYLES[version].base_units else ExporterVersion.V4_7
