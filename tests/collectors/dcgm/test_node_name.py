import pytest

from collectors.dcgm.gaps import GapBook
from collectors.dcgm.node_name import host_of, node_of_scrape, node_of_target


@pytest.mark.parametrize(
    ("hostnames", "target", "configured", "node", "gaps"),
    [
        (["gpu-a"], "10.0.0.5:9400", None, "gpu-a", 0),
        (["gpu-a"], "10.0.0.5:9400", "rack-7", "rack-7", 0),
        (["nvidia-dcgm-exporter-km55s"], "gpu-a.example:9400", None, "gpu-a.example", 0),
        (["nvidia-dcgm-exporter-km55s"], "api:6443/api/v1/nodes/gpu-a:9400/proxy", None, "gpu-a", 0),
        (["nvidia-dcgm-exporter-km55s"], "10.0.0.5:9400", None, "nvidia-dcgm-exporter-km55s", 1),
        (["nvidia-dcgm-exporter-km55s"], "[fe80::1]:9400", None, "nvidia-dcgm-exporter-km55s", 1),
        (["nvidia-dcgm-exporter-km55s"], "dcgm-exporter.gpu-operator:9400", None, "nvidia-dcgm-exporter-km55s", 1),
        ([None, ""], "10.0.0.5:9400", None, "10.0.0.5", 0),
        ([None, "gpu-b"], "10.0.0.5:9400", None, "gpu-b", 0),
    ],
)
def test_the_node_of_a_scrape(
    hostnames: list[str | None], target: str, configured: str | None, node: str, gaps: int
) -> None:
    book = GapBook(target)
    assert node_of_scrape(hostnames, target=target, configured=configured, gaps=book) == node
    assert len(book.gaps()) == gaps


@pytest.mark.parametrize(
    ("labels", "hostnames", "node"),
    [
        ({"node": "n1", "nodename": "n2"}, ["h"], "n1"),
        ({"kubernetes_node": "n1"}, ["h"], "n1"),
        ({"nodename": "n2"}, ["h"], "n2"),
        ({"node": ""}, ["gpu-a"], "gpu-a"),
        ({}, ["nvidia-dcgm-exporter-km55s"], "10.1.2.3"),
        ({}, [None], "10.1.2.3"),
    ],
)
def test_the_node_of_a_prometheus_target(labels: dict[str, str], hostnames: list[str | None], node: str) -> None:
    assert node_of_target(labels, hostnames, "10.1.2.3:9400") == node


@pytest.mark.parametrize(
    ("address", "host"),
    [("gpu-a:9400", "gpu-a"), ("gpu-a", "gpu-a"), ("[fe80::1]:9400/x", "fe80::1"), ("fe80::1", "fe80::1")],
)
def test_the_host_of_an_address(address: str, host: str) -> None:
    assert host_of(address) == host
