"""A model that the user names: a name of the catalogue, a directory, a `config.json` or a `.gguf` file."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from planner.memory.errors import UnreadableModel
from planner.memory.facts import ModelFacts
from planner.memory.gguf_facts import facts_from_gguf_header
from planner.memory.gguf_header import GgufHeader, read_gguf_header
from planner.memory.hf_config import facts_from_config
from planner.memory.model_catalogue import find_model
from planner.memory.ollama_show import facts_from_ollama_show
from planner.memory.safetensors_header import (
    LENGTH_BYTES,
    StoredTensors,
    header_length,
    read_safetensors_header,
    together,
)

MAX_CONFIG_BYTES = 64 * 2**20
MAX_FILES = 2000
_PART = re.compile(r"(.*)-([0-9]{1,6})-of-([0-9]{1,6})\.safetensors")


def load_model(text: str) -> ModelFacts:
    """Facts of a directory or file where there is one of that name, else of the catalogue; raises UnreadableModel."""
    path = Path(text).expanduser()
    try:
        is_directory, is_file = path.is_dir(), path.is_file()
    except (OSError, ValueError):
        is_directory = is_file = False
    if is_directory:
        return _facts_of_unchanged(path, _state_of(path))
    if is_file:
        return facts_from_gguf(path) if path.suffix == ".gguf" else facts_from_config_file(path)
    if path.suffix in (".gguf", ".json") or text.startswith((".", "/", "~")):
        raise UnreadableModel(f"{text} is no file or directory here; give its path, or a name from the catalogue.")
    return find_model(text)


@lru_cache(maxsize=64)
def _facts_of_unchanged(path: Path, state: object) -> ModelFacts:
    """Many questions about one directory read its headers once, as long as nothing in it changes."""
    return facts_from_directory(path)


def _state_of(path: Path) -> object:
    try:
        return tuple(
            (entry.name, entry.stat().st_mtime_ns, entry.stat().st_size)
            for entry in sorted(path.iterdir())
            if entry.suffix in (".json", ".safetensors", ".gguf") and entry.is_file()
        )
    except OSError as error:
        raise UnreadableModel(f"{path} cannot be read: {error.strerror or error}.") from error


def facts_from_directory(path: Path) -> ModelFacts:
    """A Hugging Face model directory: its configuration and safetensors headers, or the one GGUF file in it."""
    config = path / "config.json"
    if not config.is_file():
        found = sorted(path.glob("*.gguf"))
        if len(found) == 1:
            return facts_from_gguf(found[0])
        what = f"{len(found)} .gguf files; name one of them" if found else "no config.json and no .gguf file"
        raise UnreadableModel(f"{path} holds {what}.")
    return facts_from_config_file(config, stored=True)


def facts_from_config_file(path: Path, *, stored: bool = False) -> ModelFacts:
    """One configuration, or an answer of Ollama's /api/show; with `stored` also the weight files beside it."""
    name = _name_of(path)
    config = _json(path)
    if "model_info" in config and "model_type" not in config:
        return facts_from_ollama_show(config, name=name)
    beside = path.parent / "hf_quant_config.json"
    if stored and beside.is_file() and "quantization_config" not in config:
        config = {**config, "hf_quant_config": _json(beside)}
    facts = facts_from_config(config, name=name, source=str(path))
    files = _weight_files(path.parent) if stored else []
    if not files:
        return facts
    tensors = together(_safetensors(file, facts.layer_count) for file in files)
    return facts_from_config(config, name=name, stored=tensors, source=f"{path} and {len(files)} safetensors headers")


def facts_from_gguf(path: Path) -> ModelFacts:
    """The header of a GGUF file; a file that ends before its last tensor is refused."""
    try:
        with path.open("rb") as stream:
            header = read_gguf_header(stream, path.name)
        size = path.stat().st_size
    except OSError as error:
        raise UnreadableModel(f"{path} cannot be read: {error.strerror or error}.") from error
    return facts_from_whole_gguf(header, path.name, source=str(path), file_bytes=size)


