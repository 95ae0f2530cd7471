"""Where a command looks for models: files and the catalogue always, a server or the hub only where it was told to.

The network is used for what a flag names and for nothing else: an address in a line of `--requests` that no flag named
is refused, whoever wrote the line.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from gpufleet.errors import ModelSourceFailed, ShellError
from gpufleet.model_files import load_model
from planner.catalog import LONGEST_NAME
from planner.errors import PlannerError
from planner.memory.errors import UnreadableModel
from planner.memory.estimate import Engine
from planner.memory.facts import ModelFacts
from planner.memory.model_catalogue import find_model

if TYPE_CHECKING:
    from gpufleet.model_servers import RunningVllm

T = TypeVar("T")

_CACHED_REPOSITORY = re.compile(r"/models--([A-Za-z0-9._-]+?)--([A-Za-z0-9._-]+)(?:/|$)")
_UNTOLD = ("tp", "max_num_seqs", "max_num_batched_tokens", "dtype", "quantization", "enforce_eager")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """A model with what its source says beside its sizes.

    `engine` is the one that serves it there, `settings` are keys of a request that hold where nobody says otherwise.
    """

    facts: ModelFacts
    engine: Engine | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    untold: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    server: "RunningVllm | None" = None


class ModelSources:
    """The sources of one command; each model and server is asked for once, and a failure is remembered too."""

    def __init__(
        self,
        *,
        server: str | None = None,
        ollama: str | None = None,
        hub: bool = False,
        revision: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        if ollama is not None and (server is not None or hub):
            raise ShellError("--ollama says where the model is; leave out --server and --hub.")
        if revision is not None and not hub:
            raise ShellError("--revision is one of a repository of the hub; add --hub.")
        self._server = _address(server, "--server")
        self._ollama = _address(ollama, "--ollama")
        self._hub = hub
        self._revision = revision
        self._environ = environ or {}
        self._known: dict[tuple[str, str], Any] = {}

    @property
    def server(self) -> str | None:
        """The address of the vLLM that may be asked."""
        return self._server

    def find(self, text: str) -> FoundModel:
        """A model by what a user calls it; raises PlannerError or ShellError."""
        if is_address(text):
            if self._server is None or _address(text, "the model") != self._server:
                shown = text[:LONGEST_NAME]
                raise ShellError(
                    f"{shown!r} is an address: a vLLM is asked with --server URL, Ollama with --ollama URL."
                )
            return self.served()
        if self._ollama is not None:
            return self._in_ollama(self._ollama, text)
        return FoundModel(facts=self.facts(text))

    def served(self, model: str | None = None) -> FoundModel:
        """What the server runs, with the facts of `model` where the user names one."""
        from gpufleet.model_servers import read_vllm

        if model is not None and is_address(model):
            return self.find(model)
        if self._server is None:
            raise ShellError("no server is named; give --server URL.")
        address = self._server
        server = self._once("server", address, lambda: read_vllm(address, self._environ))
        facts, note = self._facts_of(server) if model is None else (self.facts(model), ())
        return FoundModel(
            facts=facts,
            engine=Engine.VLLM,
            settings=server.settings,
            untold=_UNTOLD,
            notes=(*note, *server.notes),
            server=server,
        )

    def facts(self, text: str) -> ModelFacts:
        """Facts of a path, of a repository of the hub where that may be asked, else of the catalogue."""
        if not self._hub or is_path(text):
            return self._once("model", text, lambda: load_model(text))
        if "/" not in text:  # such repositories exist, and short names of the catalogue are more often meant
            try:
                return find_model(text)
            except UnreadableModel:
                pass
        return self._on_hub(text)

    def _on_hub(self, text: str) -> ModelFacts:
        from gpufleet.model_hub import facts_from_hub, hub_access

        def ask() -> ModelFacts:
            return facts_from_hub(text, hub_access(self._environ), revision=self._revision)

        return self._once("hub", text, ask)

    def _in_ollama(self, address: str, name: str) -> FoundModel:
        from gpufleet.model_ollama import read_ollama

        found = self._once("ollama", name, lambda: read_ollama(address, name))
        own = ", ".join(f"{key} {value}" for key, value in found.settings.items() if key != "engine_version")
        note = (f"{name} brings settings of its own along: {own}.",) if own else ()
        return FoundModel(facts=found.facts, engine=Engine.OLLAMA, settings=found.settings, notes=note)

    def _facts_of(self, server: "RunningVllm") -> tuple[ModelFacts, tuple[str, ...]]:
        """By the directory that the server names where it is here too, else by the names that it states."""
        root = server.root

        if root.startswith("/") and _is_here(root):
            return load_model(root), (
                f"The model's facts are those of {root} on this machine, as the server names it.",
            )
        failures = []
        for name in dict.fromkeys((_repository_name(root), *server.names)):
            try:
                facts = self.facts(name) if self._hub and "/" in name and not is_path(name) else find_model(name)
            except (PlannerError, ModelSourceFailed) as error:
                failures.append(str(error))
                continue
            return facts, (f"The server names its model {name}; its facts are those of {facts.name}.",)
        raise UnreadableModel(
            f"{server.address} does not tell the architecture of its model {root}, and no facts are known by that name "
            f"({failures[0].rstrip('.')}). Name the model too: a directory with its config.json, or a name of the "
            "catalogue."
        )

    def _once(self, kind: str, name: str, ask: Callable[[], T]) -> T:
        key = (kind, name)
        if key not in self._known:
            try:
                self._known[key] = ask()
            except (ShellError, PlannerError) as error:
                self._known[key] = error
        known: T | ShellError | PlannerError = self._known[key]
        if isinstance(known, ShellError | PlannerError):
            raise known.with_traceback(None)  # it would grow with every line that asks again
        return known


def is_address(text: str) -> bool:
    """Whether this is meant as the address of a server."""
    return text.strip().lower().startswith(("http://", "https://"))


def is_path(text: str) -> bool:
    """Whether this is spelled as a path, and not as `owner/name` or `owner/name:FILE.gguf`."""
    return text.startswith((".", "/", "~")) or (text.lower().endswith((".json", ".gguf")) and ":" not in text)


def _address(text: str | None, flag: str) -> str | None:
    """Without the /v1 that clients of OpenAI's protocol have at the end."""
    if text is None:
        return None
    from gpufleet.model_http import address_of

    return address_of(text.strip(), flag).removesuffix("/v1").rstrip("/")


def _is_here(root: str) -> bool:
    try:
        return Path(root).exists()
    except (OSError, ValueError):
        return False


def _repository_name(root: str) -> str:
    """`owner/name` of a folder of the hub's cache, the last part of another path, else the root as it is."""
    if found := _CACHED_REPOSITORY.search(root):
        return f"{found[1]}/{found[2]}"
    is_folder = is_path(root) or "://" in root
    return PurePosixPath(root.rstrip("/")).name or root if is_folder else root
