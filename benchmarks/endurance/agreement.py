"""Whether the store agrees with the simulated cluster's own account of the same hour, figure by figure."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine, select

from benchmarks.endurance.journal import GATEWAY_METRICS, Account, Span
from planner.serving_readings import ServingEngine
from sample_data.cluster import SimulatedCluster, SimulatedNode
from sample_data.deployments import Deployment
from sample_data.litellm_gateway import gateway_places
from sample_data.model_use import NANO, Use, added, callers, use_between
from sample_data.request_shapes import Quantity
from sample_data.service_discovery import metrics_path
from sample_data.serving_endpoints import has_endpoint, pod_path
from sample_data.serving_state import ServingPod, Work, serving_pods, work_between
from sample_data.workload import DeviceState, GpuState, node_state
from store.cluster_queries import cluster_state
from store.database import reading
from store.latency_queries import counted_histograms
from store.samples import from_ms
from store.serving_queries import counted
from store.tables import NO_INSTANCE, DeviceKey, Sample, table_of
from store.usage_queries import spend_by_hour, token_usage

_SAMPLES = table_of(Sample)
_DEVICES = table_of(DeviceKey)
_RELATIVE = 1e-9  # sums of floating-point numbers in another order
_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
_LATEST_TRACE = timedelta(minutes=40)
_MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """One kind of figure: its sum by the simulator and in the store, and how many of the figures are the same."""

    what: str
    told: float
    stored: float
    compared: int
    equal: int
    examples: tuple[str, ...] = ()  # of figures that are not


class _Comparison:
    def __init__(self, what: str) -> None:
        self._what = what
        self._told = self._stored = 0.0
        self._compared = self._equal = 0
        self._examples: list[str] = []

    def add(self, name: str, told: float, stored: float | None, *, tolerance: float = 0.0) -> None:
        self._told += told
        self._stored += stored or 0.0
        self._compared += 1
        # a counter that never moved may have no row: nothing was counted, and nothing is stored
        found = stored if stored is not None or told else 0.0
        if found is not None and abs(found - told) <= max(tolerance, _RELATIVE * abs(told)):
            self._equal += 1
        elif len(self._examples) < 5:
            self._examples.append(f"{name}: {told!r} told, {stored!r} stored")

    def result(self) -> Agreement:
        return Agreement(
            what=self._what,
            told=self._told,
            stored=self._stored,
            compared=self._compared,
            equal=self._equal,
            examples=tuple(self._examples),
        )


def agreements(
    engine: Engine, cluster: SimulatedCluster, account: Account, address: str, run: Span
) -> Iterator[Agreement]:
    """All comparisons; `address` is the `host:port` of the simulated cluster, `run` when the run began and ended."""
    begin, end = run[0] - _HOUR, run[1] + _HOUR
    yield from _engine_counters(engine, cluster, account, address, begin, end)
    yield from _engine_histograms(engine, cluster, account, address, begin, end)
    yield from _gateway_counters(engine, cluster, account, begin, end)
    yield from _told_usage(engine, cluster, end)
    yield from _device_samples(engine, cluster, account)
    yield _kubernetes(engine, cluster, run[1])


def _engines(cluster: SimulatedCluster, account: Account, address: str) -> Iterator[tuple[str, ServingPod, list[Work]]]:
    """Name of each server in the store, and what it did between its first and last good answers."""
    for place in serving_pods(cluster):
        path = f"{pod_path(place.pod)}/metrics"
        if has_endpoint(place) and path in account.read:
            works = [work_between(place, since, until) for since, until in account.counted(path)]
            yield f"{address}{pod_path(place.pod)}", place, works


_COUNTERS: tuple[tuple[str, str, Callable[[Work], int], bool], ...] = (
    ("Generated tokens, by engine", "generation_tokens", lambda work: work.generation_tokens, False),
    ("Prompt tokens, by engine", "prompt_tokens", lambda work: work.prompt_tokens, False),
    ("Requests, by engine (vLLM)", "requests_finished", lambda work: work.requests, True),
    ("Preemptions, by engine (vLLM)", "preemptions", lambda work: work.preemptions, True),
)


def _engine_counters(
    engine: Engine, cluster: SimulatedCluster, account: Account, address: str, begin: datetime, end: datetime
) -> Iterator[Agreement]:
    stored: defaultdict[tuple[str, str], float] = defaultdict(float)
    for one in counted(engine, begin, end):
        stored[one.subject.endpoint, one.metric] += one.increment
    for what, metric, of_work, is_of_vllm in _COUNTERS:
        comparison = _Comparison(what)
        for endpoint, place, works in _engines(cluster, account, address):
            software = place.deployment.software
            if not is_of_vllm or (software is not None and software.engine is ServingEngine.VLLM):
                told = sum(of_work(work) for work in works)
                comparison.add(endpoint, told, stored.get((endpoint, metric)))
        yield comparison.result()


def _engine_histograms(
    engine: Engine, cluster: SimulatedCluster, account: Account, address: str, begin: datetime, end: datetime
) -> Iterator[Agreement]:
    quantities = {"e2e_latency_s": Quantity.E2E, "ttft_s": Quantity.TTFT}
    counts: defaultdict[tuple[str, str], float] = defaultdict(float)
    sums: defaultdict[tuple[str, str], float] = defaultdict(float)
    for one in counted_histograms(engine, list(quantities), begin, end):
        counts[one.subject.endpoint, one.metric] += one.histogram.count
        sums[one.subject.endpoint, one.metric] += one.histogram.total
    of_counts, of_sums = _Comparison("Values in latency histograms"), _Comparison("Seconds in latency histograms")
    for endpoint, _, works in _engines(cluster, account, address):
        for metric, quantity in quantities.items():
            key = (endpoint, metric)
            if key in counts:
                parts = [work.histogram(quantity, ()) for work in works]
                of_counts.add(f"{metric} of {endpoint}", sum(part.count for part in parts), counts[key])
                total = sum(part.total for part in parts)
                of_sums.add(f"{metric} of {endpoint}", total, sums[key], tolerance=1e-6)
    yield of_counts.result()
    yield of_sums.result()


def _gateway_counters(
    engine: Engine, cluster: SimulatedCluster, account: Account, begin: datetime, end: datetime
) -> Iterator[Agreement]:
    stored: defaultdict[tuple[str, str, str], float] = defaultdict(float)
    for hour in spend_by_hour(engine, begin, end):
        for quantity, amount in hour.quantities.items():
            stored[hour.model, hour.dimension, quantity] += amount
    spans = account.counted(GATEWAY_METRICS)
    places = _by_deployment(cluster)
    uses = {
        name: added(
            use_between(place, since, until, caller.index)
            for since, until in spans
            for place in of_it
            for caller in callers(deployment)
        )
        for name, (deployment, of_it) in places.items()
    }
    for what, quantity, amount_of in _AMOUNTS:
        comparison = _Comparison(f"{what}, by the gateway's counters")
        by_model: defaultdict[str, float] = defaultdict(float)
        for name, (deployment, _) in places.items():
            by_model[deployment.model or ""] += amount_of(deployment, uses[name])
        for model, told in by_model.items():
            comparison.add(model, told, stored.get((model, "", quantity)), tolerance=1e-9)
        yield comparison.result()


_AMOUNTS: tuple[tuple[str, str, Callable[[Deployment, Use], float]], ...] = (
    ("Input tokens", "input_tokens", lambda _, use: use.prompt_tokens),
    ("Output tokens", "output_tokens", lambda _, use: use.generation_tokens),
    ("Dollars", "cost_usd", lambda deployment, use: use.cost_nano(deployment) / NANO),
)


def _told_usage(engine: Engine, cluster: SimulatedCluster, end: datetime) -> Iterator[Agreement]:
    """Whole hours of the trace store and whole days of the gateway: those whose last trace had arrived when told."""
    hours, days = (
        _Comparison("Tokens of traces, by model and hour"),
        _Comparison("Tokens of the gateway, by model and day"),
    )
    models: dict[str, list[ServingPod]] = defaultdict(list)
    for deployment, places in _by_deployment(cluster).values():
        models[deployment.model or ""] += places
    for one in token_usage(engine, end - 40 * _DAY, end):
        usage = one.usage
        if usage.dimension or usage.model not in models or one.told_at < usage.end + _LATEST_TRACE:
            continue
        use = added(
            use_between(place, usage.start, usage.end, caller.index)
            for place in models[usage.model]
            for caller in callers(place.deployment)
        )
        told = float(use.prompt_tokens + use.generation_tokens)
        (hours if usage.end - usage.start == _HOUR else days).add(
            f"{usage.model} {usage.start:%d %H}", told, usage.total_tokens
        )
    yield hours.result()
    yield days.result()


def _by_deployment(cluster: SimulatedCluster) -> dict[str, tuple[Deployment, list[ServingPod]]]:
    found: dict[str, tuple[Deployment, list[ServingPod]]] = {}
    for place in gateway_places(cluster):
        found.setdefault(place.deployment.name, (place.deployment, []))[1].append(place)
    return found


def _device_samples(engine: Engine, cluster: SimulatedCluster, account: Account) -> Iterator[Agreement]:
    """Every stored value of every device against the state at the exporter's answer nearest to it."""
    columns = ("memory_used_bytes", "gr_engine_active_ratio", "power_watts", "energy_joules", "temperature_celsius")
    with reading(engine) as connection:
        rows = connection.execute(
            select(
                _DEVICES.c.gpu_uuid,
                _DEVICES.c.gi_id,
                _SAMPLES.c.observed_at_ms,
                *(_SAMPLES.c[name] for name in columns),
            ).join(_DEVICES, _DEVICES.c.id == _SAMPLES.c.device_id)
        ).all()
    by_gpu: defaultdict[str, list[Sequence[float | None]]] = defaultdict(list)
    for uuid, *row in rows:
        by_gpu[uuid].append(row)
    comparisons = {name: _Comparison(_SAMPLE_TITLES[name]) for name in columns}
    scrapes = _Comparison("Scrapes of exporters, by node")
    for node in cluster.nodes:
        states = _States(account, node)
        moments = {row[1] for gpu in node.gpus for row in by_gpu.get(gpu.uuid, ())}
        scrapes.add(node.name, len(states.times), float(len(moments)))
        for position, gpu in enumerate(node.gpus):
            for gi_id, observed_ms, *values in by_gpu.get(gpu.uuid, ()):
                state = states.nearest(from_ms(int(observed_ms or 0)))[position]
                told = _told_of(state, None if gi_id == NO_INSTANCE else int(gi_id or 0))
                for name, value in zip(columns, values, strict=True):
                    if name in told and value is not None:
                        comparisons[name].add(
                            f"{node.name} {gpu.uuid} {observed_ms}", told[name], value, tolerance=_TOLERANCES[name]
                        )
    for comparison in (scrapes, *comparisons.values()):
        yield comparison.result()


