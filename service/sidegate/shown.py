"""Shown: a config and its plugins as plain data without secrets, for whoever operates the gateway.

Masked twice: what stands under a secret's name, and every value that is known to be a secret, wherever it stands.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import fields

from sidegate.config import mask, secrets_in
from sidegate.config.masking import MASK
from sidegate.loader import LoadedPlugin, Plugins
from sidegate.settings import Settings


def plugin_settings(loaded: LoadedPlugin) -> dict[str, Any]:
    """As they were converted, with every default. They may hold secrets."""
    settings = loaded.plugin.settings
    if settings is None:
        return {}
    plain: dict[str, Any] = msgspec.to_builtins(settings, str_keys=True, enc_hook=str)
    return plain


def plugin_secrets(plugins: Plugins) -> set[str]:
    """Those that stand in converted settings: some came from files only the loader has read."""
    pipelines = plugins.values()
    every = [plugin for pipeline in pipelines for plugin in (*pipeline.plugins, *pipeline.attempt)]
    return {secret for plugin in every for secret in secrets_in(plugin_settings(plugin))}


def plugin(loaded: LoadedPlugin, secrets: Collection[str]) -> dict[str, Any]:
    """A plugin of a pipeline: its name, what it is, its settings."""
    return {
        "name": loaded.name,
        "kind": "observer" if loaded.plugin.fails_open else "guard",
        "class": f"{type(loaded.plugin).__module__}:{type(loaded.plugin).__qualname__}",
        "settings": mask(_without_headers(plugin_settings(loaded)), secrets),
    }


def settings(whole: Settings, secrets: Collection[str], *, defaults: bool) -> dict[str, Any]:
    """The config in force: with what it says nothing of (`defaults`), or only what differs from that."""
    plain = msgspec.to_builtins(whole, str_keys=True, enc_hook=str) if defaults else _said(whole)
    masked: dict[str, Any] = mask(_without_headers(plain), secrets)
    return masked


def as_yaml(plain: dict[str, Any]) -> str:
    """As a config file would say it."""
    import yaml  # loaded only where there is YAML

    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=110)
    return text


def _said(value: Any) -> Any:
    """Plain data of a Struct, without the fields that have their default."""
    if isinstance(value, Struct):
        found: dict[str, Any] = {}
        for field in fields(value):
            own = getattr(value, field.name)
            default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
            if own is not UNSET and own != default:
                found[field.encode_name] = _said(own)
        return found
    if isinstance(value, dict):
        return {str(key): _said(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_said(item) for item in value]
    return msgspec.to_builtins(value, str_keys=True, enc_hook=str)


def _without_headers(value: Any) -> Any:
    """What is sent to others in headers may be a credential by any name: names are shown, values are not."""
    if isinstance(value, list | tuple):
        return [_without_headers(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: dict.fromkeys(item, MASK) if name == "headers" and isinstance(item, dict) else _without_headers(item)
        for name, item in value.items()
    }
