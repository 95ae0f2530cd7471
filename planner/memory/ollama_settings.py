"""What an answer of Ollama's `/api/show` says beside the model's sizes: its own settings, and where it runs.

Fields: ollama, api/types.go and server/routes.go (0.12 and later): `parameters` is text, one setting a line; `format`
of `details` is gguf or safetensors; a model that runs elsewhere has `remote_host` and `remote_model`.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from planner.memory.errors import UnreadableModel

_LINE: Final = re.compile(r"^\s*(\w{1,40})\s+(-?\d{1,12})\s*$", re.MULTILINE)
_NAMES: Final = {"num_ctx": "n_ctx", "num_batch": "n_batch", "num_gpu": "gpu_layers"}
_LONGEST: Final = 100_000


def settings_of_show(payload: Mapping[str, Any]) -> dict[str, int]:
    """Settings that the model brings along, by the names of `Run`; Ollama's defaults are not among them."""
    text = payload.get("parameters")
    found = {}
    for name, number in _LINE.findall(text[:_LONGEST]) if isinstance(text, str) else ():
        least = -1 if name == "num_gpu" else 1
        if name in _NAMES and int(number) >= least:
            found[_NAMES[name]] = int(number)
    return found


def lists_are_left_out(payload: Mapping[str, Any]) -> bool:
    """Whether sizes that differ by layer, or the vocabulary, are only in the verbose answer.

    The short answer empties every array of more than five items (server/routes.go, getModelData).
    """
    info = payload.get("model_info")
    if not isinstance(info, Mapping):
        return False
    has_tensors = bool(payload.get("tensors"))
    states_vocabulary = any(isinstance(key, str) and key.endswith(".vocab_size") for key in info)
    for key, value in info.items():
        if isinstance(key, str) and not value and isinstance(value, list | None):
            if not key.startswith("tokenizer."):
                return True
            if key == "tokenizer.ggml.tokens" and not has_tensors and not states_vocabulary:
                return True
    return False


def refuse_elsewhere(payload: Mapping[str, Any], name: str) -> None:
    """Raise UnreadableModel for a model that takes no memory on the server's GPUs, or not by these laws."""
    if payload.get("remote_host") or payload.get("remote_model"):
        raise UnreadableModel(
            f"{name} is a cloud model: it runs on another machine and takes no GPU memory here. Name a model that was "
            "pulled."
        )
    details = payload.get("details")
    kind = str(details.get("format") or "").lower() if isinstance(details, Mapping) else ""
    if kind == "safetensors":
        raise UnreadableModel(
            f"{name} is stored as safetensors, which Ollama runs with MLX; only GGUF models can be reckoned."
        )


def notes_of_show(payload: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """What the answer leaves open, as sentences."""
    if payload.get("projector_info"):
        return (f"The projector for images of {name} is a file of its own, whose size Ollama does not tell: left out.",)
    return ()
