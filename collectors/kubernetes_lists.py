"""What is asked of a Kubernetes API and what came of it: queries, and the objects of one kind by their names."""

import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from collectors.kubernetes_errors import Right
from collectors.plain_text import plain_text

T = TypeVar("T")

log = logging.getLogger("gpufleet.collectors.kubernetes")

JsonObject = Mapping[str, Any]

ObjectName = tuple[str, str]
"""Namespace ("" for objects of the cluster) and name."""

Reader = Callable[[JsonObject], T | None]
"""From an object to what is kept of it; None when it is of no interest. Raises NotUnderstood."""

MAX_NAME = 253


class NotUnderstood(ValueError):
    """An object is not what its kind should be; the message says why in a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which objects: `resource` is the plural of the API, `namespace` None means all of them.

    `verbs` is what the whole reading needs, for the message when the first of them is refused.
    """

    resource: str
    group: str = ""
    version: str = "v1"
    namespace: str | None = None
    label_selector: str | None = None
    field_selector: str | None = None
    verbs: tuple[str, ...] = ("list", "watch")

    @property
    def path(self) -> str:
        """The path of the list."""
        root = f"/apis/{quote(self.group, safe='')}" if self.group else "/api"
        where = "" if self.namespace is None else f"/namespaces/{quote(self.namespace, safe='')}"
        return f"{root}/{quote(self.version, safe='')}{where}/{quote(self.resource, safe='')}"

    def right(self, verb: str) -> Right:
        """What an account needs to be allowed this."""
        return Right(verb=verb, verbs=self.verbs, group=self.group, resource=self.resource, namespace=self.namespace)

    @property
    def selectors(self) -> list[tuple[str, str]]:
        """Parameters that narrow it down."""
        chosen = (("labelSelector", self.label_selector), ("fieldSelector", self.field_selector))
        return [(name, value) for name, value in chosen if value is not None]


@dataclass(slots=True)
class Listed(Generic[T]):
    """The objects of a query as they were at `version`; `bad` says of each that was left out why."""

    version: str = ""
    objects: dict[ObjectName, T] = field(default_factory=dict)
    bad: dict[ObjectName, str] = field(default_factory=dict)

    def put(self, item: object, read: Reader[T]) -> None:
        """Take in an object as it is now, in place of what was known of it; one that breaks `read` is a bad one."""
        name = name_of(item)
        self.forget(name)
        if not isinstance(item, dict) or not name[1]:
            self.bad[name] = "it has no name"
            return
        try:
            kept = read(item)
        except NotUnderstood as error:
            self.bad[name] = str(error)
            return
        except Exception as mistake:  # noqa: BLE001 - whoever may write one object must not end the reading of all
            log.error("%s/%s cannot be taken in: %s", *name, described(mistake))
            self.bad[name] = f"this program fails on it ({type(mistake).__name__}); please report it"
            return
        if kept is not None:
            self.objects[name] = kept

    def forget(self, name: ObjectName) -> None:
        """Drop what is known of an object that is gone."""
        self.objects.pop(name, None)
        self.bad.pop(name, None)


def described(mistake: BaseException) -> str:
    """What kind of mistake it is and where it was made; its message may quote what nobody checked, and is left out."""
    frames = traceback.extract_tb(mistake.__traceback__)
    where = f" in {frames[-1].name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(mistake).__name__}{where}"


def name_of(item: object) -> ObjectName:
    """Namespace and name of an object, "" where it has none; both printable."""
    metadata = item.get("metadata") if isinstance(item, dict) else None
    if not isinstance(metadata, dict):
        return "", ""
    return _text(metadata.get("namespace")), _text(metadata.get("name"))


def _text(value: object) -> str:
    return plain_text(value, MAX_NAME) if isinstance(value, str) else ""
