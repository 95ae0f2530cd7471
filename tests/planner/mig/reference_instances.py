"""The published, seeded instances as planning problems: 120 to place on empty GPUs, 90 fleets that run."""

import csv
import importlib.util
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from planner.catalog import load_catalog
from planner.mig.problem import Elastic, Problem, ProblemGpu, RunningInstance, Workload

SIZES = (10, 100, 1000, 10_000)
MIXES = ("uniform", "small", "large", "no7g", "bimodal", "llm")
FLEETS = (8, 80, 800)
FLEET_MIXES = ("uniform", "small", "llm")
LOADS = ("0.5", "0.7")
SEEDS = range(5)

BOARD = load_catalog().board("A100-40GB")
Figures = tuple[int, int | None]
"""GPUs and moves."""


@cache
def published(folder: Path) -> dict[tuple[str, int, str, str, int, str], Figures]:
    """Figures by kind, size, mix, load, seed and method."""
    with (folder / "placement" / "results_seeds_0-4.csv").open(encoding="utf-8") as file:
        return {
            (row["kind"], int(row["n"]), row["mix"], row["load"], int(row["seed"]), row["method"]): (
                int(row["gpus"]),
                int(row["moves"]) if row["moves"] else None,
            )
            for row in csv.DictReader(file)
        }


@cache
def generator(folder: Path) -> ModuleType:
    """The module that draws the instances; nothing of it stays importable, and nothing is written beside it."""
    place = folder / "placement" / "gen_instances.py"
    before, writes = set(sys.modules), sys.dont_write_bytecode
    path = list(sys.path)
    sys.dont_write_bytecode = True
    try:
        spec = importlib.util.spec_from_file_location("gen_instances", place)
        assert spec is not None
        assert spec.loader is not None
        sys.path.insert(0, str(place.parent / "baselines"))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path[:], sys.dont_write_bytecode = path, writes
        for name in {"geometry", "heuristics"} - before:
            sys.modules.pop(name, None)
    return module


def initial_problem(folder: Path, size: int, mix: str, seed: int) -> Problem:
    """Requests on as many empty GPUs as they need."""
    drawn = generator(folder).initial(size, mix, seed)
    workloads = tuple(
        Workload(id=one["id"], profile=one["profile"], service=one["service"]) for one in drawn["workloads"]
    )
    return Problem(elastic=Elastic(boards=(BOARD,)), workloads=workloads)


def running_problem(folder: Path, gpus: int, mix: str, load: str, seed: int) -> Problem:
    """A fragmented fleet with new requests that wait."""
    drawn: dict[str, Any] = generator(folder).running(gpus, mix, seed, load=float(load))
    profiles = {one["id"]: one["profile"] for one in drawn["workloads"]}
    instances: dict[str, list[RunningInstance]] = defaultdict(list)
    for one in drawn["placements"]:
        name = one["workload"]
        instances[one["gpu"]].append(RunningInstance(profile=profiles[name], start=one["start"], workloads=(name,)))
    return Problem(
        gpus=tuple(
            ProblemGpu(id=gpu, node=node["id"], board=BOARD, instances=tuple(instances[gpu]))
            for node in drawn["nodes"]
            for gpu in node["gpus"]
        ),
        workloads=tuple(Workload(id=name, profile=profile) for name, profile in profiles.items()),
        new=tuple(Workload(id=one["id"], profile=one["profile"]) for one in drawn["new"]),
    )
