"""What a kubeconfig says about one context, without ever quoting it: its errors name keys and lines, never values.

The client library reads the same files; its messages repeat whole entries with their tokens, it runs credential plugins
without a time limit, and logs what they print. So the file is checked here and handed to it without the login.
"""

import base64
import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml  # type: ignore[import-untyped]
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from collectors.errors import BadPayload, CollectorError, Unauthorized, Unsupported
from collectors.plain_text import plain_text

MAX_KUBECONFIG_BYTES = 4 * 1024 * 1024
EXEC_TIMEOUT_S = 30.0
OWN_SECRETS = "GPUFLEET_"
"""Variables of the environment that begin so may hold secrets of other sources; no plugin gets them."""
EXEC_API_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


_PartT = TypeVar("_PartT", bound=_Part)


class Cluster(_Part):
    """`clusters[].cluster`."""

    server: str
    certificate_authority: str | None = Field(default=None, alias="certificate-authority")
    insecure_skip_tls_verify: bool = Field(default=False, alias="insecure-skip-tls-verify")


class _EnvironmentVariable(_Part):
    name: str
    value: SecretStr


class ExecPlugin(_Part):
    """`users[].user.exec`: a program that prints credentials."""

    api_version: str = Field(alias="apiVersion")
    command: str
    args: tuple[str, ...] = ()
    env: tuple[_EnvironmentVariable, ...] = ()
    provide_cluster_info: bool = Field(default=False, alias="provideClusterInfo")
    interactive_mode: str = Field(default="IfAvailable", alias="interactiveMode")


class User(_Part):
    """`users[].user`."""

    token: SecretStr | None = None
    token_file: str | None = Field(default=None, alias="tokenFile")
    username: str | None = None
    password: SecretStr | None = None
    client_certificate: str | None = Field(default=None, alias="client-certificate")
    client_key: str | None = Field(default=None, alias="client-key")
    exec: ExecPlugin | None = None
    auth_provider: dict[str, Any] | None = Field(default=None, alias="auth-provider")


class _ContextValue(_Part):
    cluster: str
    user: str | None = None


