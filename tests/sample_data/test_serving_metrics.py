"""The simulated engines' pages: what the official client's parser makes of them, and how each generation names it."""

import asyncio
import json
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from planner.serving_readings import ServingEngine
from sample_data.cluster import simulated_cluster
from sample_data.faults import FaultKind, Faults
from sample_data.request_shapes import FinishReason
from sample_data.server import make_app
from sample_data.serving_endpoints import has_endpoint, pod_annotations, pod_path, serving_targets
from sample_data.serving_routes import fault_name, metrics_page
from sample_data.serving_software import SERVING_SOFTWARE, ServingSoftware, other_release
from sample_data.serving_state import ServingPod, serving_pods, serving_state

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
CLUSTER = simulated_cluster(6)
PLACES = serving_pods(CLUSTER)
BY_NAME = {place.deployment.name: place for place in PLACES if has_endpoint(place)}
LLAMA_70B = BY_NAME["llama-70b"]


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Every sample by name, as the official client reads the page; by its type it would rename TGI's counters."""
    untyped = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("# TYPE tgi_"))
    found: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
    for family in text_string_to_metric_families(untyped):
        for sample in family.samples:
            found[sample.name].append((sample.labels, sample.value))
    return dict(found)


def vllm(version: str, place: ServingPod = LLAMA_70B, **how: object) -> dict[str, list[tuple[dict[str, str], float]]]:
    software = ServingSoftware(engine=ServingEngine.VLLM, version=version, **how)  # type: ignore[arg-type]
    return samples(metrics_page(place, NOW, software=software))


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_every_page_is_read_by_the_official_parser_without_duplicates(name: str) -> None:
    for told in samples(metrics_page(BY_NAME[name], NOW)).values():
        assert len({frozenset(labels.items()) for labels, _ in told}) == len(told)


@pytest.mark.parametrize("version", ["0.6.6", "0.11.0", "0.16.0", "0.20.2", "0.33.0"])
def test_vllm_counts_what_the_server_did_whatever_it_calls_it(version: str) -> None:
    page = vllm(version)
    work = serving_state(LLAMA_70B, NOW).work
    assert page["vllm:prompt_tokens_total"][0][1] == work.prompt_tokens
    assert page["vllm:generation_tokens_total"][0][1] == work.generation_tokens
    assert sum(value for _, value in page["vllm:request_success_total"]) == work.requests
    assert page["vllm:e2e_request_latency_seconds_count"][0][1] == work.requests
    assert page["vllm:request_prompt_tokens_sum"][0][1] == work.prompt_tokens


def test_names_of_the_v0_engine() -> None:
    page = vllm("0.6.6")
    assert {"vllm:num_requests_swapped", "vllm:gpu_cache_usage_perc", "vllm:cpu_cache_usage_perc"} <= set(page)
    assert not {"vllm:kv_cache_usage_perc", "vllm:prefix_cache_queries_total"} & set(page)
    assert not [name for name in page if name.endswith("_created")]
    assert set(page["vllm:num_requests_running"][0][0]) == {"model_name"}
    assert "engine" not in page["vllm:cache_config_info"][0][0]
    assert {labels["finished_reason"] for labels, _ in page["vllm:request_success_total"]} == {
        "stop",
        "length",
        "abort",
    }


def test_deprecated_twins_in_0_11() -> None:
    page = vllm("0.11.0")
    assert page["vllm:gpu_cache_usage_perc"] == page["vllm:kv_cache_usage_perc"]
    assert page["vllm:gpu_prefix_cache_hits_total"] == page["vllm:prefix_cache_hits_total"]
    assert page["vllm:time_per_output_token_seconds_count"] == page["vllm:inter_token_latency_seconds_count"]


def test_what_later_releases_add() -> None:
    assert "vllm:num_requests_waiting_by_reason" not in vllm("0.16.0")
    page = vllm("0.20.2")
    waiting = {labels["reason"]: value for labels, value in page["vllm:num_requests_waiting_by_reason"]}
    assert sum(waiting.values()) == page["vllm:num_requests_waiting"][0][1]
    assert "vllm:prompt_tokens_cached_by_source_total" not in page
    newest = vllm("0.33.0")
    sources = sum(value for _, value in newest["vllm:prompt_tokens_by_source_total"])
    assert sources == newest["vllm:prompt_tokens_total"][0][1]
    assert newest["vllm:cache_config_info"][0][0]["kv_cache_size_tokens"] == "43008"
    assert set(newest["vllm:admission_rejections_total"][0][0]) == {"model_name", "reason"}
    assert "vllm:iteration_tokens_total_bucket" in newest


