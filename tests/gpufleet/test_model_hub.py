"""A hub with real headers, and every way in which it refuses or fails."""

import hashlib
import json
import re
import struct
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from gpufleet import model_hub
from gpufleet.errors import ModelSourceFailed
from gpufleet.model_hub import HubAccess, facts_from_hub, hub_access
from planner.memory.errors import UnreadableModel
from planner.memory.facts import ModelFacts
from tests.gpufleet.sites import Asked, Page, Site, file, half, page, redirect, site
from tests.planner.memory.gguf_files import LLAMA, TENSORS, gguf

COMMIT = hashlib.sha1(b"a commit", usedforsecurity=False).hexdigest()
SECRET = "hf_theSecretToken"
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 10,
    "max_position_embeddings": 64,
    "torch_dtype": "bfloat16",
}
REPOSITORY = "some-owner/some-model"
AT_MAIN, AT_COMMIT = f"/{REPOSITORY}/resolve/main", f"/{REPOSITORY}/resolve/{COMMIT}"


WHOLE = {
    "model.embed_tokens.weight": 160,
    "model.layers.0.attn.weight": 384,
    "model.layers.0.mlp.weight": 768,
    "model.norm.weight": 48,
    "lm_head.weight": 160,
}
"""Bytes of every tensor of the small model above, 760 parameters of 2 bytes."""
HELD = {"embedding": 160, "attention": 384, "mlp": 768, "norms": 48, "head": 160}


