"""What every simulated server of models has done and is doing at a time: pure functions of cluster, pod and time.

The number of requests is the integral of the demand that keeps the GPU busy (`sample_data.workload`), and each request
is one of a fixed round (`sample_data.request_shapes`). So all figures are whole and agree: the reasons of finishing add
up to the count of the end-to-end histogram, the token counters to the sums of the token histograms, the data-parallel
ranks to the whole server, and what a gateway logs to what the engine counts. A request counts when it ends.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import accumulate, pairwise

from sample_data.cluster import EPOCH, SimulatedCluster, SimulatedNode, SimulatedPod
from sample_data.deployments import Deployment, Engine
from sample_data.identity import fraction, number
from sample_data.request_shapes import (
    PER_UNIT,
    ROUND,
    VALUES,
    Band,
    FinishReason,
    Quantity,
    RequestShape,
    TrafficShape,
    band_of,
    request_round,
    traffic_shape,
    weight,
)
from sample_data.traffic import SLOT_S, WEEK_S, WeekPattern
from sample_data.workload import noise, pod_traffic


@dataclass(frozen=True, slots=True, eq=False)
class ServingPod:
    """A pod that serves a model, where it runs, and the devices it holds: (GPU UUID, GPU instance id or None)."""

    node: SimulatedNode
    pod: SimulatedPod
    devices: tuple[tuple[str, int | None], ...]
    started_at: datetime

    @property
    def deployment(self) -> Deployment:
        """What runs in it."""
        return self.pod.deployment

    @property
    def model(self) -> str:
        """The model as clients name it."""
        return self.pod.deployment.model or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRequest:
    """One request that ended: `number` never repeats for one pod."""

    number: int
    finished_at: datetime
    shape: RequestShape

    @property
    def arrived_at(self) -> datetime:
        """When the client sent it."""
        return self.finished_at - timedelta(microseconds=self.shape.e2e_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketCounts:
    """How many values were at most each bound, how many there were at all, and their sum in the quantity's unit."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    count: int
    total: float


