"""What we ask and read, against Langfuse 4.16's own definition of its API."""

import json
import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from collectors.langfuse.config import RoadName
from collectors.langfuse.metrics import COLUMNS, HIGH_CARDINALITY, MEASURES, MODEL
from collectors.langfuse.observations_road import FIELDS, PAGE_SIZE_V2, ObservationsRoad
from collectors.langfuse.question import ROW_LIMIT, Question
from collectors.langfuse.wire import Deprecation, Observation, read
from tests.collectors.json_web import json_web
from tests.collectors.langfuse.langfuses import OBSERVATIONS_V2, api, at, window

# One page of GET /api/public/v2/observations, its fields those of ObservationV2 (fern/commons.yml), its keys of usage
# and costs those that Langfuse's own price list knows (default-model-prices.json).
PAGE: dict[str, Any] = {
    "data": [
        {
            "id": "obs-1",
            "traceId": "trace-1",
            "startTime": "2026-11-16T09:59:59.999Z",
            "endTime": None,
            "projectId": "p",
            "parentObservationId": None,
            "type": "GENERATION",
            "environment": "production",
            "userId": "ann",
            "providedModelName": "gpt-4o",
            "usageDetails": {
                "input": 100,
                "input_cached_tokens": 20,
                "output": 30,
                "output_reasoning": 5,
                "total": 155,
            },
            "costDetails": {"input": 0.00025, "input_cached_tokens": 0.000025, "output": 0.0003, "total": 0.000575},
            "totalCost": 0.000575,
            "modelId": "b9854a5c92dc496b997d99d20",
            "inputPrice": "0.0000025",
        },
        {
            "id": "obs-2",
            "traceId": None,
            "startTime": "2026-11-16T09:00:00.000Z",
            "projectId": "p",
            "type": "SPAN",
            "environment": "production",
            "userId": None,
            "providedModelName": None,
            "usageDetails": {},
            "costDetails": {},
            "totalCost": None,
        },
        {
            "id": "obs-3",
            "traceId": "trace-1",
            "startTime": "2026-11-16T10:00:00.000Z",
            "projectId": "p",
            "type": "EMBEDDING",
            "environment": "default",
            "userId": None,
            "providedModelName": "gpt-4o",
            "usageDetails": {"prompt_token_count": 9},
            "costDetails": {"prompt_token_count": 0.00002},
            "totalCost": None,
        },
    ],
    "meta": {},
}


@pytest.fixture(scope="module")
def fern(reference: Path) -> Path:
    return reference / "payloads" / "langfuse" / "fern"


