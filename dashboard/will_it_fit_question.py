"""The question of the page "Will it fit?" as a value, and as parameters of an address that reproduces the page.

An address comes from anybody: every parameter has a type and a limit, boards are looked up in the catalogue, and a
model that was uploaded travels as its facts, packed, whose size is bounded before and after they are unpacked.
"""

import base64
import binascii
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from pydantic import TypeAdapter, ValidationError

from planner.catalog import load_catalog
from planner.errors import PlannerError
from planner.memory.estimate import Engine
from planner.memory.facts import ModelFacts
from planner.memory.model_catalogue import find_model, model_rows
from planner.memory.options import RANKS

MODEL_LIMIT: Final = 200
PACKED_LIMIT: Final = 20_000
"""Characters of packed facts; those of the catalogue need about 800, one with hundreds of kept modules more."""

UNPACKED_LIMIT_BYTES: Final = 512 * 1024
MOST_TOKENS: Final = 100_000_000
MOST_REQUESTS: Final = 65_536
MOST_BOARDS: Final = 12
MOST_USD_PER_HOUR: Final = 1e6
_MOST_LAYERS: Final = 10_000
_LARGEST_COUNT: Final = 10**15
_TEXT_LIMIT: Final = 60
_FACTS: Final = TypeAdapter(ModelFacts)
_DAMAGED: Final = "The model in the link is damaged, it may have been cut off: ask for the link again."


class QuestionInvalid(PlannerError):
    """The address asks what cannot be asked; the message names the parameter and what it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked. `packed` is an uploaded model, which goes before `model`; None: not set.

    `prices` are USD per hour of a whole GPU, of some of the boards and in their order.
    """

    model: str = "meta-llama/Llama-3.1-8B-Instruct"
    packed: str | None = None
    engine: Engine = Engine.VLLM
    engine_version: str | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    context: int = 8192
    concurrency: int = 8
    boards: tuple[str, ...] = ("H100-80GB-SXM", "A100-40GB", "L4")
    with_profiles: bool = True
    gpus: tuple[int, ...] = (1, 2)
    gpu_memory_utilization: float | None = None
    max_num_batched_tokens: int | None = None
    enforce_eager: bool = False
    prices: tuple[tuple[str, float], ...] = ()
    option: str | None = None  # the device that is looked at closely


_NAMES: Final = {
    "model": "model",
    "facts": "packed",
    "engine": "engine",
    "version": "engine_version",
    "weights": "quantization",
    "kv": "kv_cache_dtype",
    "context": "context",
    "concurrency": "concurrency",
    "boards": "boards",
    "mig": "with_profiles",
    "gpus": "gpus",
    "utilization": "gpu_memory_utilization",
    "batched": "max_num_batched_tokens",
    "eager": "enforce_eager",
    "prices": "prices",
    "option": "option",
}
PARAMETERS: Final = tuple(_NAMES)
"""What the page reads of its address; other parameters are none of its business."""


def to_parameters(question: Question) -> dict[str, str]:
    """The parameters that `from_parameters` reads: all of them, so that a later default changes no link."""
    found: dict[str, str] = {}
    for parameter, name in _NAMES.items():
        value = getattr(question, name)
        if parameter == "model" and question.packed is not None:
            continue
        if parameter == "prices":
            found |= {parameter: ",".join(f"{board}:{price!r}" for board, price in value)} if value else {}
        elif isinstance(value, tuple):
            found[parameter] = ",".join(str(one) for one in value)
        elif isinstance(value, bool):
            found[parameter] = "1" if value else "0"
        elif value is not None:
            found[parameter] = f"{value:g}" if isinstance(value, float) else str(value)
    return found


def from_parameters(parameters: Mapping[str, str]) -> Question:
    """The question of an address, defaults where it says nothing; raises QuestionInvalid."""
    told = {name: parameters[name] for name in PARAMETERS if name in parameters}
    default = Question()
    packed = told.get("facts")
    if packed is not None:
        unpack_facts(packed)
    boards = _boards(told.get("boards"), default.boards)
    return Question(
        model=_text(told, "model", MODEL_LIMIT) or default.model,
        packed=packed,
        engine=_engine(told),
        engine_version=_text(told, "version"),
        quantization=_text(told, "weights"),
        kv_cache_dtype=_text(told, "kv"),
        context=_count(told, "context", MOST_TOKENS) or default.context,
        concurrency=_count(told, "concurrency", MOST_REQUESTS) or default.concurrency,
        boards=boards,
        with_profiles=_switch(told, "mig", default=default.with_profiles),
        gpus=_ranks(told.get("gpus"), default.gpus),
        gpu_memory_utilization=_share(told),
        max_num_batched_tokens=_count(told, "batched", MOST_TOKENS),
        enforce_eager=_switch(told, "eager", default=default.enforce_eager),
        prices=_prices(told.get("prices", ""), boards),
        option=_text(told, "option", 100),
    )


def model_of(question: Question) -> ModelFacts:
    """The model that is asked about; raises UnreadableModel or QuestionInvalid."""
    if question.packed is not None:
        return unpack_facts(question.packed)
    facts, asked = find_model(question.model), question.model.strip()
    return replace(facts, name=asked) if "/" in asked else facts  # an alias is the checkpoint that people serve


@lru_cache(maxsize=1)
def model_names() -> tuple[str, ...]:
    """Every name of the catalogue and every alias, for a list to search in."""
    names = {name for row in model_rows().values() for name in (row.name, *row.aliases)}
    return tuple(sorted(names, key=str.lower))


