"""Quantities of Kubernetes as counts of devices."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.kubernetes.quantities import MAX_COUNT, count_of, gpu_counts
from collectors.kubernetes_lists import NotUnderstood


@pytest.mark.parametrize(
    ("quantity", "count"),
    [
        ("0", 0),
        ("8", 8),
        (8, 8),
        ("1k", 1000),  # how the API writes 1000
        ("2Ki", 2048),
        ("8000m", 8),
        ("1e3", 1000),
        ("12E1", 120),
        ("1.5k", 1500),
        ("+4", 4),
        ("8.0", 8),
    ],
)
def test_every_notation_of_a_whole_number_counts(quantity: object, count: int) -> None:
    assert count_of(quantity, "nvidia.com/gpu") == count


@pytest.mark.parametrize(
    "quantity",
    [
        "500m",
        "1.5",
        "-1",
        "",
        " ",
        "NaN",
        "Infinity",
        "1_000",
        "2K",
        "1E",
        "5Mi Gi",
        "0x10",
        "9" * 30,
        "1e99",
        "\u0663",
    ],
)
def test_what_is_no_count_of_devices_is_refused(quantity: object) -> None:
    with pytest.raises(NotUnderstood, match=r"nvidia\.com/gpu is no"):
        count_of(quantity, "nvidia.com/gpu")


@pytest.mark.parametrize("quantity", [None, 1.5, True, [], {}])
def test_other_types_are_refused(quantity: object) -> None:
    with pytest.raises(NotUnderstood, match="is no quantity"):
        count_of(quantity, "x")


@given(st.integers(min_value=0, max_value=MAX_COUNT))
def test_whole_numbers_are_kept(count: int) -> None:
    assert count_of(str(count), "x") == count
    assert count_of(f"{count}000m", "x") == count


@given(st.one_of(st.text(max_size=30), st.floats(), st.integers(), st.none()))
def test_no_text_breaks_it(quantity: object) -> None:
    with contextlib.suppress(NotUnderstood):
        assert 0 <= count_of(quantity, "x") <= MAX_COUNT


def test_only_gpus_are_counted() -> None:
    resources = {
        "cpu": "127500m",
        "memory": "2Ti",
        "nvidia.com/gpu": "0",
        "nvidia.com/gpu.shared": "16",
        "nvidia.com/mig-1g.10gb.me": "1",
        "rdma/hca": "broken",
    }
    assert gpu_counts(resources) == {
        "nvidia.com/gpu": 0,
        "nvidia.com/gpu.shared": 16,
        "nvidia.com/mig-1g.10gb.me": 1,
    }
    assert gpu_counts(None) == {}
    with pytest.raises(NotUnderstood, match="no mapping"):
        gpu_counts(["nvidia.com/gpu"])
