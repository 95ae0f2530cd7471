"""Feeds: what they know follows what the API server says, through every way in which a watch can end."""

import json
import random
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.errors import BadPayload
from collectors.kubernetes.feed import LONGEST_PAUSE_S, Feed, View, pause_s
from collectors.kubernetes_access import KubernetesApi
from collectors.kubernetes_access_config import KubernetesAccessConfig
from collectors.kubernetes_errors import MissingRight, NotServed, Throttled
from collectors.kubernetes_lists import JsonObject, NotUnderstood, Query
from sample_data.kubernetes_api import KubernetesSimulator
from sample_data.kubernetes_faults import KubernetesFault
from sample_data.kubernetes_rights import Rights
from tests.collectors.api_servers import CLUSTER, ServedApi, serving_api
from tests.collectors.kubernetes.waiting import Pauses, eventually
from tests.collectors.webs import Web, reply

NODES = Query(resource="nodes")


@pytest.fixture(scope="module")
def server() -> Iterator[ServedApi]:
    with serving_api() as one:
        yield one


@pytest.fixture
def served(server: ServedApi) -> ServedApi:
    """The server as it was at the start."""
    server.simulator.reset()
    server.simulator.max_watch_s = 3600.0
    return server


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def following(pauses: Pauses) -> Iterator[Callable[..., Feed[Any]]]:
    """Starts feeds and ends them after the test."""
    started: list[tuple[Feed[Any], KubernetesApi]] = []

    def start(
        url: str,
        query: Query | Callable[[], Query] = NODES,
        read: Callable[[JsonObject], Any] = lambda item: item,
        **keys: Any,
    ) -> Feed[Any]:
        api = KubernetesApi(KubernetesAccessConfig(url=url, timeout_s=5, page_size=3), source="main")
        feed: Feed[Any] = Feed(
            api,
            query if callable(query) else lambda: query,
            read,
            name="test",
            rng=random.Random(1),
            pause=pauses,
            **{"relist_s": 3600.0, **keys},
        )
        started.append((feed, api))
        feed.start()
        feed.wait(20.0)
        return feed

    yield start
    for feed, _ in started:
        feed.end()
    for feed, api in started:
        feed.join()
        api.close()


def names(feed: Feed[Any]) -> set[str]:
    view: View[Any] = feed.view()
    return {name for _, name in view.objects or {}}


def asked(served: ServedApi, verb: str) -> int:
    return sum(one.verb == verb for one in served.simulator.asked)


def test_the_first_list_is_there_when_waiting_ends(served: ServedApi, following: Any) -> None:
    feed = following(served.url)
    assert len(names(feed)) == 7
    assert feed.view().error is None


def test_changes_arrive_without_another_list(served: ServedApi, following: Any) -> None:
    feed = following(served.url)
    eventually(lambda: asked(served, "watch") == 1)
    lists = asked(served, "list")
    served.state.delete("nodes", "gpu-h100-01")
    served.state.put("nodes", {"metadata": {"name": "new"}, "spec": {}, "status": {}})
    eventually(lambda: "new" in names(feed) and "gpu-h100-01" not in names(feed))
    assert asked(served, "list") == lists
    assert feed.view().age_s == 0.0


def test_an_object_that_is_no_longer_understood_is_no_longer_known(served: ServedApi, following: Any) -> None:
    def read(item: JsonObject) -> JsonObject:
        if item["spec"].get("broken"):
            raise NotUnderstood("broken")
        return item

    feed = following(served.url, read=read)
    served.state.edit("nodes", "gpu-h100-01", lambda node: {**node, "spec": {"broken": True}})
    eventually(lambda: "gpu-h100-01" not in names(feed))
    assert feed.view().bad == {("", "gpu-h100-01"): "broken"}
    served.state.edit("nodes", "gpu-h100-01", lambda node: {**node, "spec": {}})
    eventually(lambda: "gpu-h100-01" in names(feed))
    assert feed.view().bad == {}


