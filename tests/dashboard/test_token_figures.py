"""Tokens per second of the fleet: parts and rest add up, and what is not counted is not zero."""

import re
from dataclasses import replace

import pytest

from dashboard.gpu_figures import gpu_rows
from dashboard.gpu_table import gpu_frame
from dashboard.html_parts import part
from dashboard.overview_figures import Freshness, overview
from dashboard.token_figures import token_flow
from planner.serving_readings import ServingEngine
from tests.dashboard.fleets import HOSTILE
from tests.dashboard.joined import joined
from tests.planner.joins import HOUR, NOW, device, facts, server, traffic

FRESH = Freshness(last_observed_at=NOW, is_stale=False, reason="", targets_ok=1, targets_total=1)
MIXED = facts(
    device(0, "a"),
    device(1, "b", sm=0.5),
    device(2, "b"),
    device(3, "o"),
    servers=[
        server("a:1", traffic(tokens=3600, prompt_tokens=7200.0), pod="a"),
        server("b:1", traffic(tokens=1800, covered_s=600.0), pod="b"),
        server("o:1", engine=ServingEngine.OLLAMA, pod="o"),
    ],
)


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_attributed_and_unattributed_are_what_the_engines_counted() -> None:
    flow = token_flow(joined(MIXED).clusters)
    assert flow is not None
    # a: 10800 tokens in an hour, all on one device; b: 1800 in the ten minutes it was read, on two devices unsplit
    assert (flow.per_s, flow.attributed_per_s, flow.unattributed_per_s) == (6.0, 3.0, 3.0)
    assert (flow.prompt_per_s, flow.generation_per_s, flow.attributed_share) == (2.0, 4.0, 0.5)
    assert (flow.engines, flow.uncounted, flow.devices) == (3, 1, 1)
    assert (flow.shortest_s, flow.longest_s) == (600, 3600)
    [rest] = flow.unattributed
    assert (rest.engines, rest.tokens_per_s) == (1, 3.0)
    assert rest.reason == "it runs on 2 devices, and not all of them report how busy their SMs were"


def test_what_was_counted_before_a_server_moved_or_ended_is_in_the_rate_and_no_engine_of_now() -> None:
    # One server counted 3600 tokens in the hour, a third of them elsewhere; another one 1800 before it ended.
    now = replace(server("a:1", traffic(tokens=2400, covered_s=2400.0), pod="a"), rate_s=3600.0)
    before = replace(server("a:1", traffic(tokens=1200, covered_s=1200.0)), rate_s=3600.0, ended="it was elsewhere")
    gone = replace(server("b:1", traffic(tokens=1800, covered_s=900.0)), rate_s=3600.0, ended="it has gone")
    flow = token_flow(joined(facts(device(0, "a"), servers=[now, before, gone])).clusters)
    assert flow is not None
    assert (flow.per_s, flow.attributed_per_s) == (pytest.approx(1.5), pytest.approx(2 / 3))
    assert [one.reason for one in flow.unattributed] == ["it has gone", "it was elsewhere"]
    assert (flow.engines, flow.uncounted, flow.shortest_s) == (1, 0, 3600.0)


def test_engines_that_count_nothing_give_no_rate_rather_than_zero() -> None:
    flow = token_flow(joined(facts(device(3, "o"), servers=[server("o:1", pod="o")])).clusters)
    assert flow is not None
    assert (flow.per_s, flow.attributed_per_s, flow.unattributed_per_s, flow.attributed_share) == (None,) * 4
    assert flow.uncounted == 1
    assert token_flow(joined(facts(device(0, "a"))).clusters) is None


def test_an_idle_fleet_has_zero_tokens_and_no_share() -> None:
    flow = token_flow(joined(facts(device(0, "a"), servers=[server("a:1", traffic(tokens=0), pod="a")])).clusters)
    assert flow is not None
    assert (flow.per_s, flow.attributed_per_s, flow.attributed_share, flow.devices) == (0.0, 0.0, None, 0)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (MIXED, "6.0 counted by engines (2.0 prompt, 4.0 generated) 3.0 put down to 1 device (50%) 3.0 put down to no"),
        (facts(device(0)), "Tokens per second : – · no serving engine is read"),
        (facts(device(3, "o"), servers=[server("o:1", pod="o")]), "– no engine has counted tokens yet"),
    ],
)
def test_the_overview_says_them(told: object, said: str) -> None:
    both = joined(told)  # type: ignore[arg-type]
    shown = overview(both.fleet, (), FRESH, HOUR, both.clusters)
    assert said in words(part("tokens", overview=shown, now=NOW))


def test_reasons_with_names_from_the_cluster_are_escaped() -> None:
    devices = (device(0, HOSTILE[0]), device(1, HOSTILE[0]))
    servers = [server(f"e:{n}", traffic(tokens=60), pod=HOSTILE[0]) for n in (1, 2)]
    both = joined(facts(*devices, servers=servers))
    page = part("tokens", overview=overview(both.fleet, (), FRESH, HOUR, both.clusters), now=NOW)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_table_has_models_tokens_and_why_there_are_none() -> None:
    frame = gpu_frame(gpu_rows(joined(MIXED).fleet), NOW)
    assert list(frame["Model"]) == ["meta-llama/Llama-3.1-8B-Instruct"] * 3 + ["ollama, no model loaded"]
    assert list(frame["Tokens/s"].fillna(-1)) == [3.0, -1, -1, -1]
    assert list(frame["Why no tokens/s"].fillna("none needed")) == [
        "none needed",
        "it runs on 2 devices, and its tokens cannot be split over them",
        "it runs on 2 devices, and its tokens cannot be split over them",
        "Ollama counts no tokens; a gateway before it can",
    ]
