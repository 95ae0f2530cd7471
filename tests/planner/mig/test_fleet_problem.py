"""A measured fleet as a problem: who runs where, what may be planned, and what each workload asks for."""

import json
from types import SimpleNamespace

import pytest

from planner.catalog import Catalog
from planner.fleet import Gpu, Pod
from planner.mig.fleet_problem import FleetDemand, FleetProblem, fleet_problem, problem_from_fleet
from planner.mig.measured_fleet import MeasuredFleet, measured_fleet, service_of
from planner.mig.plan import Mode, Status
from planner.mig.planning import plan_target
from planner.mig.problem_file import problem_document, read_problem
from planner.units import GIB


@pytest.fixture
def made(build: SimpleNamespace, catalog: Catalog) -> SimpleNamespace:
    """Builders of A100 GPUs by number."""
    board = catalog.board("A100-40GB")

    def cut(number: int, *instances: object, node: str = "node-1") -> Gpu:
        return build.gpu(board, number, node=node, instances=instances)

    def runs(gi_id: int, profile: str, name: str, *, memory_gib: float = 1.0, start: int | None = None) -> object:
        return build.instance(gi_id, profile, build.serving(memory_gib, sm=0.05), pods=(build.pod(name),), start=start)

    def free(gi_id: int, profile: str, start: int | None = None) -> object:
        return build.instance(gi_id, profile, build.idle(0), start=start)

    def whole(number: int, name: str, memory_gib: float, node: str = "node-1") -> Gpu:
        total = {"memory_total_bytes": 39.4 * GIB}
        return build.gpu(board, number, build.serving(memory_gib, sm=0.05, **total), node=node, pods=(build.pod(name),))

    return SimpleNamespace(board=board, cut=cut, runs=runs, free=free, whole=whole, fleet=build.fleet, pod=build.pod)


def as_measured(fleet: MeasuredFleet) -> FleetProblem:
    return fleet_problem(fleet, FleetDemand.AS_MEASURED)


def test_instances_keep_their_profile_and_their_pod_and_unknown_starts_stay_unknown(made: SimpleNamespace) -> None:
    gpu = made.cut(0, made.runs(1, "3g.20gb", "chat-0"), made.free(2, "3g.20gb"))
    problem = problem_from_fleet(made.fleet(gpu))
    (found,) = problem.gpus
    assert (found.id, found.node, found.index, found.board, found.mig_enabled) == (
        "node-1/0", "node-1", 0, made.board, True,
    )  # fmt: skip
    assert [(i.profile, i.start, i.workloads) for i in found.instances] == [
        ("3g.20gb", None, ("team/chat-0",)),
        ("3g.20gb", None, ()),
    ]
    (workload,) = problem.workloads
    assert (workload.id, workload.profile, workload.service, workload.tenant) == (
        "team/chat-0", "3g.20gb", "team/chat", "team",
    )  # fmt: skip


def test_what_is_told_of_a_start_is_kept(made: SimpleNamespace) -> None:
    gpu = made.cut(0, made.runs(1, "3g.20gb", "chat-0", start=4))
    assert problem_from_fleet(made.fleet(gpu)).gpus[0].instances[0].start == 4


def test_a_gpu_that_is_held_whole_is_occupied_and_its_work_is_no_workload(made: SimpleNamespace) -> None:
    problem = problem_from_fleet(made.fleet(made.whole(0, "llama-70b", 38)))
    assert problem.gpus[0].occupied_whole
    assert problem.workloads == ()


def test_an_empty_gpu_is_empty(made: SimpleNamespace, build: SimpleNamespace) -> None:
    gpu = build.gpu(made.board, 3, build.idle(0))
    (found,) = problem_from_fleet(made.fleet(gpu)).gpus
    assert (found.occupied_whole, found.instances, found.mig_enabled) == (False, (), False)


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("bge-m3-pd664nzn82-lnmw2", "bge-m3"),
        ("ollama-hr-0", "ollama-hr"),
        ("ollama-hr-12", "ollama-hr"),
        ("exporter-x7k2p", "exporter"),
        ("llama-8b", "llama-8b"),
        ("jupyter", "jupyter"),
        ("web-small", "web-small"),  # has a vowel: nobody generated it
        ("-0", "-0"),
        ("", ""),
    ],
)
def test_a_service_is_a_pod_name_without_what_its_controller_appended(name: str, service: str) -> None:
    assert service_of(Pod(namespace="team", name=name)) == f"team/{service}"


