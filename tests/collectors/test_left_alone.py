"""A target that asks to be left alone (429 or 503 with Retry-After) is not asked before, whatever the interval."""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from collectors.dcgm.collector import DcgmCollector
from collectors.dcgm.config import DcgmConfig
from collectors.serving.collector import ServingScraper
from collectors.serving.config import ServingConfig
from collectors.source import Collector
from tests.collectors.dcgm.lines import line
from tests.collectors.webs import Web, reply

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def dcgm(url: str) -> Collector:
    return DcgmCollector(DcgmConfig.model_validate({"name": "test", "timeout_s": 5, "url": url}))


def serving(url: str) -> Collector:
    return ServingScraper(ServingConfig.model_validate({"name": "test", "timeout_s": 5, "url": f"{url}/metrics"}))


@pytest.mark.parametrize("make", [dcgm, serving])
@pytest.mark.parametrize("status", [429, 503])
def test_a_target_is_not_asked_before_it_wants_to_be(web: Web, make: Callable[[str], Collector], status: int) -> None:
    with closing(make(web.url)) as collector:
        web.answer = reply(status, Retry_After="600")
        [first] = collector.collect(NOW, {})
        assert "It asks to be left alone for 600 s." in str(first.error)
        for later_s in (30, 300, 599):
            assert list(collector.collect(NOW + timedelta(seconds=later_s), {})) == []
        web.answer = reply(200, line("DCGM_FI_DEV_POWER_USAGE", 60).encode())
        asked_before = len(web.paths)
        assert len(list(collector.collect(NOW + timedelta(seconds=700), {}))) == 1
        assert len(web.paths) > asked_before


@pytest.mark.parametrize("make", [dcgm, serving])
def test_a_wish_that_cannot_be_read_changes_nothing(web: Web, make: Callable[[str], Collector]) -> None:
    with closing(make(web.url)) as collector:
        web.answer = reply(503, Retry_After="later")
        [first] = collector.collect(NOW, {})
        assert "left alone" not in str(first.error)
        assert len(list(collector.collect(NOW + timedelta(seconds=30), {}))) == 1
