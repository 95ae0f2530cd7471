from pathlib import Path

import pytest
from pydantic import ValidationError

from collectors import SOURCES, build, config_model
from collectors.config import target_name
from collectors.dcgm.config import DcgmConfig
from collectors.prometheus_config import MAX_WINDOW_S, PrometheusConfig

URL = "http://gpu-a:9400/metrics"


LEAST: dict[str, dict[str, str]] = {
    "langfuse": {"url": URL, "public_key": "pk-lf-1", "secret_key": "sk-lf-1"},
    "nvml": {},
}
"""What a table needs beside its name, where that is not an address alone."""


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source_can_be_built(kind: str) -> None:
    keys = LEAST.get(kind, {"url": URL})
    collector = build(kind, config_model(kind).model_validate({"name": "a", "cluster": "east", **keys}))
    assert (collector.kind, collector.source, collector.cluster) == (kind, "a", "east")
    assert collector.interval_s == {"langfuse": 900, "litellm": 60}.get(kind, 30)
    collector.close()


def test_an_unknown_kind_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        config_model("carrier-pigeon")


@pytest.mark.parametrize("kind", SOURCES)
def test_unknown_keys_are_refused(kind: str) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        config_model(kind).model_validate({"name": "a", "url": URL, "ulr": URL})


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("gpu-a:9400", "whole address"),
        ("ftp://gpu-a", "whole address"),
        ("http://", "whole address"),
        ("http://user:s3cret@gpu-a:9400", "no user or password"),
        ("http://gpu-a:9400/metrics?x=1", "no query"),
        ("http://gpu-a:9400/#x", "no fragment"),
        ("http://gpu-a:0/", "port"),
        ("http://gpu-a:99999/", "port"),
        ("http://gpu a/", "blanks"),
        ("http://gpu..a:9400/", "no name"),
        (f"http://{'a' * 64}.example:9400/", "no name"),
        ("http://[::1:9400/", "in brackets"),
        ("http://[::1%]:9400/", "no IPv6 address|in brackets"),
    ],
)
def test_an_address_that_cannot_work_is_refused_with_the_reason(url: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why) as caught:
        DcgmConfig(name="a", url=url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("host", ["[::1]", "[fe80::1%eth0]", "[::ffff:10.0.0.7]", "10.0.0.7", "gpu-a.cluster.local."])
def test_every_way_to_write_a_host_is_taken(host: str) -> None:
    assert DcgmConfig(name="a", url=f"http://{host}:9400/metrics").urls == (f"http://{host}:9400/metrics",)


@pytest.mark.parametrize("url", ["http://gpu-a:9400", "http://gpu-a:9400/"])
def test_an_exporter_address_without_a_path_means_its_metrics(url: str) -> None:
    assert DcgmConfig(name="a", url=url).urls == (URL,)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({}, "either url or targets"),
        ({"url": URL, "targets": [URL]}, "either url or targets"),
        ({"targets": [URL, "http://gpu-a:9400"]}, "more than once"),
        ({"targets": [URL], "node": "gpu-a"}, "node names the machine of one exporter"),
        ({"url": URL, "bearer_token": "t", "username": "u", "password": "p"}, "not both"),
        ({"url": URL, "username": "u"}, "belong together"),
        ({"url": URL, "bearer_token": "two words"}, "blanks"),
        ({"url": URL, "ca_file": "/no/such/file"}, "no file"),
        ({"url": URL, "timeout_s": 0}, "greater than 0"),
    ],
)
def test_contradictions_are_refused_with_the_reason(table: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        DcgmConfig.model_validate({"name": "a", **table})


def test_secrets_are_masked_wherever_a_configuration_is_printed() -> None:
    config = DcgmConfig.model_validate({"name": "a", "url": URL, "bearer_token": "s3cret"})
    assert "s3cret" not in f"{config!r} {config} {config.model_dump_json()}"


def test_a_secret_is_not_quoted_in_an_error() -> None:
    with pytest.raises(ValidationError) as caught:
        DcgmConfig.model_validate({"name": "a", "url": URL, "bearer_token": "s3c ret"})
    assert "s3c" not in str(caught.value)


def test_a_relative_authority_lies_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("x")
    config = DcgmConfig.model_validate({"name": "a", "url": URL, "ca_file": "ca.pem"}, context={"directory": tmp_path})
    assert config.ca_file == tmp_path / "ca.pem"


def test_a_prometheus_window_stays_below_eleven_thousand_points_at_one_second() -> None:
    assert MAX_WINDOW_S < 11_000
    with pytest.raises(ValidationError, match="less than or equal"):
        PrometheusConfig(name="a", url="http://p:9090", window_s=MAX_WINDOW_S + 1)


def test_a_prometheus_overlap_as_long_as_its_window_is_refused() -> None:
    with pytest.raises(ValidationError, match="overlap_s must be shorter"):
        PrometheusConfig(name="a", url="http://p:9090", window_s=60, overlap_s=60)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (URL, "gpu-a:9400"),
        ("https://p.example/prometheus/", "p.example/prometheus"),
        ("http://127.0.0.1:1/nodes/gpu-a/metrics", "127.0.0.1:1/nodes/gpu-a"),
    ],
)
def test_targets_have_short_telling_names(url: str, name: str) -> None:
    assert target_name(url) == name
