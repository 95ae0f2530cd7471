"""Reads JSON into a pydantic model, or says where it differs from the format; both file formats of the planner use it.

Limits keep hostile input harmless: long lists stop at their first mistake while the whole is read, and are looked
through item by item only to name several.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json

from planner.errors import InvalidFile

MAX_MISTAKES = 20
"""So many mistakes are listed; whoever has more corrects these first."""

_MAX_DETAILS = 1000
_MAX_SHOWN = 60
_MAX_NAMES = 2000

M = TypeVar("M", bound=BaseModel)


class Row(BaseModel):
    """Base of every object of a file: keys it does not know are refused, and so is every value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _whole(value: object) -> object:
    """`true` and `1.0` equal 1 and are no version."""
    if type(value) is not int and value == 1:
        raise ValueError("must be 1")
    return value


Version = Annotated[Literal[1], BeforeValidator(_whole)]
"""The one version of both formats."""


class Mistakes:
    """Collects mistakes with their places; raises as soon as there are enough of them."""

    def __init__(self, kind: type[InvalidFile]) -> None:
        self._kind = kind
        self._found: list[str] = []

    def add(self, place: str, sentence: str) -> None:
        """One more mistake; raises when it is the last that is listed."""
        self._found.append(f"{place}: {sentence}" if place else sentence)
        if len(self._found) >= MAX_MISTAKES:
            raise self._kind(self._found, more=True)

    def raise_if_any(self) -> None:
        """Raises what was collected, if anything."""
        if self._found:
            raise self._kind(self._found)


def read_json(model: type[M], text: bytes | str, kind: type[InvalidFile]) -> M:
    """The text as that model; raises `kind` with the mistakes and their places."""
    raw = text.encode("utf-8", errors="surrogatepass") if isinstance(text, str) else text
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        found = model.model_validate_json(raw)
    except ValidationError as error:
        _refuse(model, raw, error, kind)
    check_keys(raw.decode(), kind)
    return found


def check_keys(text: str, kind: type[InvalidFile]) -> None:
    """Raises `kind` where one object has a key twice: pydantic, like most readers, takes the last in silence."""

    def once(pairs: list[tuple[str, Any]]) -> None:
        if len(dict(pairs)) != len(pairs):
            raise _Repeated

    try:
        json.loads(text, object_pairs_hook=once, parse_int=str)  # nothing is built: a tenth of the reading
    except _Repeated:
        mistakes = Mistakes(kind)
        for place in _repeated_keys(json.loads(text, object_pairs_hook=_Pairs, parse_int=str)):
            mistakes.add(place, "is given twice; keep one.")
        mistakes.raise_if_any()


def nearest(name: str, known: Sequence[str]) -> str:
    """A sentence with the names that look most like it; empty when none does."""
    close = get_close_matches(name, known, n=3, cutoff=0.5) if len(known) <= _MAX_NAMES else []
    return f" Nearest: {', '.join(map(repr, close))}." if close else ""


def _refuse(model: type[BaseModel], raw: bytes, error: ValidationError, kind: type[InvalidFile]) -> NoReturn:
    if error.error_count() > _MAX_DETAILS:
        raise kind([f"it differs from the format in {error.error_count()} places; start from an example."]) from error
    details = error.errors(include_url=False)
    if details[0]["type"] == "json_invalid":
        raise kind([f"it is not valid JSON: {details[0]['ctx']['error']}."]) from error
    mistakes = Mistakes(kind)
    for detail in _all_details(model, raw, details):
        mistakes.add(_place(detail["loc"]), _sentence(detail, model))
    mistakes.raise_if_any()
    raise AssertionError("pydantic refused what it accepted item by item") from error


class _Repeated(Exception):
    """A key comes twice in one object."""


class _Pairs(list[tuple[str, Any]]):
    """An object as it is written: all its keys, in order."""


def _repeated_keys(value: Any, at: tuple[int | str, ...] = ()) -> Iterator[str]:
    """The places of keys that the same object had before."""
    if isinstance(value, _Pairs):
        times: Counter[str] = Counter()
        for key, inner in value:
            times[key] += 1
            if times[key] == 2:
                yield _place((*at, key))
            yield from _repeated_keys(inner, (*at, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _repeated_keys(inner, (*at, index))


def _all_details(model: type[BaseModel], raw: bytes, details: Sequence[ErrorDetails]) -> Iterator[ErrorDetails]:
    """The mistakes outside of lists, then those of each list in which there is one, item by item."""
    lists = {d["loc"][0]: None for d in details if len(d["loc"]) > 1 and isinstance(d["loc"][1], int)}
    yield from (d for d in details if d["loc"][:1] == () or d["loc"][0] not in lists)
    document = from_json(raw) if lists else {}
    for name in lists:
        item_type = model.model_fields[str(name)].annotation.__args__[0]  # type: ignore[union-attr]
        adapter: TypeAdapter[Any] = TypeAdapter(item_type)
        for index, item in enumerate(document[name]):
            try:
                adapter.validate_python(item)
            except ValidationError as error:
                if error.error_count() > _MAX_DETAILS:
                    continue
                for detail in error.errors(include_url=False):
                    yield {**detail, "loc": (name, index, *detail["loc"])}


def _place(location: Sequence[int | str]) -> str:
    place = ""
    for part in location:
        if isinstance(part, int):
            place += f"[{part}]"
        elif part.replace("_", "").isalnum():
            place += f".{part}"
        else:
            place += f"[{shortened(part)}]"
    return place.removeprefix(".")


def _sentence(detail: ErrorDetails, model: type[BaseModel]) -> str:
    match detail["type"]:
        case "missing":
            return "is missing."
        case "extra_forbidden":
            key = str(detail["loc"][-1])
            return f"is no key of this format.{nearest(key, sorted(_keys(model)))}"
        case "model_type" | "model_attributes_type":
            return f"must be an object, not {shortened(detail['input'])}."
        case "too_long":
            return f"has too many entries: at most {detail['ctx']['max_length']}."
        case _:
            said = detail["msg"].replace("Input should", "must", 1).replace("valid string", "text", 1)
            said = said.removeprefix("Value error, ")
            return f"{said[:1].lower()}{said[1:]}, not {shortened(detail['input'])}."


def shortened(value: object) -> str:
    """How a value looks in a sentence: on one line, control characters spelled out, and cut when long."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    spelled = repr(value)
    return spelled if len(spelled) <= _MAX_SHOWN else f"{spelled[:_MAX_SHOWN]}..."


def _keys(model: type[BaseModel]) -> set[str]:
    """Every key of the format, at any depth."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        found.add(name)
        for part in _models(field.annotation):
            found |= _keys(part)
    return found


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models(part)