_SAMPLE_TITLES = {
    "memory_used_bytes": "Samples of memory in use",
    "gr_engine_active_ratio": "Samples of engine activity",
    "power_watts": "Samples of power",
    "energy_joules": "Samples of energy",
    "temperature_celsius": "Samples of temperature",
}
# How exporters round what they say: whole MiB, six digits of a ratio, three of watts, newer ones whole joules.
_TOLERANCES = {
    "memory_used_bytes": _MEBIBYTE,
    "gr_engine_active_ratio": 1e-6,
    "power_watts": 1e-3,
    "energy_joules": 1.0,
    "temperature_celsius": 0.0,
}


class _States:
    """States of one node at the moments of its exporter's good answers."""

    def __init__(self, account: Account, node: SimulatedNode) -> None:
        self._node = node
        self._path = metrics_path(node.name)
        self._account = account
        self._known: dict[datetime, tuple[GpuState, ...]] = {}

    @property
    def times(self) -> tuple[datetime, ...]:
        return self._account.read.get(self._path, ())

    def nearest(self, at: datetime) -> tuple[GpuState, ...]:
        moment = min(self.times, key=lambda time: abs(time - at))
        if moment not in self._known:
            since = self._account.last_restart(self._path, moment)
            self._known[moment] = node_state(self._node, moment, counters_since=since)
        return self._known[moment]


