"""What we have and what it does: the fleet as one frozen snapshot, with the age of everything in it.

Absent is None. A fleet is built in one place, `store/fleet_snapshot.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from planner.hardware import Board, MigMode
from planner.links import Certainty, weakest
from planner.serving_readings import ServingEngine
from planner.units import GpuUuid, NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One measured value and when the source observed it."""

    value: float
    observed_at: datetime


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Pod:
    """A Kubernetes pod (and its container) that holds a device; `uid` where the exporter names it."""

    namespace: str
    name: str
    container: str | None = None
    uid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """What a window of samples of one metric says."""

    samples: int
    mean: float
    p50: float
    p95: float
    maximum: float
    minimum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one device measured over a window; a metric without a sample is not in `metrics`.

    `coverage_ratio` is the share of the window in which at least one sample was stored, in buckets of five minutes.
    """

    start: datetime
    end: datetime
    coverage_ratio: float
    metrics: Mapping[str, Quantiles]


class DeviceState(StrEnum):
    """The five states of a device: a GPU without MIG, or one GPU instance."""

    SERVING = "serving"
    LOADED_IDLE = "loaded-idle"
    HELD = "held"
    FREE = "free"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A device state and the sentence of numbers that led to it."""

    state: DeviceState
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEngine:
    """A serving engine that uses a device, and what all of it counted over the window; None is not counted.

    `certainty` and `links` say how it came to this device. `devices` is on how many it runs; `share_ratio` is the part
    of its tokens that is put down to this one, None where they cannot be split, and `split` says by what, None where
    it runs on this device alone. Its counters were read over `covered_s`, a share `covered_ratio` of the window;
    `is_loaded` is None where nobody tells whether a model is in memory. `is_read_once` says that its counters were
    read, and never a second time.
    """

    endpoint: str
    engine: ServingEngine
    version: str | None
    models: tuple[str, ...]
    is_loaded: bool | None
    pod: str | None  # namespace/name
    certainty: Certainty
    links: tuple[str, ...]
    devices: int
    share_ratio: float | None
    split: str | None
    requests: float | None
    prompt_tokens: float | None
    generation_tokens: float | None
    requests_running: float | None
    covered_s: float
    covered_ratio: float
    is_read_once: bool = False

    @property
    def tokens(self) -> float | None:
        """Prompt and generated tokens of the whole engine; None where it counts neither."""
        counted = [value for value in (self.prompt_tokens, self.generation_tokens) if value is not None]
        return sum(counted) if counted else None

    @property
    def device_tokens_per_s(self) -> float | None:
        """Tokens per second that are put down to this device; None where they are not counted or cannot be split."""
        tokens = self.tokens
        if tokens is None or self.covered_s <= 0:
            return None
        if not tokens:
            return 0.0
        return None if self.share_ratio is None else tokens * self.share_ratio / self.covered_s


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuInstance:
    """One GPU instance; `start` is None while no source has told where it lies (DCGM never does)."""

    gi_id: int
    profile: str
    start: int | None
    metrics: Mapping[str, Observation]
    pods: tuple[Pod, ...]
    usage: Usage | None
    verdict: Verdict
    first_seen: datetime
    last_seen: datetime
    engines: tuple[DeviceEngine, ...] = ()
    not_attributable: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One physical GPU. `board` is None when the catalogue does not know `model_name`."""

    uuid: GpuUuid
    index: int | None
    node: NodeName
    model_name: str | None
    board: Board | None
    pci_bus_id: str | None
    driver_version: str | None
    mig_mode: MigMode | None
    metrics: Mapping[str, Observation]  # whole-GPU values; per-device values too when there are no instances
    pods: tuple[Pod, ...]  # of the whole GPU; pods on instances are with the instance
    instances: tuple[GpuInstance, ...]
    usage: Usage | None
    verdict: Verdict  # of the whole GPU; with instances, the most active state among them
    first_seen: datetime
    last_seen: datetime
    engines: tuple[DeviceEngine, ...] = ()  # of the whole GPU; those on instances are with the instance
    not_attributable: str | None = None

    @property
    def board_label(self) -> str | None:
        """Catalogue id of the board, or the source's own model name where the catalogue does not know it."""
        return self.board.name if self.board else self.model_name

    @property
    def memory_total_bytes(self) -> int | None:
        """Framebuffer of the whole GPU: as measured when it is not cut, else from the catalogue."""
        measured = self.metrics.get("memory_total_bytes")
        if measured is not None:
            return int(measured.value)
        return self.board.memory_total_bytes if self.board else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine and its GPUs, ordered by index."""

    name: NodeName
    cluster: str
    gpus: tuple[Gpu, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What work is placed on: a whole GPU (`instance` is None) or one of its GPU instances."""

    gpu: Gpu
    instance: GpuInstance | None

    @property
    def name(self) -> str:
        """Short name for people: node/index, and the instance's profile and id."""
        index = "?" if self.gpu.index is None else str(self.gpu.index)
        whole = f"{self.gpu.node}/{index}"
        return whole if self.instance is None else f"{whole} {self.instance.profile}#{self.instance.gi_id}"

    @property
    def metrics(self) -> Mapping[str, Observation]:
        return self.gpu.metrics if self.instance is None else self.instance.metrics

    @property
    def pods(self) -> tuple[Pod, ...]:
        return self.gpu.pods if self.instance is None else self.instance.pods

    @property
    def usage(self) -> Usage | None:
        return self.gpu.usage if self.instance is None else self.instance.usage

    @property
    def verdict(self) -> Verdict:
        return self.gpu.verdict if self.instance is None else self.instance.verdict

    @property
    def engines(self) -> tuple[DeviceEngine, ...]:
        """Serving engines that use it, by endpoint."""
        return self.gpu.engines if self.instance is None else self.instance.engines

    @property
    def not_attributable(self) -> str | None:
        """Why what happens on it cannot be put down to one pod, as a clause; None where it can."""
        return self.gpu.not_attributable if self.instance is None else self.instance.not_attributable

    @property
    def served_models(self) -> tuple[str, ...]:
        """Models that its engines offer, by name."""
        return tuple(sorted({model for engine in self.engines for model in engine.models}))

    @property
    def certainty(self) -> Certainty | None:
        """How sure it is that all of its engines use it; None without any."""
        return weakest(engine.certainty for engine in self.engines) if self.engines else None

    @property
    def tokens_per_s(self) -> float | None:
        """Prompt and generated tokens per second over the window, as far as they are put down to this device.

        None where it cannot be told: an engine counts none, or its tokens cannot be split.
        """
        if not self.engines or self.not_attributable is not None:
            return None
        rates = [rate for engine in self.engines if (rate := engine.device_tokens_per_s) is not None]
        return sum(rates) if len(rates) == len(self.engines) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Everything known at one moment, by node name."""

    taken_at: datetime
    nodes: tuple[Node, ...] = field(default=())

    def gpus(self) -> Iterator[Gpu]:
        """Every GPU, node by node."""
        for node in self.nodes:
            yield from node.gpus

    def devices(self) -> Iterator[Device]:
        """Every device that work can be placed on: GPU instances where there are any, else the whole GPU."""
        for gpu in self.gpus():
            if gpu.instances:
                for instance in gpu.instances:
                    yield Device(gpu=gpu, instance=instance)
            else:
                yield Device(gpu=gpu, instance=None)
