"""Objects as the API spells them: what is missing, odd or hostile in one never breaks more than that one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.kubernetes.quotas import gpu_quota
from collectors.kubernetes.wire import NodeObject, PodObject, ReplicaSetObject, reader
from collectors.kubernetes.wire_claims import ClaimObject, SliceObject
from collectors.kubernetes_lists import Listed, NotUnderstood, name_of
from tests.collectors.kubernetes.objects import asks, claim_json, container, node_json, pod_json, slice_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=12), below, max_size=4),
    max_leaves=12,
)
READERS: list[Any] = [reader(model) for model in (NodeObject, PodObject, ReplicaSetObject, SliceObject, ClaimObject)]
READERS.append(gpu_quota)
WHOLE = [
    node_json("n", {"a": "b"}, capacity={"nvidia.com/gpu": "8"}, conditions=[{"type": "Ready", "status": "True"}]),
    pod_json(container("m", asks(gpu=1)), spec={"initContainers": [container("i")]}),
    slice_json({"name": "gpu-0", "attributes": {"uuid": {"string": "GPU-1"}}}),
    claim_json({"driver": "gpu.nvidia.com", "pool": "n", "device": "gpu-0"}),
]


@given(JSON)
def test_no_json_breaks_a_list(item: Any) -> None:
    for read in READERS:
        listed: Listed[Any] = Listed()
        listed.put(item, read)
        listed.put({"metadata": {"name": "good", "namespace": "a"}, "spec": item, "status": item}, read)
        assert len(listed.bad) + len(listed.objects) <= 2
        assert all(isinstance(reason, str) and len(reason) <= 200 for reason in listed.bad.values())


@given(st.sampled_from(WHOLE), st.lists(st.integers(0, 8), max_size=6), JSON)
def test_any_part_of_an_object_may_be_anything(whole: dict[str, Any], way: list[int], anything: Any) -> None:
    item = _replaced(whole, way, anything)
    for read in READERS:
        listed: Listed[Any] = Listed()
        listed.put(item, read)
        assert len(listed.bad) + len(listed.objects) <= 1


def _replaced(value: Any, way: list[int], anything: Any) -> Any:
    """The value with what lies at the end of the way replaced."""
    if not way or not isinstance(value, dict | list) or not value:
        return anything
    if isinstance(value, dict):
        key = sorted(value)[way[0] % len(value)]
        return {**value, key: _replaced(value[key], way[1:], anything)}
    index = way[0] % len(value)
    return [*value[:index], _replaced(value[index], way[1:], anything), *value[index + 1 :]]


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-12:00"])
@pytest.mark.parametrize(("part", "key"), [("metadata", "creationTimestamp"), ("status", "startTime")])
def test_a_time_that_no_calendar_has_in_utc_is_not_understood(time: str, part: str, key: str) -> None:
    with pytest.raises(NotUnderstood, match="out of range"):
        reader(PodObject)(pod_json(container("m", asks(gpu=1)), **{part: {key: time}}))


def test_an_object_on_which_a_reader_fails_is_a_bad_one() -> None:
    def read(item: Any) -> Any:
        raise OverflowError("what the object said")

    listed: Listed[Any] = Listed()
    listed.put(node_json("n"), read)
    assert listed.bad == {("", "n"): "this program fails on it (OverflowError); please report it"}


@pytest.mark.parametrize("model", [NodeObject, PodObject, SliceObject, ClaimObject])
def test_only_names_are_needed_of_most_objects(model: Any) -> None:
    """What the API leaves out or writes as null is absent; only a pod's and a slice's spec must be there."""
    listed: Listed[Any] = Listed()
    listed.put({"metadata": {"name": "n"}}, reader(model))
    needs_spec = model in (PodObject, SliceObject)
    assert listed.bad == ({("", "n"): "spec: Field required"} if needs_spec else {})


def test_what_is_refused_says_where_and_not_what() -> None:
    item = pod_json(container("m", {"requests": {"nvidia.com/gpu": "500m"}}))
    with pytest.raises(NotUnderstood, match=r"spec\.containers\.0\.resources\.requests: .*no count of devices: '500m'"):
        reader(PodObject)(item)
    item = pod_json(metadata={"labels": ["s3cret"]})
    with pytest.raises(NotUnderstood, match=r"^metadata\.labels: Input should be a valid dictionary$"):
        reader(PodObject)(item)


def test_names_and_texts_are_made_plain_and_kept_short() -> None:
    hostile = "a\x00b\u202ec\n<script>" + "x" * 400
    item = pod_json(name=hostile, metadata={"labels": {hostile: hostile}})
    found = reader(PodObject)(item)
    assert found.metadata.name.startswith("a b c <script>xxx")
    assert len(found.metadata.name) == 253
    (label,) = found.metadata.labels.values()
    assert label.isprintable()
    assert len(label) <= 600


@pytest.mark.parametrize(
    ("item", "name"),
    [
        ({"metadata": {"name": "n", "namespace": "a"}}, ("a", "n")),
        ({"metadata": {"name": "n"}}, ("", "n")),
        ({"metadata": {"name": 7, "namespace": None}}, ("", "")),
        ({"metadata": []}, ("", "")),
        ({}, ("", "")),
        (None, ("", "")),
    ],
)
def test_objects_are_known_by_namespace_and_name(item: Any, name: tuple[str, str]) -> None:
    assert name_of(item) == name


def test_the_latest_word_on_an_object_is_what_counts() -> None:
    read = reader(NodeObject)
    listed: Listed[NodeObject] = Listed()
    listed.put(node_json("n", capacity={"nvidia.com/gpu": "8"}), read)
    listed.put(node_json("n", capacity={"nvidia.com/gpu": "many"}), read)
    assert (set(listed.objects), set(listed.bad)) == (set(), {("", "n")})
    listed.put(node_json("n", capacity={"nvidia.com/gpu": "4"}), read)
    assert listed.objects["", "n"].status.capacity == {"nvidia.com/gpu": 4}
    assert listed.bad == {}
    listed.forget(("", "n"))
    listed.forget(("", "n"))
    assert (listed.objects, listed.bad) == ({}, {})
