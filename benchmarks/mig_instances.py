"""Problems for the MIG planner, from a seed: requests to place, and fleets that arrivals and departures left ragged.

Those of the reference (`ReferenceInstances`) have published exact answers; they lie beside this project only where it
is built, so every measurement also runs on the own ones.
"""

import csv
import random
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.mig_masks import Fleet, Slots, Spot
from benchmarks.mig_policies import first_fit, spread
from planner.catalog import load_catalog

BOARD = "A100-40GB"
GPUS_PER_NODE = 8

SIZES = (10, 100, 1_000, 10_000)  # requests to place
FLEETS = (8, 80, 800)  # GPUs
LOADS = (0.5, 0.7)  # share of memory slices taken
SEEDS = (0, 1, 2, 3, 4)
NEW_RATIO = 0.1  # further requests, of those that run

# Weights of the profiles from small to large: 1g.5gb, 1g.10gb, 2g.10gb, 3g.20gb, 4g.20gb, 7g.40gb.
MIXES: Mapping[str, tuple[int, ...]] = {
    "even": (1, 1, 1, 1, 1, 1),
    "small": (50, 20, 20, 6, 2, 2),
    "medium": (10, 15, 30, 30, 15, 0),
    "large": (4, 4, 12, 25, 25, 30),
    "ends": (45, 2, 3, 3, 2, 45),
    "serving": (12, 18, 20, 25, 10, 15),
}
RUNNING_MIXES = ("even", "small", "serving")

