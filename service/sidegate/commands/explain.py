"""`sidegate explain`: what a config comes to. Routes with their plugins in order, models with where they lead."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from sidegate.commands.check import made
from sidegate.commands.explain_lines import QUIRKS, lines
from sidegate.config import Loaded, mask
from sidegate.loader import LoadedPipeline, Plugins
from sidegate.settings import Choice, Listener, Provider, Target, as_choice
from sidegate.shown import plugin as shown_plugin
from sidegate.shown import plugin_secrets
from sidegate.shown import settings as shown_settings


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
        "settings": shown_settings(settings, secrets, defaults=False),
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
        **{name: getattr(provider, name) for name in QUIRKS},
        "headers": mask(provider.headers, secrets),
        "timeouts": msgspec.to_builtins(provider.timeouts),
        "retry": msgspec.to_builtins(provider.retry),
        "circuit": msgspec.to_builtins(provider.circuit),
        "max_connections": provider.max_connections,
        "settings": mask(provider.settings, secrets),
    }


def _keys(count: int) -> str:
    return "none" if not count else "set" if count == 1 else f"{count} keys"
