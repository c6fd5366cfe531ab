"""Completion: what a config may leave out is filled in, and what is optional and off is taken out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

from msgspec import UNSET
from msgspec.structs import replace

from sidegate.errors import ConfigError
from sidegate.settings import Choice, Ledger, Listener, Provider, Route, Settings, Target

L = TypeVar("L", bound=Listener)

_VENDORS = {
    "openai": "https://api.openai.com/v1",
    "openai_responses": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
}
"""Base URLs of https://platform.openai.com/docs/api-reference, https://docs.anthropic.com/en/api/overview and
https://ai.google.dev/api."""

_VERSION = re.compile(r"/v\d\w*(/|$)")
"""Of Gemini's API, in a base URL. Where there is none it is `v1beta`, which knows all that the others do."""


def complete(settings: Settings, base: Path, warnings: list[str]) -> Settings:
    """The settings with nothing left open. What was taken out is said in `warnings`."""
    try:
        state = (base / settings.state).resolve()
    except ValueError:
        raise ConfigError("state", "is no path that a system could have") from None
    off = {name for name, provider in settings.providers.items() if provider.optional and not provider.keys}
    warnings += [f"providers.{name}: is off: it has no key" for name in sorted(off)]
    providers = {name: with_vendor(provider) for name, provider in settings.providers.items() if name not in off}
    return replace(
        settings,
        listen=_with_paths(settings.listen, base),
        admin=None if settings.admin is None else _with_paths(settings.admin, base),
        state=str(state),
        ledger=replace(settings.ledger, url=_ledger_url(settings.ledger, state)),
        providers=providers,
        models=_models(settings, off, warnings),
        routes=settings.routes or (Route(name="default", pipeline=next(iter(settings.pipelines))),),
    )


def _with_paths(listener: L, base: Path) -> L:
    tls, unix = listener.tls, listener.unix
    if tls is not None:
        files = {name: str(base / file) for name in ("certificate", "key", "client_ca") if (file := getattr(tls, name))}
        tls = replace(tls, **files)
    if unix is not None:
        unix = replace(unix, path=str(base / unix.path))
    return replace(listener, tls=tls, unix=unix)


def with_vendor(provider: Provider) -> Provider:
    """What a provider leaves out as its vendor has it."""
    url = provider.base_url.rstrip("/") or _VENDORS.get(provider.dialect, "")
    if provider.dialect == "gemini" and not _VERSION.search(url):
        url += "/v1beta"
    if provider.dialect != "openai":
        return replace(provider, base_url=url)
    newest = url == _VENDORS["openai"]
    responses = newest if provider.responses is None else provider.responses
    field = provider.max_tokens_field or ("max_completion_tokens" if newest else "max_tokens")
    return replace(provider, base_url=url, responses=responses, max_tokens_field=field)


def _ledger_url(ledger: Ledger, state: Path) -> str:
    return ledger.url.replace("{state}", str(state))


def _models(settings: Settings, off: set[str], warnings: list[str]) -> dict[str, Choice | tuple[Target, ...]]:
    found: dict[str, Choice | tuple[Target, ...]] = {}
    for name, leads in settings.models.items():
        if (left := _without(leads, off)) is not None:
            found[name] = left
    if settings.models and not found:
        warnings.append("models: none is left: all their providers are off")
    return found


def _without(leads: Choice | tuple[Target, ...], off: set[str]) -> Choice | tuple[Target, ...] | None:
    """What is left of a model whose providers are partly off; `None` for nothing."""
    if isinstance(leads, tuple):
        return tuple(target for target in leads if target.provider not in off) or None
    left = tuple(target for target in leads.leads_to if target.provider not in off)
    if not left:
        return None
    return leads if leads.targets is UNSET else replace(leads, targets=left)
