"""Presets: hosts by name in a config. What they say stands under what the config says, and the docs say the same."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sidegate.commands.explain import explain
from sidegate.commands.explain_lines import lines
from sidegate.config import ConfigErrors, Loaded, read_mapping
from sidegate.config.completion import _VENDORS
from sidegate.presets import PRESETS
from sidegate.settings import Provider
from sidegate.upstream.catalogue import make_upstreams
from sidegate.upstream.transport import Transport
from tests.tree import ROOT
from tests.upstream.scene import HandClock


def load(environ: Mapping[str, str] | None = None, **provider: Any) -> Loaded:
    config = {"providers": {"p": provider}, "models": {"m": {"provider": "p"}}, "pipelines": {"main": {}}}
    return read_mapping(config, environ or {}, Path("/tmp"))


def resolved(**provider: Any) -> Provider:
    return load(**provider).settings.providers["p"]


def mistake(**provider: Any) -> str:
    with pytest.raises(ConfigErrors) as caught:
        load(**provider)
    assert len(caught.value.errors) == 1, caught.value
    return str(caught.value)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_and_a_key_are_a_whole_provider(name: str) -> None:
    resource: dict[str, Any] = {"resource": "acme"} if "{resource}" in PRESETS[name].settings["base_url"] else {}
    loaded = load(preset=name, api_key="k-one", **resource)
    provider = loaded.settings.providers["p"]
    assert provider.base_url.startswith("https://" if PRESETS[name].key else "http://localhost:")
    assert "{" not in provider.base_url
    assert loaded.warnings == ()
    upstreams = make_upstreams(loaded.settings.providers, Transport(), HandClock(), lambda name, why: None)
    assert upstreams["p"].provider.system == provider.system or not provider.system


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_who_says_so(name: str) -> None:
    assert PRESETS[name].sources
    assert all(url.startswith("https://") for url in PRESETS[name].sources)


@pytest.mark.parametrize("name", _VENDORS)
def test_a_dialect_without_a_url_leads_where_the_preset_of_its_vendor_does(name: str) -> None:
    preset = PRESETS[name.removesuffix("_responses")]
    assert _VENDORS[name] == preset.settings["base_url"]
    plain, by_name = resolved(dialect=name, api_key="k"), resolved(preset=preset.name, dialect=name, api_key="k")
    assert (plain.responses, plain.max_tokens_field) == (by_name.responses, by_name.max_tokens_field)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base_url", "https://eu.example.com/v1"),
        ("dialect", "openai_responses"),
        ("responses", False),
        ("max_tokens_field", "max_tokens"),
        ("completions", True),
        ("embeddings", True),
        ("stream_usage", False),
        ("key_header", "x-key"),
        ("system", "other"),
        ("renamed_fields", {"seed": "random_seed"}),
    ],
)
def test_what_the_config_says_comes_first(field: str, value: Any) -> None:
    assert getattr(resolved(**{"preset": "groq", "api_key": "k", field: value}), field) == value


@pytest.mark.parametrize(
    ("typo", "hints"),
    [
        ("grok", ["`groq`"]),
        ("mistrl", ["`mistral`"]),
        ("Azure", ["`azure`"]),
        ("azure-deployments", ["`azure_deployments`"]),
        ("llama.cpp", ["`llamacpp`"]),
        ("open-router", ["`openrouter`"]),
    ],
)
def test_a_typo_is_one_line_that_says_which_are_near(typo: str, hints: list[str]) -> None:
    said = mistake(preset=typo, api_key="k")
    assert said.startswith(f"providers.p.preset: no preset `{typo}` is known, did you mean ")
    assert "\n" not in said
    for hint in hints:
        assert hint in said


def test_a_name_like_no_other_is_told_all_there_are() -> None:
    said = mistake(preset="qqqqqq", api_key="k")
    assert said.startswith("providers.p.preset: no preset `qqqqqq` is known; there are openai, anthropic, ")
    assert said.endswith("llamacpp")


def test_a_preset_may_come_from_the_environment() -> None:
    loaded = load({"HOST": "groq"}, preset="${HOST}", api_key="k")
    assert loaded.settings.providers["p"].base_url == "https://api.groq.com/openai/v1"


def test_a_provider_without_preset_and_dialect_lacks_its_dialect() -> None:
    assert "missing required field `dialect`" in mistake(api_key="k")


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.also])
def test_a_host_that_speaks_another_dialect_is_elsewhere_in_it(name: str) -> None:
    for dialect, settings in PRESETS[name].also.items():
        provider = resolved(preset=name, dialect=dialect, api_key="k")
        assert (provider.dialect, provider.base_url) == (dialect, settings["base_url"])
        assert provider.base_url != PRESETS[name].settings["base_url"]


def test_who_names_no_preset_does_not_load_them() -> None:
    program = (
        "import sys; from pathlib import Path; from sidegate.config import read_mapping; import sidegate.gateway;"
        "read_mapping({'providers': {'p': {'dialect': 'openai', 'api_key': 'k'}}, 'models': {'m': {'provider': 'p'}},"
        "'pipelines': {'main': {}}}, {}, Path()); sys.exit('sidegate.presets' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


# --- Azure ------------------------------------------------------------------------------------------------------------


def test_the_resource_is_the_first_part_of_azures_host() -> None:
    assert resolved(preset="azure", resource="my-co", api_key="k").base_url == (
        "https://my-co.openai.azure.com/openai/v1"
    )
    classic = resolved(preset="azure_deployments", resource="my-co", api_key="k", api_version="2025-01-01-preview")
    assert (classic.base_url, classic.api_version) == ("https://my-co.openai.azure.com/openai", "2025-01-01-preview")


def test_a_url_of_ones_own_needs_no_resource() -> None:
    url = "https://acme.services.ai.azure.com/openai/v1"
    assert resolved(preset="azure", base_url=url, api_key="k").base_url == url


def test_a_missing_resource_is_asked_for() -> None:
    assert mistake(preset="azure", api_key="k").startswith("providers.p: needs `resource`")


@pytest.mark.parametrize("resource", ["evil.example/", "a b", "x@y", "-a", "a" * 65, "..", "a\nb"])
def test_a_resource_is_no_way_to_another_host(resource: str) -> None:
    assert mistake(preset="azure", resource=resource, api_key="k").startswith("providers.p.resource: expected one part")


def test_a_resource_without_a_place_is_a_mistake() -> None:
    assert "has no place" in mistake(preset="groq", resource="acme", api_key="k")


# --- what a provider may not say --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"dialect": "anthropic", "deployment_paths": True},
            "deployment_paths: is for those whose dialect is `openai`",
        ),
        ({"dialect": "gemini", "completions": False}, "completions: is for those whose dialect is `openai`"),
        ({"dialect": "anthropic", "api_version": "1"}, "api_version: is for those whose dialect is `openai` or"),
        ({"dialect": "openai", "key_header": "a b"}, "key_header: is no name of a header"),
        ({"dialect": "openai", "key_header": "Host"}, "key_header: is written by the gateway"),
        ({"dialect": "openai", "key_scheme": "a b"}, "key_scheme: a scheme is one word"),
        ({"dialect": "openai", "api_version": "1&x=2"}, "api_version: "),
        ({"dialect": "openai", "renamed_fields": {"model": "x"}}, "renamed_fields.model: is read or written by the"),
        ({"dialect": "openai", "renamed_fields": {"seed": "stream"}}, "renamed_fields.seed: is read or written by"),
        ({"dialect": "openai", "key_header": "x-key", "headers": {"X-Key": "v"}}, "headers.X-Key: is written by the"),
        ({"preset": "azure", "resource": "a", "headers": {"Api-Key": "v"}}, "headers.Api-Key: is written by the"),
    ],
)
def test_what_means_nothing_is_a_mistake(given: dict[str, Any], said: str) -> None:
    assert mistake(**{"api_key": "k", **given}).startswith(f"providers.p.{said}")


def test_a_server_of_ones_own_may_do_without_a_key() -> None:
    assert load(preset="ollama").warnings == ()
    assert load(preset="groq").warnings == ("providers.p: has no api_key; calls are sent without one",)


# --- docs -------------------------------------------------------------------------------------------------------------


def test_the_page_of_providers_is_what_the_presets_say() -> None:
    written = runpy.run_path(str(ROOT / "scripts" / "providers.py"))["page"]()
    assert (ROOT / "docs" / "providers.md").read_text() == written, "run scripts/docs"


# --- explain ----------------------------------------------------------------------------------------------------------


def test_explain_shows_what_a_preset_comes_to() -> None:
    loaded = load(preset="azure_deployments", resource="acme", api_key="hunter2-hunter2", max_tokens_field="max_tokens")
    explained = explain(loaded, {})
    provider = explained["providers"]["p"]
    assert provider["base_url"] == "https://acme.openai.azure.com/openai"
    assert (provider["api_version"], provider["deployment_paths"], provider["key_header"]) == (
        "2024-10-21",
        True,
        "api-key",
    )
    explained["routes"] = []
    shown = "\n".join(lines(explained))
    said = "key_header: api-key, api_version: 2024-10-21, deployment_paths: true, responses: false, max_tokens_field:"
    assert said in " ".join(shown.split())
    assert "azure_deployments" in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    ("preset", "dialect"), [("groq", "gemini"), ("anthropic", "openai"), ("gemini", "openai"), ("openai", "anthropic")]
)
def test_a_dialect_that_a_preset_does_not_lead_to_needs_a_url(preset: str, dialect: str) -> None:
    said = mistake(preset=preset, dialect=dialect, api_key="k")
    assert said == f"providers.p.dialect: is not what the preset `{preset}` leads to: say a `base_url` for it"
    known = resolved(preset=preset, dialect=dialect, base_url="https://other.example.com", api_key="k")
    assert known.dialect == dialect
    assert known.base_url.startswith("https://other.example.com")


@pytest.mark.parametrize("preset", ["openai", "mistral", "vllm"])
def test_responses_are_asked_where_chats_are(preset: str) -> None:
    known = resolved(preset=preset, dialect="openai_responses", api_key="k")
    assert known.base_url == PRESETS[preset].settings["base_url"]
