"""Kubeconfigs: one context is understood, and nothing that stands in the file is ever repeated but names."""

import base64
import contextlib
import json
import os
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, settings
from hypothesis import given as for_all
from hypothesis import strategies as st

from collectors import kubernetes_kubeconfig
from collectors.errors import BadPayload, CollectorError, Unauthorized, Unsupported
from collectors.kubernetes_kubeconfig import KubeconfigContext

SECRET = "s3cr3t-t0ken"


def kubeconfig(
    user: dict[str, Any] | None = None, cluster: dict[str, Any] | None = None, **rest: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "prod",
        "contexts": [
            {"name": "prod", "context": {"cluster": "c", "user": "u", "namespace": "x"}},
            {"name": "bare", "context": {"cluster": "c"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": "https://api:6443", **(cluster or {})}}],
        "users": [{"name": "u", "user": user if user is not None else {"token": SECRET}}],
        **rest,
    }


def written(folder: Path, document: Any) -> Path:
    path = folder / "config"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


def chosen(folder: Path, document: Any, context: str | None = None) -> KubeconfigContext:
    return KubeconfigContext(written(folder, document), context, source="main")


def test_the_current_context_is_taken_unless_another_is_named(tmp_path: Path) -> None:
    found = chosen(tmp_path, kubeconfig())
    assert found.name == "prod"
    assert found.cluster.server == "https://api:6443"
    assert found.user.token is not None
    assert found.user.token.get_secret_value() == SECRET
    bare = chosen(tmp_path, kubeconfig(), "bare")
    assert (bare.name, bare.user.token) == ("bare", None)


def test_a_token_file_lies_beside_the_kubeconfig(tmp_path: Path) -> None:
    assert chosen(tmp_path, kubeconfig({"tokenFile": "token"})).token_file == tmp_path / "token"
    assert chosen(tmp_path, kubeconfig({"tokenFile": "/run/token"})).token_file == Path("/run/token")
    assert chosen(tmp_path, kubeconfig()).token_file is None


def test_what_the_client_library_gets_holds_no_login(tmp_path: Path) -> None:
    user = {
        "token": SECRET,
        "password": SECRET,
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": SECRET},
        "client-certificate-data": "Y2VydA==",
    }
    handed = chosen(tmp_path, kubeconfig(user)).without_login({})
    assert SECRET not in json.dumps(handed)
    assert handed["users"][0]["user"] == {"client-certificate-data": "Y2VydA=="}
    assert handed["clusters"][0]["cluster"] == {"server": "https://api:6443"}


@pytest.mark.parametrize(
    ("document", "context", "words"),
    [
        ("", None, "is no kubeconfig"),
        ("- a\n- b\n", None, "is no kubeconfig"),
        (f"token: {SECRET}\n  x: [", None, "is not valid YAML, line 2"),
        (f"a: !!python/object:os.system {SECRET}", None, "is not valid YAML, line 1"),
        (kubeconfig(**{"current-context": ""}), None, "no current-context"),
        (kubeconfig(), "staging", "has no context 'staging'; there are: prod, bare"),
        (kubeconfig(clusters=[]), None, "has no cluster 'c'; there are: none"),
        (kubeconfig(users=[{"name": "other", "user": {"token": SECRET}}]), None, "has no user 'u'; there are: other"),
        (kubeconfig(users=[{"user": {"token": SECRET}}]), None, "every entry needs a name"),
        (kubeconfig(clusters={"c": SECRET}), None, "clusters: Input should be a valid list"),
        (kubeconfig(cluster={"server": None}), None, "clusters 'c', server: Input should be a valid string"),
        (kubeconfig({"token": [SECRET]}), None, "users 'u', token"),
        (kubeconfig({"exec": {"command": SECRET}}), None, "users 'u', exec.apiVersion: Field required"),
        (kubeconfig(cluster={"certificate-authority": "ca.crt"}), None, "names ca.crt, which is no file"),
        (kubeconfig({"client-key": "key.pem"}), None, "names key.pem, which is no file"),
    ],
)
def test_what_is_wrong_is_said_by_key_and_line_and_never_by_value(
    tmp_path: Path, document: Any, context: str | None, words: str
) -> None:
    with pytest.raises(BadPayload) as raised:
        chosen(tmp_path, document, context)
    assert words in str(raised.value)
    assert SECRET not in str(raised.value)
    assert raised.value.permanent
    assert raised.value.__cause__ is None


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadPayload, match="cannot be read: No such file"):
        KubeconfigContext(tmp_path / "absent", None, source="main")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadPayload, match="is not valid YAML"):
        KubeconfigContext(tmp_path / "binary", None, source="main")


def test_a_file_beyond_all_reason_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_kubeconfig, "MAX_KUBECONFIG_BYTES", 1024 * 1024)
    with pytest.raises(BadPayload, match="more than 1 MiB"):
        chosen(tmp_path, "#" * (1024 * 1024 + 1))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@for_all(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(alphabet="abc:-[]{}'\"", max_size=10),
        lambda below: st.lists(below, max_size=3)
        | st.dictionaries(
            st.sampled_from(["current-context", "contexts", "clusters", "users", "name", "context", "cluster", "user",
                             "server", "token", "exec"]), below, max_size=4),
        max_leaves=20,
    )
)  # fmt: skip
def test_no_document_breaks_it(tmp_path: Path, document: Any) -> None:
    with contextlib.suppress(BadPayload):
        assert chosen(tmp_path, document).name