def test_a_watch_that_the_server_ends_is_taken_up_where_it_ended(pauses: Pauses, following: Any) -> None:
    simulator = KubernetesSimulator(cluster=CLUSTER, bookmark_s=0.02, max_watch_s=0.1)
    with serving_api(simulator) as served:
        feed = following(served.url, short_s=0.01)
        lists = asked(served, "list")
        eventually(lambda: asked(served, "watch") >= 3)
        served.state.delete("nodes", "gpu-h100-01")
        eventually(lambda: "gpu-h100-01" not in names(feed))
        assert asked(served, "list") == lists
        assert pauses.asked_s == []


def test_bookmarks_keep_a_quiet_watch_young(following: Any) -> None:
    """Without them, a watch of quiet objects would begin from a version that is long gone."""
    simulator = KubernetesSimulator(cluster=CLUSTER, bookmark_s=0.02, max_watch_s=0.2)
    with serving_api(simulator) as served:
        following(served.url)
        lists = asked(served, "list")
        served.state.advance()
        seen = asked(served, "watch")
        eventually(lambda: asked(served, "watch") >= seen + 2)
        served.state.by_place["", "nodes"].forget_before(served.state.version)
        seen = asked(served, "watch")
        eventually(lambda: asked(served, "watch") >= seen + 2)
        assert asked(served, "list") == lists


@pytest.mark.parametrize(
    "fault", [KubernetesFault.EXPIRED_WATCH, KubernetesFault.REFUSED_WATCH, KubernetesFault.BAD_LINE]
)
def test_after_a_watch_that_missed_something_everything_is_listed_again(
    served: ServedApi, following: Any, fault: KubernetesFault
) -> None:
    served.simulator.faults.set(fault, "nodes", times=1)
    feed = following(served.url)
    eventually(lambda: asked(served, "list") == 6)  # three pages, twice
    served.state.delete("nodes", "gpu-h100-01")
    eventually(lambda: "gpu-h100-01" not in names(feed))
    assert feed.view().error is None


def test_a_compacted_storage_is_got_over(served: ServedApi, following: Any) -> None:
    feed = following(served.url)
    eventually(lambda: asked(served, "watch") == 1)
    served.state.delete("nodes", "gpu-h100-01")
    served.state.forget()
    eventually(lambda: "gpu-h100-01" not in names(feed))
    served.state.delete("nodes", "gpu-h100-02")
    eventually(lambda: "gpu-h100-02" not in names(feed))


def test_a_watch_that_expires_again_and_again_is_not_asked_for_in_a_circle(
    served: ServedApi, following: Any, pauses: Pauses
) -> None:
    served.simulator.faults.set(KubernetesFault.REFUSED_WATCH, "nodes")
    following(served.url)
    eventually(lambda: len(pauses.asked_s) >= 8)
    assert pauses.asked_s[0] >= 1.0  # after the second failure in a row; the first is everybody's
    assert max(pauses.asked_s[:8]) >= LONGEST_PAUSE_S / 2


def test_a_cut_watch_loses_nothing(served: ServedApi, following: Any) -> None:
    served.simulator.faults.set(KubernetesFault.CUT_WATCH, "nodes", times=3)
    feed = following(served.url)
    lists = asked(served, "list")
    served.state.delete("nodes", "gpu-h100-01")
    eventually(lambda: asked(served, "watch") >= 4)
    eventually(lambda: "gpu-h100-01" not in names(feed))
    assert asked(served, "list") == lists


@pytest.mark.parametrize(
    "fault",
    [
        KubernetesFault.UNAUTHORIZED,
        KubernetesFault.THROTTLED,
        KubernetesFault.SERVER_ERROR,
        KubernetesFault.TIMEOUT,
        KubernetesFault.HTML,
        KubernetesFault.HALF_BODY,
    ],
)
def test_a_first_list_that_fails_is_tried_until_it_works(
    served: ServedApi, following: Any, fault: KubernetesFault
) -> None:
    served.simulator.faults.set(fault, "nodes")
    feed = following(served.url)
    view = feed.view()
    assert view.objects is None
    assert view.error is not None
    served.simulator.faults.clear()
    eventually(lambda: len(names(feed)) == 7)
    eventually(lambda: feed.view().error is None)


