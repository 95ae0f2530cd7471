"""Tokens per second of the fleet: what engines counted, what is put down to devices, and why the rest is not."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from dashboard.data_age import DataAge, span_of
from planner.attribution import ServerWork
from store.join import JoinedCluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Unattributed:
    """Tokens per second of `engines` engines that are on no device, and why, as a clause."""

    reason: str
    engines: int
    tokens_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFlow:
    """Tokens per second, prompt and generated together; each engine over the time that its counters were read.

    What a server counted before it moved or ended is in the rates and among `unattributed`, and is no engine of now.

    The rates are None where no engine counts. `attributed_per_s` and the rates of `unattributed` add up to `per_s`.
    `uncounted` engines are read and tell no tokens: they are in none of the rates. `shortest_s` and `longest_s` say
    over how much time the counters were read.
    """

    engines: int
    uncounted: int
    per_s: float | None
    prompt_per_s: float | None
    generation_per_s: float | None
    attributed_per_s: float | None
    unattributed: tuple[Unattributed, ...]
    unattributed_per_s: float | None
    devices: int  # on which attributed tokens flowed
    shortest_s: float | None
    longest_s: float | None
    data_age: DataAge | None

    @property
    def attributed_share(self) -> float | None:
        """The share that is put down to devices; None where nothing flowed."""
        return self.attributed_per_s / self.per_s if self.per_s and self.attributed_per_s is not None else None


def token_flow(clusters: Sequence[JoinedCluster]) -> TokenFlow | None:
    """The tokens of all clusters; None where no engine is read."""
    servers = [(number, one) for number, joined in enumerate(clusters) for one in joined.work.servers]
    if not servers:
        return None
    counting = [(number, one, seconds) for number, one in servers if (seconds := _counted_s(one))]
    of_now = [one for _, one in servers if one.server.ended is None]
    counting_now = [seconds for _, one, seconds in counting if one.server.ended is None]
    whole = sum(_rate(one, seconds) for _, one, seconds in counting)
    rest: defaultdict[str, list[float]] = defaultdict(list)
    for _, one, seconds in counting:
        rate = _rate(one, seconds)
        if one.unattributed is not None and rate:
            rest[one.unattributed].append(rate)
    unattributed = tuple(
        Unattributed(reason=reason, engines=len(rates), tokens_per_s=sum(rates))
        for reason, rates in sorted(rest.items(), key=lambda item: -sum(item[1]))
    )
    devices = {
        (number, subject)
        for number, one, seconds in counting
        if _rate(one, seconds)
        for subject, share in one.shares.items()
        if share
    }
    known = bool(counting)
    return TokenFlow(
        engines=len(of_now),
        uncounted=len(of_now) - len(counting_now),
        per_s=whole if known else None,
        prompt_per_s=_summed(counting, "prompt_tokens"),
        generation_per_s=_summed(counting, "generation_tokens"),
        attributed_per_s=sum(_rate(one, s) * sum(one.shares.values()) for _, one, s in counting) if known else None,
        unattributed=unattributed,
        unattributed_per_s=sum(one.tokens_per_s for one in unattributed) if known else None,
        devices=len(devices),
        shortest_s=min(counting_now, default=None),
        longest_s=max(counting_now, default=None),
        data_age=span_of(one.server.fact.observed_at for one in of_now or [one for _, one in servers]),
    )


def _counted_s(one: ServerWork) -> float:
    """Over how many seconds its tokens are spread; 0 where it counts none."""
    if one.counted("prompt_tokens") is None and one.counted("generation_tokens") is None:
        return 0.0
    return one.server.counted_s if one.server.rate_s is None else one.server.rate_s


def _rate(one: ServerWork, seconds: float) -> float:
    return ((one.counted("prompt_tokens") or 0.0) + (one.counted("generation_tokens") or 0.0)) / seconds


def _summed(counting: Sequence[tuple[int, ServerWork, float]], quantity: str) -> float | None:
    rates = [value / seconds for _, one, seconds in counting if (value := one.counted(quantity)) is not None]
    return sum(rates) if rates else None
