from pathlib import Path

import pytest
from pydantic import ValidationError

from collectors.serving.collector import ServingScraper
from collectors.serving.config import ServingConfig, base_of, endpoint_of
from collectors.serving.roads import serving_collector
from collectors.serving.through_prometheus import ServingThroughPrometheus

URL = "http://a:8000/metrics"
PODS = {"namespaces": ["team-a"], "ports": [8000]}


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({}, "give one of url"),
        ({"url": URL, "targets": [URL]}, "give one of url"),
        ({"url": URL, "prometheus": "http://p:9090"}, "give one of url"),
        ({"url": URL, "kubernetes": PODS}, "give one of url"),
        ({"url": URL, "engine": "ollama"}, r"\[\[sources.ollama\]\]"),
        ({"url": URL, "engine": "gpt"}, "engine"),
        ({"targets": [URL, "http://A:8000"]}, "names a:8000 more than once"),
        ({"url": URL, "jobs": ["vllm"]}, "belong to prometheus"),
        ({"url": URL, "window_s": 600}, "belong to prometheus"),
        ({"prometheus": "http://p:9090", "window_s": 60, "overlap_s": 60}, "shorter than window_s"),
        ({"url": URL, "client_key_file": __file__}, "client_key_file belongs to client_cert_file"),
        ({"url": URL, "client_cert_file": "/no/such/file"}, "is no file"),
        ({"kubernetes": {"ports": [8000]}}, "namespaces"),
        ({"kubernetes": {"namespaces": ["a"]}}, "ports"),
        ({"kubernetes": {**PODS, "ports": []}}, "at least 1"),
        ({"kubernetes": {**PODS, "namespaces": []}}, "at least 1"),
        ({"kubernetes": {**PODS, "ports": [0]}}, "greater than or equal"),
        ({"kubernetes": {**PODS, "by": "services"}}, "needs labels"),
        ({"kubernetes": {**PODS, "labels": {"app": "vllm"}}}, "belong to by = 'services'"),
        ({"kubernetes": PODS, "bearer_token": "t"}, "send_credentials"),
        ({"kubernetes": PODS, "username": "u", "password": "p"}, "send_credentials"),
        ({"kubernetes": PODS, "client_cert_file": __file__}, "send_credentials"),
    ],
)
def test_contradictions_are_refused_with_the_reason(table: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        ServingConfig.model_validate({"name": "a", **table})


def test_credentials_go_to_discovered_pods_on_request() -> None:
    pods = {**PODS, "send_credentials": True}
    assert ServingConfig.model_validate({"name": "a", "kubernetes": pods, "bearer_token": "t"}).kubernetes is not None


@pytest.mark.parametrize(
    ("url", "base", "endpoint"),
    [
        ("http://a:8000/metrics", "http://a:8000", "a:8000"),
        ("http://a:8000/v1/metrics", "http://a:8000", "a:8000"),
        ("http://A.example:8000/prometheus/metrics", "http://A.example:8000", "a.example:8000"),
        ("http://a:8000/metrics/", "http://a:8000", "a:8000"),
        ("https://gw/models/X/metrics", "https://gw/models/X", "gw/models/X"),
        ("http://a:8000", "http://a:8000", "a:8000"),
        ("http://[::1]:8000/metrics", "http://[::1]:8000", "[::1]:8000"),
        ("http://a:8000/odd", "http://a:8000/odd", "a:8000/odd"),
    ],
)
def test_a_server_has_one_name_whatever_its_metrics_are_called(url: str, base: str, endpoint: str) -> None:
    assert (base_of(url), endpoint_of(url)) == (base, endpoint)


def test_the_table_says_which_road_is_taken() -> None:
    direct = serving_collector(ServingConfig(name="a", url=URL))
    through = serving_collector(ServingConfig(name="a", prometheus="http://p:9090/"))
    assert isinstance(direct, ServingScraper)
    assert isinstance(through, ServingThroughPrometheus)
    assert (direct.kind, through.kind) == ("serving", "serving")
    direct.close()
    through.close()


def test_the_prometheus_server_gets_the_login_and_patience_of_the_table(tmp_path: Path) -> None:
    table = {"name": "a", "prometheus": "http://p:9090/", "bearer_token": "t", "jobs": ["vllm"], "backfill_s": 600}
    config = ServingConfig.model_validate(table).for_prometheus()
    assert (config.url, config.jobs, config.backfill_s, config.timeout_s) == ("http://p:9090", ("vllm",), 600, 30)
    assert config.bearer_token is not None
    patient = ServingConfig.model_validate({**table, "timeout_s": 7}).for_prometheus()
    assert patient.timeout_s == 7
