"""What Ollama answers, in its own names, validated.

Source: ollama/ollama `docs/openapi.yaml` and `api/types.go` (ProcessModelResponse, ListModelResponse, ShowResponse) of
0.33. Go writes times as RFC 3339 with the server's own offset and up to nine decimals, and absent lists as null.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from collectors.plain_text import plain_text

MAX_NAME = 253
_LAST_YEAR = 2200
"""Times after it mean never: keep_alive -1 becomes Go's longest duration, 292 years."""
_FIRST_YEAR = 2000
"""Times before it mean not yet: Go's zero time is the year 1."""


def _name(value: object) -> object:
    return plain_text(value, MAX_NAME) if isinstance(value, str) else value


def _optional_text(value: object) -> str | None:
    text = plain_text(value, MAX_NAME) if isinstance(value, str) else ""
    return text or None


def _quantization(value: object) -> str | None:
    text = _optional_text(value)
    return None if text is None or text.lower() == "unknown" else text


def _positive(value: object) -> int | None:
    """A whole number above zero; Go omits nothing and writes 0 for what it does not know."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 < value < 2**63 else None


def _size(value: object) -> int | None:
    """A number of bytes; 0 is one. What is none is not known: it must not hide that the model is loaded."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < 2**63 else None


Name = Annotated[str, BeforeValidator(_name), Field(min_length=1)]
Text = Annotated[str | None, BeforeValidator(_optional_text)]
Size = Annotated[int | None, BeforeValidator(_size)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class Details(_Wire):
    """`details` of a model; `families` may be null and is not needed."""

    family: Text = None
    parameter_size: Text = None
    quantization_level: Annotated[str | None, BeforeValidator(_quantization)] = None
    parent_model: Text = None


def _details(value: object) -> object:
    return value if isinstance(value, Mapping) else {}


class NamedModel(_Wire):
    """What both lists of models say; the digest is of the model's contents, whatever it is called."""

    name: Name
    digest: Text = None
    details: Annotated[Details, BeforeValidator(_details)] = Details()


class RunningModel(NamedModel):
    """One entry of `/api/ps`: `size` is all the memory it takes, `size_vram` the part of it on devices."""

    size: Size = None
    size_vram: Size = None
    expires_at: Text = None
    context_length: Annotated[int | None, BeforeValidator(_positive)] = None

    @property
    def is_more_than_all(self) -> bool:
        """Whether the part on devices is told to be more than the whole, so that one of both is wrong."""
        return self.size is not None and self.size_vram is not None and self.size_vram > self.size

    @property
    def device_bytes(self) -> int | None:
        """The part on devices, where it can be one."""
        return None if self.is_more_than_all else self.size_vram


class ListedModel(NamedModel):
    """One entry of `/api/tags`: a model on this server's disk, or one that runs elsewhere (`remote_host`)."""

    remote_model: Text = None
    remote_host: Text = None

    @property
    def runs_elsewhere(self) -> bool:
        """Whether requests for it leave this server (Ollama's cloud models)."""
        return self.remote_host is not None or self.remote_model is not None


class Malformed(ValueError):
    """An entry that is not what Ollama writes; the message says which field and why."""


Entry = TypeVar("Entry", bound=NamedModel)


def read_entry(kind: type[Entry], entry: object) -> Entry:
    """One entry of a list of models; raises Malformed."""
    try:
        return kind.model_validate(_with_a_name(entry))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "entry"
        raise Malformed(f"{where}: {first['msg']}") from error


def _with_a_name(entry: object) -> object:
    """Old servers write only `name`, and clients of newer ones are told to read `model`; both say the same."""
    if isinstance(entry, Mapping) and not entry.get("name") and entry.get("model"):
        return {**entry, "name": entry["model"]}
    return entry


def expiry(text: str | None) -> tuple[datetime | None, bool]:
    """When a loaded model will be let go, in UTC, and whether it is kept for ever (keep_alive -1).

    None, False when the server does not say or has not decided yet (Go's zero time while a model loads).
    """
    try:
        told = datetime.fromisoformat(text or "")
    except ValueError:
        return None, False
    if told.year < _FIRST_YEAR or told.tzinfo is None:
        return None, False
    if told.year > _LAST_YEAR:
        return None, True
    return told.astimezone(UTC), False


def trained_context_tokens(shown: Any) -> int | None:
    """The longest context that `POST /api/show` says the model was trained for; None where it does not say.

    Source: `model_info` holds GGUF keys, `<general.architecture>.context_length` among them.
    """
    info = shown.get("model_info") if isinstance(shown, Mapping) else None
    if not isinstance(info, Mapping):
        return None
    architecture = info.get("general.architecture")
    return _positive(info.get(f"{architecture}.context_length"))
