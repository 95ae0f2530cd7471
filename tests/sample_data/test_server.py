"""The simulated cluster over HTTP: routes, faults on demand, a clean start and stop."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import pytest
from starlette.applications import Starlette

from sample_data.clock_skew import ClockSkews
from sample_data.cluster import simulated_cluster
from sample_data.dcgm_exporter import exposition
from sample_data.exporter_versions import ExporterVersion
from sample_data.faults import Fault, FaultKind, Faults, other_generation
from sample_data.server import PortTaken, make_app, running_clock, serve

NOW = datetime(2026, 11, 18, 10, 0, tzinfo=UTC)
CLUSTER = simulated_cluster()


def _request(app: Starlette, method: str, path: str, *, raise_app_exceptions: bool = True) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=raise_app_exceptions)
        async with httpx.AsyncClient(transport=transport, base_url="http://cluster.test:9400") as client:
            return await client.request(method, path)

    # In a thread of its own: the browser of other tests keeps a loop running in the main one.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(lambda: asyncio.run(send())).result()


def _get(app: Starlette, path: str) -> httpx.Response:
    return _request(app, "GET", path)


@pytest.fixture
def app() -> Starlette:
    return make_app(CLUSTER, lambda: NOW)


def test_every_node_is_served_as_its_exporter_would(app: Starlette) -> None:
    for node in CLUSTER.nodes:
        answer = _get(app, f"/nodes/{node.name}/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.text == exposition(CLUSTER, node.name, NOW)


def test_the_clock_is_asked_on_every_scrape() -> None:
    times = iter([NOW, NOW.replace(hour=22)])
    app = make_app(CLUSTER, lambda: next(times))
    first, second = (_get(app, "/nodes/gpu-h100-01/metrics").text for _ in range(2))
    assert first != second


def test_unknown_nodes_and_paths_are_404(app: Starlette) -> None:
    assert _get(app, "/nodes/nowhere/metrics").status_code == 404
    assert _get(app, "/nodes/<script>/metrics").status_code == 404
    assert "<script>" not in _get(app, "/nodes/<script>/metrics").text
    assert _get(app, "/nope").status_code == 404


def test_health_and_index_answer(app: Starlette) -> None:
    assert _get(app, "/healthz").text == "ok\n"
    index = _get(app, "/")
    assert index.headers["content-type"].startswith("text/html")
    assert all(f'href="/nodes/{node.name}/metrics"' in index.text for node in CLUSTER.nodes)


def test_service_discovery_names_every_node_at_the_address_that_was_asked(app: Starlette) -> None:
    groups = json.loads(_get(app, "/sd/dcgm").content)
    assert [group["targets"] for group in groups] == [["cluster.test:9400"]] * len(CLUSTER.nodes)
    for group, node in zip(groups, CLUSTER.nodes, strict=True):
        assert group["labels"]["instance"] == f"{node.name}:9400"
        assert group["labels"]["job"] == "dcgm-exporter"
        assert _get(app, group["labels"]["__metrics_path__"]).status_code == 200
        assert all(isinstance(value, str) for value in group["labels"].values())


def test_half_of_the_targets_carry_the_exporters_own_pod_labels(app: Starlette) -> None:
    labelled = [group["labels"] for group in json.loads(_get(app, "/sd/dcgm").content) if "pod" in group["labels"]]
    assert len(labelled) == len(CLUSTER.nodes) // 2
    for labels in labelled:
        assert labels["pod"].startswith("nvidia-dcgm-exporter-")
        assert {labels["namespace"], labels["container"]} == {"gpu-operator", "nvidia-dcgm-exporter"}
        assert labels["instance"] == f"{labels['node']}:9400"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (FaultKind.UNAVAILABLE, 503),
        (FaultKind.SERVER_ERROR, 500),
        (FaultKind.UNAUTHORIZED, 401),
        (FaultKind.HTML, 200),
        (FaultKind.GARBAGE, 200),
        (FaultKind.HANG, 200),
        (FaultKind.GENERATION_CHANGE, 200),
        (FaultKind.COUNTER_RESET, 200),
    ],
)
def test_a_fault_hits_one_node_until_it_is_cleared(kind: FaultKind, status: int) -> None:
    faults = Faults(CLUSTER)
    app = make_app(CLUSTER, lambda: NOW, faults=faults, hang_s=0.01)
    faults.set("gpu-h100-03", kind, NOW)
    broken = _get(app, "/nodes/gpu-h100-03/metrics")
    sound = exposition(CLUSTER, "gpu-h100-03", NOW)
    assert broken.status_code == status
    assert (broken.text == sound) == (kind is FaultKind.HANG)
    assert _get(app, "/nodes/gpu-h100-01/metrics").text == exposition(CLUSTER, "gpu-h100-01", NOW)
    faults.clear("gpu-h100-03")
    assert _get(app, "/nodes/gpu-h100-03/metrics").text == sound


def test_a_changed_generation_speaks_the_other_names() -> None:
    faults = Faults(CLUSTER)
    app = make_app(CLUSTER, lambda: NOW, faults=faults)
    faults.set("gpu-h100-03", FaultKind.GENERATION_CHANGE, NOW)
    assert "DCGM_FI_DEV_FB_USED_BYTES{" in _get(app, "/nodes/gpu-h100-03/metrics").text
    assert {other_generation(other_generation(version)) for version in ExporterVersion} == {
        ExporterVersion.V4_6,
        ExporterVersion.V4_7,
    }


def test_after_a_counter_reset_energy_counts_from_zero() -> None:
    faults = Faults(CLUSTER)
    app = make_app(CLUSTER, lambda: NOW.replace(minute=5), faults=faults)
    faults.set("gpu-h100-03", FaultKind.COUNTER_RESET, NOW)
    text = _get(app, "/nodes/gpu-h100-03/metrics").text
    values = [int(line.split()[-1]) for line in text.splitlines() if line.startswith("DCGM_FI_DEV_TOTAL_ENERGY")]
    assert len(values) == 8
    assert all(0 < value < 300 * 700 * 1000 for value in values)


def test_faults_are_set_over_http_only_where_that_is_allowed(app: Starlette) -> None:
    assert _request(app, "POST", "/faults/gpu-h100-03/html").status_code == 404
    open_app = make_app(CLUSTER, lambda: NOW, allow_faults=True)
    assert _request(open_app, "POST", "/faults/gpu-h100-03/html").status_code == 200
    assert "Sign in" in _get(open_app, "/nodes/gpu-h100-03/metrics").text
    assert _request(open_app, "DELETE", "/faults/gpu-h100-03").status_code == 200
    assert "DCGM_FI" in _get(open_app, "/nodes/gpu-h100-03/metrics").text
    assert _request(open_app, "POST", "/faults/gpu-h100-03/nonsense").status_code == 404
    assert _request(open_app, "POST", "/faults/nowhere/html").status_code == 404


def test_faults_know_only_nodes_of_the_cluster() -> None:
    faults = Faults(CLUSTER)
    with pytest.raises(KeyError):
        faults.set("nowhere", FaultKind.HTML, NOW)
    faults.set("gpu-h100-03", FaultKind.HTML, NOW)
    assert faults.of("gpu-h100-03") == Fault(kind=FaultKind.HTML, since=NOW)
    assert faults.of("gpu-h100-01") is None


def test_a_faster_clock_runs_ahead_and_a_real_one_does_not() -> None:
    fast, real = running_clock(speed=86_400_000.0), running_clock()
    while fast() <= datetime.now(UTC):
        pass
    assert (fast() - datetime.now(UTC)).total_seconds() > 0
    assert abs((real() - datetime.now(UTC)).total_seconds()) < 5


@pytest.fixture
def running() -> Iterator[tuple["subprocess.Popen[str]", str]]:
    code = "from sample_data.server import serve; serve(nodes=6, seed=1, port=0, allow_faults=True)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"gpufleet simulated cluster: (http://127\.0\.0\.1:\d+) \(6 nodes, seed 1, .*\)\n", line)
        assert found, line
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_served_cluster_says_where_it_is_and_stops_cleanly(
    running: tuple["subprocess.Popen[str]", str], number: signal.Signals
) -> None:
    process, url = running
    with httpx.Client(base_url=url) as client:
        assert client.get("/healthz").text == "ok\n"
        assert "DCGM_FI_DEV_GPU_UTIL" in client.get("/nodes/gpu-l40s-01/metrics").text
        process.send_signal(number)
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert output == errors == ""


def test_half_a_body_breaks_the_connection(running: tuple["subprocess.Popen[str]", str]) -> None:
    _, url = running
    with httpx.Client(base_url=url) as client:
        client.post("/faults/gpu-l40s-01/half-body")
        with pytest.raises(httpx.RemoteProtocolError, match=r"incomplete|without sending complete"):
            client.get("/nodes/gpu-l40s-01/metrics")
        assert client.get("/nodes/gpu-h100-01/metrics").status_code == 200


def test_a_taken_port_is_told_with_what_to_do(running: tuple["subprocess.Popen[str]", str]) -> None:
    _, url = running
    with pytest.raises(PortTaken, match="give another port, or 0"):
        serve(port=int(url.rsplit(":", 1)[1]))


def test_a_failing_answer_lies_over_another_process_and_leaves_it_behind() -> None:
    faults = Faults(CLUSTER)
    app = make_app(CLUSTER, lambda: NOW.replace(minute=5), faults=faults)
    faults.set("gpu-h100-03", FaultKind.COUNTER_RESET, NOW)
    restarted = _get(app, "/nodes/gpu-h100-03/metrics").text
    faults.set("gpu-h100-03", FaultKind.UNAVAILABLE, NOW)
    assert _get(app, "/nodes/gpu-h100-03/metrics").status_code == 503
    faults.clear("gpu-h100-03")
    assert _get(app, "/nodes/gpu-h100-03/metrics").text == restarted
    faults.set("gpu-h100-03", FaultKind.UNAVAILABLE, NOW)
    faults.set("gpu-h100-03", FaultKind.GENERATION_CHANGE, NOW)
    assert "DCGM_FI_DEV_FB_USED_BYTES{" in _get(app, "/nodes/gpu-h100-03/metrics").text
    faults.clear("gpu-h100-03")
    assert _get(app, "/nodes/gpu-h100-03/metrics").text == exposition(CLUSTER, "gpu-h100-03", NOW.replace(minute=5))


def test_a_server_whose_clock_is_off_dates_its_answers_by_it() -> None:
    app = make_app(CLUSTER, lambda: NOW, allow_faults=True, skews=ClockSkews())

    def ahead_s(path: str) -> float:
        (date,) = _get(app, path).headers.get_list("date")
        return (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()

    path = "/faults/clock-skew?path=/nodes/gpu-h100-03/&seconds="
    assert _request(app, "POST", path + "7200").status_code == 200
    assert ahead_s("/nodes/gpu-h100-03/metrics") == pytest.approx(7200, abs=60)
    assert ahead_s("/nodes/gpu-h100-01/metrics") == pytest.approx(0, abs=60)
    assert _request(app, "POST", path + "0").status_code == 200
    assert ahead_s("/nodes/gpu-h100-03/metrics") == pytest.approx(0, abs=60)
    assert _request(app, "POST", path + "soon").status_code == 400
