"""The answer to the question of the page "Will it fit?": every option with its terms, and one looked at closely."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from dashboard.will_it_fit_question import Question, model_of
from planner.catalog import load_catalog
from planner.errors import PlannerError
from planner.memory.engines import estimate_run
from planner.memory.estimate import Basis, Engine, Run, Term, Verdict
from planner.memory.experience import NO_EXPERIENCE, Experience
from planner.memory.facts import ModelFacts
from planner.memory.options import Need, Option, Precision, Search, Terms, search
from planner.memory.vllm_kv_cache import kv_plan
from planner.memory.vllm_settings import settings_of

CURVE_POINTS: Final = 14
_SHORTEST: Final = 512
_MOST_SLOTS: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionBar:
    """What one option needs for all requests at once, beside what its device gives one rank.

    `parts` are terms in order, the cache last and as large as the need; `low` and `high` bound their sum.
    """

    option: Option
    parts: tuple[Term, ...]
    need_bytes: int
    low_bytes: int
    high_bytes: int
    usable_bytes: int
    device_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Everything the page shows of a question but the closer look; `unanswered` are options nothing is known of."""

    question: Question
    model: ModelFacts
    bars: tuple[OptionBar, ...]  # those that hold it, cheapest first, then those that do not
    unanswered: tuple[Option, ...]

    def bar(self, device: str | None) -> OptionBar | None:
        """The one of that name; without one the cheapest that holds the need, else the roomiest."""
        named = next((bar for bar in self.bars if bar.option.device == device), None)
        if named is not None or not self.bars:
            return named
        fitting = next((bar for bar in self.bars if bar.option.verdict is Verdict.FITS), None)
        return fitting or next(
            (bar for bar in self.bars if bar.option.is_accepted),
            min(self.bars, key=lambda bar: bar.need_bytes / max(bar.usable_bytes, 1)),
        )

    def count(self, verdict: Verdict) -> int:
        """Options of that verdict."""
        return sum(bar.option.verdict is verdict for bar in self.bars)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """How many requests of `context` tokens one option holds at once: expected, at least and at most."""

    context: int
    low: float
    middle: float
    high: float


def answer(question: Question, experience: Experience = NO_EXPERIENCE) -> Answer:
    """The answer, remembered by what it depends on; raises PlannerError where there is none for any option."""
    return replace(_answer(replace(question, option=None), experience), question=question)


@lru_cache(maxsize=64)
def _answer(question: Question, experience: Experience) -> Answer:
    model = model_of(question)
    found = _search(question, model, experience)
    options = [
        option for option in (*found.options, *found.rejected) if question.with_profiles or option.profile is None
    ]
    bars = [bar for option in options if (bar := _bar(option, question.concurrency)) is not None]
    drawn = {bar.option.device for bar in bars}
    return Answer(
        question=question,
        model=model,
        bars=tuple(bars),
        unanswered=tuple(option for option in options if option.device not in drawn),
    )


def _search(question: Question, model: ModelFacts, experience: Experience) -> Search:
    boards = [load_catalog().board(name) for name in question.boards]
    terms = Terms(
        engine=question.engine,
        engine_version=question.engine_version,
        precisions=(Precision(quantization=question.quantization, kv_cache_dtype=question.kv_cache_dtype),),
        ranks=question.gpus,
        gpu_memory_utilization=question.gpu_memory_utilization,
        max_num_batched_tokens=question.max_num_batched_tokens,
        enforce_eager=question.enforce_eager,
        prices=dict(question.prices),
        experience=experience,
    )
    return search(model, Need(context=question.context, concurrency=question.concurrency), boards, terms)


