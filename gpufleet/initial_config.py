"""The configuration that `gpufleet init` writes: a table for each program found, ready to be read and edited."""

from collections import Counter
from collections.abc import Sequence
from urllib.parse import urlsplit

import tomlkit
from tomlkit.items import AoT, Table

from gpufleet.looking_around import Found

SECRETS = {
    "langfuse": ('public_key = "pk-lf-..."', 'secret_key_file = "secrets/langfuse"'),
    "litellm": ('bearer_token_file = "secrets/litellm"',),
}
"""Kinds that answer nobody without credentials, and the lines in which those are named."""


def initial_config(found: Sequence[Found]) -> str:
    """The text of the file; kinds that need credentials are written as comments, to be completed by hand."""
    document = tomlkit.document()
    document.add("version", 1)
    document.add(tomlkit.nl())
    document.add("store", tomlkit.item({"url": "sqlite:///gpufleet.db", "keep_days": 90}))
    names: Counter[str] = Counter()
    sources = tomlkit.table(is_super_table=True)
    tables: dict[str, AoT] = {}
    comments: list[str] = []
    for one in found:
        names[one.kind] += 1
        name = one.kind if names[one.kind] == 1 else f"{one.kind}-{names[one.kind]}"
        if one.kind in SECRETS:
            comments += _commented(one, name)
            continue
        tables.setdefault(one.kind, tomlkit.aot()).append(_table(one, name))
    for kind, array in tables.items():
        sources.add(kind, array)
    if tables:
        document.add("sources", sources)
    for line in comments:
        document.add(tomlkit.comment(line) if line else tomlkit.nl())
    return tomlkit.dumps(document)


def _table(one: Found, name: str) -> Table:
    table = tomlkit.table()
    table.add("name", name)
    if one.url is not None:
        table.add("url", one.url)
    if one.engine is not None:
        table.add("engine", one.engine)
    if one.path is not None:
        table.add("kubeconfig", str(one.path))
    return table


def _commented(one: Found, name: str) -> list[str]:
    host = urlsplit(one.url or "").netloc
    lines = ["", f"{one.program} answers at {host}. Name its credentials, and take the # away:"]
    lines += [f"[[sources.{one.kind}]]", f'name = "{name}"', f'url = "{one.url}"']
    return [*lines, *SECRETS[one.kind]]
