"""The simulated Ollama: its shapes, and that it holds a model exactly while the cluster's device does."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from sample_data import ollama_server
from sample_data.cluster import simulated_cluster
from sample_data.deployments import Engine
from sample_data.faults import FaultKind, Faults
from sample_data.ollama_routes import ollama_paths, routes
from sample_data.serving_state import serving_pods, serving_state
from tests.sample_data.asked import app_of, ask

CLUSTER = simulated_cluster(6)
MONDAY = datetime(2026, 11, 16, 9, 0, tzinfo=UTC)
PLACES = [place for place in serving_pods(CLUSTER) if place.deployment.engine is Engine.OLLAMA]


@pytest.mark.parametrize("hours", range(0, 168, 5))
def test_a_model_is_listed_as_running_while_it_is_loaded_and_runs_out_after_its_last_request(hours: int) -> None:
    at = MONDAY + timedelta(hours=hours)
    for place in PLACES:
        told = ollama_server.running(place, at)["models"]
        assert bool(told) == serving_state(place, at).is_loaded
        for model in told:
            expires_at = datetime.fromisoformat(model["expires_at"][:19] + model["expires_at"][29:])
            assert expires_at.utcoffset() == timedelta(hours=1)
            assert timedelta(0) < expires_at - at <= ollama_server.KEEP_ALIVE
            if serving_state(place, at).level > 0:
                assert expires_at - at > ollama_server.KEEP_ALIVE - timedelta(seconds=1)
            assert 0 < model["size_vram"] <= model["size"]


def test_every_kind_of_server_that_is_in_the_field_is_there() -> None:
    versions = {ollama_server.version(place)["version"] for place in PLACES}
    assert versions == {"0.33.0", "0.6.2"}
    for place in PLACES:
        tags = ollama_server.listed(place)["models"]
        has_cloud = any("remote_host" in model for model in tags)
        assert has_cloud == (ollama_server.version(place)["version"] == "0.33.0")
        assert place.model in {model["name"] for model in tags}


def test_show_knows_the_models_that_are_listed_and_no_others() -> None:
    for place in PLACES:
        for model in ollama_server.listed(place)["models"]:
            shown = ollama_server.shown(model["name"])
            if "remote_host" in model:
                assert shown is None
            else:
                assert shown is not None
                architecture = shown["model_info"]["general.architecture"]
                assert f"{architecture}.context_length" in shown["model_info"]
    assert ollama_server.shown("no-such-model") is None


class TestRoutes:
    APP = app_of(routes(CLUSTER, lambda: MONDAY, Faults(CLUSTER), allow_faults=True))
    PATH = ollama_paths(CLUSTER)[0]

    def _get(self, path: str) -> httpx.Response:
        return ask(self.APP, "GET", path)

    def test_calls(self) -> None:
        assert self._get(f"{self.PATH}/api/version").json() == ollama_server.version(PLACES[0])
        assert self._get(f"{self.PATH}/api/ps").json() == ollama_server.running(PLACES[0], MONDAY)
        assert self._get(f"{self.PATH}/api/tags").json() == ollama_server.listed(PLACES[0])
        assert ask(self.APP, "POST", f"{self.PATH}/api/show", json={"model": PLACES[0].model}).status_code == 200

    def test_what_is_not_there(self) -> None:
        assert self._get(f"{self.PATH}/api/chat").text == "404 page not found"
        assert self._get("/pods/no/such/api/ps").status_code == 404
        assert ask(self.APP, "POST", f"{self.PATH}/api/show", json={"model": "x"}).json() == {
            "error": "model 'x' not found"
        }
        assert ask(self.APP, "POST", f"{self.PATH}/api/show", content=b"{").status_code == 400
        assert ask(self.APP, "POST", f"{self.PATH}/api/show", json=[1]).status_code == 404

    def test_a_fault_is_set_and_cleared_by_the_pods_name(self) -> None:
        fault = self.PATH.replace("/pods/", "/faults/ollama/")
        assert ask(self.APP, "POST", f"{fault}/{FaultKind.SERVER_ERROR}").status_code == 200
        assert self._get(f"{self.PATH}/api/ps").status_code == 500
        assert self._get(f"{ollama_paths(CLUSTER)[1]}/api/ps").status_code == 200
        assert ask(self.APP, "DELETE", fault).status_code == 200
        assert self._get(f"{self.PATH}/api/ps").status_code == 200
        assert ask(self.APP, "POST", f"{fault}/no-such").status_code == 404
