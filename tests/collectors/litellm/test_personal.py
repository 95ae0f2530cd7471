"""What is about a person never gets through by accident."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from collectors.litellm.personal import ADDRESS_WORD, AGENT_WORD, EMAIL_WORD, without_person, without_persons


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("search-app", "search-app"),
        ("", ""),
        ("anna@example.com", EMAIL_WORD),
        ("key of anna.b+c@mail.example.com (app)", EMAIL_WORD),
        ("Anna <anna@example.com>", EMAIL_WORD),
        ("alice@corp", EMAIL_WORD),
        ("alice@localhost", EMAIL_WORD),
        ("alice%40example.com", EMAIL_WORD),
        ("alice%2540example.com", EMAIL_WORD),
        ("alice\uff20example.com", EMAIL_WORD),  # a wide commercial at
        ("tool@v2", "tool@v2"),
        ("@search", "@search"),
        ("100%", "100%"),
        ("10.0.0.7", ADDRESS_WORD),
        ("from 10.0.0.7:5432", ADDRESS_WORD),
        ("v1.2.3.4.5", "v1.2.3.4.5"),  # a version
        ("300.1.2.3", "300.1.2.3"),  # no address
        ("2001:db8::1", ADDRESS_WORD),
        ("[2001:db8::1]", ADDRESS_WORD),
        ("fe80::1%eth0", ADDRESS_WORD),
        ("[2001:db8::1]:80", ADDRESS_WORD),
        ("key for 2001:db8::1", ADDRESS_WORD),
        ("key for ::ffff:10.1.2.3.", ADDRESS_WORD),
        ("std::vector", "std::vector"),
        ("at 12:30:45", "at 12:30:45"),
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


def test_a_sentence_keeps_all_but_the_person() -> None:
    told = "user alice@example.com not found from 10.1.2.3, 2001:db8::1. Nor is bob%40corp."
    assert without_persons(told) == (
        f"user {EMAIL_WORD} not found from {ADDRESS_WORD}, {ADDRESS_WORD}. Nor is {EMAIL_WORD}."
    )
    assert without_persons("page 4 when asked for 1 (100% of 12:30)") == "page 4 when asked for 1 (100% of 12:30)"
    assert without_persons("10.0.0.5:4000 says 10.0.0.7", but="10.0.0.5:4000") == f"10.0.0.5:4000 says {ADDRESS_WORD}"