def pack_facts(facts: ModelFacts) -> str:
    """Facts as text for an address; raises QuestionInvalid where they are too long for one."""
    text = json.dumps(_FACTS.dump_python(facts, mode="json", exclude_defaults=True), separators=(",", ":"))
    packed = base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")
    if len(packed) > PACKED_LIMIT or len(text) > UNPACKED_LIMIT_BYTES:
        raise QuestionInvalid(
            f"{facts.name[:80]} names too many modules for a link ({len(packed):,} characters, at most "
            f"{PACKED_LIMIT:,}). Take quantization_config out of the file and choose the precision on the page."
        )
    unpack_facts(packed)
    return packed


@lru_cache(maxsize=64)
def unpack_facts(packed: str) -> ModelFacts:
    """The facts of a text; raises QuestionInvalid for what no model can be."""
    if len(packed) > PACKED_LIMIT:
        raise QuestionInvalid(f"The model in the link has more than {PACKED_LIMIT:,} characters: upload it again.")
    try:
        raw = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(raw, UNPACKED_LIMIT_BYTES)
        if unpacker.unconsumed_tail or not unpacker.eof:
            raise QuestionInvalid(_DAMAGED)
        body = json.loads(text)
        _refuse_sizes(body)
        facts = _FACTS.validate_python(body, extra="forbid")
    except (binascii.Error, zlib.error, ValidationError, ValueError, RecursionError) as error:
        raise QuestionInvalid(_DAMAGED) from error
    if not 0 < facts.layer_count <= _MOST_LAYERS or not (facts.hidden_size and facts.vocab_size):
        raise QuestionInvalid("The model in the link has no layers or no sizes: upload it again.")
    return facts


def _refuse_sizes(value: object) -> None:
    """Refuse numbers that count nothing: negative, fractional beyond floats, or larger than anything there is."""
    if isinstance(value, Mapping):
        _refuse_sizes(list(value.values()))
    elif isinstance(value, list):
        for one in value:
            _refuse_sizes(one)
    elif isinstance(value, int | float) and not 0 <= value <= _LARGEST_COUNT:  # NaN lies nowhere either
        raise QuestionInvalid(_DAMAGED)


def _text(told: Mapping[str, str], name: str, most: int = _TEXT_LIMIT) -> str | None:
    value = told.get(name, "").strip()
    if len(value) > most or not value.isprintable():
        raise QuestionInvalid(f"The link's {name} is longer than {most} characters, or no text.")
    return value or None


def _count(told: Mapping[str, str], name: str, most: int) -> int | None:
    value = told.get(name, "").strip()
    if not value:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 12 and 1 <= int(value) <= most):
        raise QuestionInvalid(f"The link's {name} is {value[:40]!r}; give a whole number from 1 to {most:,}.")
    return int(value)


def _switch(told: Mapping[str, str], name: str, *, default: bool) -> bool:
    value = told.get(name, "")
    if value not in ("", "0", "1"):
        raise QuestionInvalid(f"The link's {name} is {value[:40]!r}; give 0 or 1.")
    return default if not value else value == "1"


def _engine(told: Mapping[str, str]) -> Engine:
    value = told.get("engine", Engine.VLLM.value)
    if value not in {engine.value for engine in Engine}:
        known = ", ".join(engine.value for engine in Engine)
        raise QuestionInvalid(f"The link's engine is {value[:40]!r}; give one of {known}.")
    return Engine(value)


def _share(told: Mapping[str, str]) -> float | None:
    value = told.get("utilization", "").strip()
    if not value:
        return None
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise QuestionInvalid(f"The link's utilization is {value[:40]!r}; give more than 0, at most 1.")
    return share


def _boards(value: str | None, default: tuple[str, ...]) -> tuple[str, ...]:
    if value is None:
        return default
    names = [name for name in value[:2000].split(",") if name.strip()]
    if len(names) > MOST_BOARDS:
        raise QuestionInvalid(f"The link names {len(names)} boards; {MOST_BOARDS} at most are looked at.")
    return tuple(dict.fromkeys(load_catalog().board(name).name for name in names))


def _prices(value: str, boards: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    """`L4:0.7,H100-80GB-SXM:3`; boards that are not looked at need no price."""
    prices: dict[str, float] = {}
    for part in value[:2000].split(",") if value else ():
        name, _, text = part.rpartition(":")
        try:
            price = float(text) if text.isascii() else -1.0
        except ValueError:
            price = -1.0
        if not 0 <= price <= MOST_USD_PER_HOUR:
            raise QuestionInvalid(
                f"The link's prices hold {part[:60]!r}; give BOARD:USD per hour, from 0 to {MOST_USD_PER_HOUR:,.0f}."
            )
        prices[load_catalog().board(name).name] = price
    return tuple((board, prices[board]) for board in boards if board in prices)


def _ranks(value: str | None, default: tuple[int, ...]) -> tuple[int, ...]:
    if value is None:
        return default
    return _among((part for part in value[:100].split(",") if part), RANKS)


def _among(parts: Iterable[str], known: tuple[int, ...]) -> tuple[int, ...]:
    asked = set(parts)
    if asked - {str(one) for one in known}:
        raise QuestionInvalid(f"The link's gpus are not all of {', '.join(map(str, known))}.")
    return tuple(one for one in known if str(one) in asked)
