"""What the requests to each simulated deployment are like: a fixed round of them per band of load, repeated for ever.

Request number i of a band is the round's i-th modulo its length, so that what any number of requests adds up to costs a
look-up. Times are whole microseconds: sums are exact, and the same however they are taken.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import lru_cache

from sample_data.deployments import DEPLOYMENTS, Engine

ROUND = 128
"""Requests of one round; divisible by every number of data-parallel ranks in use."""

BLOCK_TOKENS = 16
"""Tokens of one block of the KV cache; prefixes are cached in whole blocks."""


class Band(IntEnum):
    """How busy the server is when the request comes."""

    LIGHT = 0
    BUSY = 1
    FULL = 2


def band_of(level: float) -> Band:
    """The band of a level of demand, 0..1."""
    return Band.FULL if level >= 0.85 else Band.BUSY if level >= 0.55 else Band.LIGHT


class FinishReason(StrEnum):
    """How a request ended."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"  # the client went away
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestShape:
    """One request: tokens, and where its time went in microseconds."""

    reason: FinishReason
    prompt_tokens: int
    cached_tokens: int  # of the prompt, found in the prefix cache
    generation_tokens: int
    preemptions: int
    queue_us: int
    prefill_us: int
    gap_us: int  # between two tokens, each time

    @property
    def gaps(self) -> int:
        """How many times a token followed another."""
        return max(self.generation_tokens - 1, 0)

    @property
    def ttft_us(self) -> int:
        """From arrival to the first token."""
        return self.queue_us + self.prefill_us

    @property
    def decode_us(self) -> int:
        """From the first token to the last."""
        return self.gaps * self.gap_us

    @property
    def inference_us(self) -> int:
        """Prefill and decode."""
        return self.prefill_us + self.decode_us

    @property
    def e2e_us(self) -> int:
        """From arrival to the last token."""
        return self.queue_us + self.inference_us


class Quantity(StrEnum):
    """What a histogram can be asked of; times in seconds. All but GAP have one value per request."""

    TTFT = "ttft"
    GAP = "gap"  # every gap between two tokens
    MEAN_GAP = "mean_gap"  # one per request that has a gap
    E2E = "e2e"
    QUEUE = "queue"
    PREFILL = "prefill"
    DECODE = "decode"
    INFERENCE = "inference"
    PROMPT_TOKENS = "prompt_tokens"
    GENERATION_TOKENS = "generation_tokens"


VALUES: dict[Quantity, Callable[[RequestShape], int]] = {
    Quantity.TTFT: lambda shape: shape.ttft_us,
    Quantity.GAP: lambda shape: shape.gap_us,
    Quantity.MEAN_GAP: lambda shape: shape.gap_us,
    Quantity.E2E: lambda shape: shape.e2e_us,
    Quantity.QUEUE: lambda shape: shape.queue_us,
    Quantity.PREFILL: lambda shape: shape.prefill_us,
    Quantity.DECODE: lambda shape: shape.decode_us,
    Quantity.INFERENCE: lambda shape: shape.inference_us,
    Quantity.PROMPT_TOKENS: lambda shape: shape.prompt_tokens,
    Quantity.GENERATION_TOKENS: lambda shape: shape.generation_tokens,
}

PER_UNIT: dict[Quantity, int] = {
    quantity: 1 if quantity in (Quantity.PROMPT_TOKENS, Quantity.GENERATION_TOKENS) else 1_000_000
    for quantity in Quantity
}
"""How many of `VALUES`' units make one of the histogram's."""


def weight(quantity: Quantity, shape: RequestShape) -> int:
    """How many values of a quantity one request contributes."""
    if quantity is Quantity.GAP:
        return shape.gaps
    return int(shape.gaps > 0) if quantity is Quantity.MEAN_GAP else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficShape:
    """What clients send to one replica of a deployment when demand is at its peak, and how fast it is served."""

    peak_requests_per_s: float
    prompt_tokens: int  # typical; the few long ones are ten times that
    generation_tokens: int
    cached_ratio: float  # of the prompt
    gap_us: int
    prefill_us_per_token: int
    kv_cache_tokens: int


