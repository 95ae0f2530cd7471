"""What in a gateway's labels is about a person, and what is kept of it: nothing, unless the configuration asks for it.

Labels that hold nothing else (`user_email`, `client_ip`, `user_agent`, `end_user`) are not read at all. Names that
people give (keys, teams, users, tags) are kept, but one that is or holds an e-mail address or an IP address is replaced
by a word for it: the sums stay whole, and nobody is named.
"""

import re
from ipaddress import ip_address

EMAIL_WORD = "(an e-mail address)"
ADDRESS_WORD = "(an IP address)"
AGENT_WORD = "(a user agent)"

_EMAIL = re.compile(r"[^\s@<>\"',;]+@[^\s@<>\"',;]+\.[^\s@<>\"',;.]+")
_IPV4 = re.compile(
    r"(?<![0-9.])(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(?![0-9.])"
)


def without_person(name: str) -> str:
    """The name, or the word for what it is when it is about a person; an empty name stays empty."""
    if _EMAIL.search(name):
        return EMAIL_WORD
    if _IPV4.search(name) or _is_address(name):
        return ADDRESS_WORD
    if re.match(r"user[- ]agent:", name.strip(), re.IGNORECASE):  # LiteLLM adds such tags to every request
        return AGENT_WORD
    return name


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip().strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True
