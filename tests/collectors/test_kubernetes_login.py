"""Logging in at a real socket: tokens, certificates, kubeconfigs and service accounts, over TLS and without."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from collectors import kubernetes_login
from collectors.errors import BadPayload, CollectorError, Unauthorized, Unreachable, Unsupported
from collectors.kubernetes_access import KubernetesApi
from collectors.kubernetes_access_config import KubernetesAccessConfig
from collectors.kubernetes_login import connect
from sample_data.kubernetes_api import KubernetesSimulator
from tests.collectors.api_servers import CLUSTER, Authority, ServedApi, make_authority, serving_api
from tests.collectors.test_kubernetes_kubeconfig import credential

TOKEN = "eyJ.s3cr3t.t0ken"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secured(authority: Authority) -> Iterator[ServedApi]:
    """An API server with TLS that wants a token."""
    with serving_api(KubernetesSimulator(cluster=CLUSTER, token=TOKEN), authority=authority) as served:
        yield served


def version(config: KubernetesAccessConfig, **login: Any) -> object:
    api = KubernetesApi(config, source="main", login=login.get("login"))
    try:
        return api.get("/version")["gitVersion"]
    finally:
        api.close()


def by_kubeconfig(folder: Path, user: dict[str, Any], cluster: dict[str, Any], **keys: Any) -> KubernetesAccessConfig:
    path = folder / "kubeconfig"
    document = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(document))
    return KubernetesAccessConfig(kubeconfig=path, timeout_s=5, **keys)


def test_an_address_a_token_file_and_an_authority_are_enough(
    secured: ServedApi, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    config = KubernetesAccessConfig(
        url=secured.url, ca_file=authority.ca_file, bearer_token_file=tmp_path / "token", timeout_s=5
    )
    assert version(config) == "v1.34.2"


def test_certificates_are_checked_unless_that_was_turned_off(secured: ServedApi, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    with pytest.raises(Unreachable, match="not trusted; name its authority as ca_file") as raised:
        version(KubernetesAccessConfig(url=secured.url, bearer_token_file=tmp_path / "token", timeout_s=5))
    assert raised.value.permanent
    careless = KubernetesAccessConfig(
        url=secured.url, bearer_token_file=tmp_path / "token", verify_tls=False, timeout_s=5
    )
    with pytest.warns(match="Unverified HTTPS request"):
        assert version(careless) == "v1.34.2"


def test_plain_http_at_a_tls_port_and_the_other_way_round_are_said(secured: ServedApi, authority: Authority) -> None:
    with pytest.raises(Unreachable, match=r"broke off|does not speak HTTP"):
        version(KubernetesAccessConfig(url=secured.url.replace("https", "http"), timeout_s=5))
    with serving_api() as plain, pytest.raises(Unreachable, match="over TLS"):
        version(KubernetesAccessConfig(url=plain.url.replace("http", "https"), ca_file=authority.ca_file, timeout_s=5))


def test_a_client_certificate_is_shown(authority: Authority) -> None:
    with serving_api(authority=authority, wants_client=True) as served:
        config = KubernetesAccessConfig(
            url=served.url,
            ca_file=authority.ca_file,
            client_cert_file=authority.client_cert_file,
            client_key_file=authority.client_key_file,
            timeout_s=5,
        )
        assert version(config) == "v1.34.2"
        with pytest.raises(Unreachable):
            version(KubernetesAccessConfig(url=served.url, ca_file=authority.ca_file, timeout_s=5))


def test_a_wrong_token_is_refused_and_never_repeated(secured: ServedApi, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("wr0ng")
    config = KubernetesAccessConfig(
        url=secured.url, ca_file=authority.ca_file, bearer_token_file=tmp_path / "token", timeout_s=5
    )
    with pytest.raises(Unauthorized, match="does not accept these credentials") as raised:
        version(config)
    assert "wr0ng" not in str(raised.value)


def test_a_token_that_was_replaced_in_its_file_is_read_again_when_the_old_one_is_refused(
    authority: Authority, tmp_path: Path
) -> None:
    simulator = KubernetesSimulator(cluster=CLUSTER, token="first")
    with serving_api(simulator, authority=authority) as served:
        (tmp_path / "token").write_text("first")
        config = KubernetesAccessConfig(
            url=served.url, ca_file=authority.ca_file, bearer_token_file=tmp_path / "token", timeout_s=5
        )
        api = KubernetesApi(config, source="main")
        assert api.get("/version")
        simulator.token = "second"
        with pytest.raises(Unauthorized):
            api.get("/version")
        (tmp_path / "token").write_text("second")
        assert api.get("/version")
        api.close()


def test_a_token_is_read_from_its_file_again_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    tokens = kubernetes_login.TokenFile(file, source="main")
    assert tokens.token() == "first"
    file.write_text("second")
    assert tokens.token() == "first"
    monkeypatch.setattr(kubernetes_login, "TOKEN_AGE_S", -1.0)
    assert tokens.token() == "second"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"a b", "blanks"),
        (b"a\nb", "line breaks"),
        (b"\xff\xfe", "cannot be read"),
        (None, "No such file"),
    ],
)
def test_a_token_file_that_holds_none_is_an_error(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(Unauthorized, match=words):
        kubernetes_login.TokenFile(tmp_path / "token", source="main").token()


def test_a_kubeconfig_with_token_and_authority_logs_in(
    secured: ServedApi, authority: Authority, tmp_path: Path
) -> None:
    cluster = {
        "server": secured.url,
        "certificate-authority-data": base64.b64encode(authority.ca_file.read_bytes()).decode(),
    }
    assert version(by_kubeconfig(tmp_path, {"token": TOKEN}, cluster)) == "v1.34.2"
    (tmp_path / "tokenfile").write_text(TOKEN)
    cluster = {"server": secured.url, "certificate-authority": str(authority.ca_file)}
    assert version(by_kubeconfig(tmp_path, {"tokenFile": "tokenfile"}, cluster)) == "v1.34.2"


def test_a_kubeconfig_with_a_client_certificate_logs_in(authority: Authority, tmp_path: Path) -> None:
    user = {
        "client-certificate-data": base64.b64encode(authority.client_cert_file.read_bytes()).decode(),
        "client-key-data": base64.b64encode(authority.client_key_file.read_bytes()).decode(),
    }
    with serving_api(authority=authority, wants_client=True) as served:
        cluster = {"server": served.url, "certificate-authority": str(authority.ca_file)}
        assert version(by_kubeconfig(tmp_path, user, cluster)) == "v1.34.2"


def test_a_kubeconfig_may_name_the_server_otherwise_and_turn_checks_off(secured: ServedApi, tmp_path: Path) -> None:
    cluster = {"server": secured.url + "/", "insecure-skip-tls-verify": True}
    with pytest.warns(match="Unverified HTTPS request"):
        assert version(by_kubeconfig(tmp_path, {"token": TOKEN}, cluster)) == "v1.34.2"


def test_basic_authentication_of_a_kubeconfig_is_sent(authority: Authority, tmp_path: Path) -> None:
    cluster = {"server": "https://127.0.0.1:1", "certificate-authority": str(authority.ca_file)}
    config = by_kubeconfig(tmp_path, {"username": "a", "password": "b"}, cluster)
    headers = connect(config, source="main").headers()
    assert headers["authorization"] == "Basic " + base64.b64encode(b"a:b").decode()


def login_plugin(folder: Path, body: str) -> dict[str, Any]:
    program = folder / "login"
    program.write_text(f"#!/usr/bin/env python3\n{body}\n")
    program.chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./login"}}


def test_a_program_is_started_only_where_that_is_allowed(
    secured: ServedApi, authority: Authority, tmp_path: Path
) -> None:
    cluster = {"server": secured.url, "certificate-authority": str(authority.ca_file)}
    user = login_plugin(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\n" + credential(token=TOKEN))
    with pytest.raises(Unsupported, match="allow_exec_plugins = true"):
        version(by_kubeconfig(tmp_path, user, cluster))
    assert not (tmp_path / "ran").exists()
    assert version(by_kubeconfig(tmp_path, user, cluster, allow_exec_plugins=True)) == "v1.34.2"
    assert (tmp_path / "ran").exists()


def test_what_a_program_gave_is_asked_for_again_before_it_ends(
    secured: ServedApi, authority: Authority, tmp_path: Path
) -> None:
    cluster = {"server": secured.url, "certificate-authority": str(authority.ca_file)}
    count = f"open({str(tmp_path / 'runs')!r}, 'a').write('x')\n"
    soon = (datetime.now(UTC) + timedelta(seconds=30)).isoformat()
    user = login_plugin(tmp_path, count + credential(token=TOKEN, expirationTimestamp=soon))
    api = KubernetesApi(by_kubeconfig(tmp_path, user, cluster, allow_exec_plugins=True), source="main")
    api.get("/version")
    api.get("/version")
    assert (tmp_path / "runs").read_text() == "xx"
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    login_plugin(tmp_path, count + credential(token=TOKEN, expirationTimestamp=later))
    for _ in range(3):
        api.get("/version")
    assert (tmp_path / "runs").read_text() == "xxx"
    api.close()


@pytest.mark.parametrize(
    ("user", "cluster", "kind", "words"),
    [
        ({"auth-provider": {"name": "gcp", "config": {"cmd-path": "touch ran"}}}, {}, Unsupported, "auth-provider"),
        ({"token": TOKEN}, {"server": "http://api.example:8080"}, BadPayload, "over http://"),
        ({"username": "a", "password": TOKEN}, {"server": "http://api.example"}, BadPayload, "over http://"),
        ({"token": TOKEN}, {"server": "api:6443"}, BadPayload, "no https://host:port"),
        ({"token": TOKEN}, {"server": f"https://a:{TOKEN}@api:6443"}, BadPayload, "no https://host:port"),
        ({"client-certificate-data": "abc", "client-key-data": "abc"}, {}, BadPayload, "cannot be used"),
        ({"tokenFile": "absent"}, {}, Unauthorized, "cannot be read"),
    ],
)
def test_logins_that_cannot_be_are_refused_without_a_word_of_them(
    tmp_path: Path, user: dict[str, Any], cluster: dict[str, Any], kind: type[CollectorError], words: str
) -> None:
    config = by_kubeconfig(tmp_path, user, {"server": "https://127.0.0.1:1", **cluster})
    with pytest.raises(kind) as raised:
        version(config)
    assert words in str(raised.value)
    assert TOKEN not in str(raised.value)
    assert not (tmp_path / "ran").exists()


def service_account(folder: Path, authority: Authority) -> Path:
    (folder / "token").write_text(TOKEN)
    (folder / "ca.crt").write_bytes(authority.ca_file.read_bytes())
    return folder


def test_in_a_pod_the_service_account_logs_in(secured: ServedApi, authority: Authority, tmp_path: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(secured.port)}
    config = KubernetesAccessConfig(timeout_s=5)
    account = service_account(tmp_path, authority)

    def login() -> kubernetes_login.Connection:
        return connect(config, source="main", environ=environ, service_account=account)

    assert version(config, login=login) == "v1.34.2"
    assert login().target == f"127.0.0.1:{secured.port}"


@pytest.mark.parametrize("missing", ["environ", "token", "ca.crt"])
def test_outside_of_a_pod_that_is_said(authority: Authority, tmp_path: Path, missing: str) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}
    account = service_account(tmp_path, authority)
    if missing == "environ":
        environ = {}
    else:
        (account / missing).unlink()
    with pytest.raises(Unsupported, match="no pod with a service account"):
        connect(KubernetesAccessConfig(), source="main", environ=environ, service_account=account)


def test_proxies_of_the_environment_are_not_used(
    secured: ServedApi, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    (tmp_path / "token").write_text(TOKEN)
    config = KubernetesAccessConfig(
        url=secured.url, ca_file=authority.ca_file, bearer_token_file=tmp_path / "token", timeout_s=5
    )
    assert version(config) == "v1.34.2"
    cluster = {"server": secured.url, "certificate-authority": str(authority.ca_file)}
    assert version(by_kubeconfig(tmp_path, {"token": TOKEN}, cluster)) == "v1.34.2"
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(secured.port)}
    assert version(
        KubernetesAccessConfig(timeout_s=5),
        login=lambda: connect(
            KubernetesAccessConfig(timeout_s=5),
            source="main",
            environ=environ,
            service_account=service_account(tmp_path, authority),
        ),
    )


def test_a_proxy_that_is_configured_is_used(closed_port: int, secured: ServedApi, authority: Authority) -> None:
    config = KubernetesAccessConfig(
        url=secured.url, ca_file=authority.ca_file, proxy_url=f"http://127.0.0.1:{closed_port}", timeout_s=5
    )
    with pytest.raises(Unreachable, match="the proxy refused"):
        version(config)