_SHAPES: dict[str, TrafficShape] = {
    name: TrafficShape(
        peak_requests_per_s=rate,
        prompt_tokens=prompt,
        generation_tokens=generated,
        cached_ratio=cached,
        gap_us=gap,
        prefill_us_per_token=prefill,
        kv_cache_tokens=kv,
    )
    for name, rate, prompt, generated, cached, gap, prefill, kv in (
        ("qwen3-235b", 3.2, 900, 320, 0.45, 21_000, 45, 196_608),
        ("llama-70b", 2.5, 800, 260, 0.30, 33_000, 90, 43_008),
        ("qwen-coder-32b", 3.0, 1500, 140, 0.60, 19_000, 60, 65_536),
        ("mistral-small-24b", 4.5, 1200, 180, 0.20, 16_000, 35, 98_304),
        ("mixtral-8x7b-legacy", 1.0, 600, 200, 0.0, 24_000, 60, 131_072),
        ("llama-8b", 5.0, 500, 160, 0.40, 9_000, 20, 49_152),
        ("phi-4-mini", 1.2, 350, 120, 0.25, 11_000, 30, 16_384),
        ("qwen-7b", 4.0, 450, 170, 0.0, 12_000, 30, 40_960),
        ("codellama-34b-old", 1.0, 700, 200, 0.0, 26_000, 70, 65_536),
        ("bge-m3", 9.0, 380, 0, 0.0, 0, 12, 0),
        ("bge-reranker", 6.0, 520, 0, 0.0, 0, 14, 0),
        ("e5-mistral", 7.0, 460, 0, 0.0, 0, 40, 0),
        ("gte-large", 8.0, 300, 0, 0.0, 0, 9, 0),
        ("bge-small-old", 1.0, 200, 0, 0.0, 0, 6, 0),
    )
}
_OLLAMA = TrafficShape(
    peak_requests_per_s=0.22,
    prompt_tokens=420,
    generation_tokens=190,
    cached_ratio=0.1,
    gap_us=17_000,
    prefill_us_per_token=110,
    kv_cache_tokens=16_384,
)


def traffic_shape(deployment: str) -> TrafficShape | None:
    """What is sent to a deployment; None for one that serves no model."""
    if deployment in _SHAPES:
        return _SHAPES[deployment]
    return _OLLAMA if DEPLOYMENTS[deployment].engine is Engine.OLLAMA else None


_QUEUE_US = {Band.LIGHT: (40, 900), Band.BUSY: (300, 160_000), Band.FULL: (180_000, 7_500_000)}
_SLOWER = {Band.LIGHT: 1.0, Band.BUSY: 1.25, Band.FULL: 1.6}
_LONGEST_TOKENS = 12_000


@lru_cache(maxsize=512)
def request_round(deployment: str, band: Band) -> tuple[RequestShape, ...]:
    """The round of requests of one deployment in one band; the same on every machine."""
    shape = traffic_shape(deployment)
    if shape is None:
        return ()
    rng = random.Random(f"{deployment}/{int(band)}")
    return tuple(_request(shape, band, number, rng) for number in range(ROUND))


def _request(shape: TrafficShape, band: Band, number: int, rng: random.Random) -> RequestShape:
    prompt = _spread(rng, shape.prompt_tokens)
    generated = _spread(rng, shape.generation_tokens) if shape.generation_tokens else 0
    chance, cached_share = rng.random(), rng.random()
    reason = FinishReason.STOP if chance > 0.12 else FinishReason.LENGTH
    if reason is FinishReason.LENGTH and not generated:
        reason = FinishReason.STOP
    if number % 64 == 17:
        reason, generated = FinishReason.ABORT, generated // 3
    if band is Band.FULL and number == 101:
        reason, generated = FinishReason.ERROR, 0
    cached = min(int(2 * shape.cached_ratio * cached_share * prompt), prompt - 1) // BLOCK_TOKENS * BLOCK_TOKENS
    low, high = _QUEUE_US[band]
    return RequestShape(
        reason=reason,
        prompt_tokens=prompt,
        cached_tokens=max(cached, 0),
        generation_tokens=generated,
        preemptions=int(band is Band.FULL and number % 16 == 3 and generated > 0),
        queue_us=round(math.exp(rng.uniform(math.log(low), math.log(high)))),
        prefill_us=6_000 + round((prompt - cached) * shape.prefill_us_per_token * _SLOWER[band]),
        gap_us=round(shape.gap_us * _SLOWER[band] * rng.uniform(0.85, 1.3)),
    )


def _spread(rng: random.Random, typical: int) -> int:
    return min(max(round(typical * math.exp(rng.gauss(0.0, 0.8))), 4), _LONGEST_TOKENS)