def test_every_name_is_one_that_a_vllm_of_that_version_has(reference: Path) -> None:
    folder = reference / "payloads" / "vllm"
    for version in ("0.11.0", "0.16.0", "0.20.2", "0.33.0"):
        known = {
            line.split("{")[0].split(" ")[0]
            for line in (folder / f"generated_from_wheel_vllm-{version}.prom").read_text().splitlines()
            if not line.startswith("#")
        }
        hidden = {  # in 0.11 behind --show-hidden-metrics-for-version, as its metric_names file tells
            f"vllm:{name}"
            for name in json.loads((folder / f"metric_names_{version}.json").read_text(), object_pairs_hook=dict)
        }
        told = {name for name in vllm(version) if name.startswith("vllm:")}
        extra = {
            name for name in told - known
            if not name.startswith(("vllm:gpu_", "vllm:admission_rejections")) and name not in hidden
        }  # fmt: skip
        assert extra == set(), version


def test_data_parallel_ranks_have_labels_of_their_own() -> None:
    page = vllm("0.33.0", BY_NAME["qwen3-235b"], ranks=2)
    assert [labels["engine"] for labels, _ in page["vllm:generation_tokens_total"]] == ["0", "1"]
    total = sum(value for _, value in page["vllm:generation_tokens_total"])
    assert total == serving_state(BY_NAME["qwen3-235b"], NOW).work.generation_tokens


def test_ray_renames_and_repeats() -> None:
    page = vllm("0.20.2", under_ray=True)
    assert not [name for name in page if ":" in name or name.startswith("process_")]
    assert page["ray_vllm_prompt_tokens"] == page["ray_vllm_prompt_tokens_total"]
    labels, _ = page["ray_vllm_prompt_tokens_total"][0]
    assert {"WorkerId", "ReplicaId", "SessionName", "Component", "NodeAddress"} <= set(labels)
    idle = vllm("0.20.2", BY_NAME["mixtral-8x7b-legacy"], under_ray=True)
    assert "ray_vllm_num_requests_running" in idle
    assert not [name for name in idle if name.endswith(("_total", "_bucket"))]


def test_a_restart_starts_counters_and_says_when() -> None:
    since = NOW - timedelta(minutes=10)
    page = samples(metrics_page(LLAMA_70B, NOW, since=since))
    work = serving_state(LLAMA_70B, NOW, since=since).work
    assert page["vllm:generation_tokens_total"][0][1] == work.generation_tokens
    assert page["vllm:generation_tokens_created"][0][1] == since.timestamp()
    assert page["process_start_time_seconds"][0][1] == since.timestamp()


def test_sglang_splits_by_streaming_and_priority() -> None:
    place = BY_NAME["mistral-small-24b"]
    page = samples(metrics_page(place, NOW))
    work = serving_state(place, NOW).work
    assert sum(value for _, value in page["sglang:generation_tokens_total"]) == work.generation_tokens
    by_priority = {labels["priority"]: value for labels, value in page["sglang:num_running_reqs"]}
    assert by_priority[""] == by_priority["0"] + by_priority["1"]
    assert not [name for name in page if name.endswith("_created")]


def test_tgi_counts_tokens_in_histograms_only() -> None:
    place = BY_NAME["qwen-7b"]
    page = samples(metrics_page(place, NOW))
    work = serving_state(place, NOW).work
    assert page["tgi_request_input_length_sum"][0][1] == work.prompt_tokens
    assert page["tgi_request_success"][0][1] == work.requests - work.requests_by_reason[FinishReason.ERROR]
    assert not [name for name in page if "model" in str(page[name][0][0])]


def test_llama_cpp_has_no_labels_and_leaves_cached_tokens_out() -> None:
    place = BY_NAME["phi-4-mini"]
    page = samples(metrics_page(place, NOW))
    work = serving_state(place, NOW).work
    assert all(labels == {} for told in page.values() for labels, _ in told)
    total = page["llamacpp:prompt_tokens_total"][0][1] + page["llamacpp:prompt_tokens_cached_total"][0][1]
    assert total == work.prompt_tokens


def test_an_embedding_server_has_no_such_page() -> None:
    (place, *_) = [place for place in PLACES if place.deployment.name == "bge-m3"]
    with pytest.raises(ValueError, match="no metrics of a serving engine"):
        metrics_page(place, NOW)
    assert pod_annotations(place, 1234) == {}


# --- over HTTP


@pytest.fixture
def faults() -> Faults:
    return Faults(CLUSTER)


class Client:
    """Asks the application without a socket."""

    def __init__(self, app: Starlette) -> None:
        self._app = app

    def request(self, method: str, path: str) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://simulator") as client:
                return await client.request(method, path)

        # In a thread of its own: the browser of other tests keeps a loop running in the main one.
        with ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(lambda: asyncio.run(send())).result()

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)


