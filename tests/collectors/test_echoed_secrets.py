"""Credentials that a server repeats stay out of what is kept of its answer."""

import base64
import json
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler

import pytest

from collectors.bounded_http import BoundedHttp
from collectors.config import HttpSourceConfig
from collectors.echoed_secrets import (
    SHORTEST_IN_REASON,
    bytes_without_secrets,
    error_without_secrets,
    secrets_of,
    secrets_sent,
    without_secrets,
)
from collectors.errors import BadPayload, CollectorError, Unreachable
from collectors.prometheus import PrometheusReader
from collectors.prometheus_config import PrometheusConfig
from collectors.transport import HttpTransport
from tests.collectors.webs import Answer, Web, reply

TOKEN = "s3cret-t0ken"
BASIC = base64.b64encode(b"fleet:hunter2222").decode()


def config(**table: str) -> HttpSourceConfig:
    return HttpSourceConfig.model_validate({"name": "test", "timeout_s": 5, **table})


def test_every_form_in_which_a_secret_is_sent_is_known() -> None:
    assert secrets_of(config()) == ()
    assert secrets_of(config(bearer_token=TOKEN)) == (TOKEN,)
    assert secrets_of(config(username="fleet", password="hunter2222")) == (BASIC, "hunter2222")


def test_a_short_secret_is_left_in_data_and_masked_in_reasons() -> None:
    assert without_secrets("m 9400", ("9400",)) == "m 9400"
    assert without_secrets("9400 is wrong", ("9400",), shortest=SHORTEST_IN_REASON) == "******** is wrong"


@pytest.mark.parametrize("status", [200, 404, 500])
@pytest.mark.parametrize(
    ("login", "echo"),
    [
        ({"bearer_token": TOKEN}, f"Authorization: Bearer {TOKEN}"),
        ({"username": "fleet", "password": "hunter2222"}, f"Authorization: Basic {BASIC}"),
        ({"username": "fleet", "password": "hunter2222"}, "fleet may not log in with hunter2222"),
    ],
)
def test_what_is_kept_of_an_answer_holds_no_secret(web: Web, status: int, login: dict[str, str], echo: str) -> None:
    body = echo if status == 200 else f'{{"message": "{echo}"}}'
    web.answer = reply(status, body.encode())
    transport = HttpTransport(config(**login), max_body_bytes=1024)
    [fetched] = transport.fetch_all([web.url], max_concurrent=1)
    told = fetched.text if status == 200 else str(fetched.error)
    assert told is not None
    assert echo.split()[0] in told
    assert "********" in told
    assert not [secret for secret in (TOKEN, BASIC, "hunter2222") if secret in told]


def test_what_a_header_carries_is_known_without_the_configuration() -> None:
    assert secrets_sent(f"Bearer {TOKEN}") == (TOKEN,)
    assert secrets_sent(f"Basic {BASIC}") == (BASIC, "hunter2222")
    assert secrets_sent("Basic no-base64") == ("no-base64",)
    assert secrets_sent(None) == secrets_sent("") == secrets_sent("Bearer") == ()


def test_a_secret_is_found_as_json_writes_it() -> None:
    quoted = config(username="fleet", password='hunt"er\\2222')
    told = json.dumps({"error": 'no hunt"er\\2222'})
    assert without_secrets(told, secrets_of(quoted)) == '{"error": "no ********"}'


def test_digits_within_a_longer_number_are_a_measurement() -> None:
    page = "m 512345678\nm 12345678.5\nm 0.12345678\npassword=12345678\n"
    masked = page.replace("=12345678", "=********")
    assert without_secrets(page, ("12345678",)) == masked
    assert bytes_without_secrets(page.encode(), ("12345678",)) == masked.encode()


def test_a_body_that_is_no_text_keeps_its_other_bytes() -> None:
    assert bytes_without_secrets(b"\xff" + TOKEN.encode() + b"\xfe", (TOKEN,)) == b"\xff********\xfe"


def test_an_error_keeps_its_kind_and_says_no_secret() -> None:
    error = Unreachable(f"it quotes {TOKEN}", source="it", permanent=True)
    masked = error_without_secrets(error, (TOKEN,))
    assert (type(masked), str(masked), masked.source, masked.permanent) == (
        Unreachable,
        "it quotes ********",
        "it",
        True,
    )
    assert error_without_secrets(error, ("another",)) is error


