"""The daily figures: pages that split days, owners asked one by one, and gateways that keep none."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from collectors.bounded_http import BoundedHttp
from collectors.errors import BadPayload, CollectorError, Unauthorized, Unsupported
from collectors.litellm.config import LiteLlmConfig
from collectors.litellm.daily_activity import DailyActivity, Found
from planner.token_usage import TokenUsage, UsageSpan
from tests.collectors.json_web import JsonWeb, Query, Reply, Told, json_web

FIRST, LAST = date(2026, 11, 15), date(2026, 11, 16)
USER, TEAM, TAG = (f"/{scope}/daily/activity" for scope in ("user", "team", "tag"))


def _metrics(requests: int = 2, tokens: tuple[int, int] = (10, 5), dollars: float = 0.5, **more: Any) -> dict[str, Any]:
    return {
        "spend": dollars,
        "prompt_tokens": tokens[0],
        "completion_tokens": tokens[1],
        "total_tokens": sum(tokens),
        "cache_read_input_tokens": 0,
        "api_requests": requests,
        "successful_requests": requests,
        "failed_requests": 0,
        **more,
    }


def _model(metrics: dict[str, Any], keys: dict[str, tuple[str | None, dict[str, Any]]] | None = None) -> dict[str, Any]:
    return {
        "metrics": metrics,
        "metadata": {},
        "api_key_breakdown": {
            key: {"metrics": of_key, "metadata": {"key_alias": alias, "team_id": "t1", "user_email": "a@example.com"}}
            for key, (alias, of_key) in (keys or {}).items()
        },
    }


def _day(
    day: str, models: dict[str, Any], entities: dict[str, tuple[float, str | None]] | None = None
) -> dict[str, Any]:
    named = {
        owner: {"metrics": {"spend": dollars}, "metadata": {} if alias is None else {"team_alias": alias}}
        for owner, (dollars, alias) in (entities or {}).items()
    }
    return {"date": day, "metrics": {}, "breakdown": {"models": models, "entities": named}}


def _page(*days: dict[str, Any], page: int = 1, has_more: bool = False, **metadata: Any) -> dict[str, Any]:
    return {"results": list(days), "metadata": {"page": page, "has_more": has_more, **metadata}}


def _read(web: JsonWeb, **keys: Any) -> Found:
    config = LiteLlmConfig(name="it", url=web.url, **keys)
    return DailyActivity(config, BoundedHttp(config, max_body_bytes=10**6)).read(FIRST, LAST)


def _read_of(paths: dict[str, Told], **keys: Any) -> Found:
    with json_web(paths) as web:
        return _read(web, **keys)


def _by(usage: tuple[TokenUsage, ...], dimension: str) -> dict[tuple[str, str], int | None]:
    return {(one.model, one.owner): one.requests for one in usage if one.dimension == dimension}


def test_days_of_utc_with_tokens_requests_and_money() -> None:
    page = _page(
        _day("2026-11-16", {"m": _model(_metrics(2, (10, 5), 0.5, cache_read_input_tokens=4, failed_requests=1))})
    )
    usage, spans, gaps = _read_of({USER: page}, dimensions=())
    assert usage == (
        TokenUsage(
            start=datetime(2026, 11, 16, tzinfo=UTC),
            end=datetime(2026, 11, 17, tzinfo=UTC),
            model="m",
            requests=2,
            input_tokens=10,
            output_tokens=5,
            total_tokens=15,
            cost_usd=0.5,
            usage_details={"cache_read_input_tokens": 4.0, "failed_requests": 1.0},
        ),
    )
    assert spans == (UsageSpan(start=datetime(2026, 11, 15, tzinfo=UTC), end=datetime(2026, 11, 17, tzinfo=UTC)),)
    assert gaps == ()


def test_what_is_asked_for_is_asked_in_values() -> None:
    with json_web({USER: _page()}) as web:
        _read(web, dimensions=(), page_size=7)
    assert web.asked[0].query == {"start_date": "2026-11-15", "end_date": "2026-11-16", "page": "1", "page_size": "7"}


def test_a_day_that_lies_on_two_pages_is_one_day() -> None:
    pages = {
        "1": _page(_day("2026-11-16", {"m": _model(_metrics(2, dollars=0.5))}), has_more=True),
        "2": _page(
            _day("2026-11-16", {"m": _model(_metrics(3, dollars=0.25))}),
            _day("2026-11-15", {"m": _model(_metrics(7))}),
            page=2,
        ),
    }
    usage, _, gaps = _read_of({USER: lambda query: pages[query["page"]]}, dimensions=())
    assert [(one.start.day, one.requests, one.cost_usd) for one in usage] == [(15, 7, 0.5), (16, 5, 0.75)]
    assert gaps == ()


def test_use_by_key_goes_by_alias_and_keys_of_one_alias_are_one() -> None:
    keys = {
        "aa11bb22cc33": ("app", _metrics(2)),
        "dd44ee55ff66": ("app", _metrics(3)),
        "0123456789ab": (None, _metrics(1)),
    }
    usage, spans, _ = _read_of({USER: _page(_day("2026-11-16", {"m": _model(_metrics(6), keys)}))}, dimensions=("key",))
    assert _by(usage, "key") == {("m", "app"): 5, ("m", "unnamed key 01234567"): 1}
    assert {span.dimension for span in spans} == {"", "key"}
    assert "example.com" not in repr(usage)


class TestOwners:
    """Teams, users and tags are known per model only by asking for each of them."""

    def _answer(self, query: Query) -> Any:
        asked = query.get("team_ids")
        if asked is None:
            return _page(
                _day(
                    "2026-11-16",
                    {"m": _model(_metrics(9))},
                    {"t1": (5.0, "Search"), "t2": (9.0, None), "Unassigned": (1.0, None)},
                )
            )
        return _page(_day("2026-11-16", {"m": _model(_metrics({"t1": 4, "t2": 5}[asked]))}))

    def test_each_team_is_asked_for_and_called_by_its_alias(self) -> None:
        usage, spans, gaps = _read_of(
            {USER: _page(_day("2026-11-16", {"m": _model(_metrics(10))})), TEAM: self._answer}, dimensions=("team",)
        )
        assert _by(usage, "team") == {("m", "Search"): 4, ("m", "t2"): 5}
        assert _by(usage, "") == {("m", ""): 10}
        assert {span.dimension for span in spans} == {"", "team"}
        assert gaps == ()

    def test_more_owners_than_allowed_are_a_gap_and_those_with_the_most_spend_are_kept(self) -> None:
        usage, _, gaps = _read_of({USER: _page(), TEAM: self._answer}, dimensions=("team",), max_owners=1)
        assert _by(usage, "team") == {("m", "t2"): 5}
        assert "only the 1 of 2 teams" in gaps[0].reason

    def test_an_id_with_a_comma_is_not_pasted_into_a_list_of_ids(self) -> None:
        page = _page(_day("2026-11-16", {"m": _model(_metrics())}, {"a,b": (1.0, None)}))
        with json_web({USER: _page(), TEAM: page}) as web:
            usage, _, gaps = _read(web, dimensions=("team",))
        assert _by(usage, "team") == {}
        assert "comma" in gaps[0].reason
        assert all("team_ids" not in each.query for each in web.asked)

    def test_user_agents_and_people_among_tags_are_not_even_asked_for(self) -> None:
        entities = {"chat": (1.0, None), "User-Agent: curl": (1.0, None), "a@example.com": (1.0, None)}
        page = _page(_day("2026-11-16", {"m": _model(_metrics())}, entities))
        with json_web({USER: _page(), TAG: page}) as web:
            usage, _, _ = _read(web, dimensions=("tag",))
        assert {owner for _, owner in _by(usage, "tag")} == {"chat"}
        assert {each.query.get("tags") for each in web.asked if each.path == TAG} == {None, "chat"}

    def test_users_that_are_addresses_become_a_word_and_are_added_up(self) -> None:
        entities = {"a@example.com": (1.0, None), "b@example.com": (1.0, None)}
        page = _page(_day("2026-11-16", {"m": _model(_metrics(3))}, entities))
        usage, _, _ = _read_of({USER: page}, dimensions=("user",))
        assert _by(usage, "user") == {("m", "(an e-mail address)"): 6}

    def test_an_endpoint_that_fails_costs_its_dimension_only(self) -> None:
        usage, spans, gaps = _read_of(
            {USER: _page(_day("2026-11-16", {"m": _model(_metrics(10))})), TEAM: Reply("oops", 503)},
            dimensions=("team",),
        )
        assert _by(usage, "") == {("m", ""): 10}
        assert [span.dimension for span in spans] == [""]
        assert "use by team is not known" in gaps[0].reason

    def test_an_endpoint_that_names_nobody_is_not_read_as_nobody(self) -> None:
        _, spans, gaps = _read_of({USER: _page(_day("2026-11-16", {"m": _model(_metrics())}))}, dimensions=("user",))
        assert [span.dimension for span in spans] == [""]
        assert "names no user" in gaps[0].reason


class TestMorePagesThanAllowed:
    """The aggregated endpoint answers in one piece, and lists only the keys with the highest spend."""

    def _paths(self, total_api_keys: int) -> dict[str, Told]:
        whole = _page(
            _day("2026-11-16", {"m": _model(_metrics(9), {"aa11bb22cc33": ("app", _metrics(9))})}),
            api_key_limit=1,
            total_api_keys=total_api_keys,
        )
        return {
            USER: lambda query: _page(
                _day("2026-11-16", {"m": _model(_metrics(1))}), page=int(query["page"]), has_more=True
            ),
            f"{USER}/aggregated": whole,
        }

    def test_totals_come_in_one_piece_and_it_is_said(self) -> None:
        usage, spans, gaps = _read_of(self._paths(1), dimensions=("key",), max_pages=2)
        assert _by(usage, "") == {("m", ""): 9}
        assert _by(usage, "key") == {("m", "app"): 9}
        assert {span.dimension for span in spans} == {"", "key"}
        assert "in one piece" in gaps[0].reason

    def test_keys_that_were_cut_are_no_list_of_keys(self) -> None:
        usage, spans, gaps = _read_of(self._paths(3), dimensions=("key",), max_pages=2)
        assert _by(usage, "key") == {}
        assert [span.dimension for span in spans] == [""]
        assert any("2 are left out" in gap.reason for gap in gaps)


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [  # the first two as LiteLLM 1.106.2 without a database answers
        (
            Reply({"detail": {"error": "DB not connected. This endpoint needs a database"}}, 500),
            Unsupported,
            "DATABASE_URL",
        ),
        (Reply({"error": {"message": "No connected db.", "code": "400"}}, 400), Unsupported, "DATABASE_URL"),
        (Reply({"detail": "Not Found"}, 404), Unsupported, "older"),
        (Reply({"error": {"message": "Invalid key"}}, 401), Unauthorized, "bearer_token_file"),
        (Reply("<html><title>Sign in</title></html>"), BadPayload, "Sign in"),
        (Reply({"rows": []}), BadPayload, "results"),
        (Reply({"results": {}}), BadPayload, "results"),
        (_page(page=4), BadPayload, "page 4 when asked for 1"),
    ],
)
def test_a_refusal_of_the_totals_is_an_error(reply: Told, error: type[CollectorError], words: str) -> None:
    with pytest.raises(error, match=words):
        _read_of({USER: reply}, dimensions=())


def test_one_bad_part_costs_itself() -> None:
    page = _page(
        {"date": "soon"},
        "no day",
        _day("2026-10-01", {"m": _model(_metrics())}),
        _day(
            "2026-11-16",
            {"bad": "part", "m": _model(_metrics(2)), "odd": _model({"spend": "0.25", "api_requests": "three"})},
        ),
    )
    usage, _, gaps = _read_of({USER: page}, dimensions=())
    assert [(one.model, one.requests, one.cost_usd) for one in usage] == [("m", 2, 0.5), ("odd", None, 0.25)]
    assert len(gaps) == 5
    assert any("api_requests" in gap.reason for gap in gaps)


def test_reading_a_span_again_changes_nothing() -> None:
    page = _page(_day("2026-11-16", {"m": _model(_metrics())}))
    with json_web({USER: page}) as web:
        config = LiteLlmConfig(name="it", url=web.url, dimensions=())
        activity = DailyActivity(config, BoundedHttp(config, max_body_bytes=10**6))
        assert activity.read(FIRST, LAST) == activity.read(FIRST, LAST)


class TestPersons:
    """What is wrong is said without the name of whom it is about, and server's words without addresses in them."""

    def _gaps(self, of_user: Told, entities: dict[str, Any], **keys: Any) -> str:
        day = _day("2026-11-16", {"m": _model(_metrics(), {"0123456789abcdef": ("app", {"spend": "much"})})})
        day["breakdown"]["entities"] = entities
        whole = _page(day)
        with json_web({USER: lambda query: of_user if "user_id" in query else whole}) as web:
            _, _, gaps = _read(web, dimensions=("user",), **keys)
            said = " | ".join(gap.reason for gap in gaps)
        return said.replace(f"127.0.0.1:{web.port}", "gateway")

    def test_a_part_that_cannot_be_read_names_nobody(self) -> None:
        odd = {"alice@example.com": {"metrics": {"spend": "much"}}, "bob@example.com": [1]}
        said = self._gaps(_page(), odd)
        assert "spend of a part of a day (an owner) is no number" in said
        assert "a part of a day (an owner) was left out" in said
        assert "spend of a part of a day (a key) is no number" in said
        assert not [word for word in ("alice", "bob", "example", "0123456789") if word in said]

    def test_what_the_server_says_loses_the_addresses_in_it_and_ours_stays(self) -> None:
        refusal = Reply({"detail": "user alice@example.com not found from 10.1.2.3"}, 400)
        users = {"alice@example.com": {"metrics": {"spend": 1}}}
        said = self._gaps(refusal, users)
        assert said.startswith("spend of a part of a day (a key) is no number | use by user is not known: gateway/user")
        assert "user (an e-mail address) not found from (an IP address)" in said
        assert "alice@example.com not found from 10.1.2.3" in self._gaps(refusal, users, keep_personal=True)


