"""Lists in pages and watches over real sockets, against the simulated API server and against servers that misbehave."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from collectors.errors import BadPayload, CollectorError, Unauthorized, Unreachable
from collectors.kubernetes_access import KubernetesApi, clock_skew_s
from collectors.kubernetes_access_config import KubernetesAccessConfig
from collectors.kubernetes_errors import Expired, MissingRight, NotServed, Throttled
from collectors.kubernetes_lists import JsonObject, NotUnderstood, Query
from sample_data.kubernetes_api import KubernetesSimulator
from sample_data.kubernetes_faults import KubernetesFault
from tests.collectors.api_servers import CLUSTER, ServedApi, serving_api
from tests.collectors.webs import Web, reply

PODS = Query(resource="pods")
NODES = Query(resource="nodes")


@pytest.fixture(scope="module")
def server() -> Iterator[ServedApi]:
    with serving_api(KubernetesSimulator(cluster=CLUSTER, bookmark_s=0.05, hang_s=3.0)) as served:
        yield served


@pytest.fixture
def served(server: ServedApi) -> Iterator[ServedApi]:
    server.simulator.faults.clear()
    server.simulator.asked.clear()
    yield server
    server.simulator.faults.clear()


def api_of(url: str, **keys: Any) -> KubernetesApi:
    return KubernetesApi(KubernetesAccessConfig(url=url, **{"timeout_s": 5, **keys}), source="main")


def as_it_is(item: JsonObject) -> JsonObject:
    return item


def test_all_pages_make_one_list(served: ServedApi) -> None:
    whole = api_of(served.url).list_all(PODS, as_it_is)
    assert len(served.simulator.asked) == 1
    paged = api_of(served.url, page_size=7).list_all(PODS, as_it_is)
    assert paged.objects.keys() == whole.objects.keys()
    assert len(whole.objects) == len(served.state.by_place["", "pods"].snapshot(0))
    assert paged.version == whole.version == str(served.state.version)
    assert len(served.simulator.asked) == 1 + -(-len(whole.objects) // 7)


def test_objects_go_through_the_reader_one_by_one(served: ServedApi) -> None:
    def read(item: JsonObject) -> str | None:
        if item["metadata"]["name"] == "gpu-h100-01":
            raise NotUnderstood("it is odd")
        return item["metadata"]["name"] if "h100" in item["metadata"]["name"] else None

    listed = api_of(served.url, page_size=2).list_all(NODES, read)
    assert listed.objects == {("", "gpu-h100-02"): "gpu-h100-02", ("", "gpu-h100-03"): "gpu-h100-03"}
    assert listed.bad == {("", "gpu-h100-01"): "it is odd"}


def test_selectors_and_namespaces_narrow_a_list(served: ServedApi) -> None:
    api = api_of(served.url)
    of_team = api.list_all(Query(resource="pods", namespace="support"), as_it_is)
    assert {namespace for namespace, _ in of_team.objects} == {"support"}
    chosen = Query(
        resource="pods", label_selector="app.kubernetes.io/name=llama-8b", field_selector="status.phase=Running"
    )
    assert {name.rsplit("-", 2)[0] for _, name in api.list_all(chosen, as_it_is).objects} == {"llama-8b"}
    odd = Query(resource="pods", field_selector="spec.containers=x")
    with pytest.raises(BadPayload, match="field label not supported"):
        api.list_all(odd, as_it_is)


def test_a_list_that_expires_between_two_pages_begins_again(served: ServedApi) -> None:
    served.simulator.faults.set(KubernetesFault.EXPIRED_PAGE, "pods", times=1)
    listed = api_of(served.url, page_size=30).list_all(PODS, as_it_is)
    assert len(listed.objects) == len(served.state.by_place["", "pods"].snapshot(0))
    assert len(served.simulator.asked) == 2 + -(-len(listed.objects) // 30)


def test_a_list_whose_pages_always_expire_is_asked_for_in_one_piece(served: ServedApi) -> None:
    served.simulator.faults.set(KubernetesFault.EXPIRED_PAGE, "pods")
    listed = api_of(served.url, page_size=30).list_all(PODS, as_it_is)
    assert len(listed.objects) == len(served.state.by_place["", "pods"].snapshot(0))
    assert served.simulator.faults.hits[KubernetesFault.EXPIRED_PAGE] >= 3


def test_a_page_of_a_version_that_is_gone_expires_for_real(served: ServedApi) -> None:
    api = api_of(served.url, page_size=5)
    seen: list[str] = []

    def read(item: JsonObject) -> JsonObject:
        seen.append(item["metadata"]["name"])
        if len(seen) == 3:  # in the middle of the list the storage is compacted
            served.state.forget()
        return item

    listed = api.list_all(NODES, read)
    assert len(listed.objects) == 7
    assert len(seen) == 12  # five, and then all seven


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (KubernetesFault.UNAUTHORIZED, Unauthorized, "does not accept these credentials"),
        (KubernetesFault.FORBIDDEN, MissingRight, "system:serviceaccount:gpufleet:gpufleet may not list nodes"),
        (KubernetesFault.NOT_FOUND, NotServed, "not served there"),
        (KubernetesFault.THROTTLED, Throttled, "asks for patience"),
        (KubernetesFault.SERVER_ERROR, Unreachable, "Internal error occurred"),
        (KubernetesFault.TIMEOUT, Unreachable, "did not complete within the allotted timeout"),
        (KubernetesFault.HTML, BadPayload, "Sign in"),
        (KubernetesFault.GARBAGE, BadPayload, "no JSON object"),
        (KubernetesFault.HALF_BODY, Unreachable, "broke off"),
        (KubernetesFault.HANG, Unreachable, "did not answer within 0.5 s"),
    ],
)
def test_every_way_to_fail_has_its_error_and_is_got_over(
    served: ServedApi, fault: KubernetesFault, kind: type[CollectorError], words: str
) -> None:
    api = api_of(served.url, timeout_s=0.5 if fault is KubernetesFault.HANG else 5)
    served.simulator.faults.set(fault, "nodes")
    with pytest.raises(kind) as raised:
        api.list_all(NODES, as_it_is)
    assert type(raised.value) is kind
    assert words in str(raised.value)
    assert api.get("/version")["gitVersion"] == "v1.34.2"
    served.simulator.faults.clear()
    assert len(api.list_all(NODES, as_it_is).objects) == 7


def test_one_bad_object_costs_itself(served: ServedApi) -> None:
    served.simulator.faults.set(KubernetesFault.BAD_OBJECT, "nodes", times=1)

    def read(item: JsonObject) -> JsonObject:
        if not isinstance(item["spec"], dict):
            raise NotUnderstood("spec: not an object")
        return item

    listed = api_of(served.url).list_all(NODES, read)
    assert listed.bad == {("", "control-plane-1"): "spec: not an object"}
    assert len(listed.objects) == 6


def test_a_watch_tells_what_is_added_changed_and_gone(served: ServedApi) -> None:
    api = api_of(served.url)
    listed = api.list_all(PODS, as_it_is)
    watch = api.watch(PODS, listed.version)
    (namespace, name), pod = next(iter(listed.objects.items()))
    served.state.put("pods", {**dict(pod), "status": {"phase": "Failed"}})
    served.state.put("pods", {"metadata": {"name": "new", "namespace": "a"}, "spec": {}})
    served.state.delete("pods", "new", "a")
    events = []
    for event in watch:
        events.append((event.type, event.object["metadata"].get("name"), event.version))
        if event.type == "BOOKMARK":
            watch.stop()
    version = int(listed.version)
    assert events[:3] == [
        ("MODIFIED", name, str(version + 1)),
        ("ADDED", "new", str(version + 2)),
        ("DELETED", "new", str(version + 3)),
    ]
    assert events[3] == ("BOOKMARK", None, str(version + 3))
    served.state.put("pods", dict(pod))
    assert namespace == pod["metadata"]["namespace"]


def test_a_watch_of_a_selection_tells_what_enters_and_leaves_it(served: ServedApi) -> None:
    running = Query(resource="pods", field_selector="status.phase!=Succeeded")
    pod = {"metadata": {"name": "job", "namespace": "a"}, "spec": {}, "status": {"phase": "Succeeded"}}
    served.state.put("pods", pod)
    watch = api_of(served.url).watch(running, str(served.state.version))
    for phase in ("Running", "Succeeded", "Failed"):
        served.state.put("pods", {**pod, "status": {"phase": phase}})
    events = []
    for event in watch:
        events.append((event.type, (event.object.get("status") or {}).get("phase")))
        if len(events) == 3:
            watch.stop()
    assert events == [("ADDED", "Running"), ("DELETED", "Running"), ("ADDED", "Failed")]
    served.state.delete("pods", "job", "a")


def test_a_watch_is_asked_for_with_bookmarks_and_an_end(served: ServedApi, web: Web) -> None:
    web.answer = reply(body=b"")
    assert list(api_of(web.url).watch(PODS, "1000")) == []
    (path,) = web.paths
    assert "allowWatchBookmarks=true" in path
    assert "resourceVersion=1000" in path
    seconds = int(path.rpartition("timeoutSeconds=")[2])
    assert 240 <= seconds <= 300


def test_a_watch_can_be_stopped_from_another_thread(served: ServedApi) -> None:
    quiet = KubernetesSimulator(cluster=CLUSTER, bookmark_s=3600)
    with serving_api(quiet) as silent:
        watch = api_of(silent.url).watch(PODS, "1000")
        events: list[Any] = []
        reader = threading.Thread(target=lambda: events.extend(watch))
        reader.start()
        time.sleep(0.05)
        watch.stop()
        reader.join(timeout=10)
        assert not reader.is_alive()
        assert events == []
        watch.stop()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (KubernetesFault.EXPIRED_WATCH, Expired),
        (KubernetesFault.REFUSED_WATCH, Expired),
        (KubernetesFault.CUT_WATCH, None),
        (KubernetesFault.BAD_LINE, BadPayload),
        (KubernetesFault.FORBIDDEN, MissingRight),
    ],
)
def test_a_watch_that_fails_says_how(
    served: ServedApi, fault: KubernetesFault, kind: type[CollectorError] | None
) -> None:
    served.simulator.faults.set(fault, "nodes", times=1)
    api = api_of(served.url)
    if kind is None:  # a line that was begun and never ended is not an event
        assert list(api.watch(NODES, str(served.state.version))) == []
        return
    with pytest.raises(kind):
        list(api.watch(NODES, str(served.state.version)))


def test_a_version_that_is_gone_cannot_be_watched(served: ServedApi) -> None:
    old = str(served.state.version)
    served.state.forget()
    with pytest.raises(Expired):
        list(api_of(served.url).watch(NODES, old))


# servers that misbehave


def test_an_answer_beyond_the_limit_is_not_taken_in(web: Web) -> None:
    web.answer = reply(body=b'{"items": [' + b" " * 5000 + b"]}")
    with pytest.raises(BadPayload, match="more than 2048 bytes"):
        api_of(web.url, max_body_bytes=2048).list_all(PODS, as_it_is)


def test_an_error_beyond_the_limit_is_not_taken_in(web: Web) -> None:
    web.answer = reply(status=500, body=b"x" * 200_000)
    with pytest.raises(Unreachable, match=r"cannot list pods in the whole cluster now \(500\)\.$"):
        api_of(web.url).list_all(PODS, as_it_is)


def test_a_line_of_a_watch_beyond_the_limit_is_not_taken_in(web: Web) -> None:
    web.answer = reply(body=b'{"type": "ADDED", "object": {' + b" " * 200_000)
    with pytest.raises(BadPayload, match="one event of more than 2048 bytes"):
        list(api_of(web.url, max_body_bytes=2048).watch(PODS, "1"))


def test_an_answer_that_drips_has_an_end(web: Web) -> None:
    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        for _ in range(100):
            request.wfile.write(b" ")
            time.sleep(0.05)

    web.answer = drip
    with pytest.raises(Unreachable, match=r"did not answer within 0\.4 s"):
        api_of(web.url, timeout_s=0.4).list_all(PODS, as_it_is)


def test_redirects_are_not_followed(web: Web) -> None:
    web.answer = reply(status=302, Location="http://127.0.0.1:9/elsewhere")
    with pytest.raises(BadPayload, match="redirects are not followed"):
        api_of(web.url).list_all(PODS, as_it_is)
    assert len(web.paths) == 1


def test_compressed_answers_that_nobody_asked_for_are_refused(web: Web) -> None:
    web.answer = reply(body=b"\x1f\x8b", Content_Encoding="gzip")
    with pytest.raises(BadPayload, match="encoding that nobody asked for"):
        api_of(web.url).list_all(PODS, as_it_is)
    assert {name.lower() for name in web.headers[0]} >= {"accept", "user-agent"}
    assert web.headers[0].get("Accept-Encoding", "identity") == "identity"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"7", b'{"items": {}}', b'{"items": []}', b'{"metadata": {}, "items": "x"}', b"[" * 100_000]
)
def test_what_is_no_list_is_refused(web: Web, body: bytes) -> None:
    web.answer = reply(body=body)
    with pytest.raises(BadPayload):
        api_of(web.url).list_all(PODS, as_it_is)


def test_a_list_that_never_ends_is_refused(web: Web) -> None:
    web.answer = reply(body=json.dumps({"metadata": {"continue": "same"}, "items": []}).encode())
    with pytest.raises(BadPayload, match="never comes to the end"):
        api_of(web.url).list_all(PODS, as_it_is)
    assert len(web.paths) == 2


def _pages_without_end(web: Web) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        page = {"metadata": {"continue": f"page-{len(web.paths)}"}, "items": [{"metadata": {"name": "a"}}] * 10}
        reply(body=json.dumps(page).encode())(request)

    web.answer = answer


def test_a_list_of_ever_new_pages_ends_at_a_number_of_objects(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectors.kubernetes_access.MAX_OBJECTS", 45)
    _pages_without_end(web)
    with pytest.raises(BadPayload, match="never comes to the end"):
        api_of(web.url).list_all(PODS, as_it_is)
    assert len(web.paths) == 5


def test_a_list_of_ever_new_pages_ends_after_a_time(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectors.kubernetes_access.MAX_LIST_S", -1.0)
    _pages_without_end(web)
    with pytest.raises(BadPayload, match="never comes to the end"):
        api_of(web.url).list_all(PODS, as_it_is)
    assert len(web.paths) == 1


def test_a_watch_can_be_asked_to_be_short(web: Web) -> None:
    web.answer = reply(body=b"")
    for _ in range(20):
        list(api_of(web.url).watch(PODS, "1000", longest_s=60.0))
    list(api_of(web.url).watch(PODS, "1000", longest_s=0.1))
    seconds = [int(path.rpartition("timeoutSeconds=")[2]) for path in web.paths]
    assert all(48 <= one <= 60 for one in seconds[:20])
    assert seconds[20] == 1


TOKEN = "eyJhbGciOiJSUzI1NiJ9.very-secret"


def _status(code: int, message: str) -> bytes:
    return json.dumps({"kind": "Status", "message": message, "code": code}).encode()


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (reply(500, _status(500, f"cannot check Bearer {TOKEN} now")), "cannot check Bearer ******** now"),
        (reply(429, _status(429, f"{TOKEN} is throttled")), "******** is throttled"),
        (reply(403, _status(403, f'pods is forbidden: User "{TOKEN}" cannot list')), "******** may not list pods"),
        (reply(418, _status(418, TOKEN * 20)), "********"),
        (reply(200, f"<html>Authorization: Bearer {TOKEN}</html>".encode()), "Authorization: Bearer ********"),
        (reply(200, b"x" * 390 + TOKEN.encode()), "no JSON object"),
        (reply(200, b"no", Content_Type=TOKEN), "********"),
        (reply(401, _status(401, f"{TOKEN} is not valid")), "does not accept these credentials"),
    ],
)
def test_a_token_that_the_server_repeats_is_masked(web: Web, tmp_path: Path, answer: Any, kept: str) -> None:
    (tmp_path / "token").write_text(TOKEN)
    web.answer = answer
    with pytest.raises(CollectorError) as raised:
        api_of(web.url, bearer_token_file=tmp_path / "token").list_all(PODS, as_it_is)
    assert web.headers[0]["Authorization"] == f"Bearer {TOKEN}"
    assert kept in str(raised.value)
    assert TOKEN[:12] not in str(raised.value)


def test_a_token_that_a_watch_repeats_is_masked(web: Web, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    failed = {"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": f"bad: {TOKEN}"}}
    web.answer = reply(body=json.dumps(failed).encode() + b"\n")
    with pytest.raises(Unreachable, match=r"bad: \*{8}") as raised:
        list(api_of(web.url, bearer_token_file=tmp_path / "token").watch(PODS, "1"))
    assert TOKEN not in str(raised.value)


def test_odd_items_are_left_out(web: Web) -> None:
    items: list[Any] = [None, 7, {}, {"metadata": {}}, {"metadata": {"name": "a"}}]
    web.answer = reply(body=json.dumps({"metadata": {"resourceVersion": "5"}, "items": items}).encode())
    listed = api_of(web.url).list_all(PODS, as_it_is)
    assert (set(listed.objects), set(listed.bad), listed.version) == ({("", "a")}, {("", "")}, "5")


@pytest.mark.parametrize("line", [b"{}", b"[]", b"null", b'{"type": 1, "object": {}}', b'{"type": "ADDED"}', b"\xff"])
def test_lines_that_are_no_events_end_a_watch(web: Web, line: bytes) -> None:
    web.answer = reply(body=b'{"type": "ADDED", "object": {"metadata": {"name": "a"}}}\n\n' + line + b"\n")
    watch = iter(api_of(web.url).watch(PODS, "1"))
    assert next(watch).version == ""
    with pytest.raises(BadPayload, match="no event of a watch"):
        next(watch)


def test_names_are_quoted_in_paths(web: Web) -> None:
    web.answer = reply(body=b'{"metadata": {}, "items": []}')
    api_of(web.url).list_all(Query(resource="pods", namespace="../secrets?x=", label_selector="a=b&c"), as_it_is)
    assert web.paths == ["/api/v1/namespaces/..%2Fsecrets%3Fx%3D/pods?labelSelector=a%3Db%26c&limit=500"]


def test_nobody_there_is_unreachable(closed_port: int) -> None:
    with pytest.raises(Unreachable, match=r"cannot be connected to .*refused"):
        api_of(f"http://127.0.0.1:{closed_port}").get("/version")


def test_the_clock_of_the_server_is_compared_with_ours(web: Web) -> None:
    now = datetime(2026, 11, 18, 10, 0, 0, 200_000, tzinfo=UTC)
    assert clock_skew_s("Wed, 18 Nov 2026 10:01:00 GMT", now) == pytest.approx(60.3)
    assert clock_skew_s("Wed, 18 Nov 2026 09:59:00 -0000", now) == pytest.approx(-59.7)
    endless = f"Wed, 18 Nov 2026 10:01:00 +{'9' * 20}"
    for nonsense in (None, "", "yesterday", "99 Nov 2026", f"{'1' * 20} Nov 2026 10:01:00 GMT", endless):
        assert clock_skew_s(nonsense, now) is None
    web.answer = reply(body=b"{}", Date="Thu, 01 Jan 1970 00:00:00 GMT")
    api = api_of(web.url)
    assert api.clock_skew_s is None
    api.get("/version")
    assert api.clock_skew_s is not None


def test_the_target_is_named_before_and_after_connecting(served: ServedApi) -> None:
    api = api_of(served.url + "/")
    assert api.target == f"127.0.0.1:{served.port}"
    api.get("/version")
    assert api.target == f"127.0.0.1:{served.port}"
    assert KubernetesApi(KubernetesAccessConfig(), source="main").target == "kubernetes"
