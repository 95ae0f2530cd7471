"""What goes wrong in the hour, to whom, from when and until when, in shares of the run."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.endurance.cluster import RunningCluster
from gpufleet.demo import LANGFUSE_KEY_FILE, LITELLM_KEY_FILE
from sample_data.kubernetes_faults import KubernetesFault
from sample_data.kubernetes_routes import PREFIX as KUBERNETES
from sample_data.langfuse_routes import PATH as LANGFUSE
from sample_data.litellm_routes import PATH as LITELLM

GATEWAY = "/faults/gateways/litellm"
TRACES = "/faults/langfuse/v3"
API_SERVER = "/faults/kubernetes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happens at a share of the run; `kind` names it in the report."""

    at_ratio: float
    kind: str
    what: str
    do: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What can be made to fail: paths under which faults of nodes and servers are set, and the tool's own process."""

    cluster: RunningCluster
    nodes: Sequence[str]
    pods: Sequence[str]  # NAMESPACE/NAME
    folder: Path  # of the configuration
    kill_collector: Callable[[], None]
    start_collector: Callable[[], None]


def schedule(site: Site) -> tuple[Event, ...]:
    """Everything that happens, by time."""
    return tuple(sorted(_events(site), key=lambda event: event.at_ratio))


def _events(site: Site) -> Iterator[Event]:
    cluster, nodes, pods = site.cluster, site.nodes, site.pods
    yield Event(at_ratio=0.05, kind="kill", what="the whole cluster", do=cluster.kill)
    yield Event(at_ratio=0.07, kind="kill", what="it is back", do=cluster.start)

    hanging = [*(f"/faults/{name}" for name in nodes[:5]), *(f"/faults/pods/{name}" for name in pods[::3])]
    yield from _failing(site, 0.10, 0.20, "hang", hanging)

    spoiled = [*(f"/faults/{name}" for name in nodes[5:8]), *(f"/faults/pods/{name}" for name in pods[1::3]), GATEWAY]
    yield from _failing(site, 0.22, 0.28, "garbage", spoiled)
    yield from _failing(site, 0.22, 0.28, "html", [TRACES])
    yield from _failing(site, 0.22, 0.28, KubernetesFault.GARBAGE, [API_SERVER])

    # Names and units of the other generation; a server of models starts anew with its upgrade and stays what it is.
    renamed = [f"/faults/{name}" for name in nodes[2:5]]
    yield Event(
        at_ratio=0.30,
        kind="rename",
        what=_named([*renamed, *_paths(pods[1::5])]),
        do=lambda: _set(cluster, "generation-change", [*renamed, *_paths(pods[1::5])]),
    )
    yield Event(at_ratio=0.60, kind="rename", what="exporters are rolled back", do=lambda: _clear(cluster, renamed))

    broken = [f"/faults/{name}" for name in nodes[8:11]]
    yield from _failing(site, 0.36, 0.41, "half-body", [broken[0], *_paths(pods[2::6])])
    yield from _failing(site, 0.36, 0.41, "server-error", [broken[1], GATEWAY])
    yield from _failing(site, 0.36, 0.41, "unavailable", [broken[2], TRACES])
    yield from _failing(site, 0.36, 0.41, KubernetesFault.CUT_WATCH, [API_SERVER])

    reset = [*(f"/faults/{name}" for name in nodes[9:12]), *_paths(pods[0::4]), GATEWAY]
    yield Event(
        at_ratio=0.42,
        kind="counter reset",
        what=_named(reset),
        do=lambda: _set(cluster, "counter-reset", reset),
    )

    skewed = (
        (f"/nodes/{nodes[0]}/", 7_200.0),
        (f"/nodes/{nodes[1]}/", -86_400.0),
        (f"/pods/{pods[0]}/", 3_600.0),
        (f"/pods/{pods[-1]}/", -7_200.0),
        (LITELLM, 600.0),
        (LANGFUSE, -600.0),
        (KUBERNETES, 900.0),
    )
    yield Event(
        at_ratio=0.48,
        kind="clock skew",
        what=f"{len(skewed)} servers, from a day behind to two hours ahead",
        do=lambda: _skew(cluster, skewed),
    )
    yield Event(
        at_ratio=0.56,
        kind="clock skew",
        what="clocks are right again",
        do=lambda: _skew(cluster, tuple((path, 0.0) for path, _ in skewed)),
    )

    tokens = {name: (site.folder / name).read_text(encoding="ascii") for name in (LITELLM_KEY_FILE, LANGFUSE_KEY_FILE)}
    yield from _failing(site, 0.57, 0.65, "unauthorized", [f"/faults/{nodes[6]}", *_paths(pods[3:5]), API_SERVER])
    yield Event(
        at_ratio=0.57,
        kind="token revoked",
        what="of the gateway and of the trace store",
        do=lambda: _write(site.folder, dict.fromkeys(tokens, "revoked")),
    )
    yield Event(at_ratio=0.65, kind="token restored", what="both", do=lambda: _write(site.folder, tokens))

    yield Event(at_ratio=0.68, kind="killed collector", what="kill -9 of ours", do=site.kill_collector)
    yield Event(at_ratio=0.69, kind="killed collector", what="started again", do=site.start_collector)

    # Hangs, is ended and comes back counting from zero, some of them for the second time.
    crashed = _paths(pods[0::5])
    yield Event(at_ratio=0.72, kind="hang", what=_named(crashed), do=lambda: _set(cluster, "hang", crashed))
    yield Event(
        at_ratio=0.77,
        kind="counter reset",
        what=f"{_named(crashed)} come back",
        do=lambda: _set(cluster, "counter-reset", crashed),
    )

    yield Event(at_ratio=0.80, kind="hang", what="the whole cluster is halted", do=cluster.halt)
    yield Event(at_ratio=0.815, kind="hang", what="it goes on", do=cluster.go_on)


def _failing(site: Site, start: float, end: float, kind: str, paths: Sequence[str]) -> Iterator[Event]:
    yield Event(at_ratio=start, kind=kind, what=_named(paths), do=lambda: _set(site.cluster, kind, paths))
    yield Event(at_ratio=end, kind=kind, what="over", do=lambda: _clear(site.cluster, paths))


def _paths(pods: Sequence[str]) -> list[str]:
    return [f"/faults/pods/{name}" for name in pods]


def _named(paths: Sequence[str]) -> str:
    pods = sum(path.startswith("/faults/pods/") for path in paths)
    others = [path.removeprefix("/faults/") for path in paths if path in (GATEWAY, TRACES, API_SERVER)]
    nodes = len(paths) - pods - len(others)
    counts = [f"{number} {what}" for number, what in ((nodes, "exporters"), (pods, "servers")) if number]
    return ", ".join((*counts, *others))


def _set(cluster: RunningCluster, kind: str, paths: Sequence[str]) -> None:
    for path in paths:
        cluster.ask("POST", f"{path}/{kind}")


def _clear(cluster: RunningCluster, paths: Sequence[str]) -> None:
    for path in paths:
        cluster.ask("DELETE", path)


def _skew(cluster: RunningCluster, skews: Sequence[tuple[str, float]]) -> None:
    for path, seconds in skews:
        cluster.ask("POST", "/faults/clock-skew", path=path, seconds=str(seconds))


def _write(folder: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="ascii")
