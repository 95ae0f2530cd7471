"""What is about a person never gets through by accident."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from collectors.litellm.personal import ADDRESS_WORD, AGENT_WORD, EMAIL_WORD, without_person


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("search-app", "search-app"),
        ("", ""),
        ("anna@example.com", EMAIL_WORD),
        ("key of anna.b+c@mail.example.com (app)", EMAIL_WORD),
        ("Anna <anna@example.com>", EMAIL_WORD),
        ("team@home", "team@home"),  # no domain: a name that somebody chose
        ("10.0.0.7", ADDRESS_WORD),
        ("from 10.0.0.7:5432", ADDRESS_WORD),
        ("v1.2.3.4.5", "v1.2.3.4.5"),  # a version
        ("300.1.2.3", "300.1.2.3"),  # no address
        ("2001:db8::1", ADDRESS_WORD),
        ("[2001:db8::1]", ADDRESS_WORD),
        ("fe80::1%eth0", ADDRESS_WORD),
        ("User-Agent: curl/8", AGENT_WORD),
        ("user agent:python", AGENT_WORD),
        ("llama3.1:8b", "llama3.1:8b"),
    ],
)
def test_a_name_is_kept_and_a_person_is_not(name: str, kept: str) -> None:
    assert without_person(name) == kept


@given(st.emails(), st.text(max_size=10), st.text(max_size=10))
def test_no_address_gets_through_whatever_stands_around_it(email: str, before: str, after: str) -> None:
    assume(all(character not in email for character in " \"'<>,;"))  # a quoted local part, which no key bears
    assert email not in without_person(f"{before} {email} {after}")


@given(st.ip_addresses())
def test_no_ip_address_gets_through(address: object) -> None:
    assert without_person(str(address)) == ADDRESS_WORD
