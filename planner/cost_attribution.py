"""Whose money is behind each device: what gateways total per model and owner, put down to the devices that served it.

A model of a gateway is found among those that servers offer, by the strongest reason there is. Several servers that
offer it share its use by the tokens that each counted for it (or else the requests), and each shares with its devices
as its tokens are shared. What cannot be put down stays whole, with the reason: parts and rest add up to what the
gateway totals.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from planner.attribution import Attribution, ServerWork, total
from planner.join_facts import JoinFacts, ModelUse
from planner.links import Certainty, Conflict, Link, LinkReason, weakest
from planner.model_aliases import ServedName, provider_elsewhere, same_model
from planner.readings import Subject

USE_QUANTITIES = ("requests", "input_tokens", "output_tokens", "cost_usd")

ALIKE_COVERED_RATIO = 0.75
"""Servers share for certain when each was read at least so long as this part of the one that was read longest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsePart:
    """The part of one use of one model that is put down to one device; quantities are None where nobody told them.

    `splits` say by what the whole was split, from the model to the device; empty where it was not.
    """

    subject: Subject
    endpoint: str
    served_model: str
    use: ModelUse  # the whole of which this is a part
    share_ratio: float
    certainty: Certainty
    splits: tuple[str, ...]

    def quantity(self, name: str) -> float | None:
        """The part of one of USE_QUANTITIES."""
        whole: float | None = getattr(self.use, name)
        return None if whole is None else whole * self.share_ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class UnattributedUse:
    """A use, or the share of it, that is put down to no device, and why, as a clause.

    `endpoints` are the servers that did it together; empty where it is known of none.
    """

    use: ModelUse
    reason: str
    share_ratio: float = 1.0
    endpoints: tuple[str, ...] = ()

    def quantity(self, name: str) -> float | None:
        """The part of one of USE_QUANTITIES that is left."""
        whole: float | None = getattr(self.use, name)
        return None if whole is None else whole * self.share_ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class CostAttribution:
    """What a source of use and cost totals for one cluster and window, by device as far as that can be told.

    `spread` says what was assumed where the source tells longer spans than the window; then every part is a guess.
    """

    told_by: str | None
    dimension: str
    spread: str | None
    parts: tuple[UsePart, ...]
    unattributed: tuple[UnattributedUse, ...]
    links: tuple[Link, ...]  # from each model of the gateway to that of a server
    conflicts: tuple[Conflict, ...]

    def attributed(self, quantity: str) -> float:
        """How much of a quantity is put down to devices."""
        return sum(part.quantity(quantity) or 0.0 for part in self.parts)

    def rest(self, quantity: str) -> float:
        """How much of it is not."""
        return sum(one.quantity(quantity) or 0.0 for one in self.unattributed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Match:
    """The servers that offer a model of a gateway, each with the names under which it does."""

    reason: LinkReason
    servers: tuple[tuple[ServerWork, tuple[str, ...]], ...]

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.server.fact.endpoint for one, _ in self.servers))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Split:
    """The share of each server of a match, by what it was split, and how sure that makes the shares."""

    weights: tuple[float, ...]
    by: str | None = None
    certainty: Certainty = Certainty.CERTAIN


def attribute_costs(facts: JoinFacts, work: Attribution) -> CostAttribution:
    """Put the uses of models down to the devices that served them."""
    offers = _offers(work)
    matches: dict[str, _Match | str] = {}
    parts: list[UsePart] = []
    rest: list[UnattributedUse] = []
    links: set[Link] = set()
    conflicts: list[Conflict] = []
    for use in facts.uses:
        elsewhere = provider_elsewhere(use.model, use.provider, facts.aliases)
        if elsewhere is not None:
            rest.append(UnattributedUse(use=use, reason=f"{elsewhere} served it, not this cluster"))
            continue
        if use.model not in matches:
            matches[use.model] = _match(use.model, offers, facts.aliases, conflicts)
        match = matches[use.model]
        if isinstance(match, str):
            rest.append(UnattributedUse(use=use, reason=match))
            continue
        links |= {
            Link(source=use.model, target=name, reason=match.reason) for _, names in match.servers for name in names
        }
        put_down, left = _put_down(use, match, facts.uses_spread)
        parts += put_down
        rest += left
    return CostAttribution(
        told_by=facts.told_by,
        dimension=facts.dimension,
        spread=facts.uses_spread,
        parts=tuple(parts),
        unattributed=tuple(rest),
        links=tuple(sorted(links)),
        conflicts=tuple(conflicts),
    )


def _offers(work: Attribution) -> dict[ServedName, list[ServerWork]]:
    """Servers by the models they offer."""
    offers: defaultdict[ServedName, list[ServerWork]] = defaultdict(list)
    for one in work.servers:
        names = {ServedName(name=model.name, root=model.root) for model in one.server.fact.models}
        known = {name.name for name in names}
        names |= {ServedName(name=seen.model) for seen in one.server.traffic if seen.model and seen.model not in known}
        for name in names:
            offers[name].append(one)
    return offers