def test_workload_names_are_unique_and_readable(made: SimpleNamespace, build: SimpleNamespace) -> None:
    unnamed = build.instance(3, "1g.5gb", build.serving(1.0))
    both = build.instance(4, "1g.5gb", build.serving(1.0), pods=(build.pod("a"), build.pod("b")))
    fleet = measured_fleet(
        made.fleet(made.cut(0, made.runs(1, "1g.5gb", "same"), made.runs(2, "1g.5gb", "same"), unnamed, both))
    )
    assert [w.id for w in fleet.workloads] == ["team/same", "team/same #2", "node-1/0 1g.5gb#3", "team/a"]
    assert any("Shared by several pods" in caution and "1 device." in caution for caution in fleet.cautions)
    assert any("no pod" in caution for caution in fleet.cautions)


def test_what_cannot_be_measured_is_taken_as_held(made: SimpleNamespace, build: SimpleNamespace) -> None:
    fleet = measured_fleet(made.fleet(build.gpu(made.board, 0)))
    assert fleet.gpus[0].whole == "node-1/0"
    assert any("Not measurable" in caution for caution in fleet.cautions)


def test_a_pod_whose_name_looks_like_a_second_device_stays_apart(made: SimpleNamespace) -> None:
    instances = [made.runs(n, "1g.5gb", name) for n, name in enumerate(("same", "same", "same #2"), start=1)]
    fleet = measured_fleet(made.fleet(made.cut(0, *instances)))
    assert len({w.id for w in fleet.workloads}) == 3


def test_what_cannot_be_planned_is_left_out_with_the_reason(
    made: SimpleNamespace, build: SimpleNamespace, catalog: Catalog
) -> None:
    unknown = build.gpu(None, 0, node="node-2", model_name="NVIDIA Nobody")
    uncuttable = build.gpu(catalog.board("L40S"), 1, node="node-2")
    contradictory = made.cut(2, *(made.runs(n, "3g.20gb", f"p{n}") for n in range(3)), node="node-2")
    fleet = measured_fleet(made.fleet(made.cut(0, made.free(1, "1g.5gb")), unknown, uncuttable, contradictory))
    assert [gpu.id for gpu in fleet.gpus] == ["node-1/0"]
    reasons = {left.gpus: left.reason for left in fleet.left_out}
    assert "NVIDIA Nobody" in reasons["node-2/0",]
    assert "cannot be cut" in reasons["node-2/1",]
    assert "contradict" in reasons["node-2/2",]
    assert fleet.workloads == ()


def test_one_cluster_can_be_chosen_and_nodes_of_one_name_stay_apart(
    made: SimpleNamespace, build: SimpleNamespace
) -> None:
    one = made.fleet(made.cut(0, made.runs(1, "1g.5gb", "a")), cluster="east")
    other = made.fleet(made.cut(0, made.runs(1, "1g.5gb", "b")), cluster="west")
    both = type(one)(taken_at=one.taken_at, nodes=(*one.nodes, *other.nodes))
    assert [gpu.id for gpu in measured_fleet(both).gpus] == ["east:node-1/0", "west:node-1/0"]
    assert [w.id for w in measured_fleet(both, cluster="west").workloads] == ["team/b"]
    assert measured_fleet(both, cluster="nowhere").gpus == ()


def test_gpus_of_one_index_are_named_by_their_uuid(made: SimpleNamespace, build: SimpleNamespace) -> None:
    first, second = build.gpu(made.board, 0), build.gpu(made.board, 0)
    found = measured_fleet(made.fleet(first, second)).gpus
    assert [gpu.id for gpu in found] == [first.uuid, second.uuid]
    assert [gpu.index for gpu in found] == [None, None]


def test_the_order_of_the_snapshot_changes_nothing(made: SimpleNamespace) -> None:
    gpus = [made.cut(n, made.runs(1, "1g.5gb", f"w{n}"), node=f"node-{n % 3}") for n in range(12)]
    assert measured_fleet(made.fleet(*gpus)) == measured_fleet(made.fleet(*reversed(gpus)))


def test_as_measured_asks_for_less_and_may_stay_where_it_is(made: SimpleNamespace) -> None:
    fleet = measured_fleet(made.fleet(made.cut(0, made.runs(1, "3g.20gb", "chat-0", memory_gib=3.0))))
    found = as_measured(fleet)
    (workload,) = found.problem.workloads
    assert workload.profile == "1g.5gb"
    assert found.problem.gpus[0].instances[0].workloads == ("team/chat-0",)
    assert [(rule.profile, rule.to, rule.price) for rule in found.problem.rules.upsizes] == [
        ("1g.5gb", ("3g.20gb",), 0.0)
    ]
    assert found.placed_anew == ()


