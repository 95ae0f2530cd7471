"""Which names of a gateway and of a server mean one model, and how sure that is."""

import pytest

from planner.links import Certainty, LinkReason
from planner.model_aliases import ServedName, provider_elsewhere, same_model, without_provider

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


@pytest.mark.parametrize(
    ("asked", "served", "reason"),
    [
        (LLAMA, ServedName(name=LLAMA), LinkReason.SAME_NAME),
        ("openai/gpt-oss-120b", ServedName(name="openai/gpt-oss-120b"), LinkReason.SAME_NAME),
        ("llama3", ServedName(name="llama3:latest"), LinkReason.SAME_TAG),
        ("llama3:latest", ServedName(name="llama3"), LinkReason.SAME_TAG),
        (f"openai/{LLAMA}", ServedName(name=LLAMA), LinkReason.WITHOUT_PROVIDER),
        (f"hosted_vllm/{LLAMA}", ServedName(name=LLAMA), LinkReason.WITHOUT_PROVIDER),
        (f"litellm_proxy/hosted_vllm/{LLAMA}", ServedName(name=LLAMA), LinkReason.WITHOUT_PROVIDER),
        ("ollama_chat/llama3", ServedName(name="llama3:latest"), LinkReason.WITHOUT_PROVIDER),
        (f"openai/{LLAMA}", ServedName(name="llama", root=LLAMA), LinkReason.SAME_ROOT),
        (LLAMA.lower(), ServedName(name=LLAMA), LinkReason.SAME_LETTERS),
        ("Meta_Llama/Llama-3.1-8B-Instruct", ServedName(name=LLAMA), LinkReason.SAME_LETTERS),
        ("llama-3.1-8b-instruct", ServedName(name=LLAMA), LinkReason.LAST_PART),
        (LLAMA, ServedName(name="chat", root="/models/Llama-3.1-8B-Instruct"), LinkReason.LAST_PART),
        ("llama3:8b", ServedName(name="llama3:70b"), None),
        ("Llama-3.1-8B", ServedName(name="Llama-31-8B"), None),  # 3.1 is not 31
        ("qwen-1-4b", ServedName(name="qwen-14b"), None),
        ("qwen-1-4b", ServedName(name="qwen-1.4b"), None),  # version 1 of 4b, perhaps
        ("Qwen_1_4B", ServedName(name="qwen-1-4b"), LinkReason.SAME_LETTERS),
        ("qwen2-7b", ServedName(name="Qwen-2-7B"), LinkReason.SAME_LETTERS),
        ("gpt-4o", ServedName(name=LLAMA), None),
        ("", ServedName(name=LLAMA), None),
        ("openai/", ServedName(name=LLAMA), None),
    ],
)
def test_two_names_are_one_model_by_the_strongest_reason(
    asked: str, served: ServedName, reason: LinkReason | None
) -> None:
    assert same_model(asked, served) is reason


def test_a_configured_alias_is_certain() -> None:
    aliases = {"fast": LLAMA}
    assert same_model("fast", ServedName(name=LLAMA), aliases) is LinkReason.ALIAS
    assert same_model("fast", ServedName(name="other"), aliases) is None
    assert LinkReason.ALIAS.certainty is Certainty.CERTAIN


def test_an_alias_means_what_it_says_and_nothing_else() -> None:
    aliases = {"llama": "llama-70b"}
    assert same_model("llama", ServedName(name="llama-70b"), aliases) is LinkReason.ALIAS
    assert same_model("llama", ServedName(name="llama"), aliases) is None  # the one with 70b is away
    assert same_model("llama", ServedName(name="llama-70b:latest"), aliases) is LinkReason.SAME_TAG
    assert same_model("other", ServedName(name="other"), aliases) is LinkReason.SAME_NAME


def test_reasons_are_ordered_from_the_surest_to_the_guess() -> None:
    names = [
        LinkReason.ALIAS,
        LinkReason.SAME_NAME,
        LinkReason.SAME_TAG,
        LinkReason.WITHOUT_PROVIDER,
        LinkReason.SAME_ROOT,
        LinkReason.SAME_LETTERS,
        LinkReason.LAST_PART,
    ]
    assert sorted(set(names), key=lambda one: one.strength) == names
    assert [one.certainty for one in names] == [Certainty.CERTAIN] * 3 + [Certainty.LIKELY] * 3 + [Certainty.GUESSED]


@pytest.mark.parametrize(
    ("model", "provider", "elsewhere"),
    [
        ("gpt-4o", "azure", "azure"),
        ("azure/gpt-4o", "", "azure"),
        ("claude-sonnet-4", "Anthropic", "anthropic"),
        ("openai/gpt-oss-120b", "groq", "groq"),
        (LLAMA, "hosted_vllm", None),
        (f"openai/{LLAMA}", "openai", None),
        (LLAMA, "", None),
        # databricks and mistral own weights too; what the gateway says of its provider decides
        ("databricks/dbrx-instruct", "hosted_vllm", None),
        ("databricks/dbrx-instruct", "", "databricks"),
        ("hosted_vllm/m", "bedrock", "bedrock"),
    ],
)
def test_what_another_provider_runs_did_not_run_here(model: str, provider: str, elsewhere: str | None) -> None:
    assert provider_elsewhere(model, provider) == elsewhere


def test_what_an_alias_names_runs_here_whatever_its_name() -> None:
    assert provider_elsewhere("mistral/m", "", {"mistral/m": "m"}) is None
    assert provider_elsewhere("gpt-4o", "azure", {"gpt-4o": "m"}) is None
    assert provider_elsewhere("mistral/other", "", {"mistral/m": "m"}) == "mistral"


def test_only_prefixes_of_gateways_are_taken_off() -> None:
    assert without_provider("openai/hosted_vllm/Qwen/Qwen3-8B") == "Qwen/Qwen3-8B"
    assert without_provider("Qwen/Qwen3-8B") == "Qwen/Qwen3-8B"
    assert without_provider("vllm/") == "vllm/"