class Work:
    """The requests that ended between two moments, all of them or those of one data-parallel rank."""

    def __init__(self, deployment: str, spans: Sequence[tuple[int, int]], *, rank: int = 0, ranks: int = 1) -> None:
        self._deployment = deployment
        self._spans = spans  # by band: numbers of the first request and of the one after the last
        self._rank = rank
        self._ranks = ranks

    @property
    def requests(self) -> int:
        """How many ended, however."""
        return self._sum("requests")

    @property
    def requests_by_reason(self) -> Mapping[FinishReason, int]:
        """How many ended in each way."""
        return {reason: self._sum(reason) for reason in FinishReason}

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts, those from the prefix cache included."""
        return self._sum("prompt_tokens")

    @property
    def prompt_tokens_cached(self) -> int:
        """Tokens of prompts that came out of the prefix cache."""
        return self._sum("cached_tokens")

    @property
    def generation_tokens(self) -> int:
        """Tokens generated."""
        return self._sum("generation_tokens")

    @property
    def preemptions(self) -> int:
        """How often a request lost its place in the KV cache."""
        return self._sum("preemptions")

    @property
    def prefill_s(self) -> float:
        """Time spent on prompts, over all requests."""
        return self._sum("prefill_us") / 1e6

    @property
    def decode_s(self) -> float:
        """Time spent on generating, over all requests."""
        return self._sum("decode_us") / 1e6

    def histogram(self, quantity: Quantity, bounds: Sequence[float]) -> BucketCounts:
        """A Prometheus histogram of these requests over these upper bounds (finite, rising), in seconds or tokens."""
        given = tuple(bounds)
        columns = [0] * (len(given) + 2)
        for band, (since, until) in zip(Band, self._spans, strict=True):
            if until == since:
                continue
            table = _histogram_table(self._deployment, band, quantity, given, self._rank, self._ranks)
            (rounds_until, rest_until), (rounds_since, rest_since) = divmod(until, ROUND), divmod(since, ROUND)
            rounds = rounds_until - rounds_since
            for column, (whole, upper, lower) in enumerate(
                zip(table[ROUND], table[rest_until], table[rest_since], strict=True)
            ):
                columns[column] += rounds * whole + upper - lower
        return BucketCounts(
            bounds=given, counts=tuple(columns[:-2]), count=columns[-2], total=columns[-1] / PER_UNIT[quantity]
        )

    def _sum(self, figure: str) -> int:
        total = 0
        for band, (since, until) in zip(Band, self._spans, strict=True):
            if until > since:
                running = _running_sum(self._deployment, band, figure, self._rank, self._ranks)
                total += _up_to(running, until) - _up_to(running, since)
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingState:
    """One server, or one data-parallel rank of it, at one moment; `work` counts from `started_at`."""

    at: datetime
    started_at: datetime
    is_loaded: bool  # Ollama lets go of a model that nobody asks for
    level: float  # demand relative to the peak
    running: int
    waiting: int
    kv_cache_used_ratio: float
    kv_cache_tokens: int
    work: Work


def serving_pods(cluster: SimulatedCluster) -> tuple[ServingPod, ...]:
    """Every pod that serves a model (vLLM and its like, Ollama, embeddings), in the order of nodes and devices."""
    return tuple(place for node in cluster.nodes for place in _serving_pods_of(node))


@lru_cache(maxsize=4_096)
def _serving_pods_of(node: SimulatedNode) -> tuple[ServingPod, ...]:
    devices: dict[SimulatedPod, list[tuple[str, int | None]]] = {}
    for gpu in node.gpus:
        if gpu.pod is not None:
            devices.setdefault(gpu.pod, []).append((gpu.uuid, None))
        for instance in gpu.instances or ():
            if instance.pod is not None:
                devices.setdefault(instance.pod, []).append((gpu.uuid, instance.gi_id))
    return tuple(
        ServingPod(node, pod, tuple(held), pod_started_at(node, pod))
        for pod, held in devices.items()
        if traffic_shape(pod.deployment.name) is not None
    )


def pod_started_at(node: SimulatedNode, pod: SimulatedPod) -> datetime:
    """When the pod's containers started, whole seconds: within ten days after the node's driver was loaded."""
    return (node.driver_loaded_at + fraction(node.seed, "started", pod.uid) * timedelta(days=10)).replace(microsecond=0)


def serving_state(
    place: ServingPod, at: datetime, *, since: datetime | None = None, rank: int = 0, ranks: int = 1
) -> ServingState:
    """The server at a moment; `since` replaces the time it started, as after a restart. Before it, nothing was done."""
    started_at = since or place.started_at
    pattern, shift_s = pod_traffic(place.node.seed, place.pod)
    now_s = max(at, started_at).timestamp() - EPOCH.timestamp() + shift_s
    level = pattern.level(now_s) if at >= started_at else 0.0
    shape = _shape(place)
    running, waiting = _in_flight(place, shape, level, at)
    held = sum(
        request.prompt_tokens + request.generation_tokens // 2
        for request in request_round(place.deployment.name, band_of(level))
    )
    used = running * held / ROUND / shape.kv_cache_tokens if shape.kv_cache_tokens else 0.0
    return ServingState(
        at=at,
        started_at=started_at,
        is_loaded=place.deployment.engine is not Engine.OLLAMA or pattern.is_loaded(now_s),
        level=level,
        running=_share(running, rank, ranks),
        waiting=_share(waiting, rank, ranks),
        kv_cache_used_ratio=min(round(used, 6), 1.0),
        kv_cache_tokens=shape.kv_cache_tokens // ranks,
        work=work_between(place, started_at, max(at, started_at), rank=rank, ranks=ranks),
    )


def work_between(place: ServingPod, since: datetime, until: datetime, *, rank: int = 0, ranks: int = 1) -> Work:
    """What ended after `since` and up to `until`; spans that lie end to end add up exactly."""
    pattern, shift_s = pod_traffic(place.node.seed, place.pod)
    counter = _Arrivals.of(pattern, _shape(place).peak_requests_per_s)
    before = counter.by_band(since.timestamp() - EPOCH.timestamp() + shift_s)
    after = counter.by_band(until.timestamp() - EPOCH.timestamp() + shift_s)
    return Work(place.deployment.name, list(zip(before, after, strict=True)), rank=rank, ranks=ranks)


def requests_between(place: ServingPod, since: datetime, until: datetime) -> Iterator[SimulatedRequest]:
    """Each request that ended after `since` and up to `until`, in that order; about ten a second at most.

    `work_between` of the same span counts exactly these.
    """
    pattern, shift_s = pod_traffic(place.node.seed, place.pod)
    counter = _Arrivals.of(pattern, _shape(place).peak_requests_per_s)
    offset = EPOCH + timedelta(seconds=-shift_s)
    at_s = since.timestamp() - EPOCH.timestamp() + shift_s
    until_s = until.timestamp() - EPOCH.timestamp() + shift_s
    for index, band, number_in_band, ended_s in counter.each(at_s, until_s):
        requests = request_round(place.deployment.name, band)
        yield SimulatedRequest(
            number=index,
            finished_at=offset + timedelta(seconds=ended_s),
            shape=requests[number_in_band % ROUND],
        )


def _shape(place: ServingPod) -> TrafficShape:
    shape = traffic_shape(place.deployment.name)
    if shape is None:
        raise ValueError(f"{place.pod.name} serves no model.")
    return shape


def _in_flight(place: ServingPod, shape: TrafficShape, level: float, at: datetime) -> tuple[int, int]:
    """Requests in work and waiting by Little's law, give or take what a moment differs from the mean."""
    if level == 0:
        return 0, 0
    requests = request_round(place.deployment.name, band_of(level))
    wobble = noise(number(place.node.seed, "in-flight", place.pod.uid), int(at.timestamp()))
    rate = shape.peak_requests_per_s * level * (1 + 0.3 * wobble) / ROUND / 1e6
    software = place.deployment.software
    limit = software.max_sequences if software is not None else 4
    running = min(round(rate * sum(request.inference_us for request in requests)), limit)
    return running, round(rate * sum(request.queue_us for request in requests))


