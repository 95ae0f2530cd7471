"""One API server: every kind of object has a feed in a thread of its own, and a collection only looks at them."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from collectors.errors import BadPayload, CollectorError, Unauthorized, Unreachable, Unsupported
from collectors.kubernetes.cluster_view import ClusterObjects, cluster_state, listed
from collectors.kubernetes.config import KubernetesConfig
from collectors.kubernetes.feed import Feed, View
from collectors.kubernetes.pods import is_of_interest
from collectors.kubernetes.quotas import gpu_quota
from collectors.kubernetes.resources import RESOURCES, VERSION_LOSS, Kind, ResourceRow
from collectors.kubernetes.server_facts import ClaimsNotServed, ServerFacts
from collectors.kubernetes.wire import NodeObject, PodObject, ReplicaSetObject, reader
from collectors.kubernetes.wire_claims import GROUP, ClaimObject, SliceObject
from collectors.kubernetes_access import KubernetesApi
from collectors.kubernetes_errors import MissingRight
from collectors.kubernetes_lists import JsonObject, Reader, described
from collectors.kubernetes_login import Connection
from collectors.source import Attempt
from planner.readings import Batch, Gap

log = logging.getLogger("gpufleet.collectors.kubernetes")

OTHER_NAMESPACES = (
    " Those of the other namespaces are not taken in either, as those of this one would seem to be gone: give the "
    "right, or take the namespace out of `namespaces`."
)
FIRST_LIST_ANSWERS = 4
"""The first collection waits as long as for so many answers; what takes longer to list is said to be missing."""

_read_pod = reader(PodObject)


def _pod_of_interest(item: JsonObject) -> PodObject | None:
    pod = _read_pod(item)
    return pod if is_of_interest(pod) else None


_READERS: Mapping[Kind, Reader[Any]] = {
    Kind.NODES: reader(NodeObject),
    Kind.PODS: _pod_of_interest,
    Kind.QUOTAS: gpu_quota,
    Kind.REPLICA_SETS: reader(ReplicaSetObject),
    Kind.SLICES: reader(SliceObject),
    Kind.CLAIMS: reader(ClaimObject),
}


@dataclass(slots=True)
class _Look:
    """One look at all feeds: the gaps found on the way, and how old the oldest list is that is used."""

    gaps: list[Gap] = field(default_factory=list)
    errors: list[CollectorError] = field(default_factory=list)
    oldest_s: float = 0.0


class KubernetesCollector:
    """Reads the API server of one `[[sources.kubernetes]]` table."""

    kind = "kubernetes"

    def __init__(
        self,
        config: KubernetesConfig,
        *,
        login: Callable[[], Connection] | None = None,
        pause: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        """`login` replaces the connection that the configuration describes, `pause` how failures are waited out."""
        self.source = config.name
        self.cluster = config.cluster
        self.interval_s = config.interval_s
        self._config = config
        self._api = KubernetesApi(config, source=config.name, login=login)
        self._facts = ServerFacts(self._api, source=config.name)
        self._pause = pause
        self._feeds: dict[Kind, tuple[Feed[Any], ...]] = {}

    def collect(self, now: datetime, watermarks: Mapping[str, datetime]) -> Iterator[Attempt]:
        """One attempt with the state of the cluster.

        The first collection waits until everything was listed once; later ones ask nothing and wait for nothing. What
        was true some seconds ago, before a watch broke, is dated then; what is older than `stale_after_s` is not given.
        """
        since = time.monotonic()
        batch: Batch | None = None
        error: CollectorError | None = None
        try:
            if not self._feeds:
                self._facts.read_version()
                self._begin()
            batch = self._batch(now, since)
        except CollectorError as failure:
            error = _plain(failure)
        except Exception as mistake:  # noqa: BLE001 - what one object holds must not leave the round without an attempt
            log.error("%s cannot be put together: %s", self.source, described(mistake))
            error = BadPayload(
                f"{self._api.target} has something that this program fails on ({type(mistake).__name__}); please "
                "report it.",
                source=self.source,
            )
        yield Attempt(
            target=self._api.target,
            started_at=now,
            seconds=time.monotonic() - since,
            batch=batch,
            error=error,
            clock_skew_s=self._api.clock_skew_s,
        )

    def close(self) -> None:
        """End all watches."""
        feeds = [feed for feeds in self._feeds.values() for feed in feeds]
        for feed in feeds:
            feed.end()
        for feed in feeds:
            feed.join()
        self._feeds = {}
        self._api.close()

    def _begin(self) -> None:
        config = self._config
        for row in RESOURCES:
            wanted = {Kind.QUOTAS: config.quotas, Kind.REPLICA_SETS: config.replica_sets}
            if not wanted.get(row.kind, config.claims if row.group == GROUP else True):
                continue
            namespaces: Sequence[str | None] = config.namespaces if row.namespaced and config.namespaces else (None,)
            self._feeds[row.kind] = tuple(
                Feed(
                    self._api,
                    partial(self._facts.query, row, namespace),
                    _READERS[row.kind],
                    name=f"{config.name}-{row.kind}" + (f"-{namespace}" if namespace else ""),
                    relist_s=config.relist_s,
                    quiet_s=config.stale_after_s / 2,
                    pause=self._pause,
                )
                for namespace in namespaces
            )
        feeds = [feed for feeds in self._feeds.values() for feed in feeds]
        for feed in feeds:
            feed.start()
        until = time.monotonic() + FIRST_LIST_ANSWERS * config.timeout_s
        for feed in feeds:
            feed.wait(max(until - time.monotonic(), 0.0))

    def _batch(self, now: datetime, since: float) -> Batch:
        """The state; `since` is when (by the monotonic clock) it was `now`: what was listed after that is not older."""
        look = _Look()
        read = {row.kind: self._objects(row, look) for row in RESOURCES if row.kind in self._feeds}
        if read[Kind.NODES] is None and read[Kind.PODS] is None:
            raise self._nothing_read(look.errors)
        facts = self._facts
        if facts.refused is not None:
            look.gaps.append(self._gap(f"the version cannot be read: {facts.refused}. {VERSION_LOSS}"))
        objects = ClusterObjects(
            nodes=read[Kind.NODES],
            pods=read[Kind.PODS],
            quotas=read.get(Kind.QUOTAS),
            replica_sets=read.get(Kind.REPLICA_SETS),
            slices=read.get(Kind.SLICES),
            claims=read.get(Kind.CLAIMS),
            gaps=look.gaps,
        )
        claims = "not read" if not self._config.claims else facts.claims_version or "not served"
        before_now_s = max(look.oldest_s - (time.monotonic() - since), 0.0)
        state = cluster_state(
            objects,
            self._config,
            observed_at=now - timedelta(seconds=before_now_s),
            version=facts.version,
            details={"api_server": self._api.target, GROUP: claims},
        )
        found = [(GROUP, claims)] + ([] if facts.version is None else [("version", facts.version)])
        gaps = sorted(set(look.gaps), key=lambda gap: (gap.subject, gap.reason))
        return Batch(cluster_state=state, gaps=tuple(gaps), found=tuple(sorted(found)))

    def _objects(self, row: ResourceRow, look: _Look) -> list[Any] | None:
        """The objects of a kind; None when they are not known, or (of several namespaces) not those of each.

        One namespace that may not be read or cannot be reached makes the whole unknown, as its pods would seem to be
        gone otherwise; each namespace without a right is said.
        """
        found: list[Any] = []
        bad: dict[str, list[str]] = {}
        lost: CollectorError | None = None
        refused: list[MissingRight] = []
        read = 0
        for view in (feed.view() for feed in self._feeds[row.kind]):
            if isinstance(view.error, ClaimsNotServed):
                return []  # where nothing can be claimed, nothing is
            is_fresh = view.objects is not None and view.silent_s <= self._config.stale_after_s
            if isinstance(view.error, MissingRight):
                look.errors.append(view.error)
                if is_fresh:
                    words = "are listed again and again" if view.error.right.verb == "watch" else "are soon unknown"
                    look.gaps.append(self._gap(f"{row.kind} {words}: {view.error}."))
                else:
                    refused.append(view.error)
            elif not is_fresh:
                lost = self._reason(view)
            if is_fresh:
                read += 1
                look.oldest_s = max(look.oldest_s, view.age_s)
                found += (view.objects or {}).values()
                for (namespace, name), reason in view.bad.items():
                    bad.setdefault(reason, []).append(
                        f"{row.kind} {namespace}/{name}" if namespace else f"{row.kind} {name}"
                    )
        for reason, subjects in bad.items():
            look.gaps += listed(subjects, f"left out, it is not understood: {reason}", kind=row.kind)
        if lost is not None:
            look.errors.append(lost)
            look.gaps.append(self._gap(f"{row.kind} cannot be read: {lost} {row.loss}"))
        beside = "" if not read else OTHER_NAMESPACES
        look.gaps += [self._gap(f"{row.kind} cannot be read: {error}. {row.loss}{beside}") for error in refused]
        return found if lost is None and not refused else None

    def _reason(self, view: View[Any]) -> CollectorError:
        if view.error is not None:
            return view.error
        if view.objects is None:
            return Unreachable(f"{self._api.target} has not yet come to the end of the list.", source=self.source)
        return Unreachable(f"{self._api.target} has not been heard of for {view.silent_s:.0f} s.", source=self.source)

    def _nothing_read(self, errors: list[CollectorError]) -> CollectorError:
        """The error of an attempt that yields neither nodes nor pods: what failed, or all rights that are missing."""
        for error in errors:
            if not isinstance(error, MissingRight):
                return error
        return Unauthorized(" ".join(dict.fromkeys(str(error) for error in errors)), source=self.source)

    def _gap(self, reason: str) -> Gap:
        return Gap(subject=self._api.target, metric=None, reason=reason.strip())


def _plain(error: CollectorError) -> CollectorError:
    """The error as one of the kinds that all sources share, by which attempts are stored and shown."""
    for kind in (Unauthorized, Unreachable, Unsupported, BadPayload):
        if isinstance(error, kind):
            return kind(str(error), source=error.source, permanent=error.permanent)
    return error
