"""What a running vLLM says of itself: `/v1/models`, `/version` and `/metrics`.

The architecture is not among it: facts of the model come from where its `root` leads (`model_sources.py`). A key that
the server asks for (`vllm serve --api-key`) is read from VLLM_API_KEY, as vLLM does itself.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from collectors.exposition import parse_exposition
from collectors.plain_text import plain_text
from gpufleet.errors import ModelSourceFailed
from gpufleet.model_http import Answer, ModelHttp
from planner.errors import PlannerError
from planner.memory.measured import Measured
from planner.memory.vllm_server import CACHE_CONFIG_NAMES, CacheConfig, cache_config_of, measured_by_server
from planner.memory.vllm_versions import parse_version

KEY_VARIABLE = "VLLM_API_KEY"
_MAX_JSON_BYTES = 4 * 2**20
_MAX_METRICS_BYTES = 32 * 2**20
_LONGEST_NAME = 300
_LONGEST_PATH = 4096
_OWNERS = {"llamacpp": "llama.cpp", "library": "Ollama", "sglang": "SGLang"}


class _Card(BaseModel):
    """One entry of /v1/models; an adapter has a `parent` and no length."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: Annotated[str, Field(min_length=1, max_length=4096)]
    root: Annotated[str | None, Field(max_length=4096)] = None
    parent: str | None = None
    owned_by: str | None = None
    max_model_len: Annotated[int | None, Field(ge=1, le=1 << 50)] = None


class _Cards(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    data: list[_Card]


class _Version(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    version: Annotated[str, Field(min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningVllm:
    """One server: the names its model is served under, what it was loaded from, and what `/metrics` says of its cache.

    `notes` say what it did not tell, as sentences.
    """

    address: str
    names: tuple[str, ...]
    root: str
    engine_version: str | None
    max_model_len: int | None
    cache: CacheConfig | None
    notes: tuple[str, ...] = ()

    @property
    def measured(self) -> Measured:
        """As a start-up log would say it."""
        return measured_by_server(
            model=self.root, version=self.engine_version, max_model_len=self.max_model_len, cache=self.cache
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Keys of a request that the server states."""
        cache = self.cache
        found = {
            "engine_version": self.engine_version,
            "max_model_len": self.max_model_len,
            "block_size": cache.block_size if cache else None,
            "gpu_memory_utilization": cache.gpu_memory_utilization if cache else None,
            "kv_cache_dtype": cache.kv_cache_dtype if cache else None,
            "dp": cache.engines if cache and cache.engines > 1 else None,
        }
        return {key: value for key, value in found.items() if value is not None}


def read_vllm(address: str, environ: Mapping[str, str]) -> RunningVllm:
    """Ask the server three questions; raises ModelSourceFailed where it is not a vLLM that serves one model."""
    key = environ.get(KEY_VARIABLE, "").strip()
    if key and not re.fullmatch(r"[\x21-\x7e]+", key):
        raise ModelSourceFailed(f"${KEY_VARIABLE} has blanks or other characters that HTTP cannot carry.")
    notes: list[str] = []
    with ModelHttp(address=address, bearer=SecretStr(key) if key else None) as http:
        names, base = _served(http.get("/v1/models", limit_bytes=_MAX_JSON_BYTES), has_key=bool(key))
        version = _version(http.get("/version", limit_bytes=_MAX_JSON_BYTES), notes)
        cache = _cache(http.get("/metrics", limit_bytes=_MAX_METRICS_BYTES), notes)
    return RunningVllm(
        address=address,
        names=names,
        root=plain_text(base.root or base.id, _LONGEST_PATH),
        engine_version=version,
        max_model_len=base.max_model_len,
        cache=cache,
        notes=tuple(notes),
    )


def _served(answer: Answer, *, has_key: bool) -> tuple[tuple[str, ...], _Card]:
    if answer.status in (401, 403):
        what = f"refuses the key in ${KEY_VARIABLE}" if has_key else f"asks for a key: set ${KEY_VARIABLE}"
        raise ModelSourceFailed(f"{answer.target} {what} ({answer.status}).")
    _check(answer, "a vLLM answers there with its models; is this the address of the server itself?")
    try:
        cards = _Cards.model_validate(answer.json()).data
    except ValidationError as error:
        raise ModelSourceFailed(f"{answer.target} does not list models as vLLM does: {_mistake(error)}.") from error
    base = [card for card in cards if card.parent is None]
    others = [card.owned_by for card in base if card.owned_by != "vllm"]
    if others:
        owner = _OWNERS.get(others[0] or "", plain_text(others[0] or "nobody", 60))
        hint = "; ask it with --ollama" if owner == "Ollama" else ""
        raise ModelSourceFailed(f"{answer.target} is no vLLM: its models are owned by {owner}{hint}.")
    roots = {card.root or card.id for card in base}
    if not base:
        raise ModelSourceFailed(f"{answer.target} serves no model.")
    if len(roots) > 1:
        names = ", ".join(plain_text(card.id, 60) for card in base[:5])
        raise ModelSourceFailed(
            f"{answer.target} serves several models ({names}): a gateway? Give the address of one vLLM server."
        )
    return tuple(plain_text(card.id, _LONGEST_NAME) for card in base), base[0]


def _version(answer: Answer, notes: list[str]) -> str | None:
    if answer.status == 404:
        notes.append("The server does not say its version; give --engine-version.")
        return None
    _check(answer, "vLLM says its version there.")
    try:
        version = _Version.model_validate(answer.json()).version
    except ValidationError as error:
        raise ModelSourceFailed(f"{answer.target} does not say a version: {_mistake(error)}.") from error
    try:
        parse_version(version)
    except PlannerError:
        notes.append(f"The server's version {plain_text(version, 60)!r} is no release; give --engine-version.")
        return None
    return plain_text(version, 60)


def _cache(answer: Answer, notes: list[str]) -> CacheConfig | None:
    if answer.status == 404:
        notes.append("The server publishes no /metrics: its cache is not known, and nothing is compared.")
        return None
    _check(answer, "vLLM publishes its metrics there.")
    exposition = parse_exposition(answer.body.decode("utf-8", errors="replace"))
    found = [
        group.labels
        for group in exposition.groups
        if any(sample.name in CACHE_CONFIG_NAMES and sample.value is not None for sample in group.samples)
    ]
    cache = cache_config_of(found)
    if cache is None:
        notes.append("Its /metrics hold no vllm:cache_config_info: its cache is not known, and nothing is compared.")
    elif cache.fixed_by is not None:
        notes.append(f"Its cache was set ({cache.fixed_by}) and not measured: nothing is compared.")
    elif cache.gpu_blocks is None:
        notes.append("It does not say how many blocks its cache has: nothing is compared.")
    return cache


def _check(answer: Answer, hint: str) -> None:
    if answer.status != 200:
        raise ModelSourceFailed(f"{answer.target} answered with status {answer.status}{answer.told()}; {hint}")


def _mistake(error: ValidationError) -> str:
    first: Any = error.errors(include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the answer"
    return f"{where}: {first['msg']}"