def _named(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not all(isinstance(entry.get("name"), str) for entry in entries):
        raise ValueError("every entry needs a name")
    return entries


_Entries = Annotated[list[dict[str, Any]], AfterValidator(_named)]


class _Document(_Part):
    current_context: str | None = Field(default=None, alias="current-context")
    contexts: _Entries = []
    clusters: _Entries = []
    users: _Entries = []


class KubeconfigContext:
    """One context of one file: where the API server is and how to log in."""

    def __init__(self, path: Path, context: str | None, *, source: str) -> None:
        """Read the file; `context` None takes the current one. Raises BadPayload with what is wrong where."""
        self._path = path
        self._source = source
        document = self._checked(_Document, self._parse(), "the file")
        name = context if context is not None else document.current_context
        if not name:
            raise self._error("has no current-context; name one as context")
        self.name = name
        chosen = self._checked(_ContextValue, self._entry(document.contexts, name, "context"), f"contexts {name!r}")
        self._raw_cluster = self._entry(document.clusters, chosen.cluster, "cluster")
        self._raw_user = self._entry(document.users, chosen.user, "user") if chosen.user else {}
        self.cluster = self._checked(Cluster, self._raw_cluster, f"clusters {chosen.cluster!r}")
        self.user = self._checked(User, self._raw_user, f"users {chosen.user!r}")
        for file_name in (self.cluster.certificate_authority, self.user.client_certificate, self.user.client_key):
            if file_name is not None and not (path.parent / file_name).is_file():
                raise self._error(f"names {plain_text(file_name, 200)}, which is no file")

    @property
    def token_file(self) -> Path | None:
        """The file that holds the token, where the user entry names one."""
        return None if self.user.token_file is None else self._path.parent / self.user.token_file

    def without_login(self, certificate: dict[str, str]) -> dict[str, Any]:
        """The context alone, as the client library reads it: without tokens, passwords and plugins.

        `certificate` is a client certificate and its key as a plugin gave them, in base64.
        """
        kept = {key: value for key, value in self._raw_user.items() if key.startswith("client-")} | certificate
        return {
            "current-context": "chosen",
            "contexts": [{"name": "chosen", "context": {"cluster": "chosen", "user": "chosen"}}],
            "clusters": [{"name": "chosen", "cluster": self._raw_cluster}],
            "users": [{"name": "chosen", "user": kept}],
        }

    def run_plugin(self, plugin: ExecPlugin) -> "PluginAnswer":
        """Run the credential plugin, without a terminal and for a limited time; raises Unauthorized, Unsupported.

        Source of the protocol: Kubernetes, "Authenticating: client-go credential plugins".
        """
        if plugin.api_version not in EXEC_API_VERSIONS:
            raise Unsupported(
                f"{self._path}: the credential plugin speaks {plain_text(plugin.api_version, 80)!r}; supported are "
                f"{' and '.join(EXEC_API_VERSIONS)}.",
                source=self._source,
            )
        if plugin.interactive_mode == "Always":
            raise Unsupported(
                f"{self._path}: the credential plugin wants to ask a person, which a service has not.",
                source=self._source,
            )
        spec: dict[str, Any] = {"interactive": False}
        if plugin.provide_cluster_info:
            spec["cluster"] = {"server": self.cluster.server}
        asked = json.dumps({"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec})
        environment = {key: value for key, value in os.environ.items() if not key.startswith(OWN_SECRETS)}
        environment |= {entry.name: entry.value.get_secret_value() for entry in plugin.env}
        command = str(self._path.parent / plugin.command) if "/" in plugin.command else plugin.command
        name = plain_text(plugin.command, 120)
        try:
            # The configuration allows this program by name of the file that names it; nothing goes through a shell.
            ended = subprocess.run(  # noqa: S603
                [command, *plugin.args],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={**environment, "KUBERNETES_EXEC_INFO": asked},
                cwd=self._path.parent,
                timeout=EXEC_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise self._refused(f"{name} did not end within {EXEC_TIMEOUT_S:g} s") from None
        except OSError as error:
            raise self._refused(f"{name} cannot be started: {error.strerror}") from None
        if ended.returncode != 0:
            raise self._refused(f"{name} ended with status {ended.returncode}; start it by hand to see why")
        try:
            answer = _ExecCredential.model_validate_json(ended.stdout)
        except ValidationError:
            raise self._refused(f"{name} printed something that is no ExecCredential") from None
        if answer.api_version != plugin.api_version:
            raise self._refused(f"{name} answered in another version than {plugin.api_version}")
        return answer.status

    def _refused(self, what: str) -> CollectorError:
        return Unauthorized(f"{self._path}: the credential plugin {what}.", source=self._source)

    def _error(self, what: str) -> BadPayload:
        return BadPayload(f"the kubeconfig {self._path} {what}.", source=self._source, permanent=True)

    def _parse(self) -> dict[str, Any]:
        try:
            if self._path.stat().st_size > MAX_KUBECONFIG_BYTES:
                raise self._error(f"has more than {MAX_KUBECONFIG_BYTES // 2**20} MiB")
            read: object = yaml.safe_load(self._path.read_text(encoding="utf-8"))
        except OSError as error:
            raise self._error(f"cannot be read: {error.strerror}") from None
        except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
            line = getattr(getattr(error, "problem_mark", None), "line", None)
            where = "" if line is None else f", line {line + 1}"
            raise self._error(f"is not valid YAML{where}") from None
        if not isinstance(read, dict):
            raise self._error("is no kubeconfig")
        return {key: value for key, value in read.items() if value is not None}

    def _entry(self, entries: list[dict[str, Any]], name: str, kind: str) -> dict[str, Any]:
        found = [entry for entry in entries if entry["name"] == name]
        if not found:
            known = ", ".join(plain_text(str(entry["name"]), 80) for entry in entries) or "none"
            raise self._error(f"has no {kind} {plain_text(name, 80)!r}; there are: {known}")
        value = found[0].get(kind)
        return value if isinstance(value, dict) else {}

    def _checked(self, model: type[_PartT], value: object, where: str) -> _PartT:
        try:
            return model.model_validate(value)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
            key = ".".join(str(part) for part in problem["loc"])
            raise self._error(f"is not understood: {where}, {key}: {problem['msg']}") from None


class PluginAnswer(_Part):
    """`status` of an ExecCredential."""

    token: SecretStr | None = None
    certificate: SecretStr | None = Field(default=None, alias="clientCertificateData")
    key: SecretStr | None = Field(default=None, alias="clientKeyData")
    expires_at: datetime | None = Field(default=None, alias="expirationTimestamp")

    @property
    def certificate_entries(self) -> dict[str, str]:
        """The client certificate and its key as a user entry holds them; empty when there is none."""
        if self.certificate is None or self.key is None:
            return {}
        return {
            "client-certificate-data": base64.b64encode(self.certificate.get_secret_value().encode()).decode(),
            "client-key-data": base64.b64encode(self.key.get_secret_value().encode()).decode(),
        }

    @property
    def ends_at(self) -> datetime | None:
        """When it must be asked for again, aware."""
        return None if self.expires_at is None else self.expires_at.astimezone(UTC)


class _ExecCredential(_Part):
    api_version: str = Field(alias="apiVersion")
    status: PluginAnswer
