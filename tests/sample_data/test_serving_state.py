"""The account of every simulated server: whole numbers that agree with each other, at any time and by any road."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sample_data.cluster import EPOCH, simulated_cluster
from sample_data.deployments import DEPLOYMENTS, Engine
from sample_data.request_shapes import (
    BLOCK_TOKENS,
    ROUND,
    Band,
    FinishReason,
    Quantity,
    band_of,
    request_round,
    traffic_shape,
)
from sample_data.serving_software import SERVING_SOFTWARE
from sample_data.serving_state import (
    ServingPod,
    pod_started_at,
    requests_between,
    serving_pods,
    serving_state,
    work_between,
)
from sample_data.workload import node_state

CLUSTER = simulated_cluster(6)
PLACES = serving_pods(CLUSTER)
NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
BUSY = [place for place in PLACES if serving_state(place, NOW).work.requests]

places = st.sampled_from(PLACES)
moments = st.integers(0, 2 * 365 * 86_400).map(lambda s: datetime(2025, 3, 1, tzinfo=UTC) + timedelta(seconds=s))


def test_every_pod_that_serves_a_model_is_there_with_its_devices() -> None:
    held = {
        (gpu.uuid, None if gpu.instances is None else instance.gi_id): pod
        for node in CLUSTER.nodes
        for gpu in node.gpus
        for instance, pod in ([(None, gpu.pod)] if gpu.instances is None else [(i, i.pod) for i in gpu.instances])
        if pod is not None and pod.deployment.engine is not Engine.NOTEBOOK
        for instance in [instance]
        if gpu.instances is None or instance is not None
    }
    told = {device: place.pod for place in PLACES for device in place.devices}
    assert told == held
    (tensor_parallel,) = [place for place in PLACES if place.deployment.name == "qwen3-235b"]
    assert len(tensor_parallel.devices) == 4


def test_deployments_that_reserve_memory_say_what_runs_in_them() -> None:
    reserving = {name for name, deployment in DEPLOYMENTS.items() if deployment.engine is Engine.VLLM}
    assert set(SERVING_SOFTWARE) == reserving
    assert all(ROUND % software.ranks == 0 for software in SERVING_SOFTWARE.values())


@settings(max_examples=60)
@given(places, moments)
def test_the_figures_of_a_server_agree_with_each_other(place: ServingPod, at: datetime) -> None:
    work = serving_state(place, at).work
    reasons = work.requests_by_reason
    for quantity in (Quantity.E2E, Quantity.TTFT, Quantity.QUEUE, Quantity.PREFILL, Quantity.DECODE):
        assert work.histogram(quantity, (0.1, 1.0)).count == work.requests == sum(reasons.values())
    prompts, generated = work.histogram(Quantity.PROMPT_TOKENS, (100,)), work.histogram(Quantity.GENERATION_TOKENS, ())
    assert (prompts.total, generated.total) == (work.prompt_tokens, work.generation_tokens)
    assert work.prompt_tokens_cached <= work.prompt_tokens
    assert work.preemptions <= work.requests
    e2e, inference, queue = (work.histogram(q, ()).total for q in (Quantity.E2E, Quantity.INFERENCE, Quantity.QUEUE))
    assert e2e == pytest.approx(inference + queue)
    assert work.histogram(Quantity.TTFT, ()).total == pytest.approx(queue + work.prefill_s)


@settings(max_examples=60)
@given(places, moments, st.sampled_from([2, 4]))
def test_ranks_add_up_to_the_server(place: ServingPod, at: datetime, ranks: int) -> None:
    whole = serving_state(place, at)
    parts = [serving_state(place, at, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert sum(part.running for part in parts) == whole.running
    assert sum(part.waiting for part in parts) == whole.waiting
    assert sum(part.work.generation_tokens for part in parts) == whole.work.generation_tokens
    bounds = (0.05, 0.5, 5.0)
    histograms = [part.work.histogram(Quantity.E2E, bounds) for part in parts]
    expected = whole.work.histogram(Quantity.E2E, bounds)
    assert tuple(map(sum, zip(*(one.counts for one in histograms), strict=True))) == expected.counts


@settings(max_examples=60)
@given(places, moments, st.integers(0, 20_000), st.integers(0, 20_000))
def test_counts_only_grow_and_spans_end_to_end_add_up(place: ServingPod, at: datetime, first: int, second: int) -> None:
    middle, end = at + timedelta(seconds=first), at + timedelta(seconds=first + second)
    one, two, both = work_between(place, at, middle), work_between(place, middle, end), work_between(place, at, end)
    assert one.requests >= 0
    assert two.requests >= 0
    assert one.requests + two.requests == both.requests
    assert one.generation_tokens + two.generation_tokens == both.generation_tokens
    bounds = (0.5, 5.0)
    counts = [work.histogram(Quantity.TTFT, bounds).counts for work in (one, two, both)]
    assert tuple(map(sum, zip(counts[0], counts[1], strict=True))) == counts[2]
    assert counts[2] == tuple(sorted(counts[2]))


@settings(max_examples=30)
@given(st.sampled_from(BUSY), moments, st.integers(1, 1200))
def test_the_requests_of_a_span_are_exactly_those_that_are_counted(place: ServingPod, at: datetime, span: int) -> None:
    until = at + timedelta(seconds=span)
    listed = list(requests_between(place, at, until))
    counted = work_between(place, at, until)
    assert len(listed) == counted.requests
    assert sum(one.shape.prompt_tokens for one in listed) == counted.prompt_tokens
    assert sum(one.shape.generation_tokens for one in listed) == counted.generation_tokens
    assert sum(one.shape.reason is FinishReason.STOP for one in listed) == counted.requests_by_reason[FinishReason.STOP]
    slack = timedelta(milliseconds=1)
    assert all(at - slack <= one.finished_at <= until + slack for one in listed)
    assert [one.finished_at for one in listed] == sorted(one.finished_at for one in listed)
    assert len({one.number for one in listed}) == len(listed)
    assert all(one.arrived_at < one.finished_at for one in listed)


def test_work_is_done_when_the_gpu_is_busy_and_only_then() -> None:
    for place in PLACES:
        for hour in range(0, 48, 3):
            at = NOW + timedelta(hours=hour)
            uuid, gi_id = place.devices[0]
            (gpu,) = [gpu for gpu in node_state(place.node, at) if gpu.gpu.uuid == uuid]
            (device,) = [
                device
                for device in gpu.devices
                if (None if device.instance is None else device.instance.gi_id) == gi_id
            ]
            state = serving_state(place, at)
            assert (state.level > 0) == (device.level > 0)
            assert state.is_loaded == device.is_loaded
            if state.level == 0:
                assert (state.running, state.waiting, state.kv_cache_used_ratio) == (0, 0, 0)


def test_a_saturated_server_queues_and_preempts_and_fills_its_cache() -> None:
    (place,) = [place for place in PLACES if place.deployment.name == "llama-70b"]
    states = [serving_state(place, NOW + timedelta(minutes=minute)) for minute in range(0, 600, 10)]
    assert any(state.waiting for state in states)
    assert max(state.kv_cache_used_ratio for state in states) > 0.95
    assert work_between(place, NOW, NOW + timedelta(hours=1)).preemptions > 0


def test_a_deployment_that_nobody_uses_does_nothing() -> None:
    (place,) = [place for place in PLACES if place.deployment.name == "mixtral-8x7b-legacy"]
    assert serving_state(place, NOW).work.requests == 0
    assert serving_state(place, NOW).is_loaded


def test_embeddings_generate_nothing() -> None:
    (place, *_) = [place for place in BUSY if place.deployment.engine is Engine.TEI]
    work = serving_state(place, NOW).work
    assert (work.generation_tokens, work.histogram(Quantity.GAP, ()).count) == (0, 0)
    assert work.prompt_tokens > 0


def test_a_restart_counts_from_its_moment() -> None:
    place = BUSY[0]
    since = NOW - timedelta(hours=2)
    assert serving_state(place, NOW, since=since).work.requests == work_between(place, since, NOW).requests
    assert serving_state(place, since - timedelta(hours=1), since=since).work.requests == 0


def test_pods_start_after_their_node_s_driver() -> None:
    for place in PLACES:
        assert EPOCH < place.started_at == pod_started_at(place.node, place.pod)
        assert (
            timedelta(0) <= place.started_at - place.node.driver_loaded_at.replace(microsecond=0) <= timedelta(days=10)
        )
        assert place.started_at.microsecond == 0


@pytest.mark.parametrize("name", [name for name in DEPLOYMENTS if traffic_shape(name) is not None])
@pytest.mark.parametrize("band", Band)
def test_requests_are_possible_ones(name: str, band: Band) -> None:
    requests = request_round(name, band)
    assert len(requests) == ROUND
    for request in requests:
        assert request.prompt_tokens > 0
        assert 0 <= request.cached_tokens < request.prompt_tokens
        assert request.cached_tokens % BLOCK_TOKENS == 0
        assert min(request.queue_us, request.prefill_us, request.generation_tokens, request.gap_us) >= 0
        assert request.e2e_us == request.queue_us + request.prefill_us + request.gaps * request.gap_us
        assert request.reason is not FinishReason.ERROR or request.generation_tokens == 0


def test_bands_cover_every_level() -> None:
    assert [band_of(level) for level in (0.0, 0.54, 0.55, 0.84, 0.85, 1.0)] == [
        Band.LIGHT, Band.LIGHT, Band.BUSY, Band.BUSY, Band.FULL, Band.FULL,
    ]  # fmt: skip


def test_a_notebook_serves_nothing() -> None:
    assert traffic_shape("jupyter-mkoehler") is None
    assert all(place.deployment.engine is not Engine.NOTEBOOK for place in PLACES)
