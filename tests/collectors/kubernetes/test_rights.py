"""The manifests in deploy/ against what the code really asks: enough, and nothing that is not used.

The simulated API server remembers each request as authorisation sees it, and evaluates the roles as Kubernetes does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from collectors.errors import CollectorError
from collectors.kubernetes.collector import KubernetesCollector
from collectors.kubernetes.config import KubernetesConfig
from collectors.kubernetes.resources import RESOURCES, Kind
from collectors.kubernetes_access import KubernetesApi
from collectors.kubernetes_access_config import KubernetesAccessConfig
from collectors.kubernetes_discovery import pods_with_annotation, services_with_label
from planner.readings import Batch
from sample_data.kubernetes_api import KubernetesSimulator
from sample_data.kubernetes_rights import Asked, Rights, rule_allows
from tests.collectors.api_servers import CLUSTER, NOW, serving_api
from tests.collectors.kubernetes.waiting import Pauses, eventually
from tests.conftest import ROOT

DEFAULT = ROOT / "deploy" / "rbac.yaml"
OPTIONAL = ROOT / "deploy" / "rbac-optional.yaml"


def documents(*paths: Path) -> list[dict[str, Any]]:
    return [document for path in paths for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


def rights(*paths: Path) -> Rights:
    return Rights.of_manifests(documents(*paths), account="gpufleet", namespace="gpufleet")


def collected(allowed: Rights, **keys: Any) -> tuple[Batch | None, CollectorError | None, list[Asked]]:
    """What a collector gets under these rights, and what it asked until every watch was open or refused."""
    simulator = KubernetesSimulator(cluster=CLUSTER, rights=allowed, bookmark_s=0.05)
    with serving_api(simulator) as served:
        config = KubernetesConfig(name="main", url=served.url, timeout_s=5, **keys)
        collector = KubernetesCollector(config, pause=Pauses())
        (attempt,) = collector.collect(NOW, {})
        resources = {one.resource for one in simulator.asked if one.verb == "list" and allowed.allow(one)}
        eventually(lambda: {one.resource for one in simulator.asked if one.verb == "watch"} >= resources)
        collector.close()
    return attempt.batch, attempt.error, list(simulator.asked)


def rules_of(allowed: Rights) -> list[Mapping[str, Any]]:
    """Every single right: one verb on one resource, or on one path."""
    paths = [
        {"nonResourceURLs": [path], "verbs": [verb]}
        for rule in allowed.everywhere
        for verb in rule["verbs"]
        for path in rule.get("nonResourceURLs", ())
    ]
    return paths + [
        {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
        for rule in allowed.everywhere
        for verb in rule["verbs"]
        for group in rule.get("apiGroups", ())
        for resource in rule.get("resources", ())
    ]


def test_the_default_manifest_allows_everything_that_the_default_configuration_asks() -> None:
    allowed = rights(DEFAULT)
    batch, error, asked = collected(allowed)
    assert error is None
    assert batch is not None
    assert batch.gaps == ()
    assert [one for one in asked if not allowed.allow(one)] == []


def test_the_default_manifest_allows_nothing_that_is_not_asked() -> None:
    _, _, asked = collected(rights(DEFAULT))
    assert [rule for rule in rules_of(rights(DEFAULT)) if not any(rule_allows(rule, one) for one in asked)] == []


def test_the_optional_manifest_allows_what_the_options_ask_and_nothing_else() -> None:
    allowed = rights(DEFAULT, OPTIONAL)
    batch, _, asked = collected(allowed, replica_sets=True)
    assert batch is not None
    assert batch.gaps == ()
    simulator = KubernetesSimulator(cluster=CLUSTER, rights=allowed)
    with serving_api(simulator) as served:
        api = KubernetesApi(KubernetesAccessConfig(url=served.url, timeout_s=5), source="main")
        assert pods_with_annotation(api, "prometheus.io/scrape")
        assert services_with_label(api, {"app.kubernetes.io/component": "vllm"})
    asked += simulator.asked
    assert [one for one in asked if not allowed.allow(one)] == []
    assert [rule for rule in rules_of(allowed) if not any(rule_allows(rule, one) for one in asked)] == []


def test_neither_manifest_writes_reads_secrets_or_uses_wildcards() -> None:
    for rule in rights(DEFAULT, OPTIONAL).everywhere:
        assert set(rule["verbs"]) <= {"get", "list", "watch"}
        assert "*" not in [*rule.get("apiGroups", ()), *rule.get("resources", ()), *rule.get("nonResourceURLs", ())]
        assert not {"secrets", "configmaps", "events", "namespaces"} & set(rule.get("resources", ()))


@pytest.mark.parametrize("kind", [row.kind for row in RESOURCES])
def test_each_right_that_is_taken_away_is_named_by_the_gap_that_it_leaves(kind: Kind) -> None:
    whole = rights(DEFAULT, OPTIONAL)
    less = Rights(
        [{**rule, "resources": [one for one in rule.get("resources", ()) if one != kind]} for rule in whole.everywhere]
    )
    batch, error, _ = collected(less, replica_sets=True)
    assert error is None
    assert batch is not None
    (gap,) = batch.gaps
    (row,) = [row for row in RESOURCES if row.kind is kind]
    granted = {"apiGroups": [row.group], "resources": [kind.value], "verbs": ["list", "watch"]}
    told = yaml.safe_load(gap.reason[gap.reason.index("{") : gap.reason.index("}") + 1])
    assert told == granted
    again, _, _ = collected(Rights([*less.everywhere, told]), replica_sets=True)
    assert again is not None
    assert again.gaps == ()


@pytest.mark.parametrize("kind", [Kind.NODES, Kind.PODS])
def test_a_right_to_list_alone_is_enough_to_know_and_the_right_to_watch_is_named(kind: Kind) -> None:
    rules = [
        rule
        for rule in rules_of(rights(DEFAULT))
        if not (rule.get("resources") == [kind] and rule["verbs"] == ["watch"])
    ]
    simulator = KubernetesSimulator(cluster=CLUSTER, rights=Rights(rules), bookmark_s=0.05)
    with serving_api(simulator) as served:
        collector = KubernetesCollector(KubernetesConfig(name="main", url=served.url, timeout_s=5), pause=Pauses())

        def gaps() -> list[str]:
            (attempt,) = collector.collect(NOW, {})
            assert attempt.batch is not None
            assert attempt.batch.cluster_state is not None
            assert getattr(attempt.batch.cluster_state, kind) is not None
            return [gap.reason for gap in attempt.batch.gaps]

        eventually(lambda: any(f"may not watch {kind}" in reason for reason in gaps()))
        collector.close()


def test_the_documented_role_of_single_namespaces_is_enough_for_them() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    blocks = [block.split("```", 1)[0] for block in page.split("```yaml\n")[1:]]
    (block,) = [block for block in blocks if "kind: RoleBinding" in block]
    manifest = [document for document in yaml.safe_load_all(block) if document]
    allowed = Rights.of_manifests(manifest, account="gpufleet", namespace="gpufleet")
    (namespace,) = allowed.by_namespace
    assert allowed.everywhere == ()
    batch, error, asked = collected(allowed, namespaces=(namespace,))
    assert error is None
    assert batch is not None
    assert all("in the whole cluster" in gap.reason or "/version" in gap.reason for gap in batch.gaps)
    in_namespace = [one for one in asked if one.namespace is not None]
    assert in_namespace
    assert all(allowed.allow(one) for one in in_namespace)


def test_the_page_names_every_kind_and_what_it_costs() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    flat = " ".join(page.split())
    for row in RESOURCES:
        assert f"`{row.kind}`" in page
        assert " ".join(row.loss.split()) in flat
