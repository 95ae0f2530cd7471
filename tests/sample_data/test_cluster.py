"""The simulated inventory: fixed by its arguments, legal by the placement tables, unique at any size."""

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from planner.catalog import load_catalog
from planner.hardware import PlacedInstance, Placement
from planner.mig_geometry import why_illegal
from sample_data.boards import BOARDS, SimulatedBoard
from sample_data.cluster import SimulatedCluster, SimulatedGpu, SimulatedInstance, simulated_cluster
from sample_data.deployments import DEPLOYMENTS, UTC_OFFSETS_H, Engine
from sample_data.exporter_versions import WIRE_STYLES, ExporterVersion
from sample_data.node_kinds import NODE_KINDS


def _gpus(cluster: SimulatedCluster) -> Iterator[SimulatedGpu]:
    for node in cluster.nodes:
        yield from node.gpus


def _instances(cluster: SimulatedCluster) -> Iterator[SimulatedInstance]:
    for gpu in _gpus(cluster):
        yield from gpu.instances or ()


def _description(cluster: SimulatedCluster) -> list[tuple[object, ...]]:
    return [
        (
            node.name,
            node.exporter_pod,
            node.driver_loaded_at,
            gpu.uuid,
            gpu.pci_bus_id,
            gpu.pod and (gpu.pod.name, gpu.pod.uid),
            [(each.gi_id, each.profile, each.pod and each.pod.name) for each in gpu.instances or ()],
        )
        for node in cluster.nodes
        for gpu in node.gpus
    ]


def test_same_arguments_give_the_same_cluster_and_another_seed_another() -> None:
    first = _description(simulated_cluster(7, seed=3))
    simulated_cluster.__globals__["_cluster"].cache_clear()
    assert _description(simulated_cluster(7, seed=3)) == first
    other = _description(simulated_cluster(7, seed=4))
    assert [entry[0] for entry in other] == [entry[0] for entry in first]
    assert {entry[3] for entry in other}.isdisjoint(entry[3] for entry in first)


def test_a_larger_cluster_begins_with_the_smaller_one() -> None:
    small, large = _description(simulated_cluster(6)), _description(simulated_cluster(18))
    assert large[: len(small)] == small


def test_six_nodes_are_the_six_kinds_with_eight_gpus_each() -> None:
    cluster = simulated_cluster()
    assert [node.name for node in cluster.nodes] == [
        "gpu-a100-01",
        "gpu-h100-01",
        "gpu-h100-02",
        "gpu-h100-03",
        "gpu-h200-01",
        "gpu-l40s-01",
    ]
    assert [len(node.gpus) for node in cluster.nodes] == [8] * 6
    assert [node.kind.mig_strategy for node in cluster.nodes] == ["mixed", "mixed", "single", "none", "none", "none"]


def test_nodes_repeat_round_robin_and_are_numbered_within_their_family() -> None:
    names = [node.name for node in simulated_cluster(9).nodes]
    assert names[6:] == ["gpu-a100-02", "gpu-h100-04", "gpu-h100-05"]


def test_a_thousand_nodes_have_unique_names_uuids_and_pods() -> None:
    cluster = simulated_cluster(1000)
    uuids = [gpu.uuid for gpu in _gpus(cluster)]
    assert len(uuids) == len(set(uuids)) == 8000
    assert len(cluster.by_name) == 1000
    pods = {(pod.namespace, pod.name): pod.uid for gpu in _gpus(cluster) if (pod := gpu.pod)}
    pods |= {(pod.namespace, pod.name): pod.uid for instance in _instances(cluster) if (pod := instance.pod)}
    assert len(set(pods.values())) == len(pods)


