"""What Langfuse answers, in its own names, validated: numbers that may be strings, times with and without a zone.

ClickHouse writes UInt64 and decimals into JSON as strings, and times in UTC, with or without saying so. Source:
fern/apis/server/definition (metrics.yml, observations.yml, commons.yml, legacy/metrics-v1.yml) of 4.16.
"""

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, TypeVar

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from collectors.plain_text import plain_text

MAX_NAME = 253
MAX_DETAILS = 64
"""Keys of one observation's details that are kept; every application invents its own."""


def number(value: object) -> Decimal | None:
    """A finite number that is not negative, written as a number or as text; None for anything else.

    Nothing is asked for that can be negative.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    try:
        told = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return told if told.is_finite() and 0 <= told < Decimal("1e18") else None


def count(value: object) -> int | None:
    """A number of things: whole and not negative; None for anything else."""
    told = number(value)
    return int(told) if told is not None and told == told.to_integral_value() else None


def moment(value: object) -> datetime | None:
    """A time in UTC; one without a zone is UTC, a bare date its midnight. None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        told = datetime.fromisoformat(value.strip())
        return told.replace(tzinfo=UTC) if told.tzinfo is None else told.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def text(value: object) -> str:
    """A name on one line; "" for none."""
    return plain_text(value, MAX_NAME) if isinstance(value, str) else ""


def names(value: object) -> tuple[str, ...]:
    """Tags: a list, or the one that the server has already taken apart."""
    if isinstance(value, str):
        return (text(value),) if text(value) else ()
    if isinstance(value, list):
        return tuple(dict.fromkeys(name for each in value if (name := text(each))))
    return ()


def _details(value: object) -> dict[str, Decimal]:
    if not isinstance(value, Mapping):
        return {}
    told = {text(str(key)): number(amount) for key, amount in list(value.items())[:MAX_DETAILS]}
    return {key: amount for key, amount in told.items() if key and amount is not None}


Number = Annotated[Decimal | None, BeforeValidator(number)]
Count = Annotated[int | None, BeforeValidator(count)]
Text = Annotated[str, BeforeValidator(text)]
Names = Annotated[tuple[str, ...], BeforeValidator(names)]
Moment = Annotated[datetime | None, BeforeValidator(moment)]
Details = Annotated[dict[str, Decimal], BeforeValidator(_details)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=(), populate_by_name=True)


class Deprecation(_Wire):
    """`_deprecation`, which may be in any answer of an older endpoint."""

    message: Text = ""
    sunset_at: Text = Field(default="", alias="sunsetAt")


class Observation(_Wire):
    """One observation of either API; the second calls the model providedModelName, the first model."""

    id: Annotated[str, Field(min_length=1, max_length=500)]
    start_time: Moment = Field(default=None, alias="startTime")
    model: Text = Field(default="", validation_alias=AliasChoices("providedModelName", "model"))
    environment: Text = ""
    user_id: Text = Field(default="", alias="userId")
    tags: Names = ()
    usage_details: Details = Field(default_factory=dict, alias="usageDetails")
    cost_details: Details = Field(default_factory=dict, alias="costDetails")
    total_cost: Number = Field(default=None, validation_alias=AliasChoices("totalCost", "calculatedTotalCost"))

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, told: Any) -> Any:
        """So that a null under one name does not hide a value under the other."""
        return {key: value for key, value in told.items() if value is not None} if isinstance(told, dict) else told

    @property
    def input_tokens(self) -> Decimal | None:
        """As Langfuse's own measure inputTokens: everything whose key holds "input"."""
        return self._sum("input")

    @property
    def output_tokens(self) -> Decimal | None:
        """As Langfuse's own measure outputTokens."""
        return self._sum("output")

    @property
    def cost_usd(self) -> Decimal | None:
        """The total that the server states, else the total among its details."""
        return self.total_cost if self.total_cost is not None else self.cost_details.get("total")

    def _sum(self, word: str) -> Decimal | None:
        found = [amount for key, amount in self.usage_details.items() if word in key.lower()]
        return sum(found, Decimal(0)) if found else None


def unreadable_amounts(told: object) -> tuple[str, ...]:
    """Which amounts an observation, or a model of a day, gives that are no numbers, by Langfuse's own names."""
    if not isinstance(told, Mapping):
        return ()
    given = [(name, told.get(name)) for name in _AMOUNTS]
    for name in ("usageDetails", "costDetails"):
        details = told.get(name)
        if details is not None and not isinstance(details, Mapping):
            given.append((name, details))
        elif details is not None:
            given += [(name, amount) for amount in list(details.values())[:MAX_DETAILS]]
    return tuple(dict.fromkeys(name for name, amount in given if amount is not None and number(amount) is None))


_AMOUNTS = (
    "totalCost",
    "calculatedTotalCost",
    "inputUsage",
    "outputUsage",
    "totalUsage",
    "countObservations",
)


class DailyUsage(_Wire):
    """Use of one model on one day (`metrics/daily`)."""

    model: Text = ""
    input_usage: Number = Field(default=None, alias="inputUsage")
    output_usage: Number = Field(default=None, alias="outputUsage")
    total_usage: Number = Field(default=None, alias="totalUsage")
    count_observations: Number = Field(default=None, alias="countObservations")
    total_cost: Number = Field(default=None, alias="totalCost")


class DailyMetrics(_Wire):
    """One day of UTC (`metrics/daily`)."""

    date: date
    usage: list[Any] = Field(default_factory=list)


class PageMeta(_Wire):
    """`meta` of a list: pages of the first API, the cursor of the second."""

    page: Count = None
    total_pages: Count = Field(default=None, alias="totalPages")
    cursor: str | None = Field(default=None, max_length=10_000)


class Page(_Wire):
    """One answer: a list whose entries are validated one by one."""

    data: list[Any]
    meta: Annotated[PageMeta, BeforeValidator(lambda value: value if isinstance(value, Mapping) else {})] = Field(
        default_factory=PageMeta
    )
    deprecation: Annotated[
        Deprecation | None, BeforeValidator(lambda value: value if isinstance(value, Mapping) else None)
    ] = Field(default=None, alias="_deprecation")


class Malformed(ValueError):
    """Something that is not what Langfuse writes; the message says which field and why."""


Shape = TypeVar("Shape", bound=_Wire)


def read(kind: type[Shape], told: object) -> Shape:
    """A part of an answer as its model; raises Malformed."""
    try:
        return kind.model_validate(told)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "answer"
        raise Malformed(f"{where}: {first['msg']}") from error
