"""The verdict of one rank of vLLM, with the sentences behind it, and the smallest share of the device that fits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, sqrt

from planner.memory.estimate import Run, Term, Verdict
from planner.memory.vllm_kv_cache import KvPlan
from planner.memory.vllm_overheads import late_bytes
from planner.memory.vllm_refusals import doubts, outside_wanted, refusals
from planner.memory.vllm_settings import Settings
from planner.units import GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the terms leave of a share of the device, with the range it may lie in: their errors add as squares."""

    run: Run
    settings: Settings
    terms: tuple[Term, ...]
    plan: KvPlan

    @property
    def budget(self) -> int:
        """Bytes that vLLM may use."""
        return floor(self.run.device.memory_bytes * self.settings.utilization)

    @property
    def taken(self) -> int:
        """What the terms take."""
        return sum(term.bytes for term in self.terms)

    @property
    def above(self) -> float:
        """By how much more they may take."""
        return sqrt(sum((term.high - term.bytes) ** 2 for term in self.terms))

    @property
    def pool(self) -> int:
        """What is left for the cache."""
        return self.budget - self.taken

    @property
    def low(self) -> int:
        """What is left at the least."""
        return floor(self.pool - self.above)

    @property
    def high(self) -> int:
        """What is left at the most."""
        return floor(self.pool + sqrt(sum((term.bytes - term.low) ** 2 for term in self.terms)))

    @property
    def need(self) -> int:
        """What one request of the longest length takes of the cache."""
        return self.plan.bytes_per_request(self.settings.max_model_len) if self.plan.groups else 0


def judge(room: Room) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict and its reasons, the deciding one first."""
    refused = refusals(room.run, room.settings)
    verdict, reasons = _by_memory(room)
    if refused:
        rest = reasons if verdict is Verdict.DOES_NOT_FIT else reasons[:1]
        return Verdict.DOES_NOT_FIT, (*refused, *rest)
    if verdict is Verdict.DOES_NOT_FIT:
        return verdict, reasons
    open_questions = (*doubts(room.run, room.settings), *_late(room, room.settings.utilization))
    if not room.plan.known:
        open_questions += (
            f"{room.run.model.architecture} keeps a compressed cache whose pages no public rule gives: measure it.",
        )
    if verdict is Verdict.TIGHT or not open_questions:
        return verdict, (*reasons, *open_questions)
    return Verdict.TIGHT, (reasons[0], *open_questions)


def smallest_share(room: Room) -> float | None:
    """The smallest gpu_memory_utilization, in steps of 0.01, at which the answer is `fits`; None where none is.

    A refusal or a doubt that does not rest on the share leaves none.
    """
    run, device = room.run, room.run.device.memory_bytes
    needed = room.taken + room.above + max(room.need, 1)
    for step in range(max(1, ceil(100 * needed / device)), 101):
        share = step / 100
        if floor(device * share) - room.taken - room.above < max(room.need, 1):
            continue  # the budget is rounded down
        if device - floor(device * share) < outside_wanted(run, room.settings.version)[1] or _late(room, share):
            return None  # with a larger share still less stays outside
        return None if _is_open_at(room, share) else share
    return None


def _is_open_at(room: Room, share: float) -> bool:
    settings = replace(room.settings, utilization=share)
    return bool(refusals(room.run, settings) or doubts(room.run, settings)) or not room.plan.known


def _by_memory(room: Room) -> tuple[Verdict, tuple[str, ...]]:
    run, settings, plan = room.run, room.settings, room.plan
    device, low, middle, high, need = run.device, room.low, room.pool, room.high, room.need
    parts = ", ".join(f"{term.name.replace('_', '-')} {gib(term.bytes)}" for term in room.terms)
    request = f"one request of {settings.max_model_len:,} tokens {gib(need)}"
    has = f"{device.name} gives {gib(room.budget)} GiB ({settings.utilization:.2f} of {gib(device.memory_bytes)})"
    needs = f"Needs {gib(room.taken + need)} GiB ({parts}, {request}); {has}."
    weights = room.terms[0]
    if weights.low > device.memory_bytes:
        return Verdict.DOES_NOT_FIT, (
            f"The weights alone need {gib(weights.bytes)} GiB; {device.name} has {gib(device.memory_bytes)} GiB.",
        )
    minimum = max(need, 1)
    if high < minimum:
        if high <= 0:
            return Verdict.DOES_NOT_FIT, (needs, f"Nothing is left for the cache: {gib(middle)} GiB.")
        longest = plan.longest(max(0, middle), settings.max_model_len)
        short = (
            f"{gib(middle)} GiB are left for the cache and one request of {settings.max_model_len:,} tokens takes "
            f"{gib(need)}; the longest that fits is {longest:,} tokens."
        )
        return Verdict.DOES_NOT_FIT, (needs, short)
    if low < minimum:
        margin = f"The cache is left {gib(low)} to {gib(high)} GiB, and one request takes {gib(need)}."
        return Verdict.TIGHT, (needs, margin)
    return Verdict.FITS, (needs, _left(room))


def _left(room: Room) -> str:
    """What is left, and how many of the sequences that may run at once it holds when each is as long as can be."""
    left = f"{gib(room.pool)} GiB are left for the cache"
    at_once = room.plan.concurrency(room.pool, room.settings.max_model_len)
    if at_once is None or at_once >= room.settings.max_num_seqs:
        return f"{left}."
    return (
        f"{left}: room for {at_once:.1f} requests of the longest length at once, fewer than the "
        f"{room.settings.max_num_seqs:,} that --max-num-seqs admits; the others wait."
    )


def _late(room: Room, share: float) -> Sequence[str]:
    """What is taken after the cache was sized may find too little outside of the share."""
    version, device = room.settings.version, room.run.device.memory_bytes
    activation = next(term.bytes for term in room.terms if term.name == "activation")
    survived, wanted = late_bytes(room.run, room.settings, activation)
    spare = device - floor(device * share)
    risky = share >= 0.94 and not version.charges_graphs and room.run.model.experts is not None
    if spare < survived or (risky and spare < wanted):
        outside = (
            f"{gib(spare)} GiB stay outside the budget, less than CUDA graphs and one sampling step may take "
            f"({gib(wanted)}): start-up may still run out of memory. Lower --gpu-memory-utilization."
        )
        return (outside,)
    return ()


def gib(size: int) -> str:
    """GiB with one decimal; what is there is never 0.0."""
    rounded = size / GIB
    return f"{ceil(rounded * 10) / 10:.1f}" if 0 < rounded < 0.1 else f"{rounded:.1f}"
