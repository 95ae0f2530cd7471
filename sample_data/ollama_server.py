"""What each simulated Ollama answers: loaded while it is used, let go half an hour after the last request.

Shapes: ollama/ollama docs/openapi.yaml of 0.33. One deployment runs a version that does not tell the context yet, one
model is too large for the share of its device and lies partly in the host's memory.
"""

from datetime import datetime, timedelta, timezone
from typing import Any

from planner.units import MIB
from sample_data.cluster import EPOCH
from sample_data.identity import digest
from sample_data.serving_state import ServingPod, serving_state
from sample_data.traffic import KEEP_ALIVE_SLOTS, SLOT_S
from sample_data.workload import pod_traffic

NEW_VERSION = "0.33.0"
OLD_VERSION = "0.6.2"
KEEP_ALIVE = timedelta(seconds=KEEP_ALIVE_SLOTS * SLOT_S)

_ON_OLD_VERSION = "ollama-hr"
_PARTLY_ON_HOST = "ollama-playground"
_HOST_SHARE = 0.15  # of the model's memory
_CONTEXT_TOKENS = 16_384
_LOCAL_TIME = timezone(timedelta(hours=1))  # servers write times with their own offset
_CLOUD_MODEL = "gpt-oss:120b-cloud"
_EXTRA_MODEL = "nomic-embed-text:latest"

_FAMILIES = {
    "llama3.1:8b": ("llama", "8.0B", 131_072),
    "llama3.2:3b": ("llama", "3.2B", 131_072),
    "qwen2.5:7b": ("qwen2", "7.6B", 32_768),
    "qwen2.5:32b": ("qwen2", "32.8B", 32_768),
    "gemma2:9b": ("gemma2", "9.2B", 8_192),
    "phi4:14b": ("phi3", "14.7B", 16_384),
    "mistral-nemo:12b": ("llama", "12.2B", 1_024_000),
    _EXTRA_MODEL: ("nomic-bert", "137M", 2_048),
}


def version(place: ServingPod) -> dict[str, str]:
    """`GET /api/version`."""
    return {"version": OLD_VERSION if _is_old(place) else NEW_VERSION}


def running(place: ServingPod, at: datetime) -> dict[str, list[dict[str, Any]]]:
    """`GET /api/ps`: the pod's one model while it is loaded."""
    if not serving_state(place, at).is_loaded:
        return {"models": []}
    on_device = device_bytes(place)
    on_host = int(on_device * _HOST_SHARE / (1 - _HOST_SHARE)) if place.deployment.name == _PARTLY_ON_HOST else 0
    model: dict[str, Any] = {
        "name": place.model,
        "model": place.model,
        "size": on_device + on_host,
        "digest": _digest(place.model),
        "details": _details(place.model),
        "expires_at": f"{_expires_at(place, at).astimezone(_LOCAL_TIME):%Y-%m-%dT%H:%M:%S}.123456789+01:00",
        "size_vram": on_device,
    }
    if not _is_old(place):
        model["context_length"] = _CONTEXT_TOKENS
    return {"models": [model]}


def device_bytes(place: ServingPod) -> int:
    """How much of a loaded model lies on the device."""
    return place.deployment.memory_mib * MIB


def listed(place: ServingPod) -> dict[str, list[dict[str, Any]]]:
    """`GET /api/tags`: the pod's model, one that is not used, and one that runs in Ollama's cloud."""
    models = [_listed(place, name, 4_000_000_000) for name in (place.model, _EXTRA_MODEL)]
    if not _is_old(place):
        cloud = _listed(place, _CLOUD_MODEL, 384)
        cloud |= {"remote_model": "gpt-oss:120b", "remote_host": "https://ollama.com:443"}
        cloud["details"] = {**cloud["details"], "families": None, "quantization_level": "MXFP4"}
        models.append(cloud)
    return {"models": models}


def shown(name: str) -> dict[str, Any] | None:
    """`POST /api/show`; None for a model that no simulated server has."""
    if name not in _FAMILIES:
        return None
    family, _, context = _FAMILIES[name]
    return {
        "modelfile": f"FROM {name}",
        "parameters": 'stop                           "<|im_end|>"',
        "template": "{{ .Prompt }}",
        "details": _details(name),
        "model_info": {"general.architecture": family, f"{family}.context_length": context},
        "capabilities": ["completion"],
    }


def _is_old(place: ServingPod) -> bool:
    return place.deployment.name == _ON_OLD_VERSION


def _listed(place: ServingPod, name: str, size: int) -> dict[str, Any]:
    return {
        "name": name,
        "model": name,
        "modified_at": f"{place.started_at.astimezone(_LOCAL_TIME):%Y-%m-%dT%H:%M:%S}.5+01:00",
        "size": size,
        "digest": _digest(name),
        "details": _details(name),
    }


def _details(name: str) -> dict[str, Any]:
    family, size, _ = _FAMILIES.get(name, ("gptoss", "116.8B", 131_072))
    return {
        "parent_model": "",
        "format": "gguf",
        "family": family,
        "families": [family],
        "parameter_size": size,
        "quantization_level": "Q4_K_M",
    }


def _digest(name: str) -> str:
    return digest("ollama", name).hex()


def _expires_at(place: ServingPod, at: datetime) -> datetime:
    """Half an hour after the last slot of time in which somebody asked."""
    pattern, shift_s = pod_traffic(place.node.seed, place.pod)
    now_s = at.timestamp() - EPOCH.timestamp() + shift_s
    slot_s = now_s // SLOT_S * SLOT_S
    for back in range(KEEP_ALIVE_SLOTS + 1):
        if pattern.level(slot_s - back * SLOT_S) > 0:
            last_s = now_s if back == 0 else slot_s - (back - 1) * SLOT_S
            return EPOCH + timedelta(seconds=last_s - shift_s) + KEEP_ALIVE
    return at + KEEP_ALIVE