def _share(count: int, rank: int, ranks: int) -> int:
    return count // ranks + int(rank < count % ranks)


@dataclass(frozen=True, slots=True, eq=False)
class _Arrivals:
    """How many requests a week's demand makes up to any second of it, in all and by band."""

    pattern: WeekPattern
    per_s: float
    starts: tuple[int, ...]  # requests up to the start of each slot, and of the week
    band_starts: tuple[tuple[int, ...], ...]  # the same by band

    @staticmethod
    @lru_cache(maxsize=4_096)
    def of(pattern: WeekPattern, per_s: float) -> "_Arrivals":
        """The table for one pattern and rate."""
        starts = tuple(int(per_s * level_s) for level_s in pattern.level_s)
        per_slot = [after - before for before, after in pairwise(starts)]
        bands = [band_of(level) for level in pattern.levels]
        return _Arrivals(
            pattern=pattern,
            per_s=per_s,
            starts=starts,
            band_starts=tuple(
                (0, *accumulate(count if own is band else 0 for count, own in zip(per_slot, bands, strict=True)))
                for band in Band
            ),
        )

    def by_band(self, seconds: float) -> tuple[int, ...]:
        """Requests of each band up to a moment, in seconds since the first Monday."""
        weeks, within_s = divmod(seconds, WEEK_S)
        slot = int(within_s // SLOT_S)
        in_slot = int(self.per_s * self.pattern.level_integral_s(within_s)) - self.starts[slot]
        own = band_of(self.pattern.levels[slot])
        return tuple(
            int(weeks) * starts[-1] + starts[slot] + (in_slot if band is own else 0)
            for band, starts in zip(Band, self.band_starts, strict=True)
        )

    def each(self, since_s: float, until_s: float) -> Iterator[tuple[int, Band, int, float]]:
        """Number, band, number within the band and moment of every request after one moment and up to another."""
        first, last = sum(self.by_band(since_s)), sum(self.by_band(until_s))
        for index in range(first, last):
            week, within = divmod(index, self.starts[-1])
            slot = bisect_right(self.starts, within) - 1
            band = band_of(self.pattern.levels[slot])
            number_in_band = (
                week * self.band_starts[band][-1] + self.band_starts[band][slot] + within - self.starts[slot]
            )
            # the moment in which the running count becomes one more than `within`
            integral_s = (within + 1) / self.per_s
            moment_s = slot * SLOT_S + (integral_s - self.pattern.level_s[slot]) / self.pattern.levels[slot]
            yield index, band, number_in_band, week * WEEK_S + min(moment_s, (slot + 1) * SLOT_S)


def _up_to(running: tuple[int, ...], count: int) -> int:
    rounds, rest = divmod(count, ROUND)
    return rounds * running[ROUND] + running[rest]


@lru_cache(maxsize=16_384)
def _running_sum(deployment: str, band: Band, figure: str, rank: int, ranks: int) -> tuple[int, ...]:
    return (
        0,
        *accumulate(
            _figure(request, figure) if place % ranks == rank else 0
            for place, request in enumerate(request_round(deployment, band))
        ),
    )


def _figure(request: RequestShape, figure: str) -> int:
    if figure == "requests":
        return 1
    if figure in FinishReason.__members__.values():
        return int(request.reason == figure)
    value = getattr(request, figure)
    return int(value)


@lru_cache(maxsize=4_096)
def _histogram_table(
    deployment: str, band: Band, quantity: Quantity, bounds: tuple[float, ...], rank: int, ranks: int
) -> tuple[tuple[int, ...], ...]:
    """Row n: values at most each bound, their number and their sum, over the first n requests of the round."""
    row = [0] * (len(bounds) + 2)
    rows = [tuple(row)]
    unit = PER_UNIT[quantity]
    for place, request in enumerate(request_round(deployment, band)):
        times = weight(quantity, request) if place % ranks == rank else 0
        if times:
            value = VALUES[quantity](request)
            for column, bound in enumerate(bounds):
                row[column] += times * (value <= bound * unit)
            row[-2] += times
            row[-1] += times * value
        rows.append(tuple(row))
    return tuple(rows)
