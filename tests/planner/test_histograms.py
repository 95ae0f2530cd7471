"""Percentiles as Prometheus documents them, right within a bucket, and sums that say what they lost."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.histograms import Histogram, Percentile, merge

# Worked out by hand after prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile (version 3).
TEN = Histogram(bounds=(1.0, 2.0, 4.0), counts=(2.0, 3.0, 4.0, 1.0), total=20.0)


@pytest.mark.parametrize(
    ("ratio", "percentile"),
    [
        (0.1, Percentile(value=0.5, low=0.0, high=1.0)),  # rank 1 of 2 in the first bucket, which begins at 0
        (0.2, Percentile(value=1.0, low=0.0, high=1.0)),
        (0.5, Percentile(value=2.0, low=1.0, high=2.0)),
        (0.6, Percentile(value=2.5, low=2.0, high=4.0)),  # rank 6: one of the four values above 2
        (0.9, Percentile(value=4.0, low=2.0, high=4.0)),
        (0.95, Percentile(value=4.0, low=4.0, high=None)),  # above the last bound: that bound, and perhaps more
        (1.0, Percentile(value=4.0, low=4.0, high=None)),
    ],
)
def test_percentiles_are_linear_within_the_bucket(ratio: float, percentile: Percentile) -> None:
    assert TEN.percentile(ratio) == percentile


def test_a_first_bucket_of_negative_values_answers_with_its_bound() -> None:
    below = Histogram(bounds=(-1.0, 1.0), counts=(3.0, 1.0, 0.0), total=-4.0)
    assert below.percentile(0.5) == Percentile(value=-1.0, low=-math.inf, high=-1.0)


def test_empty_buckets_are_skipped() -> None:
    gap = Histogram(bounds=(1.0, 2.0, 3.0), counts=(0.0, 0.0, 5.0, 0.0), total=12.5)
    assert gap.percentile(0.0) == Percentile(value=2.0, low=2.0, high=3.0)


def test_without_values_or_bounds_there_is_no_percentile_and_no_mean() -> None:
    empty = Histogram(bounds=(1.0,), counts=(0.0, 0.0), total=0.0)
    assert (empty.percentile(0.5), empty.mean) == (None, None)
    assert Histogram(bounds=(), counts=(3.0,), total=6.0).percentile(0.5) is None
    assert Histogram(bounds=(), counts=(3.0,), total=6.0).mean == 2.0


@pytest.mark.parametrize("ratio", [-0.1, 1.1])
def test_a_share_outside_of_0_to_1_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="0 to 1"):
        TEN.percentile(ratio)


def test_counts_and_bounds_must_fit_each_other() -> None:
    with pytest.raises(ValueError, match="2 buckets, not 3"):
        Histogram(bounds=(1.0,), counts=(1.0, 2.0, 3.0), total=0.0)
    with pytest.raises(ValueError, match="must rise"):
        Histogram(bounds=(2.0, 1.0), counts=(1.0, 2.0, 3.0), total=0.0)


def test_equal_bounds_are_summed_bucket_by_bucket() -> None:
    other = Histogram(bounds=(1.0, 2.0, 4.0), counts=(1.0, 0.0, 0.0, 2.0), total=11.0)
    merged = merge([TEN, other])
    assert merged is not None
    assert merged.histogram == Histogram(bounds=(1.0, 2.0, 4.0), counts=(3.0, 3.0, 4.0, 3.0), total=31.0)
    assert (merged.parts, merged.note) == (2, None)


def test_different_bounds_are_summed_on_those_that_all_have_and_that_is_said() -> None:
    other = Histogram(bounds=(2.0, 3.0, 4.0), counts=(1.0, 1.0, 1.0, 1.0), total=12.0)
    merged = merge([TEN, other])
    assert merged is not None
    # At most 2: 5 + 1; at most 4: 9 + 3; above: 1 + 1.
    assert merged.histogram == Histogram(bounds=(2.0, 4.0), counts=(6.0, 6.0, 2.0), total=32.0)
    assert merged.dropped_bounds == (1.0, 3.0)
    assert merged.note == (
        "Summed over 2 histograms with different bounds: only the 2 bounds that all have are kept, 1, 3 are not."
    )


def test_histograms_without_a_common_bound_still_add_up() -> None:
    merged = merge([TEN, Histogram(bounds=(3.0,), counts=(1.0, 1.0), total=5.0)])
    assert merged is not None
    assert (merged.histogram.bounds, merged.histogram.counts, merged.histogram.total) == ((), (12.0,), 25.0)


def test_no_histogram_has_no_sum() -> None:
    assert merge([]) is None


BOUNDS = st.lists(st.sampled_from([0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]), min_size=1, unique=True).map(
    lambda found: tuple(sorted(found))
)
VALUES = st.lists(st.floats(0.001, 20.0), min_size=1, max_size=200)


def histogram_of(values: list[float], bounds: tuple[float, ...]) -> Histogram:
    counts = np.bincount(np.searchsorted(bounds, values), minlength=len(bounds) + 1)
    return Histogram(bounds=bounds, counts=tuple(map(float, counts)), total=sum(values))


@given(values=VALUES, bounds=BOUNDS, ratio=st.floats(0, 1))
def test_a_percentile_is_in_the_bucket_of_the_true_one(
    values: list[float], bounds: tuple[float, ...], ratio: float
) -> None:
    found = histogram_of(values, bounds).percentile(ratio)
    assert found is not None
    true = float(np.quantile(values, ratio, method="inverted_cdf"))
    # numpy and we may round ratio * count to different sides of a whole number: then its neighbour is the true one.
    around = [float(np.quantile(values, min(max(ratio + step, 0), 1), method="inverted_cdf")) for step in (-1e-9, 1e-9)]
    inside = [found.low < one <= (math.inf if found.high is None else found.high) for one in (true, *around)]
    assert any(inside)
    assert found.low <= found.value <= (found.low if found.high is None else found.high)


@given(first=VALUES, second=VALUES, bounds=BOUNDS, others=BOUNDS)
def test_a_sum_is_the_histogram_of_all_values_on_the_common_bounds(
    first: list[float], second: list[float], bounds: tuple[float, ...], others: tuple[float, ...]
) -> None:
    merged = merge([histogram_of(first, bounds), histogram_of(second, others)])
    assert merged is not None
    common = tuple(sorted(set(bounds) & set(others)))
    expected = histogram_of(first + second, common)
    assert merged.histogram.bounds == common
    assert merged.histogram.counts == expected.counts
    assert merged.histogram.total == pytest.approx(expected.total)
    assert set(merged.dropped_bounds) == set(bounds) ^ set(others)


def test_a_part_without_values_takes_no_bounds_away() -> None:
    busy = Histogram(bounds=(0.05, 0.1, 2.5), counts=(4.0, 4.0, 2.0, 0.0), total=1.0)
    idle = Histogram(bounds=(2.5, 5.0), counts=(0.0, 0.0, 0.0), total=0.0)
    total = merge([idle, busy])
    assert total is not None
    assert (total.histogram, total.dropped_bounds, total.parts) == (busy, (), 2)
    nothing = merge([idle])
    assert nothing is not None
    assert nothing.histogram == idle