def _definition(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load(path.read_text())
    return told


def _observations_view(fern: Path) -> str:
    docs: str = _definition(fern / "metrics.yml")["service"]["endpoints"]["metrics"]["docs"]
    return docs.split("### observations")[1].split("### scores-numeric")[0]


def test_every_measure_and_dimension_we_ask_for_is_listed(fern: Path) -> None:
    view = _observations_view(fern)
    dimensions, measures = (set(re.findall(r"- `(\w+)`", part)) for part in view.split("**Measures:**"))
    assert {row.measure for row in MEASURES} <= measures
    assert {MODEL, *COLUMNS.values()} - dimensions == {"userId"}  # of high cardinality, see below


def test_what_we_take_for_high_cardinality_is_listed_as_such(fern: Path) -> None:
    docs = _definition(fern / "metrics.yml")["service"]["endpoints"]["metrics"]["docs"]
    listed = docs.split("## High Cardinality Dimensions")[1].split("**scores-numeric")[0]
    high = set(re.findall(r"- `(\w+)`", listed))
    assert {COLUMNS[dimension] for dimension in HIGH_CARDINALITY} <= high
    assert not high & {COLUMNS[dimension] for dimension in set(COLUMNS) - HIGH_CARDINALITY}


@pytest.mark.parametrize("file", ["metrics.yml", "legacy-metrics-v1.yml"])
def test_a_question_has_the_documented_form(fern: Path, file: str) -> None:
    endpoint = _definition(fern / file)["service"]["endpoints"]["metrics"]
    docs = endpoint["request"]["query-parameters"]["query"]["docs"]
    asked = json.loads(Question(start=at(8), end=at(10), by_hour=True, columns=("tags",)).text())
    documented = set(re.findall(r'"(\w+)":', docs))
    assert set(asked) <= documented
    assert {key for part in asked["dimensions"] + asked["metrics"] + asked["orderBy"] for key in part} <= documented
    assert set(asked["config"]) <= documented
    (most,) = re.findall(r'"row_limit".*\(1-(\d+)\)', docs)
    assert int(most) == ROW_LIMIT
    assert '"hour"' in docs.split('"granularity"')[1].split("\n")[0]


def test_paths_are_those_of_the_definition(reference: Path) -> None:
    listed = (reference / "payloads/langfuse/openapi.yml").read_text()
    paths = set(re.findall(r"^  (/api/public/[\w/]+):$", listed, flags=re.MULTILINE))
    assert {f"/api/public/{road}" for road in RoadName} - paths == {"/api/public/metrics/daily"}  # of version 2 only
    assert "/api/public/health" in paths


def test_pages_and_groups_of_fields_are_those_of_the_definition(fern: Path) -> None:
    endpoint = _definition(fern / "observations.yml")["service"]["endpoints"]["getMany"]
    groups = dict(re.findall(r"- `(\w+)` - (.+)", endpoint["docs"].split("## Filters")[0]))
    given = ", ".join(groups[field] for field in FIELDS.split(","))
    for name in ("id", "startTime", "environment", "userId", "providedModelName", "usageDetails", "totalCost", "tags"):
        assert re.search(rf"\b{name}\b", given)
    for name in ("input", "output", "metadata"):
        assert name not in {field for group in FIELDS.split(",") for field in groups[group].split(", ")}
    asked = endpoint["request"]["query-parameters"]
    assert {"fields", "limit", "cursor", "fromStartTime", "toStartTime"} <= set(asked)
    assert f"Maximum {PAGE_SIZE_V2}," in asked["limit"]["docs"]
    meta = _definition(fern / "observations.yml")["types"]["ObservationsV2Meta"]["properties"]
    assert set(meta) == {"cursor"}


def test_the_fields_we_read_are_fields_of_an_observation(fern: Path) -> None:
    types = _definition(fern / "commons.yml")["types"]
    for name in ("ObservationV2", "ObservationsView"):
        base = types.get(types[name].get("extends", ""), {"properties": {}})["properties"]
        documented = set(base) | set(types[name]["properties"])
        assert {"id", "startTime", "environment", "usageDetails", "costDetails"} <= documented
    assert {"providedModelName", "userId", "totalCost"} <= set(types["ObservationV2"]["properties"])
    assert {"message", "sunsetAt"} <= set(types["Deprecation"]["properties"])


def test_every_key_of_the_price_list_is_kept_and_told_apart(reference: Path) -> None:
    listed = json.loads((reference / "payloads/langfuse/default-model-prices.json").read_text())
    keys = {key for model in listed for tier in model["pricingTiers"] for key in tier["prices"]}
    usage = {key: 2**power for power, key in enumerate(sorted(keys))}
    one = read(Observation, {"id": "1", "usageDetails": usage})
    assert one.usage_details == {key: Decimal(amount) for key, amount in usage.items()}
    assert one.input_tokens == sum(amount for key, amount in usage.items() if "input" in key)
    assert one.output_tokens == sum(amount for key, amount in usage.items() if "output" in key)
    assert {"input", "input_cached_tokens", "output_reasoning", "total", "candidatesTokenCount"} <= keys


def test_a_page_of_observations_as_it_is_documented() -> None:
    with json_web({OBSERVATIONS_V2: PAGE}) as web:
        road = ObservationsRoad(api(web), RoadName.OBSERVATIONS_V2, max_pages=3, source="it")
        found = road.read(window(9, 11), ("environment", "user"))
    totals = [one for one in found.usage if not one.dimension]
    assert [(one.start, one.end - one.start, one.model) for one in totals] == [
        (at(9), timedelta(hours=1), "gpt-4o"),
        (at(10), timedelta(hours=1), "gpt-4o"),
    ]
    first, second = totals
    assert (first.requests, first.input_tokens, first.output_tokens, first.total_tokens) == (1, 120, 35, 155)
    assert first.cost_usd == 0.000575
    assert first.usage_details["output_reasoning"] == 5
    # Langfuse's own measures look for "input" and "output" in the key: a count under another name is in neither
    assert (second.requests, second.input_tokens, second.output_tokens, second.total_tokens) == (1, None, None, None)
    assert second.cost_usd is None
    assert (second.usage_details, second.cost_details) == ({"prompt_token_count": 9}, {"prompt_token_count": 0.00002})
    parts = {(one.dimension, one.owner, one.start.hour): one.requests for one in found.usage if one.dimension}
    assert parts == {
        ("environment", "production", 9): 1,
        ("user", "ann", 9): 1,
        ("environment", "default", 10): 1,
        ("user", "", 10): 1,
    }


def test_a_notice_of_deprecation_may_lack_all_but_its_message() -> None:
    assert read(Deprecation, {"message": "gone soon"}).sunset_at == ""
