"""What goes along with every question over HTTP: who asks, what is wanted, and the credentials of the source."""

import httpx

from collectors.config import HttpSourceConfig


def headers_of(config: HttpSourceConfig, accept: str) -> dict[str, str]:
    """The headers, the bearer token among them; `accept` is what the answer should be."""
    headers = {"Accept": accept, "Accept-Encoding": "gzip", "User-Agent": "gpufleet"}
    if config.bearer_token is not None:
        headers["Authorization"] = f"Bearer {config.bearer_token.get_secret_value()}"
    return headers


def basic_auth_of(config: HttpSourceConfig) -> httpx.BasicAuth | None:
    """User and password, where the source logs in with them."""
    if config.username is None or config.password is None:
        return None
    return httpx.BasicAuth(config.username, config.password.get_secret_value())
