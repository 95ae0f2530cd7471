import pytest

from collectors import remedy_of
from collectors.serving.metrics import TABLES
from collectors.serving.remedies import remedy
from planner.readings import Gap
from planner.serving_readings import ServingEngine


def gap(metric: str | None, reason: str) -> Gap:
    return Gap(subject="a:8000", metric=metric, reason=reason)


@pytest.mark.parametrize(
    ("engine", "metric", "fix"),
    [
        (ServingEngine.VLLM, "generation_tokens", "without --disable-log-stats"),
        (ServingEngine.VLLM, "queue_time_s", "Update vLLM"),
        (ServingEngine.SGLANG, "requests_running", "--enable-metrics"),
        (ServingEngine.LLAMA_CPP, "generation_tokens", "--metrics"),
        (ServingEngine.TENSORRT_LLM, "requests_running", "enable_iter_perf_stats: true"),
        (ServingEngine.TENSORRT_LLM, "ttft_s", "return_perf_metrics: true"),
    ],
)
def test_what_a_flag_or_an_update_brings_is_said_word_for_word(engine: ServingEngine, metric: str, fix: str) -> None:
    found = remedy(gap(metric, TABLES[engine].missing[metric]))
    assert found.fix is not None
    assert fix in found.fix


@pytest.mark.parametrize(
    ("engine", "metric"),
    [
        (ServingEngine.TGI, "kv_cache_used_ratio"),
        (ServingEngine.LLAMA_CPP, "ttft_s"),
        (ServingEngine.NIM, "preemptions"),
    ],
)
def test_what_an_engine_never_gives_wants_nothing(engine: ServingEngine, metric: str) -> None:
    assert remedy(gap(metric, TABLES[engine].missing[metric])).is_natural


def test_what_went_wrong_is_no_nature_and_has_no_flag() -> None:
    found = remedy(gap("ttft_s", "time_to_first_token_seconds: its buckets do not rise to its count; it was left out"))
    assert (found.fix, found.is_natural) == (None, False)


def test_the_source_is_known_by_its_kind() -> None:
    assert remedy_of("serving") is remedy