def test_as_measured_frees_gpus_and_moves_only_where_that_saves_one(made: SimpleNamespace) -> None:
    gpus = [made.cut(n, made.runs(1, "7g.40gb", f"chat-{n}", memory_gib=3.0)) for n in range(3)]
    fleet = measured_fleet(made.fleet(*gpus))
    runs = plan_target(fleet_problem(fleet).problem, Mode.RECONFIGURE)
    measured = plan_target(as_measured(fleet).problem, Mode.RECONFIGURE)
    assert (runs.gpus_used, measured.gpus_used) == (3, 1)
    assert measured.status is Status.OPTIMAL
    alone = measured_fleet(made.fleet(gpus[0]))
    assert plan_target(as_measured(alone).problem, Mode.RECONFIGURE).moves == 0


def test_as_measured_places_whole_gpu_work_that_fits_a_profile_anew_and_says_so(made: SimpleNamespace) -> None:
    fleet = measured_fleet(made.fleet(made.whole(0, "small-0", 3.0), made.whole(1, "large-0", 39.0)))
    found = as_measured(fleet)
    assert found.placed_anew == ("team/small-0",)
    assert [gpu.occupied_whole for gpu in found.problem.gpus] == [False, True]
    assert [(w.id, w.profile) for w in found.problem.workloads] == [("team/small-0", "1g.5gb")]
    assert any("stop it on its whole GPU first" in caution for caution in found.cautions)
    assert plan_target(found.problem, Mode.ADD).gpus_used == 2


def test_a_node_that_is_taken_out_leaves_its_work_waiting(made: SimpleNamespace) -> None:
    lost = made.cut(0, made.runs(1, "3g.20gb", "chat-0"), node="node-9")
    fleet = measured_fleet(
        made.fleet(made.cut(0, made.free(1, "1g.5gb")), lost, made.whole(1, "big-0", 39.0, node="node-9"))
    )
    found = fleet_problem(fleet, without_nodes={"node-9"}, pinned={"team/chat-0"})
    assert [gpu.node for gpu in found.problem.gpus] == ["node-1"]
    assert found.problem.running_ids() == frozenset()
    assert [(w.id, w.pinned) for w in found.problem.workloads] == [("team/chat-0", False)]
    assert any("team/big-0" in caution for caution in found.cautions)
    assert plan_target(found.problem, Mode.INITIAL).gpus_used == 1


def test_pinned_workloads_are_pinned(made: SimpleNamespace) -> None:
    fleet = measured_fleet(made.fleet(made.cut(0, made.runs(1, "3g.20gb", "a"), made.runs(2, "3g.20gb", "b"))))
    found = fleet_problem(fleet, pinned={"team/b", "gone"})
    assert [(w.id, w.pinned) for w in found.problem.workloads] == [("team/a", False), ("team/b", True)]


@pytest.mark.parametrize("demand", FleetDemand)
def test_the_problem_is_one_that_a_problem_file_can_state(made: SimpleNamespace, demand: FleetDemand) -> None:
    gpus = [
        made.cut(0, made.runs(1, "3g.20gb", "a-0", memory_gib=3.0), made.free(2, "3g.20gb")),
        made.cut(1, made.runs(1, "2g.10gb", "a-1", memory_gib=9.0), made.runs(2, "1g.5gb", "b-0", memory_gib=4.9)),
        made.whole(2, "c-0", 9.0),
    ]
    problem = fleet_problem(measured_fleet(made.fleet(*gpus)), demand).problem
    assert read_problem(json.dumps(problem_document(problem))) == problem


def test_where_nothing_waiting_is_placed_such_work_keeps_what_it_has(made: SimpleNamespace) -> None:
    fleet = measured_fleet(made.fleet(made.whole(0, "small-0", 3.0), made.cut(1, made.runs(1, "3g.20gb", "chat-0"))))
    found = fleet_problem(fleet, FleetDemand.AS_MEASURED, places_anew=False)
    assert found.placed_anew == ()
    assert found.problem.gpus[0].occupied_whole
    assert [(w.id, w.profile) for w in found.problem.workloads] == [("team/chat-0", "1g.5gb")]
    assert any("1 workload. It keeps what it has" in caution for caution in found.cautions)
    assert not fleet_problem(fleet, FleetDemand.AS_IT_RUNS, places_anew=False).cautions
