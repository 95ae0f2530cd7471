"""Who a sample of `/metrics` is about, for each dimension that use can be split by."""

from collections.abc import Callable, Mapping

from collectors.litellm.personal import without_person
from collectors.litellm.wire import label

MASTER_KEY = "litellm_proxy_master_key"
"""What LiteLLM writes for the hash of its own master key."""
HASH_SHOWN = 8


def key_name(alias: str | None, hashed: str | None) -> str:
    """The alias of a key; one without an alias is told by the beginning of its hash, which opens nothing."""
    if alias is not None:
        return alias
    if hashed is None:
        return ""
    return "master key" if hashed == MASTER_KEY else f"unnamed key {hashed[:HASH_SHOWN]}"


def _team(labels: Mapping[str, str]) -> str:
    return label(labels, "team_alias") or label(labels, "team") or ""


def _key(labels: Mapping[str, str]) -> str:
    return key_name(label(labels, "api_key_alias"), label(labels, "hashed_api_key"))


def _user(labels: Mapping[str, str]) -> str:
    return label(labels, "user") or ""


OWNER_OF: dict[str, Callable[[Mapping[str, str]], str]] = {"team": _team, "key": _key, "user": _user}
"""Dimensions that `/metrics` has; tags are in the daily figures only."""


def owner(dimension: str, labels: Mapping[str, str], *, keep_personal: bool) -> str:
    """The owner of a sample; "" where the gateway names none."""
    name = OWNER_OF[dimension](labels)
    return name if keep_personal else without_person(name)
