"""A Kubernetes API server over the simulated cluster: discovery, lists in pages, watches with bookmarks, errors.

It imitates a server of version 1.34 for readers: nothing can be written over HTTP. Sources: Kubernetes, "API Concepts";
the answers of a kube-apiserver for the wording of errors.
"""

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from sample_data.cluster import SimulatedCluster
from sample_data.fault_responses import HANG_S, fault_response
from sample_data.faults import FaultKind
from sample_data.kubernetes_faults import KubernetesFault, KubernetesFaults
from sample_data.kubernetes_groups import discovery
from sample_data.kubernetes_refusals import Refused, expired_page, expired_watch, not_found, unauthorized
from sample_data.kubernetes_rights import Asked, Rights
from sample_data.kubernetes_selectors import BadSelector, Matches, matcher
from sample_data.kubernetes_state import Change, KubernetesState, ResourceState, TooOld

JsonObject = dict[str, Any]

_POLL_S = 0.02
_EVERYWHERE = frozenset(
    {
        KubernetesFault.UNAUTHORIZED,
        KubernetesFault.FORBIDDEN,
        KubernetesFault.NOT_FOUND,
        KubernetesFault.THROTTLED,
        KubernetesFault.SERVER_ERROR,
        KubernetesFault.TIMEOUT,
        KubernetesFault.HANG,
        KubernetesFault.HTML,
        KubernetesFault.GARBAGE,
        KubernetesFault.HALF_BODY,
    }
)
_OF_WATCHES = frozenset(
    {
        KubernetesFault.EXPIRED_WATCH,
        KubernetesFault.REFUSED_WATCH,
        KubernetesFault.CUT_WATCH,
        KubernetesFault.BAD_LINE,
    }
)


