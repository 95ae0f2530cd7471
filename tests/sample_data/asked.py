"""Asks a part of the simulated cluster without a socket."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.routing import Route


def app_of(routes: Sequence[Route]) -> Starlette:
    """Some routes alone."""
    return Starlette(routes=list(routes))


def ask(app: Starlette, method: str, path: str, **how: Any) -> httpx.Response:
    """One request, redirects not followed."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://cluster.test:9400") as client:
            return await client.request(method, path, **how)

    # In a thread of its own: the browser of other tests keeps a loop running in the main one.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(lambda: asyncio.run(send())).result()