@pytest.mark.parametrize(
    "metadata",
    [{"total_pages": 3}, {"total_pages": 3, "has_more": None}, {"total_pages": 3, "has_more": False}],
    ids=["total_pages alone", "has_more null", "has_more false"],
)
def test_pages_are_read_to_the_last_by_their_number_too(metadata: dict[str, Any]) -> None:
    def page(query: Query) -> Told:
        number = int(query["page"])
        days = [_day("2026-11-16", {f"m{number}": _model(_metrics())})]
        return {"results": days, "metadata": {"page": number, **metadata}}

    usage, _, gaps = _read_of({USER: page}, dimensions=())
    assert [one.model for one in usage] == ["m1", "m2", "m3"]
    assert gaps == ()


@pytest.mark.parametrize("value", [1e300, 10**300, "1e300", 1.5, -3, -0.5, "NaN", "inf", True])
def test_what_is_no_count_is_left_out_with_a_gap(value: object) -> None:
    page = _page(_day("2026-11-16", {"m": _model(_metrics(2, prompt_tokens=value))}))
    (one,), _, gaps = _read_of({USER: page}, dimensions=())
    assert (one.input_tokens, one.output_tokens) == (None, 5)
    assert [gap.reason for gap in gaps] == ["prompt_tokens of a part of a day (a model) is no number"]


@pytest.mark.parametrize("value", [1.2e308, -3.5, "-1", "Infinity"])
def test_what_is_no_sum_of_dollars_is_left_out_with_a_gap(value: object) -> None:
    page = _page(_day("2026-11-16", {"m": _model(_metrics(2, spend=value))}))
    (one,), _, gaps = _read_of({USER: page}, dimensions=())
    assert (one.cost_usd, one.requests) == (None, 2)
    assert [gap.reason for gap in gaps] == ["spend of a part of a day (a model) is no number"]


def test_a_sum_that_the_store_cannot_keep_is_left_out_with_a_gap() -> None:
    key = {"metrics": {"prompt_tokens": 10**15}, "metadata": {"key_alias": "app"}}
    model = {"metrics": _metrics(7), "api_key_breakdown": {str(number): key for number in range(9_300)}}
    page = _page(_day("2026-11-16", {"m": model}))  # 9.3e18 are more than 2**63
    usage, _, gaps = _read_of({USER: page}, dimensions=("key",))
    assert [(one.dimension, one.requests) for one in usage] == [("", 7)]
    assert [gap.reason for gap in gaps] == ["a sum was left out: it is larger than anything that is counted"]