def safetensors(tensors: Mapping[str, int]) -> bytes:
    """A file of BF16 tensors with these sizes in bytes; the tensors are a mark that nobody may read."""
    start, header = 0, {}
    for name, size in tensors.items():
        header[name] = {"dtype": "BF16", "shape": [size // 2], "data_offsets": [start, start + size]}
        start += size
    body = json.dumps(header).encode()
    return struct.pack("<Q", len(body)) + body + b"T" * start


@pytest.fixture
def hub() -> Iterator[Site]:
    with site() as served:
        served.missing = page("Entry not found", 404, X_Error_Code="EntryNotFound")
        yield served


@pytest.fixture
def cdn() -> Iterator[Site]:
    with site() as served:
        yield served


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def publish(hub: Site, shards: Mapping[str, Page], config: Mapping[str, Any] = CONFIG) -> None:
    """A repository; from the second request on it is asked for at its commit."""
    for base in (AT_MAIN, AT_COMMIT):
        hub.pages[f"{base}/config.json"] = page(config, X_Repo_Commit=COMMIT)
        for name, served in shards.items():
            hub.pages[f"{base}/{name}"] = served
    if "model.safetensors" not in shards and shards:
        weights = {f"tensor.{number}": name for number, name in enumerate(shards)}
        hub.pages[f"{AT_COMMIT}/model.safetensors.index.json"] = page({"metadata": {}, "weight_map": weights})


def read(hub: Site, spelled: str = REPOSITORY, *, token: str | None = None, revision: str | None = None) -> ModelFacts:
    access = HubAccess(endpoint=hub.url, token=SecretStr(token) if token else None)
    return facts_from_hub(spelled, access, revision=revision)


def test_one_file_is_read_up_to_its_header(hub: Site) -> None:
    content = safetensors(WHOLE)
    publish(hub, {"model.safetensors": file(content)})
    facts = read(hub)
    assert facts.stored_bytes == HELD
    assert facts.name == REPOSITORY
    assert facts.source.startswith(f"configuration with 1 safetensors header of {REPOSITORY} on 127.0.0.1:")
    assert COMMIT[:12] in facts.source
    header = len(content) - sum(HELD.values())
    ranges = [one.headers["range"] for one in hub.asked if one.path.endswith("/model.safetensors")]
    assert ranges == ["bytes=0-7", "bytes=0-7", f"bytes=8-{header - 1}"]


def test_shards_lie_elsewhere_and_the_token_does_not_go_there(hub: Site, cdn: Site) -> None:
    shards: dict[str, Page] = {}
    for number in range(1, 13):
        name = f"model-{number:05d}-of-00012.safetensors"
        shards[name] = redirect(f"{cdn.url}/{name}?Signature=s", X_Repo_Commit=COMMIT)
        cdn.pages[f"/{name}?Signature=s"] = file(safetensors({f"model.layers.0.mlp.{number}.weight": 128}))
    publish(hub, shards)
    facts = read(hub, token=SECRET)
    assert facts.stored_bytes == {"mlp": 12 * 128}
    assert len(hub.with_header("authorization")) == len(hub.asked)
    assert cdn.with_header("authorization") == []
    assert len(cdn.asked) == 24
    assert all("range" in one.headers for one in cdn.asked)
    assert {one.path.split("/")[4] for one in hub.asked[1:]} == {COMMIT}


def test_a_renamed_repository_is_followed(hub: Site) -> None:
    publish(hub, {"model.safetensors": file(safetensors(WHOLE))})
    for path in list(hub.pages):
        hub.pages[path.replace("some-owner", "old-owner")] = redirect(path, 307)
    assert read(hub, "old-owner/some-model", token=SECRET).stored_bytes == HELD
    assert len(hub.with_header("authorization")) == len(hub.asked)


def test_a_hub_without_ranges_will_do(hub: Site) -> None:
    publish(hub, {"model.safetensors": page(safetensors(WHOLE))})
    assert read(hub).stored_bytes == HELD


def test_without_safetensors_the_configuration_counts(hub: Site) -> None:
    publish(hub, {})
    facts = read(hub)
    assert facts.stored_bytes == {}
    assert facts.source.endswith("(no safetensors)")


def test_the_quantisation_of_modelopt_lies_beside_the_configuration(hub: Site) -> None:
    publish(hub, {})
    hub.pages[f"{AT_COMMIT}/hf_quant_config.json"] = page(
        {"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}}
    )
    quantisation = read(hub).quantisation
    assert quantisation is not None
    assert quantisation.kv_cache_format == "fp8"


def test_a_revision_is_asked_for_as_it_is_spelled(hub: Site) -> None:
    hub.pages[f"/{REPOSITORY}/resolve/refs%2Fpr%2F1/config.json"] = page(CONFIG)
    assert "refs/pr/1" in read(hub, revision="refs/pr/1").source


def refusal(status: int, **headers: str) -> Page:
    """An answer of the hub to what it does not give."""
    return page("no", status, **headers)


@pytest.mark.parametrize(
    ("answer", "token", "why"),
    [
        (refusal(401, X_Error_Code="GatedRepo"), None, r"is gated: accept its terms at .*/some-model with an account"),
        (refusal(403, X_Error_Code="GatedRepo"), SECRET, r"is gated: .* the account of the token"),
        (refusal(401, X_Error_Code="RepoNotFound"), None, r"not there, or private; a private one needs \$HF_TOKEN"),
        (refusal(401), None, "not there, or private"),
        (
            refusal(401, X_Error_Message="Invalid credentials in Authorization header"),
            SECRET,
            "does not know the token",
        ),
        (refusal(404, X_Error_Code="RepoNotFound"), SECRET, r"not there, or private\.$"),
        (refusal(404, X_Error_Code="RevisionNotFound"), None, r"has no revision 'main'"),
        (refusal(404, X_Error_Code="EntryNotFound"), None, r"has no config\.json.*some-model:FILE\.gguf"),
        (refusal(403, X_Error_Message="Access to this resource is disabled."), SECRET, "is refused .Access to this"),
        (refusal(429, Retry_After="37"), None, r"try again in 37 s; with \$HF_TOKEN"),
        (refusal(429, Retry_After="<b>"), SECRET, "try again later"),
        (refusal(503), None, "cannot answer now"),
        (refusal(418), None, "status 418"),
        (page("<html>"), None, "answered with a web page"),
        (page("[]"), None, "is no JSON object"),
        (page('{"model_type": "lla'), None, "answered with no JSON"),
        (half(json.dumps(CONFIG).encode()), None, "broke off in the middle"),
    ],
)
def test_refusals_are_told_apart_and_hold_no_token(hub: Site, answer: Page, token: str | None, why: str) -> None:
    hub.pages[f"{AT_MAIN}/config.json"] = answer
    with pytest.raises(ModelSourceFailed, match=why) as caught:
        read(hub, token=token)
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_a_rate_limit_in_the_middle_stops_the_rest(hub: Site) -> None:
    names = [f"model-{number:05d}-of-00040.safetensors" for number in range(1, 41)]
    shards: dict[str, Page] = {name: refusal(429, Retry_After="60") for name in names}
    publish(hub, shards)
    with pytest.raises(ModelSourceFailed, match="try again in 60 s"):
        read(hub)
    assert len([path for path in hub.paths() if path.endswith(".safetensors")]) < 40


def shaped(length: int, rest: bytes = b"{}") -> bytes:
    return struct.pack("<Q", length) + rest


@pytest.mark.parametrize(
    ("content", "error", "why"),
    [
        (shaped(2**63), UnreadableModel, "says that its header is 9,223,372,036,854,775,808 bytes"),
        (shaped(30_000_000), ModelSourceFailed, "at most 25,000,000 are fetched"),
        (shaped(100), UnreadableModel, "ends within its header: 2 of 100 bytes"),
        (b"\x01\x00", UnreadableModel, "ends after 2 bytes"),
        (b"", UnreadableModel, "ends after 0 bytes"),
        (shaped(4, b"nope"), UnreadableModel, "header that is not JSON"),
        (shaped(5, b'{"a":'), UnreadableModel, "header that is not JSON"),
        (b"version https://git-lfs.github.com/spec/v1\n", UnreadableModel, "not a safetensors file"),
    ],
)
def test_headers_that_cannot_be_are_refused(hub: Site, content: bytes, error: type[Exception], why: str) -> None:
    publish(hub, {"model.safetensors": file(content)})
    with pytest.raises(error, match=why):
        read(hub)


@pytest.mark.parametrize(
    ("index", "why"),
    [
        ({"weight_map": {"a": "../../../etc/passwd"}}, "is no file name"),
        ({"weight_map": {"a": "x/y.safetensors"}}, "is no file name"),
        ({"weight_map": {}}, "names no weight files"),
        ({"weight_map": ["a"]}, "names no weight files"),
        ({}, "names no weight files"),
    ],
)
def test_an_index_that_names_no_files_is_refused(hub: Site, index: dict[str, Any], why: str) -> None:
    publish(hub, {})
    hub.pages[f"{AT_COMMIT}/model.safetensors.index.json"] = page(index)
    with pytest.raises(UnreadableModel, match=why):
        read(hub)


def test_an_index_of_too_many_files_and_a_missing_shard_are_refused(hub: Site) -> None:
    publish(hub, {})
    many = {"weight_map": {f"t{number}": f"{number}.safetensors" for number in range(2001)}}
    hub.pages[f"{AT_COMMIT}/model.safetensors.index.json"] = page(many)
    with pytest.raises(ModelSourceFailed, match="names 2,001 weight files"):
        read(hub)
    hub.pages[f"{AT_COMMIT}/model.safetensors.index.json"] = page({"weight_map": {"a": "gone.safetensors"}})
    with pytest.raises(ModelSourceFailed, match=r"has no file gone\.safetensors"):
        read(hub)


def test_a_gguf_file_is_read_piece_by_piece(hub: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_hub, "_GGUF_PIECE_BYTES", 16_384)
    content = gguf(LLAMA, TENSORS, data=2_000_000)
    hub.pages[f"{AT_MAIN}/Q4/small%20one.gguf"] = file(content, X_Repo_Commit=COMMIT)
    hub.pages[f"{AT_COMMIT}/Q4/small%20one.gguf"] = file(content)
    facts = read(hub, f"{REPOSITORY}:Q4/small one.gguf")
    assert facts.name == "small one"
    assert facts.vocab_size == 5000
    assert facts.source.startswith(f"header of small one.gguf in {REPOSITORY} on ")
    header = len(content) - 2_000_000
    fetched = [re.fullmatch(r"bytes=(\d+)-(\d+)", one.headers["range"]) for one in hub.asked]
    assert len(fetched) == -(-header // 16_384)
    assert max(int(found[2]) for found in fetched if found) < header + 16_384


def test_gguf_files_that_end_early_or_in_parts_are_refused(hub: Site) -> None:
    hub.pages[f"{AT_MAIN}/a.gguf"] = file(gguf(LLAMA, TENSORS))
    with pytest.raises(UnreadableModel, match=r"a\.gguf ends early"):
        read(hub, f"{REPOSITORY}:a.gguf")
    hub.pages[f"{AT_MAIN}/b.gguf"] = file(gguf(LLAMA, TENSORS)[:1000])
    with pytest.raises(UnreadableModel, match="ends within its header"):
        read(hub, f"{REPOSITORY}:b.gguf")
    with pytest.raises(ModelSourceFailed, match="one of 3 parts"):
        read(hub, f"{REPOSITORY}:c-00001-of-00003.gguf")
    with pytest.raises(ModelSourceFailed, match=r"has no file d\.gguf"):
        read(hub, f"{REPOSITORY}:d.gguf")


def test_a_gguf_header_without_end_is_given_up(hub: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_hub, "_GGUF_PIECE_BYTES", 65_536)
    monkeypatch.setattr(model_hub, "MAX_GGUF_HEADER_BYTES", 1_000_000)
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 40_000_000)

    def endless(request: BaseHTTPRequestHandler, asked: Asked) -> None:
        file(head + bytes(3_000_000))(request, asked)

    hub.pages[f"{AT_MAIN}/a.gguf"] = endless
    with pytest.raises(ModelSourceFailed, match="header of more than"):
        read(hub, f"{REPOSITORY}:a.gguf")


@pytest.mark.parametrize(
    "spelled",
    [
        "",
        "a/b/c",
        "../etc",
        "a/..",
        "a b/c",
        "a/b:model.bin",
        "a/b:../x.gguf",
        "a/b?x=1",
        "a/b#x",
        "http://h/a/b",
        "a--b/c",
    ],
)
def test_what_is_no_repository_is_not_asked_for(hub: Site, spelled: str) -> None:
    with pytest.raises(ModelSourceFailed, match="is no repository of the hub"):
        read(hub, spelled)
    assert hub.asked == []


def test_the_environment_says_which_hub_and_as_whom(tmp_path: Path) -> None:
    assert hub_access({}) == HubAccess(endpoint="https://huggingface.co", token=None)
    held = hub_access({"HF_ENDPOINT": "https://mirror.example/hf/", "HF_TOKEN": f" {SECRET}\n"})
    assert (held.endpoint, held.token and held.token.get_secret_value()) == ("https://mirror.example/hf", SECRET)
    assert SECRET not in repr(held)
    path = tmp_path / "token"
    path.write_text(f"{SECRET}\n", encoding="utf-8")
    in_file = hub_access({"HF_TOKEN_PATH": str(path)}).token
    assert in_file is not None
    assert in_file.get_secret_value() == SECRET
    first = hub_access({"HF_TOKEN": "hf_other", "HF_TOKEN_PATH": str(path)}).token
    assert first is not None
    assert first.get_secret_value() == "hf_other"


def test_an_environment_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"\xff\xfe")
    for environ, why in (
        ({"HF_TOKEN": "two words"}, "is no token"),
        ({"HF_TOKEN_PATH": str(tmp_path / "absent")}, "cannot be read"),
        ({"HF_TOKEN_PATH": str(path)}, "is no text"),
        ({"HF_ENDPOINT": "huggingface.co"}, "whole address"),
        ({"HF_HUB_OFFLINE": "1"}, r"\$HF_HUB_OFFLINE forbids it"),
    ):
        with pytest.raises(ModelSourceFailed, match=why) as caught:
            hub_access(environ)
        assert "two words" not in str(caught.value)