def facts_from_whole_gguf(header: GgufHeader, file: str, *, source: str, file_bytes: int | None) -> ModelFacts:
    """Facts of a header, unless its file is one of several parts or ends before its last tensor."""
    split = header.metadata.get("split.count")
    if isinstance(split, int) and split > 1:
        raise UnreadableModel(f"{file} is one of {split} parts; join them with llama-gguf-split --merge first.")
    if file_bytes is not None and file_bytes < header.file_bytes:
        raise UnreadableModel(
            f"{file} ends early: it has {file_bytes:,} bytes, its tensors need {header.file_bytes:,}; download it "
            "again."
        )
    return facts_from_gguf_header(header, name=PurePosixPath(file).stem, source=source)


def named_weight_files(index: Mapping[str, Any], where: str) -> Sequence[str]:
    """Names in a `model.safetensors.index.json`, each once; raises UnreadableModel for none, or for a path."""
    named = index.get("weight_map")
    names = sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []
    wrong = [name for name in names if PurePosixPath(name).name != name or not name.isprintable()]
    if not names or wrong:
        what = f"names {wrong[0][:80]!r}, which is no file name" if wrong else "names no weight files"
        raise UnreadableModel(f"{where} {what}; it is damaged.")
    return names


def _name_of(path: Path) -> str:
    return path.parent.resolve().name if path.name == "config.json" else path.stem


def _json(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise UnreadableModel(f"{path} is larger than any configuration; give the config.json of a model.")
        parsed = json.loads(path.read_text(encoding="utf-8-sig"))  # editors on Windows put a mark in front
    except OSError as error:
        raise UnreadableModel(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise UnreadableModel(
            f"{path} is not JSON ({error}); a file that was cut short is the usual reason."
        ) from error
    if not isinstance(parsed, dict):
        raise UnreadableModel(f"{path} is no model configuration: a JSON object is expected.")
    return parsed


def _weight_files(folder: Path) -> list[Path]:
    """The files that the index names, else all; a consolidated copy of the same weights is not counted twice."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        there = [folder / name for name in named_weight_files(_json(index), str(index))]
        missing = [path.name for path in there if not path.is_file()]
        if not missing:
            return there
        if len(missing) < len(there):
            raise UnreadableModel(
                f"{folder} lacks {len(missing)} of {len(there)} weight files ({missing[0]}); download them."
            )
        return []  # only the configuration was downloaded
    files = sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("consolidated"))
    _refuse_missing_parts(folder, files)
    return files[:MAX_FILES]


def _refuse_missing_parts(folder: Path, files: Sequence[Path]) -> None:
    """Parts of a checkpoint number themselves; without an index their names are all that tells how many there are."""
    parts: dict[tuple[str, int], set[int]] = {}
    for path in files:
        if numbered := _PART.fullmatch(path.name):
            parts.setdefault((numbered[1], int(numbered[3])), set()).add(int(numbered[2]))
    for (_, total), found in parts.items():
        if len(found) < total:
            raise UnreadableModel(
                f"{folder} holds {len(found)} of the {total} parts of its weights; download the others, or give its "
                "config.json alone."
            )


def _safetensors(path: Path, layers: int) -> StoredTensors:
    try:
        with path.open("rb") as stream:
            beginning = stream.read(LENGTH_BYTES)
            length = header_length(beginning, path.name)
            beginning += stream.read(length)
        size = path.stat().st_size
    except OSError as error:
        raise UnreadableModel(f"{path} cannot be read: {error.strerror or error}.") from error
    stored = read_safetensors_header(beginning, path.name, layers=layers)
    needed = LENGTH_BYTES + length + sum(stored.bytes_by_part.values())
    if 0 < size - LENGTH_BYTES - length < needed - LENGTH_BYTES - length:
        raise UnreadableModel(
            f"{path.name} ends early: it has {size:,} bytes, and its tensors need {needed:,}; download it again."
        )
    return stored