def plugin(folder: Path, body: str, **rest: Any) -> KubeconfigContext:
    program = folder / "login"
    program.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{body}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    entry = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./login", **rest}
    return chosen(folder, kubeconfig({"exec": entry}))


def run(found: KubeconfigContext) -> Any:
    assert found.user.exec is not None
    return found.run_plugin(found.user.exec)


def credential(**status: Any) -> str:
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    return f"print({json.dumps(answer)!r})"


def test_a_plugin_gives_a_token_and_says_when_it_ends(tmp_path: Path) -> None:
    answer = run(plugin(tmp_path, credential(token=SECRET, expirationTimestamp="2026-11-18T11:00:00Z")))
    assert answer.token.get_secret_value() == SECRET
    assert answer.ends_at == datetime(2026, 11, 18, 11, tzinfo=UTC)
    assert SECRET not in repr(answer)


def test_a_plugin_gives_a_certificate(tmp_path: Path) -> None:
    answer = run(plugin(tmp_path, credential(clientCertificateData="CERT", clientKeyData="KEY")))
    assert {key: base64.b64decode(value) for key, value in answer.certificate_entries.items()} == {
        "client-certificate-data": b"CERT",
        "client-key-data": b"KEY",
    }
    assert run(plugin(tmp_path, credential(clientCertificateData="CERT"))).certificate_entries == {}


def test_a_plugin_is_told_what_it_may_know_and_has_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUFLEET_LANGFUSE_MAIN_SECRET_KEY", SECRET)
    body = """
asked = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
assert asked["spec"] == {"interactive": False, "cluster": {"server": "https://api:6443"}}, asked
assert os.environ["REGION"] == "eu"
assert not [key for key in os.environ if key.startswith("GPUFLEET_")]
assert sys.argv[1:] == ["get token", "; rm -rf x"]
assert sys.stdin.read() == ""
""" + credential(token="t")
    found = plugin(
        tmp_path,
        body,
        args=["get token", "; rm -rf x"],
        env=[{"name": "REGION", "value": "eu"}],
        provideClusterInfo=True,
    )
    assert run(found).token.get_secret_value() == "t"


def test_a_plugin_of_the_path_is_found_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = plugin(tmp_path, credential(token="t"), command="login")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert run(found).token.get_secret_value() == "t"


@pytest.mark.parametrize(
    ("body", "rest", "kind", "words"),
    [
        (f"print({SECRET!r}, file=sys.stderr); sys.exit(3)", {}, Unauthorized, "ended with status 3"),
        (f"print({SECRET!r})", {}, Unauthorized, "no ExecCredential"),
        ('print("{}")', {}, Unauthorized, "no ExecCredential"),
        ("time.sleep(60)", {}, Unauthorized, "did not end within 0.2 s"),
        (credential(token="t"), {"command": "./absent"}, Unauthorized, "cannot be started: No such file"),
        (
            credential(token="t"),
            {"apiVersion": "client.authentication.k8s.io/v1beta1"},
            Unauthorized,
            "answered in another version",
        ),
        (credential(token="t"), {"apiVersion": "client.authentication.k8s.io/v1alpha1"}, Unsupported, "v1alpha1"),
        (credential(token="t"), {"interactiveMode": "Always"}, Unsupported, "wants to ask a person"),
    ],
)
def test_a_plugin_that_fails_says_so_without_its_output(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    rest: dict[str, Any],
    kind: type[CollectorError],
    words: str,
) -> None:
    monkeypatch.setattr(kubernetes_kubeconfig, "EXEC_TIMEOUT_S", 0.2 if "sleep" in body else 20.0)
    with pytest.raises(kind) as raised:
        run(plugin(tmp_path, body, **rest))
    assert words in str(raised.value)
    assert SECRET not in str(raised.value)