def test_a_server_that_asks_for_patience_gets_it(served: ServedApi, following: Any, pauses: Pauses) -> None:
    served.simulator.faults.set(KubernetesFault.THROTTLED, "nodes", times=1)
    feed = following(served.url)
    assert isinstance(feed.view().error, Throttled) or pauses.asked_s
    eventually(lambda: len(names(feed)) == 7)
    assert pauses.asked_s[0] >= 1.0  # Retry-After: 1


def test_who_may_list_and_not_watch_lists_again_and_again(following: Any) -> None:
    list_only = Rights([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}])
    with serving_api(KubernetesSimulator(cluster=CLUSTER, rights=list_only)) as served:
        feed = following(served.url)
        assert len(names(feed)) == 7
        served.state.delete("nodes", "gpu-h100-01")
        eventually(lambda: "gpu-h100-01" not in names(feed))
        refused: list[str] = []

        def has_been_refused() -> bool:
            error = feed.view().error  # gone for a moment after every list
            refused.extend([error.right.verb] if isinstance(error, MissingRight) else [])
            return bool(refused)

        eventually(has_been_refused)
        assert refused == ["watch"]


def test_a_revoked_right_is_noticed_and_a_restored_one_too(served: ServedApi, following: Any) -> None:
    simulator = served.simulator
    simulator.max_watch_s = 0.05
    feed = following(served.url)
    simulator.faults.set(KubernetesFault.FORBIDDEN, "nodes")
    eventually(lambda: isinstance(feed.view().error, MissingRight))
    assert len(names(feed)) == 7  # known as it was; the collector decides how long that counts
    assert feed.view().age_s > 0
    simulator.max_watch_s = 3600
    simulator.faults.clear()
    eventually(lambda: feed.view().error is None and feed.view().age_s == 0)


def test_a_server_that_goes_away_and_comes_back_needs_no_restart(following: Any) -> None:
    simulator = KubernetesSimulator(cluster=CLUSTER, bookmark_s=0.05)
    with serving_api(simulator) as served:
        feed = following(served.url)
        eventually(lambda: feed.view().age_s == 0)
        port = served.port
        state = served.state
    eventually(lambda: feed.view().error is not None)
    assert len(names(feed)) == 7
    state.delete("nodes", "gpu-h100-01")
    with serving_api(simulator, port=port):
        eventually(lambda: "gpu-h100-01" not in names(feed) and feed.view().error is None)


def test_everything_is_listed_anew_now_and_then(following: Any) -> None:
    simulator = KubernetesSimulator(cluster=CLUSTER, bookmark_s=0.02, max_watch_s=0.05)
    with serving_api(simulator) as served:
        following(served.url, relist_s=0.0)
        eventually(lambda: asked(served, "list") >= 9)


def test_a_query_that_cannot_be_made_is_an_error_that_is_tried_again(served: ServedApi, following: Any) -> None:
    answers = iter([NotServed("no such group", source="main")] * 2)

    def query() -> Query:
        for error in answers:
            raise error
        return NODES

    feed = following(served.url, query)
    assert feed.view().objects is None
    eventually(lambda: len(names(feed)) == 7)


def test_an_object_on_which_the_program_fails_costs_itself(served: ServedApi, following: Any) -> None:
    def read(item: JsonObject) -> JsonObject:
        if item["spec"].get("trap"):
            raise OverflowError("date value out of range: secret-of-the-object")
        return item

    feed = following(served.url, read=read)
    served.state.edit("nodes", "gpu-h100-01", lambda node: {**node, "spec": {"trap": True}})
    eventually(lambda: "gpu-h100-01" not in names(feed))
    assert feed.view().bad == {("", "gpu-h100-01"): "this program fails on it (OverflowError); please report it"}
    served.state.delete("nodes", "gpu-h100-02")  # the watch lives on
    eventually(lambda: "gpu-h100-02" not in names(feed))
    served.state.edit("nodes", "gpu-h100-01", lambda node: {**node, "spec": {}})
    eventually(lambda: "gpu-h100-01" in names(feed))


