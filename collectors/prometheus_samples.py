"""What of a Prometheus server's answer can be read, series by series, and what the server says beside it.

Source of the shapes: Prometheus, "HTTP API" (`data.result`, `warnings`, `infos`); VictoriaMetrics adds `isPartial`.
Thanos and other stores of many servers name one that did not answer among the warnings; what Prometheus's own language
remarks begins with "PromQL" and misses nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from collectors.plain_text import plain_text

MAX_WARNINGS = 5
"""Of one answer; the rest is not kept."""

OUTSIDE_S = 1.0
"""How far a sample may be dated outside what was asked for: times travel rounded."""


class Series(BaseModel):
    """One series as the server tells it: labels with `__name__`, and (seconds since the epoch, number as text)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    metric: dict[str, str]
    values: list[tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], str]]


class Instant(BaseModel):
    """The labels of one series of an instant vector."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    metric: dict[str, str]


One = TypeVar("One", Series, Instant)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remarks:
    """What was said beside the samples, each a reason for a gap; `is_partial` when samples may be missing."""

    reasons: tuple[str, ...] = ()
    is_partial: bool = False


def remarks_of(told: Mapping[str, Any]) -> Remarks:
    """The warnings of an answer, in its own words."""
    is_partial = told.get("isPartial") is True
    reasons = ["the server says that its answer is incomplete (isPartial)"] if is_partial else []
    for text in _texts(told.get("warnings")):
        if text.startswith("PromQL "):
            reasons.append(f"the server remarks on its answer: {text}")
        else:
            is_partial = True
            reasons.append(f"the server says that its answer may be incomplete: {text}")
    reasons += [f"the server remarks on its answer: {text}" for text in _texts(told.get("infos"))]
    return Remarks(reasons=tuple(dict.fromkeys(reasons))[:MAX_WARNINGS], is_partial=is_partial)


def readable(shape: type[One], result: list[Any]) -> tuple[list[One], tuple[str, ...]]:
    """Every series that has the shape, and why others were left out; raises ValidationError when none has it."""
    read: list[One] = []
    reasons: dict[str, str] = {}
    failure: ValidationError | None = None
    is_known = not result
    for one in result:
        try:
            read.append(shape.model_validate(one))
            is_known = True
        except ValidationError as error:
            if _is_native_histogram(one):
                reasons.setdefault("native histograms are not read, only classic ones", _name(one))
                is_known = True
                continue
            failure = failure or error
            reasons.setdefault("series in a shape that is not Prometheus's were left out", _name(one))
    if failure is not None and not is_known:
        raise failure
    return read, tuple(f"{reason}; the first: {name}" for reason, name in reasons.items())


def within(series: list[Series], *, since_s: float, until_s: float) -> tuple[list[Series], tuple[str, ...]]:
    """The samples of a stretch of time, and why others were left out: a date that was not asked for is no date."""
    from_s, to_s = since_s - OUTSIDE_S, until_s + OUTSIDE_S
    kept: list[Series] = []
    odd = ""
    for one in series:
        if all(from_s <= at <= to_s for at, _ in one.values):
            kept.append(one)
            continue
        odd = odd or _name({"metric": one.metric})
        kept.append(Series(metric=one.metric, values=[(at, text) for at, text in one.values if from_s <= at <= to_s]))
    reason = f"samples dated outside the time that was asked for were left out; the first: {odd}"
    return kept, (reason,) if odd else ()


def _texts(told: Any) -> list[str]:
    texts = told[:MAX_WARNINGS] if isinstance(told, list) else []
    return [plain_text(one, 200) for one in texts if isinstance(one, str)]


def _is_native_histogram(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("histograms"), list) and not one.get("values")


def _name(one: Any) -> str:
    labels = one.get("metric") if isinstance(one, dict) else None
    name = labels.get("__name__") if isinstance(labels, dict) else None
    return (plain_text(name, 100) if isinstance(name, str) else "") or "one without a name"
