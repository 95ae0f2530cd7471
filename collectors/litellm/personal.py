"""What in a gateway's labels is about a person, and what is kept of it: nothing, unless the configuration asks for it.

Labels that hold nothing else (`user_email`, `client_ip`, `user_agent`, `end_user`) are not read at all. Names that
people give (keys, teams, users, tags) are kept, but one that is or holds an e-mail address or an IP address is replaced
by a word for it: the sums stay whole, and nobody is named.
"""

import re
import unicodedata
from ipaddress import ip_address
from urllib.parse import unquote

EMAIL_WORD = "(an e-mail address)"
ADDRESS_WORD = "(an IP address)"
AGENT_WORD = "(a user agent)"

_PART = r"[^\s@<>\"',;]+"
_EMAIL = re.compile(
    # with a domain, or with the bare name of a host; "tool@v2" and "tool@1.0" are versions
    rf"{_PART}@(?:{_PART}\.[^\s@<>\"',;.]+|(?!v[0-9])[^\W\d_][\w-]*)"
)
_IPV4 = re.compile(
    r"(?<![0-9.])(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(?!\.?[0-9])"
)
_LIKE_IPV6 = re.compile(r"(?<![\w:.])(?=[^\s]*[0-9])[0-9A-Fa-f:]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*")
_UNQUOTED_TIMES = 3
"""How often a name may have been encoded for a URL."""


def without_person(name: str) -> str:
    """The name, or the word for what it is when it is about a person; an empty name stays empty."""
    seen = _as_seen(name)
    if _EMAIL.search(seen):
        return EMAIL_WORD
    if _IPV4.search(seen) or _is_address(seen.strip().strip("[]").partition("%")[0]) or _ipv6_in(seen):
        return ADDRESS_WORD
    if re.match(r"user[- ]agent:", seen.strip(), re.IGNORECASE):  # LiteLLM adds such tags to every request
        return AGENT_WORD
    return name


def without_persons(text: str, *, but: str = "") -> str:
    """A sentence with the word for it in place of each e-mail and IP address, `but` one: the configured server's."""
    return but.join(map(_hidden, text.split(but))) if but else _hidden(text)


def _hidden(text: str) -> str:
    seen = _as_seen(text)
    hidden = _IPV4.sub(ADDRESS_WORD, _EMAIL.sub(EMAIL_WORD, seen))
    for address in _ipv6_in(hidden):
        hidden = hidden.replace(address, ADDRESS_WORD)
    return text if hidden == seen else hidden


def _as_seen(name: str) -> str:
    """The name as people read it: neither encoded for a URL nor written in the wide letters of East Asia."""
    for _ in range(_UNQUOTED_TIMES):
        name = unquote(name)
    return unicodedata.normalize("NFKC", name)


def _ipv6_in(text: str) -> list[str]:
    found = (match.group().rstrip(".") for match in _LIKE_IPV6.finditer(text))
    return [each for each in found if any(map(str.isdigit, each)) and _is_address(each)]


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
