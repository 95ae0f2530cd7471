"""Tokens decide what is serving and what is idle; a guess does not, and work without tokens is still work."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from planner.device_state import judge
from planner.fleet import DeviceEngine, DeviceState, Usage, Verdict
from planner.links import Certainty
from planner.serving_readings import ServingEngine
from planner.units import GIB

SERVING, LOADED_IDLE, HELD, FREE, UNKNOWN = (
    DeviceState.SERVING,
    DeviceState.LOADED_IDLE,
    DeviceState.HELD,
    DeviceState.FREE,
    DeviceState.UNKNOWN,
)


def engine(**told: Any) -> DeviceEngine:
    """A vLLM that counted nothing in the hour, on this device alone."""
    usual: dict[str, Any] = {
        "endpoint": "10.0.0.7:8000",
        "engine": ServingEngine.VLLM,
        "version": "0.33.0",
        "models": ("llama",),
        "is_loaded": True,
        "pod": "team/llm",
        "certainty": Certainty.CERTAIN,
        "links": (),
        "devices": 1,
        "share_ratio": 1.0,
        "split": None,
        "requests": 0.0,
        "prompt_tokens": 0.0,
        "generation_tokens": 0.0,
        "requests_running": 0.0,
        "covered_s": 3600.0,
        "covered_ratio": 1.0,
    }
    return DeviceEngine(**usual | told)


def verdict(
    build: SimpleNamespace, usage: Usage | None, *engines: DeviceEngine, pods: tuple[str, ...] = ("llm",)
) -> Verdict:
    judged: Verdict = judge(
        usage=usage,
        pods=tuple(build.pod(name) for name in pods),
        pods_reported=True,
        instance_of_mig=False,
        memory_total_bytes=80 * GIB,
        last_seen=build.NOW,
        now=build.NOW,
        engines=engines,
        window=timedelta(hours=1),
    )
    assert judged.reason.endswith(".")
    return judged


def test_tokens_that_flow_are_serving_although_nothing_else_is_measured(build: SimpleNamespace) -> None:
    told = engine(prompt_tokens=1000.0, generation_tokens=234.0, requests=5.0)
    for usage in (None, build.idle(60), build.usage(memory_used_bytes=60 * GIB)):
        judged = verdict(build, usage, told)
        assert (judged.state, judged.reason) == (
            SERVING,
            "1,234 tokens flowed in the last 60 minutes through vllm at 10.0.0.7:8000 (llama).",
        )


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"requests": 3.0}, "3 requests ended in the last 60 minutes"),
        ({"requests_running": 2.0}, "2 requests are being worked on"),
        ({"generation_tokens": 5.0, "devices": 4}, "on 4 devices"),
        ({"generation_tokens": 5.0, "certainty": Certainty.LIKELY}, "which is likely on it"),
    ],
)
def test_what_flows_is_said(build: SimpleNamespace, told: dict[str, Any], words: str) -> None:
    judged = verdict(build, build.idle(60), engine(**told))
    assert judged.state is SERVING
    assert words in judged.reason


def test_a_loaded_engine_without_tokens_is_idle_whatever_memory_says(build: SimpleNamespace) -> None:
    for memory_gib in (60, 0.1):
        judged = verdict(build, build.idle(memory_gib), engine())
        assert (judged.state, judged.reason) == (
            LOADED_IDLE,
            "No token flowed through vllm at 10.0.0.7:8000 (llama) in the last 60 minutes.",
        )


def test_without_activity_an_idle_engine_speaks_for_its_own_pod_only(build: SimpleNamespace) -> None:
    unmeasured = build.usage(memory_used_bytes=60 * GIB)
    assert verdict(build, unmeasured, engine()).state is LOADED_IDLE
    assert verdict(build, None, engine()).state is LOADED_IDLE
    assert verdict(build, unmeasured, engine(), pods=("llm", "other")).state is UNKNOWN


def test_work_without_tokens_is_still_work(build: SimpleNamespace) -> None:
    judged = verdict(build, build.serving(60), engine())
    assert judged.state is SERVING
    assert "with work that is not counted as requests: No token flowed" in judged.reason


@pytest.mark.parametrize(
    "told",
    [
        {"certainty": Certainty.GUESSED, "generation_tokens": 5.0},
        {"prompt_tokens": None, "generation_tokens": None, "requests": None, "requests_running": None},  # Ollama
        {"covered_ratio": 0.1},
        {"is_loaded": False},
        {"generation_tokens": 5.0, "devices": 2, "share_ratio": 0.0},  # another device of its pod did all the work
    ],
)
def test_where_tokens_tell_nothing_activity_decides_and_that_is_said(
    build: SimpleNamespace, told: dict[str, Any]
) -> None:
    busy, idle = verdict(build, build.serving(60), engine(**told)), verdict(build, build.idle(60), engine(**told))
    assert (busy.state, idle.state) == (SERVING, LOADED_IDLE)
    assert busy.reason.endswith("no engine's tokens are known here, so this rests on activity alone.")
    assert "judged by activity alone" in idle.reason
    assert verdict(build, build.idle(0.1), engine(**told)).state is HELD


def test_one_engine_that_counts_nothing_keeps_the_others_from_speaking_for_all(build: SimpleNamespace) -> None:
    silent = engine(endpoint="10.0.0.7:11434", prompt_tokens=None, generation_tokens=None, requests=None)
    judged = verdict(build, build.idle(60), engine(), silent)
    assert "judged by activity alone" in judged.reason


def test_a_window_that_was_read_in_part_says_so(build: SimpleNamespace) -> None:
    judged = verdict(build, build.idle(60), engine(covered_ratio=0.5))
    assert judged.reason.endswith("(llama) in the 50% of the last 60 minutes in which it was read.")


def test_without_any_engine_the_reason_says_that_it_rests_on_activity(build: SimpleNamespace) -> None:
    assert "this rests on activity alone" in verdict(build, build.serving(60)).reason
    assert "judged by activity alone" in verdict(build, build.idle(60)).reason


def test_a_device_that_is_not_seen_any_more_is_not_judged_by_tokens(build: SimpleNamespace) -> None:
    judged = judge(
        usage=None,
        pods=(),
        pods_reported=True,
        instance_of_mig=False,
        memory_total_bytes=None,
        last_seen=build.NOW - timedelta(minutes=20),
        now=build.NOW,
        engines=(engine(generation_tokens=5.0),),
    )
    assert judged.state is UNKNOWN
