"""`sidegate plugins`: what a config may use, and what each plugin can be told."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import msgspec

from sidegate.commands.table import table
from sidegate.config.mistakes import nearest
from sidegate.contract.plugin import CONTRACT
from sidegate.errors import ConfigError
from sidegate.finder import Available, available


def run(name: str | None, as_json: bool) -> int:
    """Print all, or the one called `name` with its settings. Raises `ConfigError` where there is none of the name."""
    found = available()
    if name is not None:
        chosen = [plugin for plugin in found if plugin.name == name]
        if not chosen:
            raise ConfigError("", f"no plugin `{name}` is installed{nearest(name, [each.name for each in found])}")
        found = chosen
    if as_json:
        plain: Any = msgspec.to_builtins(found if name is None else found[0])
        print(msgspec.json.format(msgspec.json.encode(plain), indent=2).decode())
        return 0
    print("\n".join(overview(found) if name is None else details(found[0])))
    for plugin in found:
        if plugin.error is not None:
            print(f"{plugin.name}: {plugin.error}", file=sys.stderr)
    return 0 if name is None or found[0].error is None else 2


def overview(found: list[Available]) -> Iterable[str]:
    """One row for each plugin."""
    if not found:
        yield "No plugins are installed."
    rows = [(plugin.name, _kind(plugin), plugin.summary if plugin.error is None else "") for plugin in found]
    yield from table(rows, indent="")


def details(plugin: Available) -> Iterable[str]:
    """One plugin, with a row for each setting."""
    yield f"{plugin.name} ({_kind(plugin)}), {plugin.path}"
    if plugin.summary:
        yield plugin.summary
    if plugin.deliveries:
        yield f"acts on: {', '.join(plugin.deliveries)}"
        yield f"contract: {plugin.contract} (this gateway has {CONTRACT})"
    rows = list(_fields(plugin.schema or {}))
    if not rows:
        return
    yield ""
    yield from table([("setting", "type", "default", ""), *rows], indent="")


def _kind(plugin: Available) -> str:
    if plugin.error is not None:
        return "broken"
    return "observer" if plugin.fails_open else "guard"


# --- JSON Schema, for people ------------------------------------------------------------------------------------------


def _fields(schema: dict[str, Any]) -> Iterable[tuple[str, str, str, str]]:
    definitions = schema.get("$defs", {})
    yield from _rows(_resolved(schema, definitions), definitions, "", frozenset())


def _rows(
    schema: dict[str, Any], definitions: dict[str, Any], prefix: str, seen: frozenset[str]
) -> Iterable[tuple[str, str, str, str]]:
    """A row for each property; those of objects inside follow theirs, as `keys[].name`."""
    required = schema.get("required", ())
    for name, item in schema.get("properties", {}).items():
        default = "required" if name in required else _default(item)
        description = " ".join(str(item.get("description", "")).split())
        yield f"{prefix}{name}", _type(item, definitions), default, description
        inner, suffix = (item["items"], "[].") if isinstance(item.get("items"), dict) else (item, ".")
        reference = inner.get("$ref")
        if reference and reference not in seen:
            yield from _rows(_resolved(inner, definitions), definitions, f"{prefix}{name}{suffix}", seen | {reference})


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    return definitions.get(reference.rpartition("/")[2], {}) if reference else schema


def _default(item: dict[str, Any]) -> str:
    return msgspec.json.encode(item["default"]).decode() if "default" in item else ""


def _type(item: dict[str, Any], definitions: dict[str, Any]) -> str:
    """`integer >= 1`, `list of string`, `one of a, b`."""
    if "$ref" in item:
        return _type(_resolved(item, definitions), {})
    if "anyOf" in item:
        return " or ".join(dict.fromkeys(_type(arm, definitions) for arm in item["anyOf"]))
    if "enum" in item:
        return f"one of {', '.join(str(choice) for choice in item['enum'])}"
    name = str(item.get("type", "any"))
    if name == "array":
        items = item.get("items")
        return f"list of {_type(items, definitions)}" if isinstance(items, dict) else "list"
    limits = (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))
    return " ".join([name, *(f"{sign} {item[key]}" for key, sign in limits if key in item)])