def _match(
    model: str,
    offers: Mapping[ServedName, list[ServerWork]],
    aliases: Mapping[str, str],
    conflicts: list[Conflict],
) -> _Match | str:
    """The servers that offer a model, or why none is found."""
    found: dict[LinkReason, list[ServedName]] = {}
    for served in offers:
        reason = same_model(model, served, aliases)
        if reason is not None:
            found.setdefault(reason, []).append(served)
    if not found:
        return "no server that is read offers it"
    best = min(found, key=lambda one: one.strength)
    names = sorted({served.name for served in found[best]})
    if len(names) > 1 and best is not LinkReason.SAME_ROOT:
        said = tuple(Link(source=model, target=name, reason=best) for name in names)
        conflicts.append(Conflict(subject=model, links=said, outcome="Its use is put down to none of them."))
        return f"{len(names)} served models may be it: {', '.join(names)}"
    servers: dict[int, tuple[ServerWork, tuple[str, ...]]] = {}
    for served in sorted(found[best], key=lambda one: (one.name, one.root or "")):
        for one in offers[served]:
            known = servers.get(id(one), (one, ()))[1]
            servers[id(one)] = (one, known if served.name in known else (*known, served.name))
    return _Match(reason=best, servers=tuple(servers.values()))


def _put_down(use: ModelUse, match: _Match, spread: str | None) -> tuple[list[UsePart], list[UnattributedUse]]:
    """The parts of a use by server and device, and what stays without one."""
    split = _split(match)
    if isinstance(split, str):
        return [], [UnattributedUse(use=use, reason=split, endpoints=match.endpoints)]
    in_window = Certainty.CERTAIN if spread is None else Certainty.GUESSED
    parts: list[UsePart] = []
    left: list[UnattributedUse] = []
    for (one, names), weight in zip(match.servers, split.weights, strict=True):
        if not weight:
            continue
        if one.unattributed is not None:
            endpoint = one.server.fact.endpoint
            reason = f"{endpoint} served it, and {one.unattributed}"
            left.append(UnattributedUse(use=use, reason=reason, share_ratio=weight, endpoints=(endpoint,)))
            continue
        certainty = weakest([one.devices.certainty, match.reason.certainty, split.certainty, in_window])
        for subject, share in one.shares.items():
            parts.append(
                UsePart(
                    subject=subject,
                    endpoint=one.server.fact.endpoint,
                    served_model=_name_of(one, names),
                    use=use,
                    share_ratio=weight * share,
                    certainty=certainty,
                    splits=tuple(text for text in (split.by, one.split) if text),
                )
            )
    return parts, left


def _split(match: _Match) -> _Split | str:
    """The shares of the servers, or why they cannot be told."""
    if len(match.servers) == 1:
        return _Split(weights=(1.0,))
    endpoints = len(match.endpoints)
    many = f"{endpoints} servers offer it" if endpoints > 1 else "its server moved in the window"
    over = f"split over {endpoints} servers" if endpoints > 1 else "split over the places of its server"
    is_counted = False
    for what, quantities in (("tokens", ("prompt_tokens", "generation_tokens")), ("requests", ("requests",))):
        counted = [_counted(one, names, quantities) for one, names in match.servers]
        known = [value for value in counted if value is not None]
        if len(known) < len(counted):
            continue
        is_counted = True
        if sum(known) > 0:
            by = f"{over} by the {what} that each counted for it"
            weights = tuple(value / sum(known) for value in known)
            certainty = Certainty.CERTAIN
            if endpoints > 1 and not all(_is_counted_apart(one, names) for one, names in match.servers):
                by = f"{over} by the {what} that each counted for this and other models, which they do not count apart"
                certainty = Certainty.GUESSED
            covered_s = _covered_s(match)
            if min(covered_s) < ALIKE_COVERED_RATIO * max(covered_s):
                by += f", which were read over {min(covered_s) / 60:.0f} to {max(covered_s) / 60:.0f} minutes"
                certainty = weakest([certainty, Certainty.LIKELY])
            return _Split(weights=weights, by=by, certainty=certainty)
    if is_counted:
        return f"{many}, and none of them counted a token or a request of it"
    return f"{many}, and not all of them count its tokens or its requests"


def _covered_s(match: _Match) -> list[float]:
    """How long each server was read; of one that moved, in all of its places."""
    read_s: defaultdict[str, float] = defaultdict(float)
    for one, _ in match.servers:
        read_s[one.server.fact.endpoint] += one.server.counted_s
    return list(read_s.values())


def _name_of(work: ServerWork, names: tuple[str, ...]) -> str:
    """The name under which a server counts a model that it offers under several."""
    counted = {seen.model for seen in work.server.traffic}
    return next((name for name in names if name in counted), names[0])


def _is_counted_apart(work: ServerWork, names: tuple[str, ...]) -> bool:
    """Whether what a server counted for these names is of that model alone.

    Engines count the adapters of a model with the model itself, and a model of several names under the first of them.
    """
    counted = {seen.model for seen in work.server.traffic}
    offered = work.server.fact.models
    roots = {model.root for model in offered if model.name in names and model.root}
    others = {model for model in offered if model.name not in names and model.root not in roots}
    if counted & set(names):
        return all(model.name in counted for model in others if model.parent in names)
    return not others


def _counted(work: ServerWork, names: tuple[str, ...], quantities: tuple[str, ...]) -> float | None:
    """What a server counted for a model; all that it counted where it does not count that one apart."""
    traffic = work.server.traffic
    own = tuple(one for one in traffic if one.model in names) or traffic
    counted = [value for name in quantities if (value := total(own, name)) is not None]
    return sum(counted) if counted else None
