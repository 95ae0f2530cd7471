"""What a server says of itself beside its metrics: version, models, settings. Any answer may be odd."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from collectors.plain_text import plain_text
from collectors.transport import Page
from planner.serving_readings import ServedModel

MAX_MODELS = 256
"""Models of one server that are kept: LoRA adapters are listed one by one."""


def _text(value: object) -> str | None:
    return None if value is None else plain_text(str(value), 253) or None


def _count(value: object) -> int | None:
    """A whole number of at most 2^53, as JSON can carry it; anything else is not told."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= 2**53 and value == int(value) else None


Text = Annotated[str | None, BeforeValidator(_text)]
Count = Annotated[int | None, BeforeValidator(_count)]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Meta(_Answer):
    n_ctx: Count = None
    size: Count = None


class ModelCard(_Answer):
    """One entry of `/v1/models`; `meta` is llama.cpp's own."""

    id: Annotated[str, BeforeValidator(_text), Field(min_length=1)]
    root: Text = None
    parent: Text = None
    max_model_len: Count = None
    meta: _Meta | None = None


class _Models(_Answer):
    data: list[Any]


class _Version(_Answer):
    """vLLM and TensorRT-LLM say `version`, NIM `release`."""

    version: Text = None
    release: Text = None


class _ServerInfo(_Answer):
    """SGLang's start-up arguments, of which there are hundreds, its API key among them: only these are looked at."""

    version: Text = None
    model_path: Text = None
    served_model_name: Text = None
    context_length: Count = None
    quantization: Text = None
    kv_cache_dtype: Text = None
    mem_fraction_static: Text = None
    tp_size: Count = None
    dp_size: Count = None
    page_size: Count = None
    max_running_requests: Count = None


class _GenerationSettings(_Answer):
    n_ctx: Count = None


class _Props(_Answer):
    """llama.cpp's `/props`."""

    default_generation_settings: _GenerationSettings = _GenerationSettings()
    total_slots: Count = None
    model_alias: Text = None
    model_path: Text = None
    model_ftype: Text = None
    build_info: Text = None


