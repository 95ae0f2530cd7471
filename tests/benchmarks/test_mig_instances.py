"""The generated problems are what they claim to be, and the planner's reader takes them."""

import json
from pathlib import Path

import pytest

from benchmarks.mig_instances import (
    BOARD,
    LOADS,
    MIXES,
    RUNNING_MIXES,
    Instance,
    ReferenceInstances,
    initial,
    reference_instances,
    running,
    slots,
)
from planner.mig.problem_file import read_problem

ONE_GPU_OF_80 = 1 / 80  # the last arrival may be a whole GPU


@pytest.mark.parametrize("mix", MIXES)
def test_initial_requests_come_from_the_seed(mix: str) -> None:
    first = initial(100, mix, 3)
    assert first == initial(100, mix, 3)
    assert first.requests != initial(100, mix, 4).requests
    assert len(first.requests) == 100
    assert set(first.requests.values()) <= set(slots().profiles)
    replicas = {first.services[name]: profile for name, profile in first.requests.items()}
    assert all(replicas[first.services[name]] == profile for name, profile in first.requests.items())


@pytest.mark.parametrize("mix", RUNNING_MIXES)
@pytest.mark.parametrize("load", LOADS)
def test_a_running_fleet_has_its_load_and_is_ragged(mix: str, load: float) -> None:
    fleet = running(80, mix, load, 0)
    assert fleet == running(80, mix, load, 0)
    assert fleet.running != running(80, mix, load, 1).running
    taken = sum(slots().size[spot.profile] for spot in fleet.running.values()) / (80 * 8)
    assert load <= taken <= load + ONE_GPU_OF_80
    in_use = {spot.gpu for spot in fleet.running.values()}
    assert taken * 80 * 1.04 < len(in_use) < 80
    assert len(fleet.requests) == int(0.1 * len(fleet.running))
    assert fleet.running.keys().isdisjoint(fleet.requests)


def test_arrivals_that_spread_leave_no_gpu_free() -> None:
    fleet = running(80, "serving", 0.7, 0, is_spread=True)
    assert {spot.gpu for spot in fleet.running.values()} == set(range(80))


@pytest.mark.parametrize("instance", [initial(50, "even", 0), running(16, "serving", 0.7, 0)], ids=lambda i: i.name)
def test_the_planner_reads_the_file(instance: Instance) -> None:
    problem = read_problem(json.dumps(instance.document()))
    assert len(problem.gpus) == instance.gpus
    assert problem.running_ids() == instance.running.keys()
    assert {workload.id: workload.profile for workload in problem.new} == instance.requests
    assert (problem.elastic is None) == bool(instance.gpus)
    assert all(gpu.board.name == BOARD for gpu in problem.gpus)


def test_instances_of_the_reference_are_converted_whole(published: ReferenceInstances) -> None:
    count = 0
    for instance in published.running(fleets=(8, 80), seeds=(0, 4)):
        assert len({spot.gpu for spot in instance.running.values()}) == published.published(instance, "current")[0]
        count += 1
    assert count == 2 * 3 * 2 * 2
    for instance in published.initial(sizes=(100,)):
        assert len(instance.requests) == 100
        assert published.published(instance, "whole_gpu") == (100, None)


def test_without_the_reference_there_are_no_instances_of_it(tmp_path: Path) -> None:
    assert reference_instances(tmp_path) is None