@dataclass(slots=True, kw_only=True)
class KubernetesSimulator:
    """One API server; `asked` remembers every request as authorisation saw it."""

    cluster: SimulatedCluster
    faults: KubernetesFaults = field(default_factory=KubernetesFaults)
    token: str | None = None
    rights: Rights | None = None  # None: whoever may log in may read everything
    user: str = "system:serviceaccount:gpufleet:gpufleet"
    dra_version: str | None = "v1"
    bookmark_s: float = 60.0
    max_watch_s: float = 3600.0
    hang_s: float = HANG_S
    asked: list[Asked] = field(default_factory=list)
    _states: dict[tuple[str, int], KubernetesState] = field(default_factory=dict)

    def state(self, host: str, port: int) -> KubernetesState:
        """What is held; the pods that serve have the address at which the simulator was asked."""
        key = (host, port)
        if key not in self._states:
            self._states[key] = KubernetesState(self.cluster, host=host, port=port, dra_version=self.dra_version)
        return self._states[key]

    def reset(self) -> None:
        """Be as at the start: no fault, no change of the objects, nothing asked; open watches see nothing of it."""
        self.faults.clear()
        self.asked.clear()
        self._states.clear()

    async def answer(self, request: Request, path: str) -> Response:
        """The answer to a GET of this path, which begins with a slash."""
        host, port = request.scope.get("server") or ("127.0.0.1", 80)
        try:
            return await self._answer(request, path, self.state(host, int(port or 80)))
        except Refused as refused:
            return JSONResponse(refused.status, refused.code, refused.headers)

    async def _answer(self, request: Request, path: str, state: KubernetesState) -> Response:
        parts = [part for part in path.split("/") if part]
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            raise unauthorized()
        found = _place(parts, state)
        if found is None:
            asked = Asked(verb="get", path=path)
            name = ""
        else:
            resource, namespace, object_name = found
            name = resource.resource.plural
            is_watch = request.query_params.get("watch", "") in ("true", "1")
            verb = "get" if object_name is not None else "watch" if is_watch else "list"
            asked = Asked(
                verb=verb, group=resource.resource.group, resource=name, namespace=namespace, name=object_name
            )
        self.asked.append(asked)
        failing = await self._failing(name, asked)
        if failing is not None:
            return failing
        if self.rights is not None and not self.rights.allow(asked):
            raise Refused(403, "Forbidden", asked.refusal(self.user))
        if found is None:
            return JSONResponse(discovery(path.rstrip("/") or "/", state))
        resource, namespace, object_name = found
        if object_name is not None:
            return JSONResponse(_single(resource, namespace, object_name))
        try:
            matches = matcher(
                request.query_params.get("labelSelector", ""), request.query_params.get("fieldSelector", "")
            )
        except BadSelector as error:
            raise Refused(400, "BadRequest", str(error)) from None
        if asked.verb == "watch":
            return self._watch(request, state, resource, namespace, matches)
        return self._list(request, state, resource, namespace, matches)

    async def _failing(self, name: str, asked: Asked) -> Response | None:
        match self.faults.strike(name, _EVERYWHERE):
            case KubernetesFault.UNAUTHORIZED:
                raise unauthorized()
            case KubernetesFault.FORBIDDEN:
                raise Refused(403, "Forbidden", asked.refusal(self.user))
            case KubernetesFault.NOT_FOUND:
                raise not_found()
            case KubernetesFault.THROTTLED:
                message = "the server has received too many requests and has asked us to try again later"
                raise Refused(429, "TooManyRequests", message, headers={"Retry-After": "1"})
            case KubernetesFault.SERVER_ERROR:
                raise Refused(500, "InternalError", "Internal error occurred: simulated")
            case KubernetesFault.TIMEOUT:
                message = "Timeout: request did not complete within the allotted timeout"
                raise Refused(504, "Timeout", message)
            case KubernetesFault.HANG:
                await asyncio.sleep(self.hang_s)
            case KubernetesFault.HTML:
                return HTMLResponse("<!doctype html><html><head><title>Sign in</title></head></html>\n")
            case KubernetesFault.GARBAGE:
                return Response(b'{"kind": "NodeList", "items": [\x00', media_type="application/json")
            case KubernetesFault.HALF_BODY:
                return await fault_response(FaultKind.HALF_BODY, lambda: '{"kind":"NodeList","metadata":{},"items":[]}')
        return None

    def _list(
        self,
        request: Request,
        state: KubernetesState,
        resource: ResourceState,
        namespace: str | None,
        matches: Matches,
    ) -> Response:
        plural = resource.resource.plural
        limit = _number(request.query_params.get("limit"))
        token = request.query_params.get("continue")
        version, after = state.version, None
        if token:
            if self.faults.strike(plural, frozenset({KubernetesFault.EXPIRED_PAGE})):
                raise expired_page()
            version, after = _read_token(token)
            try:
                objects = resource.kept(version)
            except TooOld:
                raise expired_page() from None
        else:
            objects = resource.snapshot(version, keep=limit > 0)
        chosen = [
            (key, item)
            for key, item in objects.items()
            if (after is None or key > after) and namespace in (None, key[0]) and matches(item)
        ]
        page = chosen[:limit] if limit else chosen
        metadata: JsonObject = {"resourceVersion": str(version)}
        if len(page) < len(chosen):
            metadata["continue"] = _token(version, page[-1][0])
            metadata["remainingItemCount"] = len(chosen) - len(page)
        items = [_in_list(item) for _, item in page]
        if items and self.faults.strike(plural, frozenset({KubernetesFault.BAD_OBJECT})):
            items[0] = {"metadata": {**items[0]["metadata"], "labels": ["a", "list"]}, "spec": "none", "status": 7}
        kind = resource.resource
        return JSONResponse(
            {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": metadata, "items": items}
        )

    def _watch(
        self,
        request: Request,
        state: KubernetesState,
        resource: ResourceState,
        namespace: str | None,
        matches: Matches,
    ) -> Response:
        since = _number(request.query_params.get("resourceVersion")) or state.version
        fault = self.faults.strike(resource.resource.plural, _OF_WATCHES)
        if fault is KubernetesFault.REFUSED_WATCH:
            raise expired_watch(since, state.version)
        seconds = min(_number(request.query_params.get("timeoutSeconds")) or self.max_watch_s, self.max_watch_s)
        lines = self._lines(
            state,
            resource,
            since=since,
            chosen=lambda item: namespace in (None, item["metadata"].get("namespace", "")) and matches(item),
            seconds=seconds,
            with_bookmarks=request.query_params.get("allowWatchBookmarks") == "true",
            fault=fault,
        )
        return StreamingResponse(lines, media_type="application/json")

    async def _lines(
        self,
        state: KubernetesState,
        resource: ResourceState,
        *,
        since: int,
        chosen: Matches,
        seconds: float,
        with_bookmarks: bool,
        fault: KubernetesFault | None,
    ) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        told_at = began
        if fault is KubernetesFault.EXPIRED_WATCH:
            yield _line("ERROR", expired_watch(since, state.version).status)
            return
        if fault is KubernetesFault.BAD_LINE:
            yield b'{"type": "ADDED", "object": \n'
            return
        while loop.time() - began < seconds:
            try:
                changes = resource.changes_after(since)
            except TooOld:
                yield _line("ERROR", expired_watch(since, state.version).status)
                return
            for change in changes:
                line = _changed(change, chosen)
                if line is not None:
                    yield line
                since = change.version
            if fault is KubernetesFault.CUT_WATCH:
                yield b'{"type":"MODIFIED","object":{"kind":"No'
                return
            if with_bookmarks and loop.time() - told_at >= self.bookmark_s:
                told_at = loop.time()
                since = max(since, state.version)
                kind = resource.resource
                mark = {"kind": kind.kind, "apiVersion": kind.api_version}
                yield _line("BOOKMARK", mark | {"metadata": {"resourceVersion": str(since)}})
            await asyncio.sleep(_POLL_S)


def _place(parts: list[str], state: KubernetesState) -> tuple[ResourceState, str | None, str | None] | None:
    """Resource, namespace and name of a path; None for paths that are no resource. Raises Refused."""
    if len(parts) >= 3 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = None
    if len(rest) >= 3 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    resource = state.by_place.get((group, rest[0]))
    if resource is None or resource.resource.version != version or len(rest) > 2:
        raise not_found()
    if namespace is not None and not resource.resource.namespaced:
        raise not_found()
    return resource, namespace, rest[1] if len(rest) == 2 else None


def _single(resource: ResourceState, namespace: str | None, name: str) -> JsonObject:
    item = resource.snapshot(0).get((namespace or "", name))
    if item is None:
        plural = resource.resource.plural
        raise Refused(404, "NotFound", f'{plural} "{name}" not found')
    return item


def _changed(change: Change, chosen: Matches) -> bytes | None:
    """The event of a change for one selection: what enters it is added, what leaves it is deleted."""
    was = change.before is not None and chosen(change.before)
    if change.after is not None and chosen(change.after):
        return _line("MODIFIED" if was else "ADDED", change.after)
    if was and change.before is not None:
        metadata = {**change.before["metadata"], "resourceVersion": str(change.version)}
        return _line("DELETED", {**change.before, "metadata": metadata})
    return None


def _line(kind: str, item: JsonObject) -> bytes:
    return json.dumps({"type": kind, "object": item}, separators=(",", ":")).encode() + b"\n"


def _in_list(item: JsonObject) -> JsonObject:
    """Objects in lists say neither kind nor apiVersion."""
    return {key: value for key, value in item.items() if key not in ("kind", "apiVersion")}


def _token(version: int, key: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps([version, *key]).encode()).decode().rstrip("=")


def _read_token(token: str) -> tuple[int, tuple[str, str]]:
    try:
        version, namespace, name = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, binascii.Error):
        raise Refused(400, "BadRequest", "continue key is not valid") from None
    return int(version), (namespace, name)


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() else 0
