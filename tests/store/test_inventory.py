"""The inventory remembers from when to when: what changed, what ended, and what came late."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from planner.hardware import MigMode
from planner.readings import Batch, ComputeInstanceFact, GpuFact, InstanceFact, ProcessFact
from store.intervals import FLAP_GRACE
from store.writes import register_source
from tests.store.batches import NOW, after, batch, fact, gpu_uuid, pod, rows, source_of_new_cluster, spans, write

GRACE_S = FLAP_GRACE.total_seconds()

INVENTORY = {
    "gpu_record": ("gpu_uuid",),
    "instance_record": ("gpu_uuid", "gi_id"),
    "pod_record": ("gpu_uuid", "gi_id", "namespace", "name", "container"),
}


def test_what_stays_the_same_is_one_row_however_often_it_is_seen(engine: Engine, source_id: int) -> None:
    for step in range(5):
        write(engine, source_id, batch(fact(after(30 * step), instances=[(1, "1g.10gb")], pods=[pod("a", 1)])))
    for table in INVENTORY:
        [row] = rows(engine, table)
        assert (row["valid_from"], row["valid_to"], row["last_seen"]) == (NOW, None, after(120)), table


def test_an_instance_and_a_pod_that_are_not_named_any_more_have_ended(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, instances=[(1, "1g.10gb"), (2, "1g.10gb")], pods=[pod("a", 1)])))
    write(engine, source_id, batch(fact(after(30), instances=[(2, "1g.10gb")])))
    assert spans(engine, "instance_record", "gi_id") == [(1, 0, 30), (2, 0, None)]
    assert spans(engine, "pod_record", "name") == [("a", 0, 30)]


def test_the_same_id_with_another_profile_is_another_instance(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, instances=[(1, "1g.10gb")])))
    write(engine, source_id, batch(fact(after(30), instances=[(1, "2g.20gb")])))
    assert spans(engine, "instance_record", "gi_id", "profile") == [(1, "1g.10gb", 0, 30), (1, "2g.20gb", 30, None)]


def test_the_same_pod_name_with_another_uid_is_another_pod(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a-0", uid="1")])))
    write(engine, source_id, batch(fact(after(30), pods=[pod("a-0", uid="2")])))
    assert spans(engine, "pod_record", "uid") == [("1", 0, 30), ("2", 30, None)]


def test_what_a_fact_is_silent_about_stays_known(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, driver_version="580.1", mig_mode=MigMode.ENABLED)))
    write(engine, source_id, batch(fact(after(30), index=None, model_name=None)))
    [row] = rows(engine, "gpu_record")
    assert (row["gpu_index"], row["driver_version"], row["mig_mode"]) == (0, "580.1", "enabled")


def test_what_is_learned_later_completes_the_row(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, model_name=None, instances=[(1, "1g.10gb")])))
    write(engine, source_id, batch(fact(after(30), driver_version="580.1", instances=[(1, "1g.10gb", 6)])))
    write(engine, source_id, batch(fact(after(60), instances=[(1, "1g.10gb")])))
    [gpu], [instance] = rows(engine, "gpu_record"), rows(engine, "instance_record")
    assert (gpu["model_name"], gpu["driver_version"]) == ("NVIDIA H100 80GB HBM3", "580.1")
    assert instance["start"] == 6


def test_a_moment_that_is_known_can_still_be_completed(engine: Engine, source_id: int) -> None:
    for step in range(3):
        write(engine, source_id, batch(fact(after(30 * step), instances=[(1, "1g.10gb")])))
    write(engine, source_id, batch(fact(after(45), driver_version="580.1", instances=[(1, "1g.10gb", 6)])))
    assert spans(engine, "gpu_record", "driver_version") == [("580.1", 0, None)]
    assert spans(engine, "instance_record", "start") == [(6, 0, None)]


def test_a_changed_attribute_is_another_row(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, driver_version="570")))
    write(engine, source_id, batch(fact(after(3600), driver_version="580")))
    assert spans(engine, "gpu_record", "driver_version") == [("570", 0, 3600), ("580", 3600, None)]


def test_a_gpu_that_moves_takes_along_what_is_its_own(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, node="node-a", index=3, driver_version="570")))
    write(engine, source_id, batch(fact(after(3600), node="node-b", index=None, model_name=None)))
    assert spans(engine, "gpu_record", "node", "gpu_index", "driver_version", "model_name") == [
        ("node-a", 3, "570", "NVIDIA H100 80GB HBM3", 0, 3600),
        ("node-b", None, None, "NVIDIA H100 80GB HBM3", 3600, None),
    ]


def test_a_gpu_missing_from_a_complete_node_has_ended_with_all_that_was_on_it(engine: Engine, source_id: int) -> None:
    gone = fact(NOW, 1, instances=[(1, "1g.10gb")], pods=[pod("a", 1)])
    write(engine, source_id, batch(fact(NOW, 0), gone, complete=["node-a"]))
    write(engine, source_id, batch(fact(after(30), 0), complete=["node-a"]))
    assert spans(engine, "gpu_record", "gpu_uuid") == [(gpu_uuid(0), 0, None), (gpu_uuid(1), 0, 30)]
    assert spans(engine, "instance_record", "gi_id") == [(1, 0, 30)]
    assert spans(engine, "pod_record", "name") == [("a", 0, 30)]


def test_a_gpu_missing_from_a_node_that_is_not_complete_stays(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, 0), fact(NOW, 1)))
    write(engine, source_id, batch(fact(after(30), 0)))
    assert [span[-1] for span in spans(engine, "gpu_record")] == [None, None]


def test_a_complete_node_without_any_gpu_has_lost_them_all_when_it_was_asked(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW)))
    write(engine, source_id, batch(complete=["node-a"]), at=after(60))
    assert spans(engine, "gpu_record") == [(0, 60)]


def test_a_gpu_that_moved_is_not_ended_by_its_former_node(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, 1, node="node-a")))
    write(engine, source_id, batch(fact(after(600), 1, node="node-b")))
    write(engine, source_id, batch(fact(after(630), 0, node="node-a"), complete=["node-a"]), at=after(630))
    assert spans(engine, "gpu_record", "gpu_uuid", "node") == [
        (gpu_uuid(1), "node-a", 0, 600),
        (gpu_uuid(1), "node-b", 600, None),
        (gpu_uuid(0), "node-a", 630, None),
    ]


def test_a_pod_that_blinks_is_one_row(engine: Engine, source_id: int) -> None:
    for step in range(20):
        write(engine, source_id, batch(fact(after(30 * step), pods=[pod("a")] if step % 2 == 0 else [])))
    assert spans(engine, "pod_record", "name") == [("a", 0, 570)]  # not in the last fact
    write(engine, source_id, batch(fact(after(600), pods=[pod("a")])))
    assert spans(engine, "pod_record", "name") == [("a", 0, None)]


def test_an_attribute_that_blinks_makes_no_row_per_scrape(engine: Engine, source_id: int) -> None:
    for step in range(20):
        write(engine, source_id, batch(fact(after(30 * step), node="node-a" if step % 2 == 0 else "node-a.example")))
    assert spans(engine, "gpu_record", "node") == [("node-a", 0, 570), ("node-a.example", 570, None)]


def test_what_is_away_for_longer_than_the_grace_comes_back_as_a_new_row(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    write(engine, source_id, batch(fact(after(30))))
    write(engine, source_id, batch(fact(after(31 + GRACE_S), pods=[pod("a")])))
    assert spans(engine, "pod_record", "name") == [("a", 0, 30), ("a", 31 + GRACE_S, None)]


def test_what_was_before_everything_known_is_put_before_it(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(after(7200), instances=[(1, "2g.20gb")], pods=[pod("b", 1)])))
    for seconds, profile, pods in ((0, "1g.10gb", ["a"]), (600, "1g.10gb", ["a", "b"]), (1200, "2g.20gb", ["b"])):
        late = fact(after(seconds), instances=[(1, profile)], pods=[pod(name, 1) for name in pods])
        write(engine, source_id, batch(late))
    assert spans(engine, "instance_record", "profile") == [
        ("1g.10gb", 0, 1200),
        ("2g.20gb", 1200, 7200),
        ("2g.20gb", 7200, None),
    ]
    assert spans(engine, "pod_record", "name") == [("a", 0, 1200), ("b", 600, 7200), ("b", 7200, None)]
    assert spans(engine, "gpu_record") == [(0, 7200), (7200, None)]


def test_late_news_about_a_known_moment_does_not_change_it(engine: Engine, source_id: int) -> None:
    for seconds in (0, 600, 1200):
        write(engine, source_id, batch(fact(after(seconds), instances=[(1, "1g.10gb")], pods=[pod("a", 1)])))
    before = {table: rows(engine, table) for table in INVENTORY}
    write(engine, source_id, batch(fact(after(300), node="node-b", instances=[(1, "7g.80gb")], pods=[pod("b")])))
    assert {table: rows(engine, table) for table in INVENTORY} == before


def test_late_news_about_a_silence_slots_into_it(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    write(engine, source_id, batch(fact(after(60), pods=[pod("a")]), fact(after(60), 1), complete=["node-a"]))
    write(engine, source_id, batch(fact(after(3600), 1), complete=["node-a"]), at=after(3600))  # GPU 0 gone by then
    write(engine, source_id, batch(fact(after(1800), pods=[pod("b")])))
    assert spans(engine, "pod_record", "name") == [("a", 0, 1800), ("b", 1800, 3600)]
    assert [span for span in spans(engine, "gpu_record", "gpu_uuid") if span[0] == gpu_uuid(0)] == [
        (gpu_uuid(0), 0, 3600)
    ]


def test_clusters_do_not_touch_each_other(engine: Engine, source_id: int) -> None:
    other = register_source(engine, cluster="other", name="dcgm", kind="dcgm", interval_s=30, now=NOW)
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    write(engine, other, batch(fact(after(30), node="node-a"), complete=["node-a"]))
    assert [span[-1] for span in spans(engine, "pod_record")] == [None]
    assert len(rows(engine, "gpu_record")) == 2


def test_shared_pods_are_kept_as_last_told(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(fact(NOW, pods=[pod("a")])))
    write(engine, source_id, batch(fact(after(30), pods=[pod("a", shared=True), pod("b", shared=True)])))
    assert spans(engine, "pod_record", "name", "shared") == [("a", True, 0, None), ("b", True, 30, None)]


def detailed(at: float, *mig_uuids: str, pids: tuple[int, ...] = (), instances: bool = True) -> GpuFact:
    """A GPU as NVML tells it: one instance with a compute instance per UUID, and processes."""
    told = fact(after(at))
    devices = tuple(
        ComputeInstanceFact(ci_id=ci, profile="1c.3g.40gb", mig_uuid=uuid) for ci, uuid in enumerate(mig_uuids)
    )
    return replace(
        told,
        instances=(InstanceFact(gi_id=2, profile="3g.40gb", compute_instances=devices),) if instances else (),
        processes=tuple(ProcessFact(gi_id=2, pid=pid, kind="compute", memory_bytes=pid) for pid in pids),
    )


def test_compute_instances_are_kept_with_their_times(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(detailed(0, "MIG-a", "MIG-b")))
    write(engine, source_id, batch(fact(after(30), instances=[(2, "3g.40gb")])))  # by a source that does not know them
    write(engine, source_id, batch(detailed(600, "MIG-a")))
    write(engine, source_id, batch(detailed(1200, instances=False)))
    assert spans(engine, "compute_instance_record", "gi_id", "mig_uuid") == [
        (2, "MIG-a", 0, 1200),
        (2, "MIG-b", 0, 600),
    ]


@pytest.mark.parametrize(
    ("after_the_cut", "ends_at"),
    [
        ([(2, "1g.10gb")], 600),  # the same id with another profile
        ([(3, "3g.40gb")], 600),  # another id
        ([(2, "3g.40gb")], None),  # as it was
    ],
)
def test_a_compute_instance_ends_with_its_instance_though_nobody_tells_compute_instances(
    engine: Engine, source_id: int, after_the_cut: list[tuple[int, str]], ends_at: int | None
) -> None:
    write(engine, source_id, batch(detailed(0, "MIG-old")))
    for at in (600, 1200, 1800):
        write(engine, source_id, batch(fact(after(at), instances=after_the_cut)))
    assert spans(engine, "compute_instance_record", "mig_uuid") == [("MIG-old", 0, ends_at)]


def test_a_compute_instance_of_an_instance_that_was_made_again_is_another(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(detailed(0, "MIG-old")))
    write(engine, source_id, batch(fact(after(600), instances=[(3, "3g.40gb")])))
    write(engine, source_id, batch(fact(after(1800), instances=[(2, "3g.40gb")])))
    write(engine, source_id, batch(detailed(2400, "MIG-new")))
    assert spans(engine, "compute_instance_record", "mig_uuid") == [("MIG-old", 0, 600), ("MIG-new", 2400, None)]


def test_processes_are_kept_with_their_times(engine: Engine, source_id: int) -> None:
    write(engine, source_id, batch(detailed(0, pids=(1, 2))))
    write(engine, source_id, batch(fact(after(30), instances=[(2, "3g.40gb")])))
    write(engine, source_id, batch(detailed(600, pids=(2,))))
    assert spans(engine, "process_record", "pid", "memory_bytes") == [(1, 1, 0, 600), (2, 2, 0, None)]


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    seconds = 60 * draw(st.integers(0, 30))
    facts: list[GpuFact] = []
    for number in draw(st.lists(st.integers(0, 1), unique=True)):
        instances = draw(
            st.lists(
                st.tuples(st.integers(0, 1), st.sampled_from(["1g", "2g"]), st.sampled_from([None, 0])),
                unique_by=lambda one: one[0],
            )
        )
        pods = draw(
            st.lists(
                st.builds(
                    pod, st.sampled_from("ab"), st.sampled_from([None, 0]), uid=st.sampled_from([None, "1", "2"])
                ),
                unique_by=lambda one: (one.name, one.gi_id),
            )
        )
        facts.append(
            fact(
                after(seconds),
                number,
                node=draw(st.sampled_from(["node-a", "node-b"])),
                driver_version=draw(st.sampled_from([None, "570", "580"])),
                instances=instances,
                pods=pods,
            )
        )
    complete = draw(st.sets(st.sampled_from(["node-a", "node-b"])))
    return batch(*facts, complete=complete)


def timelines(engine: Engine, cluster: str) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    [cluster_row] = rows(engine, "cluster", name=cluster)
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for table, key in INVENTORY.items():
        for row in rows(engine, table, cluster_id=cluster_row["id"]):
            found.setdefault((table, *(row[name] for name in key)), []).append(row)
    return found


many_batches = st.lists(batches(), min_size=1, max_size=12)
with_one_store = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(told=many_batches)
@with_one_store
def test_whatever_is_told_in_whatever_order_intervals_never_overlap(shared_engine: Engine, told: list[Batch]) -> None:
    source_id, cluster = source_of_new_cluster(shared_engine)
    for number, one in enumerate(told):
        write(shared_engine, source_id, one, at=after(number))
    for key, found in timelines(shared_engine, cluster).items():
        found.sort(key=lambda row: row["valid_from"])
        for row, following in zip(found, [*found[1:], None], strict=True):
            ends: datetime | None = row["valid_to"]
            assert row["valid_from"] <= row["last_seen"], key
            assert ends is None or row["last_seen"] < ends, key
            if following is not None:
                assert ends is not None, key
                assert ends <= following["valid_from"], key


@given(told=many_batches)
@with_one_store
def test_telling_everything_again_changes_nothing(shared_engine: Engine, told: list[Batch]) -> None:
    source_id, cluster = source_of_new_cluster(shared_engine)
    for number, one in enumerate(told):
        write(shared_engine, source_id, one, at=after(number))
        before = timelines(shared_engine, cluster)
        write(shared_engine, source_id, one, at=after(number))
        assert timelines(shared_engine, cluster) == before
    # A word from before a gap that has been bridged since may still complete the row over it; then all is said.
    settled = []
    for _ in range(2):
        for number, one in enumerate(told):
            write(shared_engine, source_id, batch(*one.facts), at=after(number))
        settled.append(timelines(shared_engine, cluster))
    assert settled[0] == settled[1]


@given(told=many_batches)
@with_one_store
def test_the_newest_fact_is_what_is_open(shared_engine: Engine, told: list[Batch]) -> None:
    source_id, cluster = source_of_new_cluster(shared_engine)
    in_order = sorted(told, key=lambda one: max((fact.observed_at for fact in one.facts), default=NOW))
    newest: dict[str, GpuFact] = {}
    for number, one in enumerate(in_order):
        write(shared_engine, source_id, batch(*one.facts), at=after(number))
        for told_fact in one.facts:
            known = newest.get(told_fact.gpu_uuid)
            if known is None or told_fact.observed_at > known.observed_at:
                newest[told_fact.gpu_uuid] = told_fact
    open_rows = [
        (key, row)
        for key, found in timelines(shared_engine, cluster).items()
        for row in found
        if row["valid_to"] is None
    ]
    for uuid, last in newest.items():
        instances = {(key[2], row["profile"]) for key, row in open_rows if key[:2] == ("instance_record", uuid)}
        assert instances == {(one.gi_id, one.profile) for one in last.instances}
        pods = {(key[4], key[2]) for key, _ in open_rows if key[:2] == ("pod_record", uuid)}
        assert pods == {(one.name, -1 if one.gi_id is None else one.gi_id) for one in last.pods}
        [gpu] = [row for key, row in open_rows if key[:2] == ("gpu_record", uuid)]
        assert gpu["node"] == last.node
        assert last.driver_version in (None, gpu["driver_version"])


@pytest.mark.parametrize("steps", [1, 4])
def test_a_window_of_many_facts_is_taken_in_like_many_batches(engine: Engine, source_id: int, steps: int) -> None:
    facts = [
        fact(after(600 * step), instances=[(1, "1g.10gb" if step < 3 else "2g.20gb")], pods=[pod(f"p{step}", 1)])
        for step in range(6)
    ]
    for start in range(0, len(facts), steps):
        write(engine, source_id, batch(*reversed(facts[start : start + steps])))
    assert spans(engine, "instance_record", "profile") == [("1g.10gb", 0, 1800), ("2g.20gb", 1800, None)]
    assert [span[0] for span in spans(engine, "pod_record", "name")] == [f"p{step}" for step in range(6)]
