"""Which machine an exporter runs on: its hostname label may name the exporter's pod, which dies with every restart."""

import ipaddress
import re
from collections.abc import Iterable, Mapping

from collectors.dcgm.gaps import GapBook
from planner.units import NodeName

_EXPORTER = "dcgm-exporter"  # in the name of its pod under every chart: NVIDIA's own, GPU Operator, run:ai
_TARGET_LABELS = ("node", "kubernetes_node", "nodename", "node_name")


def node_of_scrape(hostnames: Iterable[str | None], *, target: str, configured: str | None, gaps: GapBook) -> NodeName:
    """The configured name; else the hostname label; else the host of the address that was scraped.

    A hostname label that is a pod name of the exporter is no node: then the address is asked, its `/nodes/NAME/` (as in
    the Kubernetes API's proxy) or else its host, if that is a name. Where nothing is left, the pod name stands in and a
    gap says so.
    """
    if configured is not None:
        return NodeName(configured)
    told = next((name for name in hostnames if name), None)
    if told is not None and _EXPORTER not in told:
        return NodeName(told)
    behind_proxy = re.search(r"/nodes/([^/:]+)", target)
    if behind_proxy is not None:
        return NodeName(behind_proxy.group(1))
    host = host_of(target)
    if told is None or (_EXPORTER not in host and not _is_address(host)):
        return NodeName(host)
    gaps.note(
        None,
        None,
        f"the exporter calls its node {told!r}, which is its own pod: set node in its table, or NODE_NAME in its "
        "container",
    )
    return NodeName(told)


def node_of_target(labels: Mapping[str, str], hostnames: Iterable[str | None], instance: str) -> NodeName:
    """The node of a Prometheus target: a label that service discovery set, the hostname label, the instance's host."""
    named = next((labels[key] for key in _TARGET_LABELS if labels.get(key)), None)
    if named is not None:
        return NodeName(named)
    told = next((name for name in hostnames if name), None)
    if told is not None and _EXPORTER not in told:
        return NodeName(told)
    return NodeName(host_of(instance))


def host_of(address: str) -> str:
    """Host part of `host:port/path`; brackets of an IPv6 address are left out."""
    authority = address.split("/", 1)[0]
    if authority.startswith("["):
        return authority[1:].split("]", 1)[0]
    return authority.rsplit(":", 1)[0] if authority.count(":") == 1 else authority


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
