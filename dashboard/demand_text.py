"""Requests as people type them: `3 x 3g.20gb, 1g.5gb*4`, one list in one line or over several."""

import re
from collections.abc import Sequence
from difflib import get_close_matches

from dashboard.scenario import REQUEST_LIMIT, Request, ScenarioInvalid

_NAME = r"(?P<{0}>(?:mig-)?\d+g\.[\w.+-]+?)"
_TIMES = r"\s*[x×*]\s*"
_FORMS = (
    re.compile(rf"(?P<count>\d{{1,9}})(?:{_TIMES}|\s+)" + _NAME.format("name"), re.IGNORECASE),
    re.compile(_NAME.format("name") + rf"(?:{_TIMES}|\s+)(?P<count>\d{{1,9}})", re.IGNORECASE),
    re.compile(_NAME.format("name"), re.IGNORECASE),
)


def read_requests(text: str, known: Sequence[str]) -> tuple[Request, ...]:
    """The requests of a typed list, equal profiles together; raises ScenarioInvalid naming what is not understood.

    `known` are the profiles that can be asked for; a name may be spelled as Kubernetes does (`mig-1g.10gb.me`).
    """
    counts: dict[str, int] = {}
    for piece in re.split(r"[,;\n]+", text):
        if not piece.strip():
            continue
        name, count = _piece(piece.strip())
        profile = _spelled(name, known)
        counts[profile] = counts.get(profile, 0) + count
    if not counts:
        raise ScenarioInvalid("Nothing was typed. Write for example: 3 x 3g.40gb, 1g.10gb*4")
    if sum(counts.values()) > REQUEST_LIMIT:
        raise ScenarioInvalid(f"These are more than the {REQUEST_LIMIT:,} requests that are planned in one scenario.")
    return tuple(Request(profile=profile, count=count) for profile, count in counts.items())


def _piece(piece: str) -> tuple[str, int]:
    for form in _FORMS:
        found = form.fullmatch(piece)
        if found:
            return found["name"], int(found.groupdict().get("count") or 1)
    shown = piece if len(piece) <= 40 else f"{piece[:39]}…"
    raise ScenarioInvalid(f"“{shown}” is not understood. Write a count and a profile: 3 x 3g.40gb, 1g.10gb*4")


def _spelled(name: str, known: Sequence[str]) -> str:
    wanted = re.sub(r"(?<=gb)\.(?=me|gfx)", "+", name.lower().removeprefix("mig-"))
    if wanted in known:
        return wanted
    close = get_close_matches(wanted, known, n=3, cutoff=0.5)
    hint = (
        f"Nearest: {', '.join(close)}." if close else f"Known: {', '.join(known)}." if known else "Add a board first."
    )
    raise ScenarioInvalid(f"No board of the scenario has a profile {name}. {hint}")
