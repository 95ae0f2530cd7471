"""Clients of a real llama-server: they state how many tokens they send and want, and count what they were told.

A prompt is a list of token numbers wherever the server takes one, so that its length is known here and not asked for.
"""

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from http.client import HTTPConnection
from typing import Any

import httpx

from tests.collectors.serving.llama_server import MODEL, LlamaServer

_PATIENCE_S = 300
_FIRST_TOKEN, _TOKENS = 2, 256
"""Those before are the begin and the end of a text."""


class Road(StrEnum):
    """How a request is asked: the path."""

    COMPLETION = "/completion"
    OPENAI = "/v1/completions"
    CHAT = "/v1/chat/completions"


ROADS = tuple(Road)


@dataclass(frozen=True, slots=True)
class Answered:
    """What the clients were told, summed: `prompt_tokens` are all of the prompts, `cached_tokens` a part of them.

    `generation_s` is the time from the end of a prompt to the last token, of every request for itself.
    """

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generation_tokens: int = 0
    generation_s: float = 0.0

    def __add__(self, other: "Answered") -> "Answered":
        return Answered(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.generation_tokens + other.generation_tokens,
            self.generation_s + other.generation_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One request: a prompt of so many tokens, and exactly so many to generate; all prompts of a road begin alike."""

    prompt_tokens: int
    generation_tokens: int
    road: Road = Road.COMPLETION
    is_streamed: bool = False
    may_be_cached: bool = False

    def body(self) -> dict[str, Any]:
        prompt = [_FIRST_TOKEN + place % _TOKENS for place in range(self.prompt_tokens)]
        body: dict[str, Any] = {"prompt": prompt}
        if self.road is Road.CHAT:
            body = {"messages": [{"role": "user", "content": "x" * self.prompt_tokens}]}
        if self.road is not Road.COMPLETION:
            body |= {"model": MODEL}
            body |= {"stream_options": {"include_usage": True}} if self.is_streamed else {}
        return body | {
            "max_tokens" if self.road is not Road.COMPLETION else "n_predict": self.generation_tokens,
            "ignore_eos": True,
            "cache_prompt": self.may_be_cached,
            "stream": self.is_streamed,
        }


class Disagreement(AssertionError):
    """The server says something else than what was sent, or two different things."""


def complete(server: LlamaServer, client: httpx.Client, wanted: Wanted) -> Answered:
    """Send one request and wait for the last of its answer. Raises Disagreement."""
    told: dict[str, Any] = {}
    with client.stream("POST", f"{server.url}{wanted.road}", json=wanted.body()) as answer:
        if answer.is_error:
            raise Disagreement(f"{wanted} was answered with {answer.status_code}: {answer.read()[:500]!r}")
        if wanted.is_streamed:
            for part in _parts(answer):
                told |= {name: part[name] for name in ("timings", "usage", "tokens_evaluated") if part.get(name)}
        else:
            told = json.loads(answer.read())
    return _answered(wanted, told)


def _answered(wanted: Wanted, told: dict[str, Any]) -> Answered:
    timings = told["timings"]
    prompt_tokens = timings["cache_n"] + timings["prompt_n"]
    generation_tokens = timings["predicted_n"]
    if generation_tokens != wanted.generation_tokens:
        raise Disagreement(f"{wanted} got {generation_tokens} tokens")
    if wanted.road is not Road.CHAT and prompt_tokens != wanted.prompt_tokens:
        raise Disagreement(f"{wanted} was read as {prompt_tokens} tokens")
    if timings["cache_n"] and not wanted.may_be_cached:
        raise Disagreement(f"{wanted} was taken from the cache")
    if wanted.road is Road.COMPLETION:
        said_again = told["tokens_evaluated"], generation_tokens
    else:
        said_again = told["usage"]["prompt_tokens"], told["usage"]["completion_tokens"]
    if said_again != (prompt_tokens, generation_tokens):
        raise Disagreement(f"{wanted}: {said_again} beside {timings}")
    return Answered(1, prompt_tokens, timings["cache_n"], generation_tokens, timings["predicted_ms"] / 1e3)


def _parts(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    """The parts of a streamed answer."""
    for line in answer.iter_lines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


class Load:
    """Requests of every sort sent all at once in the background; `answered` waits for the last of them."""

    def __init__(self, server: LlamaServer, requests: int, *, tokens: int) -> None:
        self._pool = ThreadPoolExecutor(requests)
        self._client = httpx.Client(timeout=_PATIENCE_S, limits=httpx.Limits(max_connections=requests))
        # Prompts and answers of different lengths: no count can be right by a multiple of another.
        self._sent: list[Future[Answered]] = [
            self._pool.submit(
                complete,
                server,
                self._client,
                Wanted(
                    prompt_tokens=20 + 5 * number,
                    generation_tokens=tokens + 3 * number,
                    road=ROADS[number % 3],
                    is_streamed=number // 3 % 2 == 1,
                    may_be_cached=number // 6 % 2 == 1,
                ),
            )
            for number in range(requests)
        ]

    @property
    def is_running(self) -> bool:
        return not all(one.done() for one in self._sent)

    def answered(self) -> Answered:
        """What all of them were told; raises what went wrong with one."""
        with closing(self._client), self._pool:
            return sum((one.result() for one in self._sent), Answered())


class Abandoned:
    """One request that has been sent and whose client goes away, by `close`, before it is answered in full."""

    def __init__(self, server: LlamaServer, wanted: Wanted) -> None:
        self._connection = HTTPConnection("127.0.0.1", server.port, timeout=_PATIENCE_S)
        body = json.dumps(wanted.body() | {"timings_per_token": True})
        self._connection.request("POST", wanted.road, body, {"Content-Type": "application/json"})

    def receive(self, tokens: int) -> int:
        """Wait until so many tokens of a streamed answer have come, and return how many have."""
        answer = self._connection.getresponse()
        for line in answer:
            if line.startswith(b"data: {"):
                told = json.loads(line.removeprefix(b"data: "))["timings"]["predicted_n"]
                if told >= tokens:
                    return int(told)
        raise Disagreement(f"The answer ended before its token {tokens}")

    def close(self) -> None:
        self._connection.close()