@pytest.mark.parametrize("mistake", [OverflowError, RuntimeError, SystemExit])
def test_no_mistake_of_a_round_ends_a_feed(
    served: ServedApi, following: Any, pauses: Pauses, mistake: type[BaseException]
) -> None:
    mistakes = iter([mistake("what the server said")] * 3)

    def query() -> Query:
        for one in mistakes:
            raise one
        return NODES

    feed = following(served.url, query)
    eventually(lambda: len(names(feed)) == 7)
    eventually(lambda: feed.view().error is None)
    assert len(pauses.asked_s) == 3
    assert pauses.asked_s[2] >= 2.0  # it is not tried in a circle


def test_a_mistake_of_a_round_is_its_error(served: ServedApi, following: Any) -> None:
    def query() -> Query:
        raise OverflowError("what the server said")

    view = following(served.url, query).view()
    assert isinstance(view.error, BadPayload)
    assert "fails on (OverflowError)" in str(view.error)
    assert "what the server said" not in str(view.error)


BOOKMARK = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "11"}}}
GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}}


def answers(web: Web, watch: Callable[[BaseHTTPRequestHandler], None]) -> None:
    """Let a server list nothing, and answer watches like this."""
    empty = reply(body=json.dumps({"metadata": {"resourceVersion": "10"}, "items": []}).encode())
    web.answer = lambda request: watch(request) if "watch=true" in request.path else empty(request)


def lines(*events: JsonObject) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


@pytest.mark.parametrize("events", [(BOOKMARK, GONE), (BOOKMARK,), ()])
def test_a_watch_that_ends_at_once_is_not_asked_for_in_a_circle_whatever_it_brings(
    web: Web, following: Any, pauses: Pauses, events: tuple[JsonObject, ...]
) -> None:
    answers(web, reply(body=lines(*events)))
    following(web.url)
    eventually(lambda: len(pauses.asked_s) >= 8)
    watched = sum("watch=true" in path for path in web.paths)
    assert watched <= len(pauses.asked_s) + 2  # one of them may be free, and one is going on
    assert max(pauses.asked_s[:8]) >= LONGEST_PAUSE_S / 2


def test_a_list_that_expires_soon_after_a_watch_that_lasted_is_made_ever_more_seldom(
    web: Web, following: Any, pauses: Pauses
) -> None:
    answers(web, reply(body=lines(BOOKMARK, GONE)))
    following(web.url, short_s=0.0)  # as if each of these watches had lasted
    eventually(lambda: len(pauses.asked_s) >= 8)
    assert max(pauses.asked_s[:8]) >= LONGEST_PAUSE_S / 2


def test_a_watch_that_says_nothing_vouches_for_nothing(web: Web, following: Any) -> None:
    is_over = threading.Event()

    def hang(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        is_over.wait(20.0)

    answers(web, hang)
    try:
        feed = following(web.url, quiet_s=0.05)
        eventually(lambda: any("watch=true" in path for path in web.paths))
        eventually(lambda: feed.view().age_s > 0)
        view = feed.view()
        assert view.silent_s == pytest.approx(view.age_s + 0.05)
        assert view.error is None
    finally:
        is_over.set()


def test_a_feed_that_never_began_can_be_ended(served: ServedApi) -> None:
    api = KubernetesApi(KubernetesAccessConfig(url=served.url), source="main")
    feed: Feed[Any] = Feed(api, lambda: NODES, lambda item: item, name="x", relist_s=60)
    feed.end()
    feed.join()
    assert feed.view().objects is None


@given(st.integers(1, 10_000), st.integers(), st.none() | st.floats(0, 300))
def test_pauses_grow_to_a_bound_and_are_never_shorter_than_asked(
    failures: int, seed: int, retry_after_s: float | None
) -> None:
    pause = pause_s(failures, random.Random(seed), retry_after_s=retry_after_s)
    assert pause >= (retry_after_s or 0.0)
    assert pause <= max(LONGEST_PAUSE_S, retry_after_s or 0.0)
    assert pause >= min(0.5 * 2.0 ** (failures - 1) if failures < 30 else LONGEST_PAUSE_S / 2, LONGEST_PAUSE_S / 2)


def test_pauses_of_many_differ() -> None:
    assert len({pause_s(3, random.Random(seed)) for seed in range(50)}) == 50