class _Info(_Answer):
    """TGI's `/info`."""

    model_id: Text = None
    version: Text = None
    max_total_tokens: Count = None
    max_concurrent_requests: Count = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What is known of one server. `limit` is how many requests it takes at once."""

    version: str | None = None
    models: tuple[ServedModel, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None

    @property
    def model(self) -> str:
        """The model, for an engine that serves one and does not name it on its metrics; "" where nobody says."""
        return self.models[0].name if self.models else ""

    def or_else(self, older: "ServerFacts | None") -> "ServerFacts":
        """These facts, and what an older answer said where this one says nothing."""
        if older is None:
            return self
        return ServerFacts(
            version=self.version or older.version,
            models=_with_details(self.models, older.models) if self.models else older.models,
            settings={**older.settings, **self.settings},
            limit=self.limit if self.limit is not None else older.limit,
        )


def _with_details(models: tuple[ServedModel, ...], known: tuple[ServedModel, ...]) -> tuple[ServedModel, ...]:
    """The models, each with what is known of one of that name where it says nothing itself."""
    by_name = {model.name: model for model in known}
    return tuple(_with_detail(model, by_name.get(model.name)) for model in models)


def _with_detail(model: ServedModel, known: ServedModel | None) -> ServedModel:
    if known is None:
        return model
    missing = {one.name: getattr(known, one.name) for one in fields(model) if getattr(model, one.name) is None}
    return replace(model, **missing)


def read_facts(pages: Iterable[Page], *, needs_model: bool) -> tuple[ServerFacts, tuple[str, ...]]:
    """The facts in a server's answers, and what they lack, in sentences.

    An answer that is missing or odd costs what it would have told. Of two addresses for one thing (SGLang renamed one)
    only the failure of both is told. A metrics port that serves nothing else (Ray's) lacks nothing, unless
    `needs_model` says that its metrics do not name the model.
    """
    facts = ServerFacts()
    failures: dict[str, str] = {}
    answered: set[str] = set()
    for page in pages:
        kind, read = _reader(page.url)
        if page.status == 404 and not needs_model:
            continue
        if page.text is None:
            failures.setdefault(kind, _why_not(page))
            continue
        try:
            told = read(json.loads(page.text))
        except (ValueError, RecursionError, ValidationError):
            failures.setdefault(kind, "it answers with something that this engine does not say")
            continue
        answered.add(kind)
        facts = told.or_else(facts)
    return facts, tuple(f"{kind} unknown: {why}" for kind, why in failures.items() if kind not in answered)


def _why_not(page: Page) -> str:
    path = "/" + page.url.split("/", 3)[-1] if page.url.count("/") > 2 else page.url
    where = plain_text(path, 60)
    if page.status in (401, 403):
        return f"{where} wants an API key ({page.status}); give it as bearer_token_file"
    if page.status is not None:
        return f"{where} answered with status {page.status}"
    return f"{where} did not answer"


def _reader(url: str) -> tuple[str, Callable[[Any], ServerFacts]]:
    if url.endswith("/v1/models"):
        return "the models it serves are", _of_models
    if url.endswith("/version"):
        return "its version is", _of_version
    if url.endswith("server_info"):
        return "its version is", _of_server_info
    return ("its settings are", _of_props) if url.endswith("/props") else ("its model and version are", _of_info)


def _of_models(answer: Any) -> ServerFacts:
    cards = []
    for item in _Models.model_validate(answer).data[:MAX_MODELS]:
        try:
            cards.append(ModelCard.model_validate(item))
        except ValidationError:
            continue  # one odd entry costs itself
    return ServerFacts(
        models=tuple(
            ServedModel(
                name=card.id,
                root=card.root,
                parent=card.parent,
                max_model_len=card.max_model_len,
                is_loaded=True,
                size_bytes=None if card.meta is None else card.meta.size,
                context_tokens=None if card.meta is None else card.meta.n_ctx,
            )
            for card in cards
        )
    )


def _of_version(answer: Any) -> ServerFacts:
    told = _Version.model_validate(answer)
    version = told.version or told.release
    if version is None:
        raise ValueError("no version")
    return ServerFacts(version=version)


def _of_server_info(answer: Any) -> ServerFacts:
    told = _ServerInfo.model_validate(answer)
    names = ("quantization", "kv_cache_dtype", "mem_fraction_static", "tp_size", "dp_size", "page_size")
    model = told.served_model_name or told.model_path
    return ServerFacts(
        version=told.version,
        models=()
        if model is None
        else (
            ServedModel(
                name=model, root=told.model_path, max_model_len=told.context_length, quantization=told.quantization
            ),
        ),
        settings=_settings({name: getattr(told, name) for name in names}),
        limit=told.max_running_requests,
    )


def _of_props(answer: Any) -> ServerFacts:
    told = _Props.model_validate(answer)
    path = told.model_path
    name = told.model_alias or (path.rsplit("/", 1)[-1] if path else None)
    context = told.default_generation_settings.n_ctx
    return ServerFacts(
        version=told.build_info,
        models=()
        if name is None
        else (ServedModel(name=name, root=path, quantization=told.model_ftype, context_tokens=context),),
        settings=_settings({"n_ctx": context, "total_slots": told.total_slots}),
        limit=told.total_slots,
    )


def _of_info(answer: Any) -> ServerFacts:
    told = _Info.model_validate(answer)
    return ServerFacts(
        version=told.version,
        models=()
        if told.model_id is None
        else (
            ServedModel(name=told.model_id, root=told.model_id, max_model_len=told.max_total_tokens, is_loaded=True),
        ),
        settings=_settings({"max_concurrent_requests": told.max_concurrent_requests}),
    )


def _settings(told: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in told.items() if value is not None}
