"""NVML names the pods with a process; Kubernetes what is allocated: no allocated device may pass as free."""

import pytest
from sqlalchemy import Engine

from planner.cluster_facts import ClaimedDevice, ClusterState, KubernetesPod, Sharing
from planner.fleet import Device, DeviceState
from planner.readings import Batch, PodFact
from store.fleet_snapshot import take_snapshot
from store.writes import register_source
from tests.store.batches import NOW, after, batch, fact, gpu_uuid, readings, write
from tests.store.serving_batches import claim, kubernetes_pod, node

IDLE_BYTES, LOADED_BYTES = 2e6, 6e10


@pytest.fixture
def nvml(engine: Engine) -> int:
    return register_source(engine, cluster="default", name="nvml", kind="nvml", interval_s=30, now=NOW)


@pytest.fixture
def kubernetes(engine: Engine) -> int:
    return register_source(engine, cluster="default", name="kubernetes", kind="kubernetes", interval_s=30, now=NOW)


def tell_driver(engine: Engine, source_id: int, *working: str | None) -> None:
    """An hour of NVML on one node: of each GPU the pod with a process on it, or None where there is no process."""
    told = []
    for number, name in enumerate(working):
        used = IDLE_BYTES if name is None else LOADED_BYTES
        for minute in range(60):
            told += readings(
                after(-60 * minute),
                {"gpu_busy_ratio": 0.0, "memory_used_bytes": used, "memory_reserved_bytes": 6e8},
                number,
            )
    facts = [
        fact(NOW, number, index=number, pods=[] if name is None else [seen_pod(name)])
        for number, name in enumerate(working)
    ]
    write(engine, source_id, batch(*facts, readings=told, complete=["node-a"]))


def seen_pod(name: str) -> PodFact:
    return PodFact(gi_id=None, namespace="inference", name=name, uid=f"uid-inference-{name}")


def tell_kubernetes(
    engine: Engine, source_id: int, *pods: KubernetesPod, gpus: int, claims: tuple[ClaimedDevice, ...] | None = None
) -> None:
    state = ClusterState(observed_at=NOW, nodes=(node(gpus=gpus),), pods=pods, claimed_devices=claims)
    write(engine, source_id, Batch(cluster_state=state), target="kubernetes")


def devices(engine: Engine) -> list[Device]:
    return list(take_snapshot(engine, NOW).devices())


def states(engine: Engine) -> list[DeviceState]:
    return [device.verdict.state for device in devices(engine)]


def test_a_claimed_device_without_a_process_is_held(engine: Engine, nvml: int, kubernetes: int) -> None:
    tell_driver(engine, nvml, "a", None)
    quiet = kubernetes_pod("b", gpus=0, claims=("claim",))
    tell_kubernetes(
        engine, kubernetes, kubernetes_pod("a"), quiet, gpus=2, claims=(claim(pods=["b"], gpu_uuid=gpu_uuid(1)),)
    )
    first, second = devices(engine)
    assert first.verdict.state is DeviceState.LOADED_IDLE
    assert (second.verdict.state, [pod.name for pod in second.pods]) == (DeviceState.HELD, ["b"])


def test_the_only_pod_of_a_node_holds_its_devices_without_a_process(engine: Engine, nvml: int, kubernetes: int) -> None:
    tell_driver(engine, nvml, None, None)
    tell_kubernetes(engine, kubernetes, kubernetes_pod("a", gpus=2), gpus=2)
    assert states(engine) == [DeviceState.HELD, DeviceState.HELD]


def test_the_only_pod_holds_the_devices_beside_the_one_it_works_on(engine: Engine, nvml: int, kubernetes: int) -> None:
    tell_driver(engine, nvml, "a", None)
    tell_kubernetes(engine, kubernetes, kubernetes_pod("a", gpus=2), gpus=2)
    assert states(engine) == [DeviceState.LOADED_IDLE, DeviceState.HELD]


def test_the_last_device_of_a_fully_allocated_node_is_not_free(engine: Engine, nvml: int, kubernetes: int) -> None:
    tell_driver(engine, nvml, "a", None)
    tell_kubernetes(engine, kubernetes, kubernetes_pod("a"), kubernetes_pod("b"), gpus=2)
    assert states(engine) == [DeviceState.LOADED_IDLE, DeviceState.HELD]


