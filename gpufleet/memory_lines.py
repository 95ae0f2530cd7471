"""`gpufleet memory --requests`: one question a line, one answer a line; a bad line is answered with what is wrong."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from gpufleet.errors import ShellError
from gpufleet.memory_documents import answer, answer_document, server_key
from gpufleet.memory_request import Request, run_of
from gpufleet.model_sources import ModelSources
from planner.errors import PlannerError
from planner.memory.experience import Experience

_LONGEST_LINE = 1 << 20


def answer_lines(name: str, experience: Experience, sources: ModelSources | None = None) -> Iterator[str]:
    """The JSON of every line that is not empty, in order; `-` reads stdin. Raises ShellError for an unreadable file."""
    sources = sources or ModelSources()
    for number, line in _lines(name):
        yield _answered(number, line, experience, sources)


def _answered(number: int, line: bytes, experience: Experience, sources: ModelSources) -> str:
    """The answer to one line, or an object that says what is wrong with it: one bad line does not end the rest."""
    head: dict[str, Any] = {"line": number}
    try:
        values = _object(line)
        head |= {key: values[key] for key in ("id", "model") if isinstance(values.get(key), str | int)}
        request = Request.read(values, f"line {number}")
        question = run_of(request, experience, sources)
        given = answer(question.run, question.notes, experience)
        return json.dumps({**head, **answer_document(given), **server_key(question, given)}, allow_nan=False)
    except (PlannerError, ShellError) as error:
        return json.dumps({**head, "error": str(error)})
    except Exception as error:  # noqa: BLE001  # a fault of ours in one answer must not take the others with it
        fault = f"gpufleet failed on this line ({type(error).__name__}: {error}); please report it."
        return json.dumps({**head, "error": fault})


def _object(line: bytes) -> dict[str, Any]:
    if len(line) > _LONGEST_LINE:
        raise ShellError(f"the line is longer than {_LONGEST_LINE:,} bytes; one request is one short object.")
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ShellError(f"the line is not JSON ({error}); one request is one object on one line.") from error
    if not isinstance(values, dict):
        raise ShellError('the line is no JSON object; a request is one, such as {"model": ..., "gpu": ...}.')
    return values


def _lines(name: str) -> Iterator[tuple[int, bytes]]:
    try:
        if name == "-":
            yield from _numbered(sys.stdin.buffer)
        else:
            with Path(name).open("rb") as file:
                yield from _numbered(file)
    except OSError as error:
        raise ShellError(f"the requests {name!r} cannot be read: {error.strerror}.") from error


def _numbered(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield number, line
