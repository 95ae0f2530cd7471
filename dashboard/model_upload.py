"""A model file that somebody hands to the page: a `config.json`, an answer of Ollama, or the beginning of a GGUF file.

Nothing of it is stored. Its size is bounded before anything is read, and the readers bound what they believe.
"""

import io
import json
from pathlib import PurePath
from typing import Final

from planner.memory.errors import UnreadableModel
from planner.memory.facts import ModelFacts
from planner.memory.gguf_facts import facts_from_gguf_header
from planner.memory.gguf_header import MAGIC, read_gguf_header
from planner.memory.hf_config import facts_from_config
from planner.memory.ollama_show import facts_from_ollama_show

UPLOAD_LIMIT_MIB: Final = 32
"""The header of a GGUF file with 262,144 words takes about 16 MiB; the tensors behind it are not wanted."""

CONFIG_LIMIT_BYTES: Final = 4 * 2**20
_NAME_LIMIT: Final = 100


def facts_from_upload(file_name: str, content: bytes) -> ModelFacts:
    """The facts of an uploaded file; raises UnreadableModel with what is wrong with it."""
    name = shown_name(file_name)
    if len(content) > UPLOAD_LIMIT_MIB * 2**20:
        raise UnreadableModel(
            f"{name} has more than {UPLOAD_LIMIT_MIB} MiB. Only its beginning is needed: "
            f"`head -c {UPLOAD_LIMIT_MIB}M model.gguf > header.gguf`."
        )
    if content.startswith(MAGIC):
        return _gguf(name, content)
    if file_name.lower().endswith(".gguf"):
        raise UnreadableModel(f"{name} is not a GGUF file: it does not begin with GGUF.")
    return _config(name, content)


def _gguf(name: str, content: bytes) -> ModelFacts:
    header = read_gguf_header(io.BytesIO(content), name)
    split = header.metadata.get("split.count")
    if isinstance(split, int) and split > 1:
        raise UnreadableModel(f"{name} is one of {split} parts; join them with llama-gguf-split --merge first.")
    return facts_from_gguf_header(header, name=PurePath(name).stem, source=f"header of the uploaded {name}")


def _config(name: str, content: bytes) -> ModelFacts:
    if len(content) > CONFIG_LIMIT_BYTES:
        raise UnreadableModel(f"{name} is larger than any configuration; give the config.json of a model.")
    try:
        parsed = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UnreadableModel(f"{name} is not JSON: a file that was cut short is the usual reason.") from error
    if not isinstance(parsed, dict):
        raise UnreadableModel(f"{name} is no model configuration: a JSON object is expected.")
    source = f"uploaded {name}"
    if "model_info" in parsed and "model_type" not in parsed:
        return facts_from_ollama_show(parsed, name=_own_name(parsed, name))
    return facts_from_config(parsed, name=_own_name(parsed, name), source=source)


def _own_name(config: dict[str, object], name: str) -> str:
    """What the configuration calls itself, as config.json is the name of all of them."""
    own = config.get("_name_or_path")
    if isinstance(own, str) and own.strip() and own.isprintable() and not own.startswith(("/", ".")):
        return own.strip()[:_NAME_LIMIT]
    return PurePath(name).stem


def shown_name(file_name: str) -> str:
    """The name of an uploaded file without folders and without what cannot be seen."""
    shown = "".join(letter for letter in PurePath(file_name).name if letter.isprintable()).strip()
    return shown[-_NAME_LIMIT:] or "The file"
