"""Names of modules by the patterns of foreign configurations, without the time that some patterns would take.

A configuration may hold any regular expression, and Python's engine takes exponential time for some. What quantisers
write is read here: literals, `.`, classes, `.*` anywhere, one more repetition between two of them, groups of
alternatives, `^` and `$`. A name of n letters costs at most n² steps for each piece between two `.*`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

MAX_PATTERN = 300
MAX_ALTERNATIVES = 64
_TOKEN = re.compile(r"(\\.|\[\^?\]?[^\]]*\]|[^\\\[\](){}*+?|^$])([*+?]?)\??")
_GROUP = re.compile(r"\((?:\?:)?([^()?][^()]*)\)(?![*+?{])")


class NotUnderstood(ValueError):
    """A pattern beyond what is read here; the message is the part that is."""


@dataclass(frozen=True, slots=True)
class _Chain:
    """Pieces with anything between them; the first stands at the beginning, unless anything may stand before it."""

    pieces: tuple[re.Pattern[str], ...]
    starts_free: bool

    def matches(self, name: str) -> bool:
        at = 0
        for index, piece in enumerate(self.pieces):
            anchored = index == 0 and not self.starts_free
            found = piece.match(name) if anchored else piece.search(name, at)  # the earliest leaves the most room
            if found is None:
                return False
            at = found.end()
        return True


@dataclass(frozen=True, slots=True)
class ModulePattern:
    """A pattern as its alternatives."""

    chains: tuple[_Chain, ...]

    def matches(self, name: str) -> bool:
        """Whether the pattern describes a beginning of the name, as `re.match` says."""
        return any(chain.matches(name) for chain in self.chains)


def read_pattern(text: str) -> ModulePattern:
    """The pattern; raises NotUnderstood for counted or nested repetition, look-around and back references."""
    if len(text) > MAX_PATTERN:
        raise NotUnderstood(f"{text[:20]!r}, which is longer than {MAX_PATTERN} characters")
    return ModulePattern(tuple(_chain(flat) for flat in _alternatives(text)))


def _alternatives(text: str) -> Sequence[str]:
    pieces: list[Sequence[str]] = []
    at = count = 0
    for group in _GROUP.finditer(text):
        choices = group.group(1).split("|")
        pieces += [[text[at : group.start()]], choices]
        count = max(count, 1) * len(choices)
        if count > MAX_ALTERNATIVES:
            raise NotUnderstood(f"{text[:20]!r}, which has too many alternatives")
        at = group.end()
    pieces.append([text[at:]])
    return [flat for parts in product(*pieces) for flat in "".join(parts).split("|")]


def _chain(flat: str) -> _Chain:
    flat = flat.removeprefix("^")
    to_the_end = flat.endswith("$") and not flat.endswith("\\$")
    flat = flat.removesuffix("$") if to_the_end else flat
    pieces, repeated, at = [""], [0], 0
    while at < len(flat):
        token = _TOKEN.match(flat, at)
        if token is None:
            raise NotUnderstood(repr(flat[at : at + 20]))
        letter, often = token.groups()
        if letter == "." and often == "*":
            pieces.append("")
            repeated.append(0)
        else:
            pieces[-1] += _letter(letter) + (f"{often}?" if often in ("*", "+") and often else often)
            repeated[-1] += bool(often)
        at = token.end()
    if max(repeated) > 1:
        raise NotUnderstood(f"{flat[:20]!r}, which repeats more than one letter in a row")
    if to_the_end:
        pieces[-1] += r"\Z"
    elif not pieces[-1] and len(pieces) > 1:
        pieces.pop()  # `.*` at the end says nothing
    starts_free = len(pieces) > 1 and not pieces[0]
    kept = pieces[1:] if starts_free else pieces
    return _Chain(pieces=tuple(_compiled(piece) for piece in kept), starts_free=starts_free)


def _letter(text: str) -> str:
    if text.startswith("\\") and text[1].isalnum() and text not in (r"\d", r"\w", r"\s", r"\D", r"\W", r"\S"):
        raise NotUnderstood(repr(text))
    return text


def _compiled(piece: str) -> re.Pattern[str]:
    try:
        return re.compile(piece)
    except re.error as error:
        raise NotUnderstood(repr(piece[:20])) from error
