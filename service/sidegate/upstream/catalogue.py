"""From the providers of the config to those that answer."""

from __future__ import annotations

from collections.abc import Mapping

from sidegate.config import Mistakes, convert_settings
from sidegate.contract.host import Clock
from sidegate.settings import Provider as ProviderSettings
from sidegate.upstream.demo import Demo, DemoSettings
from sidegate.upstream.provider import HttpProvider, Provider
from sidegate.upstream.transport import Transport
from sidegate.wire.anthropic import TRANSLATED_VERSION
from sidegate.wire.registry import DIALECTS

SPEAKS = {
    "openai": ("openai.chat", "openai.completions", "openai.embeddings"),
    "anthropic": ("anthropic.messages",),
}
"""The dialects of a kind of provider; the first of an operation is the one others are translated to."""


def make_providers(settings: Mapping[str, ProviderSettings], transport: Transport, clock: Clock) -> dict[str, Provider]:
    """Every provider of the config, by name."""
    return {name: _make(name, provider, transport, clock) for name, provider in settings.items()}


def _make(name: str, settings: ProviderSettings, transport: Transport, clock: Clock) -> Provider:
    if settings.dialect == "demo":
        mistakes = Mistakes()
        demo = convert_settings(settings.settings, DemoSettings, f"providers.{name}.settings", mistakes)
        mistakes.raise_any()
        return Demo(demo or DemoSettings(), clock, timeouts=settings.timeouts)
    speaks = tuple(DIALECTS[dialect] for dialect in SPEAKS[settings.dialect])
    return HttpProvider(settings, speaks, _headers(settings), transport, clock)


def _headers(settings: ProviderSettings) -> dict[str, str]:
    if settings.dialect == "anthropic":
        return {"x-api-key": settings.api_key, "anthropic-version": TRANSLATED_VERSION}
    return {"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
