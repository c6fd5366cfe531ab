"""`sidegate explain`: what a config comes to. Routes with their plugins in order, models with where they lead."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sidegate.commands.check import made
from sidegate.commands.table import table
from sidegate.config import Loaded, mask
from sidegate.loader import LoadedPipeline, Plugins
from sidegate.settings import Choice, Listener, Provider, Target, as_choice
from sidegate.shown import plugin as shown_plugin
from sidegate.shown import plugin_secrets


def run(path: Path, as_json: bool) -> int:
    """Print it, with secrets as `***`."""
    loaded, plugins = made(path)
    explained = explain(loaded, plugins)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(explained), indent=2).decode())
    else:
        print("\n".join(lines(explained)))
    return 0


def explain(loaded: Loaded, plugins: Plugins) -> dict[str, Any]:
    """The config as plain data without secrets."""
    settings = loaded.settings
    secrets = loaded.secrets | plugin_secrets(plugins)
    return {
        "config": str(loaded.path),
        "listen": _address(settings.listen),
        "admin": _address(settings.admin) if settings.admin is not None else None,
        "state": settings.state,
        "ledger": mask(settings.ledger.url, secrets) or None,
        "routes": [
            {
                "name": route.name,
                "prefix": route.prefix,
                "operations": list(route.operations) or None,
                "on_disconnect": route.on_disconnect,
                "pipeline": route.pipeline,
            }
            for route in settings.routes
        ],
        "pipelines": {name: _pipeline(pipeline, secrets) for name, pipeline in plugins.items()},
        "models": {name: _targets(name, targets) for name, targets in settings.models.items()},
        "providers": {name: _provider(provider, secrets) for name, provider in settings.providers.items()},
        "warnings": list(loaded.warnings),
    }


def _address(listener: Listener) -> str:
    said = []
    if listener.tcp is not None:
        host = f"[{listener.host}]" if ":" in listener.host else listener.host
        said.append(f"{host}:{listener.tcp}")
    if listener.tls is not None:
        asked = listener.tls.client_certificates
        said += ["TLS", *([f"client certificates {asked}"] if asked != "off" else [])]
    if listener.unix is not None:
        owners = [str(owner) for owner in (listener.unix.owner, listener.unix.group) if owner is not None]
        said.append(" ".join([f"unix:{listener.unix.path}", listener.unix.mode, *owners]))
    return ", ".join(said)


def _pipeline(pipeline: LoadedPipeline, secrets: Collection[str]) -> dict[str, Any]:
    return {
        "plugins": [shown_plugin(plugin, secrets) for plugin in pipeline.plugins],
        "attempt": [shown_plugin(plugin, secrets) for plugin in pipeline.attempt],
    }


def _targets(name: str, leads: Choice | tuple[Target, ...]) -> list[dict[str, Any]]:
    """The model is `None` where the name asked for is passed on, whatever it is. A weight stands where it counts."""
    passed_on = None if name.endswith("*") else name
    choice = as_choice(leads)
    listed: list[dict[str, Any]] = []
    for target in choice.leads_to:
        weight = {"weight": target.weight} if choice.strategy == "weighted" else {}
        listed.append({"provider": target.provider, "model": target.model or passed_on, **weight})
    return listed


def _provider(provider: Provider, secrets: Collection[str]) -> dict[str, Any]:
    return {
        "preset": provider.preset or None,
        "dialect": provider.dialect,
        "base_url": mask(provider.base_url, secrets),
        "key": _keys(len(provider.keys)),
        **{name: getattr(provider, name) for name in _QUIRKS},
        "headers": mask(provider.headers, secrets),
        "timeouts": msgspec.to_builtins(provider.timeouts),
        "retry": msgspec.to_builtins(provider.retry),
        "circuit": msgspec.to_builtins(provider.circuit),
        "max_connections": provider.max_connections,
        "settings": mask(provider.settings, secrets),
    }


_QUIRKS = (
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


def _keys(count: int) -> str:
    return "none" if not count else "set" if count == 1 else f"{count} keys"


# --- for people -------------------------------------------------------------------------------------------------------


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
    usual = Provider(dialect=provider["dialect"])
    differs = {field: provider[field] for field in _QUIRKS if provider[field] != getattr(usual, field)}
    return name, provider["preset"], _said(differs) or "-"


def _section(title: str, rows: Sequence[tuple[str, ...]]) -> Iterable[str]:
    if rows:
        yield ""
        yield title
        yield from table(rows)
