"""What LiteLLM says, in its own names, validated: labels of `/metrics`, and the JSON of the daily activity endpoints.

Source: litellm/types/integrations/prometheus.py and litellm/types/proxy/management_endpoints/common_daily_activity.py
of 1.109.1; OpenAPI of 1.106.2.
"""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from collectors.plain_text import plain_text

MAX_LABEL = 253
MAX_COUNT = 1e15
"""More than this is no count of tokens, requests or dollars; sums of so many stay finite and exact enough."""
ABSENT = "None"
"""LiteLLM writes Python's None as text where it knows nothing."""
UNASSIGNED = "Unassigned"
"""What the daily endpoints call the owner of rows that have none."""


def label(labels: Mapping[str, str], name: str) -> str | None:
    """A label's value as plain text; None when it is absent, empty or LiteLLM's word for absent."""
    value = plain_text(labels.get(name, ""), MAX_LABEL)
    return None if value in ("", ABSENT) else value


def _number(value: object) -> float | None:
    """An amount from 0 to MAX_COUNT, whether it is written as a number or as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number <= MAX_COUNT else None


def _count(value: object) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number == int(number) else None


def _mapping(value: object) -> object:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    text = plain_text(value, MAX_LABEL) if isinstance(value, str) else ""
    return None if text in ("", ABSENT) else text


Number = Annotated[float | None, BeforeValidator(_number)]
Count = Annotated[int | None, BeforeValidator(_count)]
Text = Annotated[str | None, BeforeValidator(_text)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class SpendMetrics(_Wire):
    """`metrics` of a day, a model, a key or an owner; requests are all of them, successful or not."""

    spend: Number = None
    flat_cost: Number = None
    prompt_tokens: Count = None
    completion_tokens: Count = None
    total_tokens: Count = None
    cache_read_input_tokens: Count = None
    cache_creation_input_tokens: Count = None
    api_requests: Count = None
    successful_requests: Count = None
    failed_requests: Count = None


class KeyMetadata(_Wire):
    """`metadata` of a key; it also holds the e-mail address of the key's user, which is not read."""

    key_alias: Text = None
    team_alias: Text = None  # of an entity of the team endpoint


class Part(_Wire):
    """One entry of a breakdown."""

    metrics: Annotated[SpendMetrics, BeforeValidator(_mapping)] = SpendMetrics()
    metadata: Annotated[KeyMetadata, BeforeValidator(_mapping)] = KeyMetadata()
    api_key_breakdown: Annotated[dict[str, Any], BeforeValidator(_mapping)] = Field(default_factory=dict)


class Breakdown(_Wire):
    """What a day is made of; each part is validated by itself."""

    models: Annotated[dict[str, Any], BeforeValidator(_mapping)] = Field(default_factory=dict)
    entities: Annotated[dict[str, Any], BeforeValidator(_mapping)] = Field(default_factory=dict)


class Day(_Wire):
    """One day of UTC, or the part of it that lies on one page."""

    date: date
    metrics: Annotated[SpendMetrics, BeforeValidator(_mapping)] = SpendMetrics()
    breakdown: Annotated[Breakdown, BeforeValidator(_mapping)] = Field(default_factory=Breakdown)


class PageMetadata(_Wire):
    """`metadata` of a page."""

    page: Count = None
    total_pages: Count = None
    has_more: Annotated[bool, BeforeValidator(lambda value: value is True)] = False
    api_key_limit: Count = None
    total_api_keys: Count = None

    def says_more(self, number: int) -> bool:
        """Whether another page follows this one, by either of the two ways to say it."""
        return self.has_more or (self.total_pages is not None and number < self.total_pages)


class ActivityPage(_Wire):
    """One answer of a daily activity endpoint; days are validated one by one."""

    results: list[Any]
    metadata: Annotated[PageMetadata, BeforeValidator(_mapping)] = Field(default_factory=PageMetadata)


class Malformed(ValueError):
    """A part that is not what LiteLLM writes; the message says which field and why."""


Shape = TypeVar("Shape", bound=_Wire)


def read(kind: type[Shape], told: object) -> Shape:
    """A part as its model; raises Malformed."""
    try:
        return kind.model_validate(told)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "answer"
        raise Malformed(f"{where}: {first['msg']}") from error


def unreadable_numbers(told: object, metrics: SpendMetrics) -> tuple[str, ...]:
    """Names of the amounts that a part gives and that are no numbers of their kind."""
    given = told.get("metrics") if isinstance(told, Mapping) else None
    if not isinstance(given, Mapping):
        return ()
    return tuple(name for name, value in metrics if value is None and given.get(name) is not None)
