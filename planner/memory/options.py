"""Which devices hold a model for a need: profiles, whole GPUs and several of them, cheapest first, with every refusal.

The need is `concurrency` requests of `context` tokens at once. An option fits when the low end of the range holds them,
and is tight when only the middle or the high end does. Media variants of a profile (`+me`, `+gfx`, `-me`) hold the same
memory as the plain one and are left out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from planner.errors import PlannerError
from planner.hardware import Board, Profile
from planner.memory.devices import MeasuredMemory, device_name, device_of
from planner.memory.engines import estimate_run
from planner.memory.errors import UnknownMemory
from planner.memory.estimate import Engine, Estimate, Run, Verdict
from planner.memory.experience import NO_EXPERIENCE, Experience, corrected_run
from planner.memory.facts import ModelFacts

RANKS: Final = (1, 2, 4, 8)


class ImpossibleNeed(PlannerError):
    """No device can serve this need; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """So many requests at once, each of so many tokens, prompt and answer together."""

    context: int
    concurrency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How weights and cache are kept; None is as the checkpoint stores them."""

    quantization: str | None = None
    kv_cache_dtype: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is asked of every option alike. `prices`: of one whole GPU by catalogue id, in USD per hour.

    `experience` is what earlier runs measured: memory of devices, and corrections of the options that they speak for.
    """

    engine: Engine = Engine.VLLM
    engine_version: str | None = None
    precisions: Sequence[Precision] = (Precision(),)
    ranks: Sequence[int] = RANKS
    gpu_memory_utilization: float | None = None
    max_num_batched_tokens: int | None = None
    enforce_eager: bool = False
    prices: Mapping[str, float] = field(default_factory=dict)
    experience: Experience = NO_EXPERIENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One device option with its answer; `verdict` is None and `reason` says why where none could be had.

    `gpus_taken` is the share of GPU memory that others cannot use: 0.5 for a 3g.40gb, 2 for two whole GPUs.
    `memory_taken_bytes` is the same in bytes, by which options without a price are ordered.
    """

    board: str
    profile: str | None
    gpus: int
    precision: Precision
    gpus_taken: float | None
    memory_taken_bytes: int | None
    price_usd_per_hour: float | None
    verdict: Verdict | None
    reason: str
    run: Run | None = None
    estimate: Estimate | None = None

    @property
    def device(self) -> str:
        """As people write it."""
        name = device_name(self.board, self.profile)
        return name if self.gpus == 1 else f"{self.gpus} x {name}"

    @property
    def is_accepted(self) -> bool:
        """Whether it holds the need, surely or by the middle of the range."""
        return self.verdict in (Verdict.FITS, Verdict.TIGHT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Options that hold the need, cheapest first, and those that do not, in the same order."""

    options: tuple[Option, ...]
    rejected: tuple[Option, ...]


def search(model: ModelFacts, need: Need, boards: Iterable[Board], terms: Terms | None = None) -> Search:
    """Every option of these boards; raises ImpossibleNeed where the model itself cannot serve the need."""
    asked = terms or Terms()
    _refuse(model, need)
    measured = asked.experience.memory
    found = [
        _option(model, need, asked, board, profile, gpus, precision, measured)
        for board in boards
        for profile, gpus in _devices(board, asked.ranks)
        for precision in asked.precisions
    ]
    found.sort(key=_cost)
    return Search(
        options=tuple(option for option in found if option.is_accepted),
        rejected=tuple(option for option in found if not option.is_accepted),
    )


def _refuse(model: ModelFacts, need: Need) -> None:
    if need.context < 1 or need.concurrency < 1:
        raise ImpossibleNeed("A need is at least one request of one token; give --context and --concurrency above 0.")
    if not model.is_text:
        raise ImpossibleNeed(f"{model.name} does not generate text ({model.architecture}). Choose a language model.")
    if model.max_positions is not None and need.context > model.max_positions:
        raise ImpossibleNeed(
            f"{model.name} is made for {model.max_positions:,} tokens, and {need.context:,} are asked for. "
            "Give a shorter --context, or a configuration with another rope scaling."
        )