def unspeakable(echo: str) -> Answer:
    """Something that is no HTTP, in a line that libraries quote."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(f"HTTP/1.1 {echo}\r\n{echo}\0: x\r\n\r\n".encode())

    return answer


def errors_of(web: Web, **login: str) -> list[CollectorError]:
    """What each road makes of the answer."""
    table = config(**login)
    [fetched] = HttpTransport(table, max_body_bytes=1024).fetch_all([web.url], max_concurrent=1)
    assert fetched.error is not None
    found = [fetched.error]
    try:
        answer = BoundedHttp(table, max_body_bytes=1024).get(web.url)
        found.append(answer.error() if answer.status != 200 else BadPayload(answer.text, source="it"))
    except CollectorError as error:
        found.append(error)
    with pytest.raises(CollectorError) as caught:
        PrometheusReader(PrometheusConfig(**table.model_dump(exclude_unset=True), url=web.url)).server_time()
    return [*found, caught.value]


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("echo", [TOKEN, "s3cr...ken"])
def test_nothing_is_quoted_of_what_is_said_about_refused_credentials(web: Web, status: int, echo: str) -> None:
    """LiteLLM answers: "Authentication Error, LiteLLM Virtual Key expected. Received=..."."""
    web.answer = reply(status, json.dumps({"error": {"message": f"Key expected. Received={echo}"}}).encode())
    for error in errors_of(web, bearer_token=TOKEN):
        assert f"({status})" in str(error)
        assert "Received" not in str(error)
    assert BoundedHttp(config(bearer_token=TOKEN), max_body_bytes=1024).get(web.url).reason == ""


@pytest.mark.parametrize("status", [400, 404, 422, 500])
def test_other_refusals_are_quoted_without_the_secret(web: Web, status: int) -> None:
    web.answer = reply(status, json.dumps({"status": "error", "error": f"who is {TOKEN}?"}).encode())
    for error in errors_of(web, bearer_token=TOKEN):
        assert str(error).endswith("It says: who is ********?")


@pytest.mark.parametrize(
    "answer",
    [
        unspeakable(TOKEN),
        reply(302, Location=f"https://{TOKEN}/"),
        reply(200, f"<html><title>{TOKEN}</title>".encode(), Content_Type="text/html"),
    ],
    ids=["no-http", "redirect", "web-page"],
)
def test_no_other_way_leads_a_secret_into_an_error(web: Web, answer: Answer) -> None:
    web.answer = answer
    for error in errors_of(web, bearer_token=TOKEN):
        assert TOKEN not in str(error)


def test_the_answer_of_a_single_question_is_kept_without_the_secret(web: Web) -> None:
    web.answer = reply(200, json.dumps([TOKEN]).encode(), Content_Type="application/json")
    answer = BoundedHttp(config(bearer_token=TOKEN), max_body_bytes=1024).get(web.url)
    assert answer.json() == ["********"]
    assert TOKEN not in repr(answer)


def test_so_is_that_of_one_who_logs_in_by_keys_of_its_own(web: Web) -> None:
    web.answer = reply(500, json.dumps({"message": f"{BASIC} hunter2222"}).encode())
    http = BoundedHttp(config(), max_body_bytes=1024, basic_auth=("fleet", "hunter2222"))
    assert str(http.get(web.url).error()).endswith("It says: ******** ********")


def test_and_those_of_prometheus(web: Web) -> None:
    at = 1795348800
    told = {"data": {"result": [{"metric": {"__name__": TOKEN}, "values": [[at, "1"]]}]}, "warnings": [f"by {TOKEN}"]}
    web.answer = reply(200, json.dumps(told).encode(), Content_Type="application/json")
    reader = PrometheusReader(PrometheusConfig(name="it", url=web.url, bearer_token=TOKEN))
    [series] = reader.raw_samples("{a}", seconds=60, until=datetime.fromtimestamp(at, UTC))
    assert series.metric == {"__name__": "********"}
    assert TOKEN not in repr(reader.remarks())