def _told_of(state: GpuState, gi_id: int | None) -> Mapping[str, float]:
    devices: dict[int | None, DeviceState] = {
        None if one.instance is None else one.instance.gi_id: one for one in state.devices
    }
    told: dict[str, float] = {}
    device = devices.get(gi_id)
    if device is not None:
        told |= {
            "memory_used_bytes": device.memory_used_bytes,
            "gr_engine_active_ratio": device.gr_engine_active_ratio,
        }
    if gi_id is None:
        told |= {
            "power_watts": state.power_watts,
            "energy_joules": state.energy_joules,
            "temperature_celsius": state.temperature_celsius,
        }
    return told


def _kubernetes(engine: Engine, cluster: SimulatedCluster, at: datetime) -> Agreement:
    """Names of nodes and of pods with GPUs at the end."""
    comparison = _Comparison("Nodes and pods of Kubernetes at the end")
    known = cluster_state(engine, at, "default")
    nodes = {node.name for node in (known.nodes if known is not None else None) or ()}
    pods = {pod.uid for pod in (known.pods if known is not None else None) or ()}
    for node in cluster.nodes:
        comparison.add(node.name, 1, float(node.name in nodes))
        held = {gpu.pod for gpu in node.gpus} | {one.pod for gpu in node.gpus for one in gpu.instances or ()}
        for pod in held - {None}:
            if pod is not None:
                comparison.add(pod.name, 1, float(pod.uid in pods))
    return comparison.result()