def _devices(board: Board, ranks: Sequence[int]) -> Iterator[tuple[Profile | None, int]]:
    for profile in board.profiles:
        if not profile.variant:
            yield profile, 1
    for count in ranks:
        yield None, count


def _option(
    model: ModelFacts,
    need: Need,
    asked: Terms,
    board: Board,
    profile: Profile | None,
    gpus: int,
    precision: Precision,
    measured: Mapping[str, MeasuredMemory],
) -> Option:
    taken = _share(board, profile)
    share = None if taken is None else taken * gpus
    price = asked.prices.get(board.name)
    run = estimate = verdict = None
    size = board.memory_total_bytes
    try:
        whole = size or device_of(board).memory_bytes
    except UnknownMemory:
        whole = None
    try:
        run = Run(
            model=model,
            device=device_of(board, profile, measured=measured),
            engine=asked.engine,
            engine_version=asked.engine_version,
            tensor_parallel=gpus,
            quantization=precision.quantization,
            kv_cache_dtype=precision.kv_cache_dtype,
            max_model_len=need.context,
            max_num_seqs=need.concurrency,
            max_num_batched_tokens=asked.max_num_batched_tokens,
            gpu_memory_utilization=asked.gpu_memory_utilization if asked.engine is Engine.VLLM else None,
            enforce_eager=asked.enforce_eager,
        )
        run = corrected_run(run, asked.experience)
        estimate = estimate_run(run)
        verdict, reason = _judged(estimate, need, asked.engine)
    except PlannerError as error:
        reason = str(error)
    return Option(
        board=board.name,
        profile=None if profile is None else profile.name,
        gpus=gpus,
        precision=precision,
        gpus_taken=share,
        memory_taken_bytes=None if share is None or whole is None else round(share * whole),
        price_usd_per_hour=None if price is None or share is None else price * share,
        verdict=verdict,
        reason=reason,
        run=run,
        estimate=estimate,
    )


def _share(board: Board, profile: Profile | None) -> float | None:
    """Share of the GPU's memory slices; by its bytes where no source states the placements."""
    if profile is None:
        return 1.0
    if profile.memory_slices is not None and board.placement_grid:
        return profile.memory_slices / board.placement_grid
    if profile.memory_bytes is not None and board.memory_total_bytes:
        return profile.memory_bytes / board.memory_total_bytes
    return None


def _judged(estimate: Estimate, need: Need, engine: Engine) -> tuple[Verdict, str]:
    """The estimate's own verdict is that of one request; here all of them must find room at once."""
    if engine is not Engine.VLLM or estimate.verdict is Verdict.DOES_NOT_FIT or not estimate.max_concurrency:
        return estimate.verdict, " ".join(estimate.reasons)
    middle, pool = estimate.max_concurrency, max(estimate.kv_cache_bytes, 1)
    low, high = (middle * max(end, 0) / pool for end in (estimate.kv_cache_low_bytes, estimate.kv_cache_high_bytes))
    room = f"Room for {middle:.2f} requests of {need.context:,} tokens at once, {low:.2f} at the least"
    if high < need.concurrency:
        lacking = f"{room} and {high:.2f} at the most; {need.concurrency} are needed."
        return Verdict.DOES_NOT_FIT, f"{lacking} {estimate.reasons[0]}"
    if low < need.concurrency:
        return Verdict.TIGHT, f"{room}; {need.concurrency} are needed. {estimate.reasons[0]}"
    if estimate.verdict is Verdict.TIGHT:
        return Verdict.TIGHT, " ".join((*estimate.reasons[1:], f"{room}."))
    return Verdict.FITS, f"{room}; {need.concurrency} are needed."


def _cost(option: Option) -> tuple[bool, float, bool, float, float, int, str]:
    """Priced ones first by price; then by GPU memory taken, by GPUs taken, and the better verdict before the worse."""
    price, memory, share = option.price_usd_per_hour, option.memory_taken_bytes, option.gpus_taken
    order = list(Verdict).index(option.verdict) if option.verdict else len(Verdict)
    return price is None, price or 0.0, memory is None, memory or 0.0, share or 0.0, order, option.device
