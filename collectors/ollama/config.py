"""`[[sources.ollama]]`: Ollama servers that are asked directly."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from collectors.config import HttpSourceConfig, HttpUrl, target_name


def _without_api_path(url: str) -> str:
    return url.rstrip("/").removesuffix("/api").rstrip("/")


OllamaUrl = Annotated[HttpUrl, AfterValidator(_without_api_path)]


class OllamaConfig(HttpSourceConfig):
    """One server (`url`) or several that share everything else (`targets`).

    `node` and `gpu_uuids` say where one server runs, where nothing else can tell. `counted_by_gateway`: a gateway in
    front counts the requests, so that their absence here costs nothing.
    """

    url: OllamaUrl | None = None
    targets: tuple[OllamaUrl, ...] = ()
    max_concurrent: Annotated[int, Field(ge=1, le=64)] = 16
    max_body_bytes: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024
    node: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    gpu_uuids: tuple[Annotated[str, Field(pattern=r"^GPU-[0-9A-Za-z-]{1,76}$")], ...] = ()
    counted_by_gateway: bool = False

    @model_validator(mode="after")
    def _something_to_ask(self) -> "OllamaConfig":
        if (self.url is None) == (not self.targets):
            raise ValueError("give either url or targets = [...], and not both")
        names = [target_name(url) for url in self.urls]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"targets names {', '.join(twice)} more than once")
        if self.url is None and (self.node is not None or self.gpu_uuids):
            raise ValueError("node and gpu_uuids are of one server; with targets, give each its own table")
        return self

    @property
    def urls(self) -> tuple[str, ...]:
        """Every address to ask."""
        return (self.url,) if self.url is not None else self.targets


def endpoint_of(url: str) -> str:
    """The name under which this server's readings are kept: host and port, and the path where a proxy adds one."""
    parts = urlsplit(url)
    return parts.netloc + parts.path.rstrip("/")
