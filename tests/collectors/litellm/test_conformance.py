"""Real scrapes of LiteLLM 1.106.2, against expectations worked out by hand from their lines."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from collectors.litellm.metrics import ROWS
from collectors.litellm.scrape import read_metrics
from collectors.litellm.series_memory import SeriesMemory
from planner.readings import Batch

Expected = dict[tuple[str, str], float]


def _read(path: Path, dimensions: tuple[str, ...] = ("team", "key", "user")) -> Batch:
    return read_metrics(
        path.read_text(),
        observed_at=datetime(2026, 11, 22, 3, 0, tzinfo=UTC),
        source="it",
        target="it",
        gateway="it:4000",
        dimensions=dimensions,
        keep_personal=False,
        memory=SeriesMemory(),
    )


# Mock responses of ten prompt tokens and twenty generated ones, at 2e-7 and 6e-7 dollars each; one streamed request to
# gpt-4o; one that failed with 429. The two refused scrapes and the scrape itself are no requests to a model.
MOCKED: Expected = {
    ("qwen3-32b", "requests"): 5,
    ("qwen3-32b", "input_tokens"): 50,
    ("qwen3-32b", "output_tokens"): 100,
    ("qwen3-32b", "total_tokens"): 150,
    ("qwen3-32b", "cost_usd"): 7e-05,
    ("gpt-4o", "requests"): 1,
    ("gpt-4o", "input_tokens"): 8,
    ("gpt-4o", "output_tokens"): 15,
    ("gpt-4o", "total_tokens"): 23,
    ("gpt-4o", "cost_usd"): 0.00017,
    ("broken", "requests"): 1,
    ("broken", "failed_requests"): 1,
}

# tiny-llama: five answered with the master key and one refused without a key; the public name always-fails stands for
# the model "x", as its deployment's lines say.
CAPTURED: Expected = {
    ("tiny-llama", "requests"): 6,
    ("tiny-llama", "failed_requests"): 1,
    ("tiny-llama", "input_tokens"): 50,
    ("tiny-llama", "output_tokens"): 100,
    ("tiny-llama", "total_tokens"): 150,
    ("tiny-llama", "cost_usd"): 7e-05,
    ("x", "requests"): 1,
    ("x", "failed_requests"): 1,
}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("payloads/litellm/real_litellm-1.106.2_mock_response.prom", MOCKED),
        ("captured/litellm/metrics.txt", CAPTURED),
    ],
)
class TestScrapes:
    def test_totals_are_those_of_the_lines(self, reference: Path, file: str, expected: Expected) -> None:
        batch = _read(reference / file)
        assert {(one.model, one.quantity): one.value for one in batch.spend if not one.dimension} == expected
        assert batch.gaps == ()

    def test_every_dimension_adds_up_to_the_totals(self, reference: Path, file: str, expected: Expected) -> None:
        batch = _read(reference / file)
        for dimension in ("team", "key", "user"):
            sums: Expected = {}
            for one in batch.spend:
                if one.dimension == dimension:
                    sums[one.model, one.quantity] = sums.get((one.model, one.quantity), 0) + one.value
            assert sums == pytest.approx(expected)

    def test_no_address_of_anyone_is_kept(self, reference: Path, file: str, expected: Expected) -> None:
        told = repr(_read(reference / file))
        assert "127.0.0.1" not in told
        assert "curl" not in told

    def test_series_began_before_they_were_read(self, reference: Path, file: str, expected: Expected) -> None:
        for one in _read(reference / file).spend:
            assert one.started_at is not None
            assert one.started_at < one.observed_at


def test_who_asked_for_the_captured_ones(reference: Path) -> None:
    batch = _read(reference / "captured/litellm/metrics.txt")
    keys = {
        (one.owner, one.quantity): one.value
        for one in batch.spend
        if one.dimension == "key" and one.model == "tiny-llama"
    }
    assert keys["master key", "requests"] == 5
    assert keys["", "requests"] == 1  # hashed_api_key="None": asked without a key
    assert keys["", "failed_requests"] == 1


def test_the_names_we_read_first_are_those_of_the_newest_release(reference: Path) -> None:
    listed = (reference / "payloads/litellm/metric_names_1.109.1.json").read_text()
    newest = [row.source_name.removesuffix("_total") for row in ROWS if row.source.startswith("litellm/")]
    assert newest
    assert [name for name in newest if f'"{name}"' not in listed] == []
