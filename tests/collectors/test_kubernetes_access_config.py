"""The keys of an access: one way in, and files that are there."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from collectors.kubernetes.config import KubernetesConfig
from collectors.kubernetes_access_config import KubernetesAccessConfig, is_readable_on_the_way


def test_nothing_at_all_is_the_cluster_itself() -> None:
    config = KubernetesAccessConfig()
    assert (config.url, config.kubeconfig, config.verify_tls, config.allow_exec_plugins) == (None, None, True, False)


def test_files_lie_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    (tmp_path / "ca.crt").write_text("c")
    config = KubernetesAccessConfig.model_validate(
        {"url": "https://api:6443", "bearer_token_file": "token", "ca_file": "ca.crt"}, context={"directory": tmp_path}
    )
    assert (config.bearer_token_file, config.ca_file) == (tmp_path / "token", tmp_path / "ca.crt")


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"url": "https://api", "kubeconfig": "there"}, "either url or kubeconfig"),
        ({"context": "prod"}, "belong to kubeconfig"),
        ({"allow_exec_plugins": True}, "belong to kubeconfig"),
        ({"bearer_token_file": "there"}, "bearer_token_file belongs to url"),
        ({"kubeconfig": "there", "ca_file": "there"}, "ca_file belongs to url"),
        ({"verify_tls": False}, "verify_tls = false belongs to url"),
        ({"url": "http://api:8080", "bearer_token_file": "there"}, "not sent over http"),
        ({"url": "https://api", "client_key_file": "there"}, "client_key_file belongs to client_cert_file"),
        ({"url": "https://api", "ca_file": "there", "verify_tls": False}, "keep one"),
        ({"url": "https://api", "ca_file": "absent"}, "which is no file"),
        ({"kubeconfig": "absent"}, "which is no file"),
        ({"url": "api:6443"}, "whole address"),
        ({"url": "https://user:pass@api"}, "no user or password"),
        ({"namespaces": ["Team_A"]}, "pattern"),
        ({"namespaces": ["a", "a"]}, "more than once"),
        ({"namespaces": ["../../nodes"]}, "pattern"),
        ({"page_size": 0}, "greater than or equal"),
        ({"tokn": "x"}, "Extra inputs"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, keys: dict[str, Any], complaint: str) -> None:
    (tmp_path / "there").write_text("x")
    with pytest.raises(ValidationError, match=complaint):
        KubernetesAccessConfig.model_validate(keys, context={"directory": tmp_path})


@pytest.mark.parametrize(
    ("url", "is_readable"),
    [
        ("http://api:8080", True),
        ("http://10.0.0.1", True),
        ("http://127.0.0.1:9400/kubernetes", False),
        ("http://[::1]:8080", False),
        ("http://localhost:8001", False),
        ("http://localhost.example.com", True),
        ("https://api", False),
    ],
)
def test_plain_http_is_readable_unless_it_stays_on_this_machine(url: str, *, is_readable: bool) -> None:
    assert is_readable_on_the_way(url) is is_readable


def test_a_token_may_go_to_this_machine_over_http(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    config = KubernetesAccessConfig(url="http://127.0.0.1:9400", bearer_token_file=tmp_path / "token")
    assert config.bearer_token_file == tmp_path / "token"


def test_the_source_has_its_own_keys_beside_them() -> None:
    config = KubernetesConfig(name="main", pod_labels=("team",), namespaces=("a", "b"))
    assert (config.interval_s, config.quotas, config.claims, config.replica_sets) == (30.0, True, True, False)
    with pytest.raises(ValidationError, match="Extra inputs"):
        KubernetesConfig.model_validate({"name": "main", "pod_label": ["team"]})
