"""Label and field selectors as the API server reads them, as far as readers of this cluster use them.

Source: Kubernetes, "Labels and Selectors" (equality and existence) and "Field Selectors".
"""

import re
from collections.abc import Callable
from typing import Any

JsonObject = dict[str, Any]
Matches = Callable[[JsonObject], bool]

_FIELDS = ("metadata.name", "metadata.namespace", "spec.nodeName", "status.phase")
_TERM = re.compile(r"(?P<key>[^!=]+)(?P<sign>==|=|!=)(?P<value>[^!=]*)")


class BadSelector(ValueError):
    """The selector is none; the message says what the API server would."""


def matcher(label_selector: str, field_selector: str) -> Matches:
    """Whether an object is chosen by both; raises BadSelector."""
    tests = [_label_test(term) for term in _terms(label_selector)]
    tests += [_field_test(term) for term in _terms(field_selector)]
    return lambda item: all(test(item) for test in tests)


def _terms(selector: str) -> list[str]:
    return [term.strip() for term in selector.split(",") if term.strip()]


def _label_test(term: str) -> Matches:
    found = _TERM.fullmatch(term)
    if found is None:
        absent = term.startswith("!")
        key = term.removeprefix("!")
        if not re.fullmatch(r"[A-Za-z0-9./_-]+", key):
            raise BadSelector(f"unable to parse requirement: found {term!r}, expected: identifier")
        return lambda item: (key in _labels(item)) != absent
    key, wanted, negative = found["key"].strip(), found["value"].strip(), found["sign"] == "!="
    return lambda item: (_labels(item).get(key) == wanted) != negative


def _field_test(term: str) -> Matches:
    found = _TERM.fullmatch(term)
    if found is None:
        raise BadSelector(f"invalid selector: {term!r}; can't understand {term!r}")
    path, wanted, negative = found["key"].strip(), found["value"].strip(), found["sign"] == "!="
    if path not in _FIELDS:
        raise BadSelector(f"field label not supported: {path}")
    return lambda item: (_field(item, path) == wanted) != negative


def _labels(item: JsonObject) -> dict[str, str]:
    labels: dict[str, str] = item["metadata"].get("labels") or {}
    return labels


def _field(item: JsonObject, path: str) -> str:
    value: Any = item
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return "" if value is None else str(value)