_REPLICAS = (1, 1, 2, 2, 3, 4)  # of one service, drawn with equal chance
_TURNOVER = 3  # departures per workload, each followed by arrivals up to the load
_TRIES = 50  # arrivals in a row that find no room: as full as it gets


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One problem: what runs where on how many GPUs (0: elastic), and what is to be placed, in order of arrival."""

    name: str
    size: int  # requests, or GPUs of a running fleet
    mix: str
    seed: int
    load: float | None = None  # of a running fleet
    gpus: int = 0
    running: Mapping[str, Spot] = field(default_factory=dict)
    requests: Mapping[str, str] = field(default_factory=dict)  # workload -> profile
    services: Mapping[str, str] = field(default_factory=dict)  # workload -> service

    def document(self) -> dict[str, Any]:
        """The problem as a file says it."""
        gpus = [
            {"id": f"gpu-{index}", "node": f"node-{index // GPUS_PER_NODE}", "board": BOARD, "instances": []}
            for index in range(self.gpus)
        ]
        for workload, spot in self.running.items():
            gpus[spot.gpu]["instances"].append(
                {"profile": spot.profile, "start": spot.start, "workload": workload},
            )
        told: dict[str, Any] = {"version": 1, "gpus": gpus}
        if not self.gpus:
            told["elastic"] = {"board": BOARD}
        told["workloads"] = [self._workload(name, spot.profile) for name, spot in self.running.items()]
        told["new"] = [self._workload(name, profile) for name, profile in self.requests.items()]
        return told

    def _workload(self, name: str, profile: str) -> dict[str, str]:
        told = {"id": name, "profile": profile}
        if name in self.services:
            told["service"] = self.services[name]
        return told


def slots() -> Slots:
    """The board of all instances."""
    return Slots(board=load_catalog().board(BOARD))


def initial(size: int, mix: str, seed: int) -> Instance:
    """So many requests in random order, replicas of services, for empty GPUs without end."""
    dice = random.Random(f"initial {size} {mix} {seed}")
    profiles = slots().profiles
    told: list[tuple[str, str]] = []
    while len(told) < size:
        profile = dice.choices(profiles, MIXES[mix])[0]
        told += [(profile, f"service-{len(told)}")] * min(dice.choice(_REPLICAS), size - len(told))
    dice.shuffle(told)
    return Instance(
        name=f"initial-{size}-{mix}-{seed}",
        size=size,
        mix=mix,
        seed=seed,
        requests={f"w{index}": profile for index, (profile, _) in enumerate(told)},
        services={f"w{index}": service for index, (_, service) in enumerate(told)},
    )


def running(size: int, mix: str, load: float, seed: int, *, is_spread: bool = False) -> Instance:
    """A fleet that was filled to the load, then saw three departures per workload and as many arrivals.

    Arrivals take the lowest GPU with room, or with `is_spread` the emptiest.
    """
    dice = random.Random(f"running {size} {mix} {load} {seed}")
    board = slots()
    fleet = Fleet(board, size)
    policy = (spread if is_spread else first_fit)(board)
    wanted = load * size * board.board.placement_grid
    present: list[str] = []  # in no order, so that a departure costs no search
    arrived = taken = 0

    def fill() -> None:
        nonlocal arrived, taken
        misses = 0
        while taken < wanted and misses < _TRIES:
            profile = dice.choices(board.profiles, MIXES[mix])[0]
            if fleet.place(f"w{arrived}", profile, policy) is None:
                misses += 1
                continue
            present.append(f"w{arrived}")
            arrived, taken, misses = arrived + 1, taken + board.size[profile], 0

    fill()
    for _ in range(_TURNOVER * len(present)):
        index = dice.randrange(len(present))
        present[index], present[-1] = present[-1], present[index]
        taken -= board.size[fleet.remove(present.pop()).profile]
        fill()
    new = dice.choices(board.profiles, MIXES[mix], k=max(1, int(NEW_RATIO * len(present))))
    return Instance(
        name=f"running-{size}-{mix}-{load}-{seed}",
        size=size,
        mix=mix,
        seed=seed,
        load=load,
        gpus=size,
        running={name: fleet.placed[name] for name in present},
        requests={f"n{index}": profile for index, profile in enumerate(new)},
    )


def own_initial(sizes: tuple[int, ...] = SIZES, seeds: tuple[int, ...] = SEEDS) -> Iterator[Instance]:
    """The seeded requests of this project."""
    return (initial(size, mix, seed) for size in sizes for mix in MIXES for seed in seeds)


def own_running(fleets: tuple[int, ...] = FLEETS, seeds: tuple[int, ...] = SEEDS) -> Iterator[Instance]:
    """The seeded fleets of this project."""
    return (
        running(size, mix, load, seed) for size in fleets for mix in RUNNING_MIXES for load in LOADS for seed in seeds
    )


class ReferenceInstances:
    """The instances of the reference folder, made by its own program, and the exact answers published with them."""

    MIXES = ("uniform", "small", "large", "no7g", "bimodal", "llm")
    RUNNING_MIXES = ("uniform", "small", "llm")

    def __init__(self, folder: Path) -> None:
        with _imports_undone(folder):
            program = runpy.run_path(str(folder / "gen_instances.py"))
        self._initial: Callable[..., dict[str, Any]] = program["initial"]
        self._running: Callable[..., dict[str, Any]] = program["running"]
        self._answers: dict[tuple[str, ...], tuple[int, int | None]] = {}
        with (folder / "results_seeds_0-4.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                key = (row["kind"], row["n"], row["mix"], row["load"], row["seed"], row["method"])
                self._answers[key] = (int(row["gpus"]), int(row["moves"]) if row["moves"] else None)

    def initial(self, sizes: tuple[int, ...] = SIZES, seeds: tuple[int, ...] = SEEDS) -> Iterator[Instance]:
        return (
            _converted(self._initial(size, mix, seed), size=size, mix=mix, seed=seed)
            for size in sizes
            for mix in self.MIXES
            for seed in seeds
        )

    def running(self, fleets: tuple[int, ...] = FLEETS, seeds: tuple[int, ...] = SEEDS) -> Iterator[Instance]:
        return (
            _converted(self._running(size, mix, seed, load=load), size=size, mix=mix, seed=seed, load=load)
            for size in fleets
            for mix in self.RUNNING_MIXES
            for load in LOADS
            for seed in seeds
        )

    def published(self, instance: Instance, method: str) -> tuple[int, int | None]:
        """GPUs and moves of that row; initial rows have no moves."""
        kind, load = ("initial", "") if instance.load is None else ("running", str(instance.load))
        return self._answers[kind, str(instance.size), instance.mix, load, str(instance.seed), method]


def reference_instances(folder: Path | None = None) -> ReferenceInstances | None:
    """Those of the folder beside the project (or of the named one); None where it is not there."""
    folder = folder or Path(__file__).resolve().parents[2] / "shared" / "reference" / "placement"
    return ReferenceInstances(folder) if (folder / "gen_instances.py").is_file() else None


def _converted(told: Mapping[str, Any], *, size: int, mix: str, seed: int, load: float | None = None) -> Instance:
    profiles = {workload["id"]: workload["profile"] for workload in told["workloads"]}
    indexes = {gpu: index for index, gpu in enumerate(gpu for node in told.get("nodes", ()) for gpu in node["gpus"])}
    where = {
        placement["workload"]: Spot(indexes[placement["gpu"]], profiles[placement["workload"]], placement["start"])
        for placement in told["placements"]
    }
    waiting = {name: profile for name, profile in profiles.items() if name not in where}
    return Instance(
        name=told["name"],
        size=size,
        mix=mix,
        seed=seed,
        load=load,
        gpus=len(indexes),
        running=where,
        requests=waiting | {workload["id"]: workload["profile"] for workload in told.get("new", ())},
        services={workload["id"]: workload["service"] for workload in told["workloads"] if "service" in workload},
    )


@contextmanager
def _imports_undone(folder: Path) -> Iterator[None]:
    """Leave neither on the path nor among the modules what a program outside the project imports from its folder."""
    path, modules = list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]