def _bar(option: Option, concurrency: int) -> OptionBar | None:
    estimate, run = option.estimate, option.run
    if estimate is None or run is None or option.verdict is None:
        return None
    parts = [term for term in estimate.terms if term.name != "kv_cache"]
    pool = next((term for term in estimate.terms if term.name == "kv_cache"), None)
    if run.engine is Engine.VLLM:
        parts.append(_needed_cache(run, concurrency))
    elif pool is not None:
        parts.append(pool)
    fixed = [term for term in parts if term.name != "kv_cache"]
    need = sum(term.bytes for term in parts)
    if run.engine is Engine.VLLM:  # the engine's own range of what is left, mirrored: terms err independently
        above = estimate.kv_cache_bytes - estimate.kv_cache_low_bytes
        below = estimate.kv_cache_high_bytes - estimate.kv_cache_bytes
    else:
        above = sum(term.high - term.bytes for term in parts)
        below = sum(term.bytes - term.low for term in parts)
    return OptionBar(
        option=option,
        parts=(*fixed, *(term for term in parts if term.name == "kv_cache")),
        need_bytes=need,
        low_bytes=max(0, need - below),
        high_bytes=need + above,
        usable_bytes=estimate.budget_bytes,
        device_bytes=estimate.device_bytes,
    )


def _needed_cache(run: Run, concurrency: int) -> Term:
    """The cache of all requests at once, each of the longest length, in whole blocks."""
    settings = settings_of(run)
    plan = kv_plan(run, settings)
    each = plan.bytes_per_request(settings.max_model_len) if plan.groups else 0
    size = each * concurrency
    return Term(
        name="kv_cache",
        bytes=size,
        low=size,
        high=size,
        basis=Basis.FORMULA if plan.known else Basis.ASSUMED,
        source=f"{concurrency} x {settings.max_model_len:,} tokens in blocks (vllm/v1/core/kv_cache_utils.py)",
    )


def curve(question: Question, option: Option, experience: Experience = NO_EXPERIENCE) -> tuple[CurvePoint, ...]:
    """Requests at once by their length, from short ones to the model's longest; empty where the model keeps nothing."""
    return _curve(replace(question, option=None), option.device, experience)


@lru_cache(maxsize=128)
def _curve(question: Question, device: str, experience: Experience) -> tuple[CurvePoint, ...]:
    bar = _answer(question, experience).bar(device)
    if bar is None or bar.option.run is None:
        return ()
    run = bar.option.run
    longest = run.model.max_positions or max(question.context, 131_072)
    points = []
    for context in _contexts(question.context, longest):
        asked = replace(run, max_model_len=context)
        try:
            point = _vllm_point(asked, context) if run.engine is Engine.VLLM else _llama_point(asked, context)
        except PlannerError:
            continue
        if point is not None:
            points.append(point)
    return tuple(points)


def _contexts(asked: int, longest: int) -> list[int]:
    """Powers of two up to the longest, with what is asked for and the longest itself between them."""
    found = {asked, longest}
    context = _SHORTEST
    while context < longest and len(found) < CURVE_POINTS + 2:
        found.add(context)
        context *= 2
    return sorted(one for one in found if one <= longest)


def _vllm_point(run: Run, context: int) -> CurvePoint | None:
    estimate = estimate_run(run)
    if estimate.max_concurrency is None:
        return None
    plan = kv_plan(run, settings_of(run))
    low, middle, high = (
        plan.concurrency(max(0, pool), context) or 0.0
        for pool in (estimate.kv_cache_low_bytes, estimate.kv_cache_bytes, estimate.kv_cache_high_bytes)
    )
    return CurvePoint(context=context, low=low, middle=middle, high=high)


def _llama_point(run: Run, context: int) -> CurvePoint:
    """llama.cpp takes the cache of all slots at start: the most slots whose need stays within the device."""

    known: dict[int, tuple[Term, ...]] = {}

    def terms(slots: int) -> tuple[Term, ...]:
        if slots not in known:
            known[slots] = estimate_run(replace(run, max_num_seqs=slots, n_parallel=slots)).terms
        return known[slots]

    def most(size: Callable[[Term], int]) -> int:
        def holds(slots: int) -> bool:
            return sum(size(term) for term in terms(slots)) <= run.device.memory_bytes

        low, high = 0, 1
        while high <= _MOST_SLOTS and holds(high):
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if holds(middle) else (low, middle)
        return low

    return CurvePoint(
        context=context,
        low=most(lambda term: term.high),
        middle=most(lambda term: term.bytes),
        high=most(lambda term: term.low),
    )
