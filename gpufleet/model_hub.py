"""A model as a repository of the Hugging Face hub describes it: configuration and headers, never a tensor.

Addresses, error codes and the limit of a header are those of huggingface_hub 1.1 (file_download.py, utils/_http.py,
constants.py); reading headers by HTTP ranges: https://huggingface.co/docs/safetensors/metadata_parsing.
"""

import io
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn
from urllib.parse import quote

from pydantic import SecretStr

from collectors.config import target_name
from collectors.plain_text import plain_text
from gpufleet.errors import ModelSourceFailed
from gpufleet.model_files import MAX_CONFIG_BYTES, MAX_FILES, facts_from_whole_gguf, named_weight_files
from gpufleet.model_http import Answer, ModelHttp, Span, address_of
from planner.memory.facts import ModelFacts
from planner.memory.gguf_header import read_gguf_header
from planner.memory.hf_config import facts_from_config
from planner.memory.safetensors_header import (
    LENGTH_BYTES,
    StoredTensors,
    header_length,
    read_safetensors_header,
    together,
)

DEFAULT_ENDPOINT = "https://huggingface.co"
DEFAULT_REVISION = "main"
MAX_HEADER_BYTES = 25_000_000
MAX_GGUF_HEADER_BYTES = 128 * 2**20
PARALLEL_REQUESTS = 4
_GGUF_PIECE_BYTES = 4 * 2**20
_LONGEST_TOKEN_FILE = 10_000
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_-])?"
_SPELLED = re.compile(rf"(?P<repo>{_PART}(?:/{_PART})?)(?::(?P<file>[^\x00-\x1f:]{{1,500}}\.gguf))?", re.IGNORECASE)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PART_OF_SEVERAL = re.compile(r"-\d{5}-of-(\d{5})\.gguf$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAccess:
    """Which hub, and as whom."""

    endpoint: str = DEFAULT_ENDPOINT
    token: SecretStr | None = None


def hub_access(environ: Mapping[str, str]) -> HubAccess:
    """HF_ENDPOINT, and HF_TOKEN or else the file HF_TOKEN_PATH; raises ModelSourceFailed, which holds no token."""
    if environ.get("HF_HUB_OFFLINE", "").strip().upper() in ("1", "TRUE", "YES", "ON"):
        raise ModelSourceFailed("--hub asks the network and $HF_HUB_OFFLINE forbids it; leave one of them out.")
    endpoint = address_of(environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT, "$HF_ENDPOINT")
    token, where = environ.get("HF_TOKEN", "").strip(), "$HF_TOKEN"
    if not token and environ.get("HF_TOKEN_PATH"):
        token, where = _token_in_file(Path(environ["HF_TOKEN_PATH"]).expanduser()), "the file in $HF_TOKEN_PATH"
    if token and not re.fullmatch(r"[\x21-\x7e]+", token):
        raise ModelSourceFailed(f"{where} has blanks or line breaks in it: it is no token.")
    return HubAccess(endpoint=endpoint, token=SecretStr(token) if token else None)


def facts_from_hub(spelled: str, access: HubAccess, *, revision: str | None = None) -> ModelFacts:
    """Facts of `owner/name`, or of one file as `owner/name:FILE.gguf`; raises ModelSourceFailed, UnreadableModel."""
    found = _SPELLED.fullmatch(spelled.strip())
    if found is None or ".." in spelled or "--" in found["repo"]:
        raise ModelSourceFailed(
            f"{plain_text(spelled, 120)!r} is no repository of the hub; write owner/name, or owner/name:FILE.gguf."
        )
    with ModelHttp(address=access.endpoint, bearer=access.token, follows=True, through_proxies=True) as http:
        repository = _Repository(http, found["repo"], revision or DEFAULT_REVISION, has_token=access.token is not None)
        file = found["file"]
        return repository.facts() if file is None else repository.facts_of_gguf(file)


class _Repository:
    """One repository at one revision; after the first answer, at the commit which that revision is."""

    def __init__(self, http: ModelHttp, name: str, revision: str, *, has_token: bool) -> None:
        self._http = http
        self._name = name
        self._revision = revision
        self._commit = revision
        self._has_token = has_token

    def facts(self) -> ModelFacts:
        config = self._json("config.json")
        if config is None:
            raise ModelSourceFailed(
                f"{self._name} on {self._host} has no config.json. Of a repository of GGUF files name one: "
                f"{self._name}:FILE.gguf."
            )
        if "quantization_config" not in config and (beside := self._json("hf_quant_config.json")) is not None:
            config = {**config, "hf_quant_config": beside}
        where = f"{self._name} on {self._host} at {self._commit[:12]}"
        facts = facts_from_config(config, name=self._name, source=f"the configuration of {where}")
        files = self._weight_files()
        if not files:
            return facts_from_config(config, name=self._name, source=f"the configuration of {where} (no safetensors)")
        with ThreadPoolExecutor(max_workers=PARALLEL_REQUESTS, thread_name_prefix="hub") as threads:
            try:
                stored = list(threads.map(lambda file: self._tensors(file, facts.layer_count), files))
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        source = f"configuration with {len(files)} safetensors header{'s' if len(files) > 1 else ''} of {where}"
        return facts_from_config(config, name=self._name, stored=together(stored), source=source)

    def facts_of_gguf(self, file: str) -> ModelFacts:
        if split := _PART_OF_SEVERAL.search(file):
            raise ModelSourceFailed(
                f"{file} is one of {int(split[1])} parts, and its header lists only its own tensors; name a quantised "
                "file that is whole, or give --quantization with the original repository."
            )
        remote = _RemoteFile(self, file)
        header = read_gguf_header(io.BufferedReader(remote, buffer_size=_GGUF_PIECE_BYTES), file)
        source = f"header of {PurePosixPath(file).name} in {self._name} on {self._host} at {self._commit[:12]}"
        return facts_from_whole_gguf(header, PurePosixPath(file).name, source=source, file_bytes=remote.file_bytes)

    def part(self, file: str, span: Span) -> Answer:
        """Bytes of a file; raises ModelSourceFailed where it is missing or refused."""
        answer = self._http.part(self._path(file), span)
        if answer.status == 416:  # the file ends before
            return answer
        if answer.status not in (200, 206):
            self._refused(answer, file)
        self._stay(answer)
        return answer

    def _weight_files(self) -> Sequence[str]:
        index = self._json("model.safetensors.index.json")
        if index is not None:
            files = named_weight_files(index, f"model.safetensors.index.json of {self._name}")
            if len(files) > MAX_FILES:
                raise ModelSourceFailed(f"{self._name} names {len(files):,} weight files; at most {MAX_FILES:,} do.")
            return files
        answer = self._http.part(self._path("model.safetensors"), Span(first=0, count=LENGTH_BYTES))
        if answer.status == 404:
            return ()
        if answer.status not in (200, 206, 416):
            self._refused(answer, "model.safetensors")
        return ("model.safetensors",)

    def _tensors(self, file: str, layers: int) -> StoredTensors:
        name = f"{file} of {self._name}"
        beginning = self.part(file, Span(first=0, count=LENGTH_BYTES)).body
        length = header_length(beginning, name)
        if length > MAX_HEADER_BYTES:
            raise ModelSourceFailed(
                f"{name} says that its header is {length:,} bytes long; at most {MAX_HEADER_BYTES:,} are fetched."
            )
        header = self.part(file, Span(first=LENGTH_BYTES, count=length)).body
        return read_safetensors_header(beginning + header, name, layers=layers)

    def _json(self, file: str) -> Mapping[str, Any] | None:
        """A JSON object, None where the repository has no such file."""
        answer = self._http.get(self._path(file), limit_bytes=MAX_CONFIG_BYTES)
        if answer.status == 404 and answer.headers.get("x-error-code") in (None, "EntryNotFound"):
            return None
        if answer.status != 200:
            self._refused(answer, file)
        self._stay(answer)
        parsed = answer.json()
        if not isinstance(parsed, dict):
            raise ModelSourceFailed(f"{file} of {self._name} is no JSON object; it is damaged.")
        return parsed

    def _path(self, file: str) -> str:
        return f"/{self._name}/resolve/{quote(self._commit, safe='')}/{quote(file)}"

    def _stay(self, answer: Answer) -> None:
        commit = answer.headers.get("x-repo-commit", "")
        if self._commit == self._revision and _COMMIT.fullmatch(commit):
            self._commit = commit

    @property
    def _host(self) -> str:
        return target_name(self._http.address)

    def _refused(self, answer: Answer, file: str) -> NoReturn:
        code, name, page = answer.headers.get("x-error-code", ""), self._name, f"{self._http.address}/{self._name}"
        told = plain_text(answer.headers.get("x-error-message", ""), 200)
        if code == "GatedRepo":
            whose = "the account of the token in $HF_TOKEN" if self._has_token else "an account, and set $HF_TOKEN"
            why = f"{name} is gated: accept its terms at {page} with {whose}"
        elif code == "RevisionNotFound":
            why = f"{name} has no revision {plain_text(self._revision, 80)!r}; see --revision"
        elif code == "EntryNotFound":
            why = f"{name} has no file {plain_text(file, 120)}"
        elif answer.status == 401 and "nvalid credentials" in told:
            why = "the hub does not know the token in $HF_TOKEN or $HF_TOKEN_PATH; make a new one"
        elif code == "RepoNotFound" or answer.status in (401, 404):
            why = f"{name} is not there, or private" + ("" if self._has_token else "; a private one needs $HF_TOKEN")
        elif answer.status == 403:
            why = f"access to {name} is refused{f' ({told})' if told else ''}; may the token read this repository?"
        elif answer.status == 429:
            wait = answer.headers.get("retry-after", "")
            when = f" in {wait} s" if re.fullmatch(r"\d{1,6}", wait) else " later"
            hint = "" if self._has_token else "; with $HF_TOKEN more are allowed"
            why = f"too many requests were made: try again{when}{hint}"
        elif answer.status >= 500:
            why = f"it is up and cannot answer now ({answer.status}); try again later"
        else:
            why = f"status {answer.status}{f' ({told})' if told else ''} for {plain_text(file, 120)}"
        raise ModelSourceFailed(f"{self._host}: {why.rstrip('.')}.")


class _RemoteFile(io.RawIOBase):
    """The beginning of a file of a repository, fetched piece by piece as it is read."""

    def __init__(self, repository: _Repository, file: str) -> None:
        self._repository = repository
        self._file = file
        self._position = 0
        self.file_bytes: int | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._position >= MAX_GGUF_HEADER_BYTES:
            raise ModelSourceFailed(f"{self._file} has a header of more than {MAX_GGUF_HEADER_BYTES >> 20} MiB.")
        if self.file_bytes is not None and self._position >= self.file_bytes:
            return 0
        count = min(len(buffer), _GGUF_PIECE_BYTES)
        answer = self._repository.part(self._file, Span(first=self._position, count=count))
        if answer.status == 416:
            return 0
        if answer.file_bytes is not None:
            self.file_bytes = answer.file_bytes
        taken = answer.body
        buffer[: len(taken)] = taken
        self._position += len(taken)
        return len(taken)


def _token_in_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST_TOKEN_FILE).decode("utf-8").strip()
    except OSError as error:
        raise ModelSourceFailed(f"$HF_TOKEN_PATH names a file that cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ModelSourceFailed("$HF_TOKEN_PATH names a file that is no text.") from error
