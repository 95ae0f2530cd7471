"""What the configuration file says: one versioned TOML file, in which unknown keys are refused with a suggestion.

The tables below `[[sources.KIND]]` belong to the collectors: `collectors.SOURCES` names the model that checks each.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apscheduler.triggers.cron import CronTrigger
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from collectors import SOURCES, config_model
from gpufleet.errors import ConfigurationError, SecretUnavailable
from gpufleet.secret_values import secret_fields, with_secrets


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _database_url(url: str) -> str:
    try:
        make_url(url)
    except ArgumentError as error:
        raise ValueError("it is not understood; write it as in 'sqlite:///gpufleet.db'") from error
    return url


class StoreConfig(_Table):
    """`[store]`: where measurements are kept, and for how long."""

    url: Annotated[str, AfterValidator(_database_url)] = "sqlite:///gpufleet.db"
    keep_days: Annotated[int, Field(ge=1)] = 90


def _known_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, IsADirectoryError) as error:
        raise ValueError(f"{name!r} is no time zone; write it as in 'UTC' or 'Europe/Berlin'") from error
    return name


def _cron(expression: str) -> str:
    try:
        CronTrigger.from_crontab(expression, timezone="UTC")
    except ValueError as error:
        raise ValueError(
            f"{expression!r} is no cron expression ({error}); five fields: minute hour day month weekday"
        ) from error
    return expression


class ReportConfig(_Table):
    """`[[reports]]`: a report written on schedule."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    cron: Annotated[str, AfterValidator(_cron)]
    directory: Path
    timezone: Annotated[str, AfterValidator(_known_timezone)] = "UTC"


class Config(_Table):
    """The whole file. `sources` maps each kind to the checked tables of that kind."""

    version: Literal[1]
    store: StoreConfig = StoreConfig()
    sources: dict[str, tuple[Any, ...]] = {}
    reports: tuple[ReportConfig, ...] = ()

    def report(self, name: str) -> ReportConfig:
        """The report of that name.

        Raises ConfigurationError when there is none, with the names there are.
        """
        for report in self.reports:
            if report.name == name:
                return report
        known = ", ".join(report.name for report in self.reports) or "none"
        raise ConfigurationError("the configuration", [f"there is no report {name!r}; configured: {known}"])