def test_devices_of_two_pods_without_a_process_are_not_free(engine: Engine, nvml: int, kubernetes: int) -> None:
    tell_driver(engine, nvml, None, None)
    tell_kubernetes(engine, kubernetes, kubernetes_pod("a"), kubernetes_pod("b"), gpus=2)
    assert DeviceState.FREE not in states(engine)


def test_devices_of_which_some_are_allocated_are_not_all_free(engine: Engine, nvml: int, kubernetes: int) -> None:
    tell_driver(engine, nvml, "a", None, None)
    tell_kubernetes(engine, kubernetes, kubernetes_pod("a"), kubernetes_pod("b"), gpus=3)
    assert states(engine)[0] is DeviceState.LOADED_IDLE
    assert DeviceState.FREE not in states(engine), "one of both is held, and nobody says which"


def test_devices_that_kubernetes_gave_to_nobody_are_free(engine: Engine, nvml: int, kubernetes: int) -> None:
    tell_driver(engine, nvml, "a", None)
    tell_kubernetes(engine, kubernetes, kubernetes_pod("a"), gpus=2)
    assert states(engine) == [DeviceState.LOADED_IDLE, DeviceState.FREE]


def test_it_is_said_who_may_hold_a_device_without_a_process(engine: Engine, nvml: int, kubernetes: int) -> None:
    tell_driver(engine, nvml, "a", None, None)
    tell_kubernetes(engine, kubernetes, kubernetes_pod("a"), kubernetes_pod("b"), gpus=3)
    _, second, third = devices(engine)
    assert {second.verdict.state, third.verdict.state} == {DeviceState.UNKNOWN}
    assert second.verdict.reason.startswith(
        "Of 2 devices like it on this node without a pod, 1 is given to inference/b, and nobody says which."
    )


def test_a_pod_that_has_ended_holds_nothing(engine: Engine, nvml: int, kubernetes: int) -> None:
    tell_driver(engine, nvml, "a", None)
    tell_kubernetes(engine, kubernetes, kubernetes_pod("a"), kubernetes_pod("b", phase="Succeeded"), gpus=2)
    assert states(engine) == [DeviceState.LOADED_IDLE, DeviceState.FREE]


def test_a_pod_that_starts_holds_its_device(engine: Engine, nvml: int, kubernetes: int) -> None:
    tell_driver(engine, nvml, "a", None)
    tell_kubernetes(engine, kubernetes, kubernetes_pod("a"), kubernetes_pod("b", phase="Pending"), gpus=2)
    assert states(engine) == [DeviceState.LOADED_IDLE, DeviceState.HELD]


def test_pods_of_another_node_hold_nothing_here(engine: Engine, nvml: int, kubernetes: int) -> None:
    tell_driver(engine, nvml, "a", None)
    tell_kubernetes(engine, kubernetes, kubernetes_pod("a"), kubernetes_pod("b", on="node-b"), gpus=2)
    assert states(engine) == [DeviceState.LOADED_IDLE, DeviceState.FREE]


def test_on_a_shared_node_nobody_can_count(engine: Engine, nvml: int, kubernetes: int) -> None:
    tell_driver(engine, nvml, "a", None)
    state = ClusterState(
        observed_at=NOW,
        nodes=(node(gpus=8, sharing=Sharing.TIME_SLICING, replicas=4),),
        pods=(kubernetes_pod("a"), kubernetes_pod("b")),
    )
    write(engine, kubernetes, Batch(cluster_state=state), target="kubernetes")
    assert states(engine) == [DeviceState.LOADED_IDLE, DeviceState.UNKNOWN]


def test_a_pod_of_which_kubernetes_knows_nothing_is_not_counted_twice(
    engine: Engine, nvml: int, kubernetes: int
) -> None:
    tell_driver(engine, nvml, "older-name", None)
    tell_kubernetes(engine, kubernetes, kubernetes_pod("a"), gpus=2)
    assert states(engine) == [DeviceState.LOADED_IDLE, DeviceState.FREE]
