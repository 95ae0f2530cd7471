"""From what a gateway totals, by model and by owner, to parts that add up: no total beside its own parts."""

from collections.abc import Iterable
from dataclasses import dataclass

from planner.join_facts import ModelUse

_QUANTITIES = ("requests", "input_tokens", "output_tokens", "cost_usd")

_ROUNDING_RATIO = 1e-6
"""By so much may owners exceed their total before they count as overlapping: sums of rounded money do."""

_OF_ONE_OWNER = frozenset({"team", "key", "user", "environment"})
"""Dimensions of which a request has one owner at most, unlike tags. Where such owners exceed their total, it was told
earlier: LiteLLM is asked for the day that is running once for all and once per team, and requests come in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUses:
    """Uses that add up, and the models whose owners had to be left out because they overlap (a request of two tags)."""

    uses: tuple[ModelUse, ...]
    overlapping: tuple[str, ...]


def adding_up(totals: Iterable[ModelUse], parts: Iterable[ModelUse], dimension: str = "") -> ModelUses:
    """One use per owner, and one of nobody for what is left of each model's total.

    `totals` have no owner, `parts` have one of `dimension`. Where parts exceed their total they overlap, and the total
    alone counts; of a team, key, user or environment, which do not overlap, the parts count and nothing is left.
    """
    whole = _sum_up(totals)
    owned: dict[tuple[str, str], dict[tuple[str, str, str], ModelUse]] = {}
    for key, use in _sum_up(parts).items():
        owned.setdefault((use.model, use.provider), {})[key] = use
    uses: list[ModelUse] = []
    overlapping: set[str] = set()
    for model, provider in sorted({(use.model, use.provider) for use in whole.values()} | owned.keys()):
        total = whole.get((model, provider, ""))
        of_owners = list(owned.get((model, provider), {}).values())
        if total is None:
            uses += of_owners
            continue
        rest = _rest(total, of_owners, may_overlap=dimension not in _OF_ONE_OWNER)
        if rest is None:
            overlapping.add(model)
            uses.append(total)
            continue
        uses += of_owners
        if any(getattr(rest, name) for name in _QUANTITIES):
            uses.append(rest)
    return ModelUses(uses=tuple(uses), overlapping=tuple(sorted(overlapping)))


def _sum_up(uses: Iterable[ModelUse]) -> dict[tuple[str, str, str], ModelUse]:
    found: dict[tuple[str, str, str], ModelUse] = {}
    for use in uses:
        key = (use.model, use.provider, use.owner)
        before = found.get(key)
        found[key] = use if before is None else _plus(before, use)
    return found


def _plus(one: ModelUse, other: ModelUse) -> ModelUse:
    return ModelUse(
        model=one.model,
        provider=one.provider,
        owner=one.owner,
        requests=_add(one.requests, other.requests),
        input_tokens=_add(one.input_tokens, other.input_tokens),
        output_tokens=_add(one.output_tokens, other.output_tokens),
        cost_usd=_add(one.cost_usd, other.cost_usd),
        unpriced_requests=_unpriced(one, other),
    )


def _unpriced(one: ModelUse, other: ModelUse) -> float | None:
    """Requests of the spans that have no cost beside others that have; of one that tells no requests, none."""
    if one.cost_usd is None and other.cost_usd is None:
        return None
    parts = [
        use.unpriced_requests if use.cost_usd is not None else use.requests or 0.0
        for use in (one, other)
        if use.cost_usd is None or use.unpriced_requests is not None
    ]
    return sum(part for part in parts if part is not None) if parts else None


def _add(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other


def _rest(total: ModelUse, of_owners: list[ModelUse], *, may_overlap: bool) -> ModelUse | None:
    """What of the total no owner has; None where owners overlap and have more than there is."""
    left: dict[str, float | None] = {}
    for name in _QUANTITIES:
        there: float | None = getattr(total, name)
        taken = [value for use in of_owners if (value := getattr(use, name)) is not None]
        if there is None:
            left[name] = None
            continue
        rest = there - sum(taken)
        if may_overlap and rest < -_ROUNDING_RATIO * abs(there):
            return None
        left[name] = 0.0 if rest <= _ROUNDING_RATIO * abs(there) else rest
    unpriced: float | None = None
    if total.unpriced_requests is not None and left["cost_usd"] is not None:
        of_owned = sum((use.requests if use.cost_usd is None else use.unpriced_requests) or 0.0 for use in of_owners)
        unpriced = max(total.unpriced_requests - of_owned, 0.0)
    return ModelUse(
        model=total.model,
        provider=total.provider,
        requests=left["requests"],
        input_tokens=left["input_tokens"],
        output_tokens=left["output_tokens"],
        cost_usd=left["cost_usd"],
        unpriced_requests=unpriced,
    )