@pytest.fixture
def client(faults: Faults) -> Client:
    return Client(make_app(CLUSTER, lambda: NOW, faults=faults, allow_faults=True, hang_s=0.01))


def get(client: Client, place: ServingPod, path: str) -> tuple[int, object]:
    answer = client.get(f"{pod_path(place.pod)}/{path}")
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    return answer.status_code, answer.json() if is_json else answer.text


def test_every_server_answers_under_its_pod_s_path(client: Client) -> None:
    for place in BY_NAME.values():
        assert get(client, place, "metrics") == (200, metrics_page(place, NOW))
        assert get(client, place, "health")[0] == (404 if place.deployment.name == "qwen-coder-32b" else 200)


def test_what_servers_say_of_themselves(client: Client) -> None:
    assert get(client, LLAMA_70B, "version") == (200, {"version": "0.33.0"})
    _, models = get(client, LLAMA_70B, "v1/models")
    assert isinstance(models, dict)
    assert (models["data"][0]["id"], models["data"][0]["max_model_len"]) == (LLAMA_70B.model, 32768)
    _, info = get(client, BY_NAME["qwen-7b"], "info")
    assert isinstance(info, dict)
    assert info["version"] == "3.3.6"
    _, props = get(client, BY_NAME["phi-4-mini"], "props")
    assert isinstance(props, dict)
    assert props["total_slots"] == 16
    _, slots = get(client, BY_NAME["phi-4-mini"], "slots")
    assert isinstance(slots, list)
    assert sum(slot["is_processing"] for slot in slots) == serving_state(BY_NAME["phi-4-mini"], NOW).running


def test_a_ray_agent_serves_metrics_only(client: Client) -> None:
    assert get(client, BY_NAME["qwen-coder-32b"], "v1/models")[0] == 404
    assert get(client, BY_NAME["qwen-coder-32b"], "metrics")[0] == 200


def test_an_unknown_pod_is_404(client: Client) -> None:
    assert client.get("/pods/team/none/metrics").status_code == 404


def test_llama_cpp_without_its_flag_refuses(monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    silent = replace(SERVING_SOFTWARE["phi-4-mini"], has_metrics=False)
    monkeypatch.setitem(SERVING_SOFTWARE, "phi-4-mini", silent)
    status, answer = get(client, BY_NAME["phi-4-mini"], "metrics")
    assert status == 501
    assert isinstance(answer, dict)
    assert "--metrics" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (FaultKind.UNAVAILABLE, 503),
        (FaultKind.SERVER_ERROR, 500),
        (FaultKind.UNAUTHORIZED, 401),
        (FaultKind.HTML, 200),
        (FaultKind.GARBAGE, 200),
        (FaultKind.HANG, 200),
    ],
)
def test_faults_are_set_and_cleared_over_http(client: Client, kind: FaultKind, status: int) -> None:
    at = f"/faults/pods/{LLAMA_70B.pod.namespace}/{LLAMA_70B.pod.name}"
    assert client.request("POST", f"{at}/{kind}").status_code == 200
    assert get(client, LLAMA_70B, "metrics")[0] == status
    assert client.request("DELETE", at).status_code == 200
    assert get(client, LLAMA_70B, "metrics") == (200, metrics_page(LLAMA_70B, NOW))
    assert client.request("POST", f"{at}/nonsense").status_code == 404


def test_an_upgrade_renames_and_restarts(client: Client, faults: Faults) -> None:
    place = BY_NAME["mixtral-8x7b-legacy"]
    faults.set(fault_name(place.pod.namespace, place.pod.name), FaultKind.GENERATION_CHANGE, NOW)
    _, text = get(client, place, "metrics")
    assert isinstance(text, str)
    assert "vllm:kv_cache_usage_perc" in text
    assert get(client, place, "version") == (200, {"version": "0.33.0"})
    assert other_release(SERVING_SOFTWARE["llama-70b"]).version == "0.6.6"
    assert other_release(SERVING_SOFTWARE["qwen-7b"]) == SERVING_SOFTWARE["qwen-7b"]


def test_service_discovery_names_the_address_the_path_and_the_pod(client: Client) -> None:
    groups = client.get("/sd/serving").json()
    assert groups == serving_targets(PLACES, "simulator")
    assert len(groups) == len([place for place in PLACES if has_endpoint(place)])
    instances = [group["labels"]["instance"] for group in groups]
    assert len(set(instances)) == len(instances)
    annotated = pod_annotations(LLAMA_70B, 1234)
    (own,) = [group for group in groups if group["labels"]["pod"] == LLAMA_70B.pod.name]
    assert own["labels"]["__metrics_path__"] == annotated["prometheus.io/path"]
    assert annotated["prometheus.io/port"] == "1234"
