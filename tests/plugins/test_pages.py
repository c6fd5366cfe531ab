"""The manual's pages: their snippets work, and no setting is left out."""

from __future__ import annotations

import re
from configparser import ConfigParser
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from msgspec import Struct

from sidegate.contract import Plugin
from tests.plugins.calls import HandClock, a_host

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = ("api_key", "jwt", "model_access", "rate_limit", "concurrency", "idempotency", "log")


def plugin(name: str) -> type[Plugin[Any]]:
    """By the entry points as setup.cfg has them, installed or not."""
    config = ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    points = dict(
        re.split(r"\s*=\s*", line) for line in config["options.entry_points"]["sidegate.plugins"].split("\n") if line
    )
    module, _, cls = points[name].partition(":")
    found: type[Plugin[Any]] = getattr(import_module(module), cls)
    return found


def page(name: str) -> str:
    return (REPOSITORY / "docs" / "plugins" / f"{name}.md").read_text()


def structs(kind: Any) -> list[type[Struct]]:
    """The type and the Structs in its fields."""
    if not (isinstance(kind, type) and issubclass(kind, Struct)):
        return [found for argument in get_args(kind) for found in structs(argument)]
    fields = msgspec.structs.fields(kind)
    return [kind, *(found for field in fields for found in structs(field.type))]


@pytest.mark.parametrize("name", PAGES)
def test_the_snippet_on_the_page_works(name: str) -> None:
    (snippet,) = re.findall(r"```yaml\n(.*?)```", page(name), re.DOTALL)
    lists = msgspec.yaml.decode(snippet)["pipelines"]["default"]
    used = [(kind, use) for kind, uses in lists.items() for use in uses]
    assert name in [use["use"] for _, use in used]
    for kind, use in used:
        cls = plugin(use["use"])
        host = replace(a_host(HandClock()), per_attempt=kind == "attempt")
        cls(msgspec.convert(use.get("settings", {}), cls.settings_type()), host)


@pytest.mark.parametrize("name", PAGES)
def test_the_page_has_a_row_for_every_setting(name: str) -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", page(name), re.MULTILINE))
    settings = {
        field.encode_name for kind in structs(plugin(name).settings_type()) for field in msgspec.structs.fields(kind)
    }
    assert settings <= rows


@pytest.mark.parametrize("name", PAGES)
def test_every_setting_says_what_it_is_for(name: str) -> None:
    for kind in structs(plugin(name).settings_type()):
        properties = msgspec.json.schema_components([kind])[1][kind.__name__]["properties"]
        assert all("description" in setting for setting in properties.values()), properties
