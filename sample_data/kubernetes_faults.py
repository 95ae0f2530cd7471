"""What can be made to go wrong with the simulated API server."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum


class KubernetesFault(StrEnum):
    """One way to fail; those of lists and watches leave other requests alone."""

    UNAUTHORIZED = "unauthorized"  # 401: the token was revoked
    FORBIDDEN = "forbidden"  # 403: the right was taken away
    NOT_FOUND = "not-found"  # 404: the group is not served
    THROTTLED = "throttled"  # 429 with Retry-After
    SERVER_ERROR = "server-error"  # 500
    TIMEOUT = "timeout"  # 504
    HANG = "hang"  # no answer for a long time
    HTML = "html"  # 200 and a login page
    GARBAGE = "garbage"  # 200, application/json, no JSON
    HALF_BODY = "half-body"  # the connection ends in the middle
    EXPIRED_PAGE = "expired-page"  # 410 for every page but the first
    EXPIRED_WATCH = "expired-watch"  # an event of type ERROR with code 410
    REFUSED_WATCH = "refused-watch"  # 410 in place of a watch
    CUT_WATCH = "cut-watch"  # watches end in the middle of a line
    BAD_LINE = "bad-line"  # a line that is no event
    BAD_OBJECT = "bad-object"  # one object of a list is not what it should be


@dataclass(slots=True)
class _Set:
    kind: KubernetesFault
    times: int | None


class KubernetesFaults:
    """Which requests fail and how; at most one fault for each resource, and one for all of them."""

    def __init__(self) -> None:
        self._by_resource: dict[str, _Set] = {}
        self.hits: Counter[KubernetesFault] = Counter()

    def set(self, kind: KubernetesFault, resource: str = "", *, times: int | None = None) -> None:
        """Let requests for a resource (by its plural; "" for all requests) fail, so many times or until cleared."""
        self._by_resource[resource] = _Set(kind, times)

    def clear(self, resource: str | None = None) -> None:
        """Let a resource work again, or (None) everything."""
        if resource is None:
            self._by_resource.clear()
        else:
            self._by_resource.pop(resource, None)

    def strike(self, resource: str, kinds: frozenset[KubernetesFault]) -> KubernetesFault | None:
        """The fault that hits a request, if it is one of these kinds; it counts as used."""
        for name in (resource, ""):
            found = self._by_resource.get(name)
            if found is None or found.kind not in kinds:
                continue
            if found.times is not None:
                found.times -= 1
                if found.times <= 0:
                    self._by_resource.pop(name, None)
            self.hits[found.kind] += 1
            return found.kind
        return None
