"""Counts of devices in Kubernetes' own notation: `8`, `1k`, `2Ki`, `8000m`.

Source: Kubernetes API reference, "Quantity".
"""

import re
from decimal import Decimal

from kubernetes.utils.quantity import parse_quantity

from collectors.kubernetes_lists import NotUnderstood
from collectors.plain_text import plain_text
from planner.kubernetes_resources import is_gpu_resource

MAX_COUNT = 1_000_000
"""More devices of one kind than this are a mistake."""

# the client library also takes NaN, underscores and K, which API servers refuse
_QUANTITY = re.compile(r"\+?[0-9]{1,19}(\.[0-9]{0,9})?([eE][+-]?[0-9]{1,2}|[numkMGTPE]|[KMGTPE]i)?")


def count_of(quantity: object, name: str) -> int:
    """How many devices; raises NotUnderstood for what is no quantity, no whole number or beyond all reason."""
    text = str(quantity) if isinstance(quantity, str | int) and not isinstance(quantity, bool) else ""
    if not _QUANTITY.fullmatch(text):
        raise NotUnderstood(f"{name} is no quantity: {plain_text(str(quantity), 40)!r}")
    value: Decimal = parse_quantity(text)  # type: ignore[no-untyped-call]
    if value != int(value) or value > MAX_COUNT:
        raise NotUnderstood(f"{name} is no count of devices: {plain_text(text, 40)!r}")
    return int(value)


def gpu_counts(resources: object) -> dict[str, int]:
    """The GPU resources of a list of resources, by name; others are left out. Raises NotUnderstood."""
    if resources is None:
        return {}
    if not isinstance(resources, dict):
        raise NotUnderstood("resources are no mapping")
    return {
        name: count_of(quantity, name)
        for name, quantity in resources.items()
        if isinstance(name, str) and is_gpu_resource(name)
    }
