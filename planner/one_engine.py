"""Which servers that are read at different addresses are one engine: what both counted is the same work."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from planner.device_links import PodName, spelled_pod
from planner.join_facts import ServerFacts
from planner.links import Certainty, Conflict, Link, LinkReason
from planner.server_links import ServerDevices, port_of

Linked = tuple[ServerFacts, ServerDevices]

_Engine = tuple[PodName, str, str]
"""Pod, kind of engine and port: a port of a pod has one listener."""


def without_doubles(linked: Sequence[Linked]) -> tuple[tuple[Linked, ...], tuple[Conflict, ...]]:
    """Each engine once, as it was read for longer, and what was left out.

    Two servers are one engine when both are of one kind and read at the same port of the same pod, by links that are no
    guess. All that was read at the address which is left out goes with it, also from before the server moved.
    """
    by_engine: defaultdict[_Engine, set[str]] = defaultdict(set)
    for server, found in linked:
        engine = _engine(server, found)
        if engine is not None:
            by_engine[engine].add(server.fact.endpoint)
    read_s: defaultdict[str, float] = defaultdict(float)
    for server, _ in linked:
        read_s[server.fact.endpoint] += server.counted_s
    models = {server.fact.endpoint: server.fact.models for server, _ in linked}
    left_out: set[str] = set()
    conflicts: list[Conflict] = []
    for (pod, _, _), endpoints in sorted(by_engine.items()):
        best, *others = sorted(endpoints - left_out, key=lambda one: (-read_s[one], not models[one], one))
        if not others:
            continue
        left_out.update(others)
        models[best] = next((models[one] for one in (best, *others) if models[one]), ())
        conflicts.append(_conflict(pod, best, others))
    kept = tuple(
        (replace(server, fact=replace(server.fact, models=models[server.fact.endpoint])), found)
        for server, found in linked
        if server.fact.endpoint not in left_out
    )
    return kept, tuple(conflicts)


def _engine(server: ServerFacts, found: ServerDevices) -> _Engine | None:
    fact = server.fact
    pod = found.pod
    if server.ended is not None:
        # Which pod is there now says nothing of one that has gone; the name that discovery told then does.
        pod = (fact.pod_namespace, fact.pod_name) if fact.pod_namespace and fact.pod_name else None
    elif found.pod_certainty is Certainty.GUESSED:
        return None
    port = port_of(fact.endpoint)
    if pod is None or port is None or "/" in fact.endpoint:  # behind a path, the port is that of a proxy
        return None
    return pod, fact.engine.value, port


def _conflict(pod: PodName, best: str, others: Sequence[str]) -> Conflict:
    links = tuple(Link(source=spelled_pod(pod), target=one, reason=LinkReason.SAME_PORT) for one in (best, *others))
    outcome = f"They are one engine: what was read at {best} is taken, which covers most of the window."
    return Conflict(subject=spelled_pod(pod), links=links, outcome=outcome)
