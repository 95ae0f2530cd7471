"""Diagnoses in the store: the newest per target, checked when read back, forgotten with their target."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from planner.diagnosis import Check, Diagnosis, Finding, Outcome
from store.diagnoses import keep_diagnosis, kept_diagnoses
from store.errors import SourceUnknown
from store.retention import prune
from store.writes import register_source
from tests.store.batches import NOW

FAILED = Diagnosis(
    cluster="default",
    source="dcgm",
    kind="dcgm",
    target="node-a:9400",
    taken_at=NOW,
    seconds=0.5,
    findings=(
        Finding(check=Check.REACHABLE, outcome=Outcome.FAILED, text="no answer", cost="Nothing.", fix="curl -sv URL"),
    ),
)
LACKING = replace(
    FAILED,
    target="node-b:9400",
    version="4.8.2",
    clock_skew_s=-2.5,
    newest_sample_age_s=1.25,
    present=("power_watts",),
    findings=(
        Finding(check=Check.REACHABLE, outcome=Outcome.OK, text="It answers."),
        Finding(
            check=Check.FIELDS,
            outcome=Outcome.WARNING,
            text="sm_active_ratio is missing for node-b:9400: not listed.",
            cost="No need of SMs is known.",
            fix="DCGM_FI_PROF_SM_ACTIVE, gauge, Active SMs",
            metric="sm_active_ratio",
            reason="not listed",
        ),
    ),
)


def test_what_was_kept_is_read_back_by_target(engine: Engine, source_id: int) -> None:
    for one in (LACKING, FAILED):
        keep_diagnosis(engine, one)
    assert kept_diagnoses(engine).diagnoses == (FAILED, LACKING)
    assert kept_diagnoses(engine).damaged == ()


def test_a_later_look_replaces_an_earlier_one_and_never_the_other_way_round(engine: Engine, source_id: int) -> None:
    later = replace(LACKING, target=FAILED.target, taken_at=NOW + timedelta(minutes=1))
    for one in (FAILED, later, FAILED):
        keep_diagnosis(engine, one)
    assert kept_diagnoses(engine).diagnoses == (later,)


def test_two_clusters_may_have_sources_of_one_name(engine: Engine, source_id: int) -> None:
    register_source(engine, cluster="west", name="dcgm", kind="prometheus", interval_s=30, now=NOW)
    west = replace(FAILED, cluster="west", kind="prometheus")
    for one in (FAILED, west):
        keep_diagnosis(engine, one)
    assert kept_diagnoses(engine).diagnoses == (FAILED, west)


def test_a_source_that_was_never_read_has_none(engine: Engine) -> None:
    with pytest.raises(SourceUnknown, match="'dcgm' of cluster 'default': collect from it first"):
        keep_diagnosis(engine, FAILED)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        '{"findings": [{"check": "teleported", "outcome": "ok", "text": "x"}]}',
        '{"findings": [{"check": "reachable", "outcome": "ok"}]}',
        '{"findings": [], "clock_skew_s": "NaN"}',
    ],
)
def test_a_damaged_row_is_told_and_costs_no_other(engine: Engine, source_id: int, body: str) -> None:
    for one in (FAILED, LACKING):
        keep_diagnosis(engine, one)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE source_diagnosis SET body = :body WHERE target = :target"),
            {"body": body, "target": FAILED.target},
        )
    kept = kept_diagnoses(engine)
    assert kept.diagnoses == (LACKING,)
    [error] = kept.damaged
    assert "node-a:9400 (source dcgm) cannot be understood" in str(error)
    assert "writes it anew within an hour" in str(error)


def test_what_a_later_version_adds_is_left_alone(engine: Engine, source_id: int) -> None:
    keep_diagnosis(engine, FAILED)
    with engine.begin() as connection:
        told = json.loads(connection.execute(text("SELECT body FROM source_diagnosis")).scalar_one())
        told["findings"][0]["from_tomorrow"] = told["from_tomorrow"] = 1
        connection.execute(text("UPDATE source_diagnosis SET body = :body"), {"body": json.dumps(told)})
    assert kept_diagnoses(engine).diagnoses == (FAILED,)


def test_diagnoses_go_with_targets_that_nobody_tries_any_more(engine: Engine, source_id: int) -> None:
    for one in (FAILED, replace(LACKING, taken_at=NOW - timedelta(days=9))):
        keep_diagnosis(engine, one)
    prune(engine, before=NOW - timedelta(days=8))
    assert kept_diagnoses(engine).diagnoses == (FAILED,)


_texts = st.text(max_size=20)
_maybe = st.none() | _texts
_findings = st.builds(
    Finding,
    check=st.sampled_from(Check),
    outcome=st.sampled_from(Outcome),
    text=_texts,
    cost=_maybe,
    fix=_maybe,
    metric=_maybe,
    reason=_maybe,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    findings=st.tuples(_findings, _findings),
    age_s=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    present=st.lists(_texts, max_size=3).map(tuple),
)
def test_every_diagnosis_survives_the_store(
    shared_engine: Engine, findings: tuple[Finding, ...], age_s: float | None, present: tuple[str, ...]
) -> None:
    register_source(shared_engine, cluster="default", name="dcgm", kind="dcgm", interval_s=30, now=NOW)
    given_one = replace(FAILED, findings=findings, newest_sample_age_s=age_s, present=present)
    keep_diagnosis(shared_engine, given_one)
    assert kept_diagnoses(shared_engine).diagnoses == (given_one,)
