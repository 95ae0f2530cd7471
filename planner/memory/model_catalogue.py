"""The built-in models: rows of `planner/data/models.toml`, read by the same code as a `config.json`."""

import difflib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from planner.catalog_rows import Row, check_sources, read_toml, refused
from planner.errors import CatalogError
from planner.memory.errors import UnreadableModel
from planner.memory.facts import ModelFacts
from planner.memory.hf_config import facts_from_config
from planner.memory.model_names import take_apart

DATA = Path(__file__).parent.parent / "data"


class ModelRow(Row):
    """One model of the catalogue; `checked` where transformers builds exactly as many parameters from the row."""

    name: str
    aliases: tuple[str, ...] = ()
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)  # alias -> what its configuration has otherwise
    source: str
    parameters: int = Field(gt=0)
    checked: bool = False
    config: dict[str, Any]


@cache
def model_rows() -> Mapping[str, ModelRow]:
    """Every row by its name; raises CatalogError."""
    tables = read_toml(DATA / "models.toml")
    rows: dict[str, ModelRow] = {}
    for table in tables.get("model", []):
        where = f"models.toml, {table.get('name', 'a model without a name')}"
        try:
            row = ModelRow.model_validate(table)
        except ValidationError as error:
            raise refused(where, error) from error
        check_sources((row.source,), tables.get("sources", {}), where)
        if row.name in rows:
            raise CatalogError(f"{where}: the name stands twice.")
        if strangers := set(row.variants) - set(row.aliases):
            raise CatalogError(f"{where}: variants names {sorted(strangers)[0]!r}, which is no alias of it.")
        rows[row.name] = row
    return rows


@cache
def known_models() -> Mapping[str, ModelFacts]:
    """Facts of every model of the catalogue by its name, aliases left out."""
    return {name: _facts(name) for name in model_rows()}


def find_model(text: str) -> ModelFacts:
    """A model by its name, alias or the part after the slash, in any case; raises UnreadableModel with near names."""
    wanted = text.strip().lower()
    named = [row for row in model_rows().values() if wanted in _spellings(row)]
    exact = [row for row in named if wanted in (row.name.lower(), *(alias.lower() for alias in row.aliases))] or named
    if len(exact) == 1:
        return _facts(exact[0].name, _spelled(exact[0], wanted))
    if not exact and (derived := _derived(text)) is not None:
        return derived
    if exact:
        names = ", ".join(row.name for row in exact)
        raise UnreadableModel(f"{text} may be {names}; give the whole name.")
    spellings = {spelling: row.name for row in model_rows().values() for spelling in _spellings(row)}
    near = dict.fromkeys(spellings[match] for match in difflib.get_close_matches(wanted, spellings, n=5, cutoff=0.6))
    hint = f"near names are {', '.join(near)}" if near else "no name is near"
    raise UnreadableModel(
        f"{text} is neither in the catalogue of models ({hint}) nor a file or directory here; give the path of its "
        "config.json or of a directory or .gguf file."
    )


def _derived(text: str) -> ModelFacts | None:
    """A mirror or a quantised copy of a model that is in the catalogue, by its name alone; says so in `assumed`."""
    parts = take_apart(text)
    bases = [row for row in model_rows().values() if parts.stem in _spellings(row)]
    if len(bases) != 1:
        return None
    base = _facts(bases[0].name, _spelled(bases[0], parts.stem))
    if base.quantisation is not None:
        return None
    how = "" if parts.quantisation is None else f", quantised to {parts.quantisation.format.value} as its name says"
    sentence = f"{text.strip()} is not in the catalogue; it was taken for a copy of {base.name}{how}."
    return replace(
        base, name=text.strip(), quantisation=parts.quantisation or base.quantisation, assumed=(*base.assumed, sentence)
    )


def _spellings(row: ModelRow) -> set[str]:
    names = {name.lower() for name in (row.name, *row.aliases)}
    return names | {name.rpartition("/")[2] for name in names}


def _spelled(row: ModelRow, wanted: str) -> str:
    """The name or alias that was asked for, as the row spells it: engines are started with it."""
    for name in (row.name, *row.aliases):
        if wanted in (name.lower(), name.lower().rpartition("/")[2]):
            return name
    return row.name


@cache
def _facts(name: str, alias: str | None = None) -> ModelFacts:
    row = model_rows()[name]
    config = row.config | row.variants.get(alias or name, {})
    return facts_from_config(config, name=alias or name, source=f"planner/data/models.toml ({row.source})")