def test_uuids_have_the_form_that_nvml_prints() -> None:
    form = re.compile(r"GPU-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
    assert all(form.fullmatch(gpu.uuid) for gpu in _gpus(simulated_cluster()))


def test_no_cluster_is_without_nodes() -> None:
    with pytest.raises(ValueError, match="at least one node"):
        simulated_cluster(0)


def test_every_layout_is_legal_by_the_placement_table() -> None:
    for gpu in _gpus(simulated_cluster()):
        taken: set[int] = set()
        for instance in gpu.instances or ():
            assert instance.start in instance.hardware.starts, (gpu.uuid, instance.profile)
            span = set(range(instance.start, instance.start + instance.hardware.size))
            assert span <= set(range(8))
            assert taken.isdisjoint(span), (gpu.uuid, instance.profile)
            taken |= span


def test_the_planner_agrees_that_every_layout_is_legal() -> None:
    catalog = load_catalog()
    for gpu in _gpus(simulated_cluster()):
        if gpu.instances:
            layout = tuple(
                sorted(
                    (
                        PlacedInstance(each.profile, Placement(start=each.start, size=each.hardware.size))
                        for each in gpu.instances
                    ),
                    key=lambda placed: (placed.placement.start, placed.profile),
                )
            )
            assert why_illegal(catalog.board(gpu.board.name), layout) is None


@pytest.mark.parametrize("board", [board for board in BOARDS if board.profiles], ids=lambda board: board.name)
def test_boards_agree_with_the_planners_catalogue(board: SimulatedBoard) -> None:
    known = load_catalog().board(board.name)
    assert board.product in known.product_names
    assert board.memory_total_mib * 2**20 == known.memory_total_bytes
    profiles = {profile.name: profile for profile in known.profiles}
    for name, mine in board.profiles.items():
        theirs = profiles[name]
        assert mine.memory_mib * 2**20 == theirs.memory_bytes
        assert mine.sm_count == theirs.sm_count
        assert mine.compute_slices == theirs.compute_slices
        assert {(start, mine.size) for start in mine.starts} == {
            (place.start, place.size) for place in theirs.placements
        }


def test_instance_ids_are_unique_per_gpu_and_lie_in_the_range_of_their_size() -> None:
    ranges = {8: {0}, 4: {1, 2}, 2: set(range(3, 7)), 1: set(range(7, 15))}
    for gpu in _gpus(simulated_cluster(12)):
        ids = [instance.gi_id for instance in gpu.instances or ()]
        assert len(ids) == len(set(ids))
        assert all(instance.gi_id in ranges[instance.hardware.size] for instance in gpu.instances or ())


def test_ids_never_overlap_physically() -> None:
    spans = {0: (0, 8), 1: (0, 4), 2: (4, 8)}
    spans |= {3 + quarter: (2 * quarter, 2 * quarter + 2) for quarter in range(4)}
    spans |= {7 + eighth: (eighth, eighth + 1) for eighth in range(8)}
    for gpu in _gpus(simulated_cluster(12)):
        taken: set[int] = set()
        for instance in gpu.instances or ():
            span = set(range(*spans[instance.gi_id]))
            assert taken.isdisjoint(span)
            taken |= span


def test_an_instance_id_does_not_tell_the_placement() -> None:
    starts: dict[tuple[str, int], set[int]] = {}
    for instance in _instances(simulated_cluster(12)):
        starts.setdefault((instance.profile, instance.gi_id), set()).add(instance.start)
    assert any(len(found) > 1 for found in starts.values())


def test_single_strategy_has_one_profile_and_no_empty_gpu() -> None:
    for node in simulated_cluster().nodes:
        if node.kind.mig_strategy == "single":
            assert all(gpu.instances for gpu in node.gpus)
            assert len({each.profile for gpu in node.gpus for each in gpu.instances or ()}) == 1


def test_mixed_nodes_show_many_layouts_a_whole_gpu_and_an_empty_one() -> None:
    gpus = [gpu for node in simulated_cluster().nodes if node.kind.mig_strategy == "mixed" for gpu in node.gpus]
    layouts = {tuple(sorted((each.profile, each.start) for each in gpu.instances)) for gpu in gpus if gpu.instances}
    assert len(layouts) >= 10
    assert any(gpu.instances is None for gpu in gpus)
    assert any(gpu.instances == () for gpu in gpus)


def test_one_pod_holds_two_gpus_and_another_four() -> None:
    held = Counter(gpu.pod.name for gpu in _gpus(simulated_cluster()) if gpu.pod)
    assert sorted(held.values())[-2:] == [2, 4]
    notebook = next(gpu.pod for gpu in _gpus(simulated_cluster()) if gpu.pod and held[gpu.pod.name] == 2)
    assert notebook is not None
    assert notebook.deployment.engine is Engine.NOTEBOOK


def test_pod_names_look_as_kubernetes_makes_them() -> None:
    deployed = re.compile(r"[a-z0-9-]+-[bcdfghjklmnpqrstvwxz2456789]{10}-[bcdfghjklmnpqrstvwxz2456789]{5}")
    for gpu in _gpus(simulated_cluster()):
        for pod in (gpu.pod, *(each.pod for each in gpu.instances or ())):
            if pod is not None:
                form = re.compile(r"[a-z0-9-]+-\d+") if pod.deployment.is_stateful_set else deployed
                assert form.fullmatch(pod.name), pod.name


def test_every_deployment_runs_somewhere_and_its_team_has_a_time_zone() -> None:
    running = {pod.deployment.name for gpu in _gpus(simulated_cluster()) if (pod := gpu.pod)}
    running |= {pod.deployment.name for each in _instances(simulated_cluster()) if (pod := each.pod)}
    assert running == set(DEPLOYMENTS)
    assert {deployment.namespace for deployment in DEPLOYMENTS.values()} == set(UTC_OFFSETS_H)


def test_devices_are_free_on_whole_gpus_and_on_instances() -> None:
    cluster = simulated_cluster()
    assert sum(gpu.instances is None and gpu.pod is None for gpu in _gpus(cluster)) >= 4
    assert sum(instance.pod is None for instance in _instances(cluster)) >= 15


def test_all_exporter_versions_are_in_use() -> None:
    assert {kind.exporter for kind in NODE_KINDS} == set(ExporterVersion) == set(WIRE_STYLES)


def test_faulty_gpus_are_in_the_first_nodes_only() -> None:
    gpus = list(_gpus(simulated_cluster(24)))
    assert [gpu.xid for gpu in gpus if gpu.xid] == [94]
    assert sum(gpu.is_badly_cooled for gpu in gpus) == 1