def load_config(path: Path, *, environ: Mapping[str, str] | None = None) -> Config:
    """The checked configuration of a file, secrets filled in from `environ` (the process's own by default).

    Relative paths in it (store, secrets, report directories) start at the folder of the file. Raises
    ConfigurationError with every problem found.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(str(path), ["there is no such file"]) from error
    except OSError as error:
        raise ConfigurationError(str(path), [f"it cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(str(path), ["it is not UTF-8 text"]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(str(path), [f"it is not valid TOML: {error}"]) from error
    return parse_config(raw, origin=str(path), directory=path.resolve().parent, environ=environ)


def parse_config(
    raw: Mapping[str, Any], *, origin: str, directory: Path, environ: Mapping[str, str] | None = None
) -> Config:
    """The checked configuration of an already read table; see `load_config`."""
    problems: list[str] = []
    rest = {key: value for key, value in raw.items() if key != "sources"}
    config: Config | None = None
    try:
        config = Config.model_validate(rest)
    except ValidationError as error:
        problems += _explain(error, Config)
    sources = _parse_sources(
        raw.get("sources", {}), problems, environ=os.environ if environ is None else environ, directory=directory
    )
    problems += _duplicates(sources, config.reports if config else ())
    if problems or config is None:
        raise ConfigurationError(origin, problems)
    return config.model_copy(
        update={
            "sources": sources,
            "store": config.store.model_copy(update={"url": _anchored(config.store.url, directory)}),
            "reports": tuple(
                report.model_copy(update={"directory": directory / report.directory}) for report in config.reports
            ),
        }
    )


def shown(config: Config) -> dict[str, Any]:
    """The configuration for people's eyes: secrets are masked, a password in the store's URL too."""
    document = config.model_dump(mode="json", exclude={"sources"})
    document["store"]["url"] = _masked_url(config.store.url)
    document["sources"] = {
        kind: [
            {
                **table.model_dump(mode="json", exclude_none=True),
                **{field: "********" for field in secret_fields(type(table)) if getattr(table, field) is not None},
            }
            for table in tables
        ]
        for kind, tables in config.sources.items()
    }
    return document


def _parse_sources(
    raw: Any, problems: list[str], *, environ: Mapping[str, str], directory: Path
) -> dict[str, tuple[Any, ...]]:
    if not isinstance(raw, dict):
        problems.append("sources: write each source as a table, [[sources.dcgm]]")
        return {}
    parsed: dict[str, tuple[Any, ...]] = {}
    for kind, tables in raw.items():
        if kind not in SOURCES:
            problems.append(f"sources.{kind}: there is no such kind of source{_suggest(kind, SOURCES)}")
            continue
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            problems.append(f"sources.{kind}: write it with two brackets, [[sources.{kind}]], one table per source")
            continue
        model = config_model(kind)
        checked = []
        for number, table in enumerate(tables):
            place = f"sources.{kind}[{number}]"
            try:
                checked.append(
                    model.model_validate(
                        with_secrets(table, model, kind=kind, environ=environ, directory=directory),
                        context={"directory": directory},
                    )
                )
            except SecretUnavailable as error:
                problems.append(str(error))
            except ValidationError as error:
                problems += _explain(error, model, place)
        parsed[kind] = tuple(checked)
    return parsed


def _explain(error: ValidationError, model: type[BaseModel], place: str = "") -> list[str]:
    """One sentence per problem; values of secret fields never appear, unknown keys come with a suggestion."""
    sentences = []
    for problem in error.errors(include_url=False, include_context=False):
        location = [str(part) for part in problem["loc"]]
        where = ".".join(part for part in (place, *location) if part) or "the file"
        if problem["type"] == "extra_forbidden":
            known = _fields_at(model, location[:-1])
            sentences.append(f"{where}: unknown key{_suggest(location[-1], known)}")
        elif problem["type"] == "missing":
            sentences.append(f"{where}: missing")
        elif problem["type"] == "literal_error" and location == ["version"]:
            sentences.append("version: this gpufleet reads version 1 of the configuration file; write version = 1")
        else:
            sentences.append(f"{where}: {problem['msg'].removeprefix('Value error, ')}")
    return sentences


def _fields_at(model: type[BaseModel], location: list[str]) -> list[str]:
    current: type[BaseModel] = model
    for part in location:
        if part.isdigit():
            continue
        field = current.model_fields.get(part)
        nested = [
            candidate
            for candidate in _annotations(field.annotation if field else None)
            if isinstance(candidate, type) and issubclass(candidate, BaseModel)
        ]
        if not nested:
            return []
        current = nested[0]
    secrets = [f"{name}_file" for name in secret_fields(current)]
    return [name for name in current.model_fields if name not in secret_fields(current)] + secrets


def _annotations(annotation: Any) -> list[Any]:
    arguments = getattr(annotation, "__args__", ())
    return [annotation, *(nested for argument in arguments for nested in _annotations(argument))]


def _suggest(word: str, known: Any) -> str:
    candidates = sorted(known)
    close = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(candidates)}" if candidates else ""


def _duplicates(sources: Mapping[str, tuple[Any, ...]], reports: tuple[ReportConfig, ...]) -> list[str]:
    """A name must be unique among the sources of its cluster, whatever their kind, and among the reports."""
    seen: set[tuple[str, str]] = set()
    problems = []
    for tables in sources.values():
        for table in tables:
            key = (table.cluster, table.name)
            if key in seen:
                problems.append(f"two sources of cluster {table.cluster!r} are named {table.name!r}; rename one")
            seen.add(key)
    names = [report.name for report in reports]
    problems += [
        f"two reports are named {name!r}; rename one" for name in sorted({n for n in names if names.count(n) > 1})
    ]
    return problems


def _anchored(url: str, directory: Path) -> str:
    """A relative SQLite file belongs beside the configuration, wherever the command was started."""
    prefix = "sqlite:///"
    if not url.startswith(prefix) or url.startswith(f"{prefix}/") or url in (prefix, f"{prefix}:memory:"):
        return url
    return f"{prefix}{directory / url.removeprefix(prefix)}"


def _masked_url(url: str) -> str:
    head, separator, tail = url.partition("://")
    if not separator or "@" not in tail:
        return url
    credentials, _, host = tail.rpartition("@")
    user = credentials.partition(":")[0]
    return f"{head}://{user}:********@{host}"
