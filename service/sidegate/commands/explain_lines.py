"""What a config comes to, for people: line by line what `explain` found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from sidegate.commands.table import table
from sidegate.config.completion import with_vendor
from sidegate.settings import Provider

QUIRKS = (
    "key_header",
    "key_scheme",
    "api_version",
    "deployment_paths",
    "responses",
    "completions",
    "embeddings",
    "max_tokens_field",
    "stream_usage",
    "developer_role",
    "renamed_fields",
    "system",
)
"""Settings by which hosts of one dialect differ; a preset brings them."""

_TOLD: Final[dict[str, frozenset[str] | None]] = {
    "listen": frozenset(("host", "port", "unix")),
    "admin": frozenset(("host", "port", "unix")),
    "state": None,
    "ledger": frozenset(("url",)),
    "routes": frozenset(("name", "pipeline", "prefix", "operations", "on_disconnect")),
    "pipelines": None,
    "models": frozenset(("provider", "model", "targets", "strategy")),
    "providers": frozenset(
        ("dialect", "base_url", "preset", "api_key", "api_key_file", "api_keys", "api_keys_file", *QUIRKS)
    ),
}
"""What is told elsewhere, by the section of the config: these fields of it, or of each of its items; or all."""


def lines(explained: dict[str, Any]) -> Iterable[str]:
    """What `explain` gave, line by line."""
    heads = [(name, explained[name] or "none") for name in ("config", "listen", "admin", "state", "ledger")]
    yield from table(heads, indent="")
    for route in explained["routes"]:
        operations = ", ".join(route["operations"] or ["all operations"])
        yield ""
        yield f"route {route['name']}: {route['prefix'] or '/'} ({operations}) -> pipeline {route['pipeline']}"
        yield f"  when the client leaves: {route['on_disconnect']}"
        yield from _plugin_lines(explained["pipelines"][route["pipeline"]])
    yield from _section("models", [(name, "->", _led(targets)) for name, targets in explained["models"].items()])
    yield from _section("providers", [_provider_row(name, item) for name, item in explained["providers"].items()])
    presets = [_preset_row(name, item) for name, item in explained["providers"].items() if item["preset"]]
    yield from _section("presets", presets)
    yield from _section("other settings", list(_besides(explained)))
    yield from _section("warnings", [(warning,) for warning in explained["warnings"]])


def _plugin_lines(pipeline: dict[str, Any]) -> Iterable[str]:
    if not pipeline["plugins"] and not pipeline["attempt"]:
        yield "  no plugins"
    yield from table(_plugin_rows(pipeline["plugins"]))
    if pipeline["attempt"]:
        yield "  for each attempt"
        yield from table(_plugin_rows(pipeline["attempt"]), indent="    ")


def _plugin_rows(plugins: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (f"{number}.", plugin["name"], plugin["kind"], _said(plugin["settings"]))
        for number, plugin in enumerate(plugins, 1)
    ]


def _said(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {_value(value)}" for name, value in settings.items())


def _value(value: Any) -> str:
    if isinstance(value, str) and value and value.isprintable() and not set(value) & set(" ,:'\"{}[]"):
        return value
    return msgspec.json.format(msgspec.json.encode(value), indent=0).decode()


def _led(targets: Sequence[dict[str, Any]]) -> str:
    said = [f"{target['provider']} {target['model'] or '(the name asked for)'}" for target in targets]
    if not any("weight" in target for target in targets):
        return ", then ".join(said)
    return ", or ".join(f"{text} (weight {target['weight']})" for text, target in zip(said, targets, strict=True))


def _provider_row(name: str, provider: dict[str, Any]) -> tuple[str, ...]:
    return name, provider["dialect"], provider["base_url"] or "-", f"key: {provider['key']}"


def _preset_row(name: str, provider: dict[str, Any]) -> tuple[str, ...]:
    """What a preset has brought, or the config has said instead, besides dialect and URL."""
    return name, provider["preset"], _said(_differs(provider, Provider(dialect=provider["dialect"]))) or "-"


def _differs(provider: Mapping[str, Any], usual: Provider) -> dict[str, Any]:
    return {field: provider[field] for field in QUIRKS if provider[field] != getattr(usual, field)}


def _section(title: str, rows: Sequence[tuple[str, ...]]) -> Iterable[str]:
    if rows:
        yield ""
        yield title
        yield from table(rows)


def _besides(explained: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Whatever else the config says: where it stands, and what it is."""
    for section, said in explained["settings"].items():
        told = _TOLD.get(section, frozenset())
        if told is None:
            continue
        if section in ("listen", "admin", "ledger"):
            yield from _flat(_less(said, told), section)
        elif section in ("models", "providers", "routes"):
            for name, item in _items(said):
                quirks = _own_quirks(explained["providers"][name]) if section == "providers" else {}
                yield from _flat({**quirks, **_less(item, told)}, f"{section}.{name}")
        else:
            yield from _flat(said, section, whole=True)


def _own_quirks(provider: Mapping[str, Any]) -> dict[str, Any]:
    """A preset's stand beside its name."""
    if provider["preset"]:
        return {}
    return _differs(provider, with_vendor(Provider(dialect=provider["dialect"], base_url=provider["base_url"])))


def _items(section: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, Any]]:
    return section.items() if isinstance(section, Mapping) else [(item["name"], item) for item in section]


def _less(said: Any, told: frozenset[str]) -> dict[str, Any]:
    """A list of targets, and a listener that is not there, have nothing besides."""
    return {name: value for name, value in said.items() if name not in told} if isinstance(said, Mapping) else {}


def _flat(said: Any, place: str, *, whole: bool = False) -> Iterator[tuple[str, str]]:
    if not isinstance(said, Mapping) or (whole and not said):
        yield place, _value(said)
        return
    for name, value in said.items():
        yield from _flat(value, f"{place}.{name}", whole=True)
