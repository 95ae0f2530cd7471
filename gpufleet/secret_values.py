"""Where a secret comes from: the environment or a file named in the configuration, never the configuration itself.

For a field `bearer_token` of the source `[[sources.prometheus]] name = "main"`:

- `bearer_token_file = "/run/secrets/prometheus"` in the table, or
- the environment variable `GPUFLEET_PROMETHEUS_MAIN_BEARER_TOKEN`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr

from gpufleet.errors import SecretUnavailable


def secret_fields(model: type[BaseModel]) -> tuple[str, ...]:
    """Names of the fields of a configuration model that hold secrets."""
    return tuple(
        name
        for name, field in model.model_fields.items()
        if field.annotation is SecretStr or SecretStr in get_args(field.annotation)
    )


def environment_name(kind: str, source: str, field: str) -> str:
    """Environment variable that gives a secret field of a source, in capitals with underscores."""
    return re.sub(r"[^A-Z0-9]+", "_", f"GPUFLEET_{kind}_{source}_{field}".upper())


def with_secrets(
    table: Mapping[str, Any], model: type[BaseModel], *, kind: str, environ: Mapping[str, str], directory: Path
) -> dict[str, Any]:
    """The table with its secrets filled in; relative file names start at `directory`.

    Raises SecretUnavailable when a secret stands in the table itself, when it is given twice, or when its file is
    missing, unreadable or empty.
    """
    resolved = dict(table)
    source = str(table.get("name", kind))
    for field in secret_fields(model):
        where = f"sources.{kind} {source!r}"
        variable = environment_name(kind, source, field)
        file_name = resolved.pop(f"{field}_file", None)
        if field in resolved:
            raise SecretUnavailable(
                f"{where}: {field} stands in the configuration file, where backups and tickets will carry it. "
                f"Put it in a file and name that as {field}_file, or set ${variable}."
            )
        if file_name is not None and variable in environ:
            raise SecretUnavailable(f"{where}: {field} is given twice, by {field}_file and ${variable}. Keep one.")
        if file_name is not None:
            resolved[field] = _read_secret(directory / str(file_name), f"{where}: {field}_file")
        elif variable in environ:
            resolved[field] = environ[variable]
    return resolved


def _read_secret(path: Path, where: str) -> str:
    try:
        value = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SecretUnavailable(f"{where} names {path}, which cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SecretUnavailable(f"{where} names {path}, which is not text.") from error
    if not value:
        raise SecretUnavailable(f"{where} names {path}, which is empty.")
    return value
