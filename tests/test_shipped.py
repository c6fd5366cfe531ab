"""What is shipped beside the code: plugins have all their parts, configs work, public names are the ones said."""

from __future__ import annotations

import ast
import json
import re
import types
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
import yaml

import sidegate.contract
import sidegate.testing
from sidegate.commands.check import made
from sidegate.commands.explain import explain
from sidegate.commands.explain_lines import QUIRKS, lines
from sidegate.contract import Plugin
from sidegate.contract.allowance import Allowance
from sidegate.loader import lets_in
from tests.tree import ROOT, entry_points, parsed, structs

CONFIGS = sorted(
    path
    for folder in ("config", "config/examples")
    for path in (ROOT / folder).glob("*.yaml")
    if "\npipelines:" in path.read_text()
)
"""Those of a gateway. Those for Kubernetes and Compose have tests of their own, which bring what they mount."""
DEFAULTS = [ROOT / "config" / "sidegate.yaml", ROOT / "config" / "container.yaml"]
ORDER = ["log", "api_key", "model_access", "idempotency", "rate_limit", "concurrency", "cost", "structured_output"]
"""Refusals are logged, nobody unknown takes room, who waits has room by rate, and each run of a repair is priced."""

PLUGINS = sorted(path.stem for path in (ROOT / "plugins/sidegate_plugins").glob("[!_]*.py"))


def plugin_class(name: str) -> type[Plugin[Any]]:
    module, _, cls = entry_points()[name].partition(":")
    found: type[Plugin[Any]] = getattr(import_module(module), cls)
    return found


# --- plugins ----------------------------------------------------------------------------------------------------------


def test_every_plugin_has_an_entry_point_of_its_name() -> None:
    modules = {name: target.partition(":")[0] for name, target in entry_points().items()}
    assert modules == {name: f"sidegate_plugins.{name}" for name in PLUGINS}


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_says_what_it_does_for_the_operator(name: str) -> None:
    module = ast.get_docstring(parsed(ROOT / "plugins" / "sidegate_plugins" / f"{name}.py"))
    assert module
    assert len(module.splitlines()[0]) >= 20
    assert (plugin_class(name).__doc__ or "").strip()


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_has_tests(name: str) -> None:
    found = (ROOT / "tests" / "plugins" / f"test_{name}.py").read_text()
    assert re.search(r"^(async )?def test_", found, re.MULTILINE)


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_has_a_page_that_names_each_setting(name: str) -> None:
    page = (ROOT / "docs" / "plugins" / f"{name}.md").read_text()
    for kind in structs(plugin_class(name).settings_type()):
        for field in msgspec.structs.fields(kind):
            assert f"`{field.encode_name}`" in page, f"{kind.__name__}.{field.encode_name}"


@pytest.mark.parametrize("name", PLUGINS)
def test_settings_are_frozen_strict_and_described(name: str) -> None:
    for kind in structs(plugin_class(name).settings_type()):
        assert kind.__struct_config__.frozen, kind
        assert kind.__struct_config__.forbid_unknown_fields, kind
        properties = msgspec.json.schema(kind)["$defs"][kind.__name__]["properties"]
        undescribed = [name for name, item in properties.items() if not re.search("description|ref", str(item))]
        assert undescribed == [], kind


def test_no_page_is_about_a_plugin_that_is_not_there() -> None:
    assert sorted(path.stem for path in (ROOT / "docs" / "plugins").glob("*.md")) == PLUGINS


# --- configs ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("acme_shout")
@pytest.mark.parametrize("path", CONFIGS, ids=[str(path.relative_to(ROOT / "config")) for path in CONFIGS])
def test_every_config_loads_and_its_plugins_can_be_made(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in re.findall(r"\$\{(\w+)", path.read_text()):
        monkeypatch.setenv(name, "a-value-that-is-long-enough")
    loaded, plugins = made(path)
    assert set(plugins) == set(loaded.settings.pipelines)
    assert loaded.settings.models


@pytest.mark.usefixtures("acme_shout")
@pytest.mark.parametrize("path", CONFIGS, ids=[str(path.relative_to(ROOT / "config")) for path in CONFIGS])
def test_explain_tells_all_that_a_config_says(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in re.findall(r"\$\{(\w+)", path.read_text()):
        monkeypatch.setenv(name, "a-value-that-is-long-enough")
    explained = explain(*made(path))
    told = "".join("".join(lines(explained)).split())
    for section, said in explained["settings"].items():
        if section != "pipelines":  # whose plugins tell every setting
            assert [value for value in values(said) if "".join(value.split()) not in told] == [], section


def values(said: Any) -> Iterator[str]:
    """What stands in plain data, as JSON writes it, but for secrets and what a provider's vendor has brought."""
    if isinstance(said, dict):
        said = [item for name, item in said.items() if name not in QUIRKS]
    if isinstance(said, list):
        for item in said:
            yield from values(item)
    elif said != "***":
        yield json.dumps(said).strip('"')


@pytest.mark.parametrize("path", DEFAULTS, ids=[path.stem for path in DEFAULTS])
def test_the_default_needs_no_key(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in re.findall(r"\$\{(\w+)", path.read_text()):
        monkeypatch.delenv(name, raising=False)
    loaded, _ = made(path)
    assert sorted(loaded.settings.models) == ["demo", "demo-*"]


@pytest.mark.parametrize("path", DEFAULTS, ids=[path.stem for path in DEFAULTS])
def test_the_shipped_order(path: Path) -> None:
    (pipeline,) = yaml.safe_load(path.read_text())["pipelines"].values()
    assert [use["use"] for use in pipeline["plugins"]] == ORDER
    assert pipeline.get("attempt", []) == []


@pytest.mark.parametrize("path", DEFAULTS, ids=[path.stem for path in DEFAULTS])
def test_the_default_lets_issued_keys_in_and_holds_them_to_all_they_may_restrict(path: Path) -> None:
    everything = {"models": ["x"], "limits": [{"requests": 1}], "concurrency": 1, "budgets": [{"amount_usd": 1}]}
    assert lets_in(made(path)[1], msgspec.convert(everything, Allowance)) == ()


def test_a_container_differs_only_in_what_it_binds_and_where_it_keeps() -> None:
    ours, theirs = (yaml.safe_load(path.read_text()) for path in DEFAULTS)
    differing = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    assert differing == {"listen", "admin", "state"}
    assert (theirs["listen"]["host"], theirs["admin"]["host"], theirs["state"]) == ("0.0.0.0", "0.0.0.0", "/data")


# --- public names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [sidegate.contract, sidegate.testing], ids=["contract", "testing"])
def test_public_names_are_the_ones_listed(module: ModuleType) -> None:
    listed: list[str] = module.__all__
    public = {name for name, value in vars(module).items() if name[0] != "_" and not isinstance(value, ModuleType)}
    assert public - {"annotations"} == set(listed)
    # Functions may bear the name of the file they are in; such a name is still the function.
    assert not any(isinstance(getattr(module, name), types.ModuleType) for name in listed)


@pytest.mark.parametrize("module", [sidegate.contract, sidegate.testing], ids=["contract", "testing"])
def test_the_manual_mentions_every_public_name(module: ModuleType) -> None:
    manual = (ROOT / "docs" / "plugins.md").read_text()
    listed: list[str] = module.__all__
    assert [name for name in listed if not re.search(rf"\b{name}\b", manual)] == []
