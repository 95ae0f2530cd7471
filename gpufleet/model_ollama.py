"""A model as a running Ollama describes it: `/api/version`, then `POST /api/show`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from collectors.config import target_name
from collectors.plain_text import plain_text
from gpufleet.errors import ModelSourceFailed
from gpufleet.model_http import Answer, ModelHttp
from planner.memory.errors import UnreadableModel
from planner.memory.facts import ModelFacts
from planner.memory.ollama_settings import lists_are_left_out, notes_of_show, refuse_elsewhere, settings_of_show
from planner.memory.ollama_show import facts_from_ollama_show

_MAX_VERSION_BYTES = 2**20
_MAX_SHOW_BYTES = 128 * 2**20  # a verbose answer holds the vocabulary
_FIRST_WITH_SIZES = (0, 4, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaModel:
    """Facts, and keys of a request that the model and its server state."""

    facts: ModelFacts
    settings: Mapping[str, Any]


def read_ollama(address: str, name: str) -> OllamaModel:
    """Raises ModelSourceFailed where this is no Ollama that has the model, UnreadableModel where it says too little."""
    with ModelHttp(address=address) as http:
        version = _version(http.get("/api/version", limit_bytes=_MAX_VERSION_BYTES))
        payload = _shown(http, name, version, {"model": name})
        refuse_elsewhere(payload, name)
        if lists_are_left_out(payload):
            payload = _shown(http, name, version, {"model": name, "verbose": True})
    if not payload.get("model_info"):
        least = ".".join(str(part) for part in _FIRST_WITH_SIZES)
        why = f"Ollama {version} is too old: update it to {least} or later" if _is_old(version) else "is it whole?"
        raise UnreadableModel(f"{target_name(address)} tells no sizes of {name}; {why}.")
    facts = facts_from_ollama_show(payload, name=name)
    source = f"/api/show of Ollama {version} at {target_name(address)}"
    return OllamaModel(
        facts=replace(facts, source=source, assumed=(*facts.assumed, *notes_of_show(payload, name))),
        settings={"engine_version": version, **settings_of_show(payload)},
    )


def _version(answer: Answer) -> str:
    if answer.status != 200:
        raise ModelSourceFailed(
            f"{answer.target} answered with status {answer.status}; an Ollama says its version there. Is this its "
            "address, such as http://localhost:11434?"
        )
    parsed = answer.json()
    version = parsed.get("version") if isinstance(parsed, dict) else None
    if not isinstance(version, str) or not version.strip():
        raise ModelSourceFailed(f"{answer.target} does not say a version as Ollama does; another service there?")
    return plain_text(version, 60)


def _shown(http: ModelHttp, name: str, version: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    answer = http.post("/api/show", body, limit_bytes=_MAX_SHOW_BYTES)
    told = answer.told()
    if answer.status == 404 and told:
        raise ModelSourceFailed(
            f"Ollama at {target_name(http.address)} does not have {name}{told}; `ollama list` names its models, "
            "`ollama pull` gets one."
        )
    if answer.status != 200:
        raise ModelSourceFailed(
            f"{answer.target} of Ollama {version} answered with status {answer.status}{told} when asked for {name}."
        )
    parsed = answer.json()
    if not isinstance(parsed, dict):
        raise ModelSourceFailed(f"{answer.target} answered with something else than a description of {name}.")
    return parsed


def _is_old(version: str) -> bool:
    found = re.match(r"v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})", version)
    return found is not None and tuple(int(part) for part in found.groups()) < _FIRST_WITH_SIZES
