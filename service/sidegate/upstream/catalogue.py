"""From the providers of the config to those that answer, and what calls to them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from sidegate.config import Mistakes, convert_settings
from sidegate.contract.host import Clock
from sidegate.settings import Provider as ProviderSettings
from sidegate.upstream.choice import Catalogue
from sidegate.upstream.circuit import Circuits, Watch
from sidegate.upstream.credentials import Credentials, auth_headers
from sidegate.upstream.demo import Demo, DemoSettings
from sidegate.upstream.provider import HttpProvider, Provider
from sidegate.upstream.retry import Budget
from sidegate.upstream.router import Upstream
from sidegate.upstream.transport import Transport
from sidegate.wire.registry import DIALECTS

SPEAKS = {
    "openai": ("openai.chat", "openai.completions", "openai.embeddings"),
    "openai_responses": ("openai.responses", "openai.embeddings"),
    "anthropic": ("anthropic.messages", "anthropic.count_tokens"),
    "gemini": ("gemini.generate", "gemini.batch_embed", "gemini.embed", "gemini.count_tokens"),
}
"""The dialects of a kind of provider; the first of an operation is the one others are translated to."""

Providers = Mapping[str, ProviderSettings]

KeyRested = Callable[[str, str], None]
"""Told of a key put to rest: its provider's name, and why."""


def make_upstreams(
    settings: Providers,
    transport: Transport,
    clock: Clock,
    key_rested: KeyRested,
    before: tuple[Providers, Mapping[str, Upstream]] | None = None,
) -> dict[str, Upstream]:
    """Every provider of the config, by name. Of the config `before`, one that has not changed is the same: its bound
    on connections, its budget of retries. Of one that has, the keys that it still has rest on."""
    old, known = before or ({}, {})
    made: dict[str, Upstream] = {}
    for name, each in settings.items():
        if old.get(name) == each:
            made[name] = known[name]
            continue
        made[name] = _upstream(name, each, transport, clock, key_rested)
        if name in known and _is_same_place(old[name], each):
            made[name].credentials.rest_as(known[name].credentials)
    return made


def make_circuits(
    settings: Providers,
    catalogue: Catalogue,
    clock: Clock,
    watch: Watch,
    before: tuple[Providers, Circuits] | None = None,
) -> Circuits:
    """The circuits of every target the config names. Those of the config `before` go on where provider, address and
    setting are the same."""
    every = [(chosen, target) for chosen in catalogue.all() for target in chosen.targets]
    of = {name: provider.circuit for name, provider in settings.items()}
    old, known = before or ({}, Circuits({}, clock, watch))
    same = {n for n in of if n in old and _is_same_place(old[n], settings[n]) and old[n].circuit == of[n]}
    passed_on = {target.provider for chosen, target in every if chosen.name.endswith("*") and not target.model}
    circuits = Circuits(of, clock, watch, known.named(same & passed_on))
    for chosen, target in every:
        model = target.model or chosen.name
        circuits.declare(
            target.provider, model, known.known(target.provider, model) if target.provider in same else None
        )
    return circuits


def _is_same_place(one: ProviderSettings, other: ProviderSettings) -> bool:
    return (one.dialect, one.base_url) == (other.dialect, other.base_url)


def _upstream(
    name: str, settings: ProviderSettings, transport: Transport, clock: Clock, key_rested: KeyRested
) -> Upstream:
    credentials = Credentials(
        [
            auth_headers(settings.dialect, key, settings.key_header, settings.key_scheme)
            for key in settings.keys or ("",)
        ],
        clock,
        rest=settings.key_rest,
        limited_rest=settings.limited_key_rest,
        rested=partial(key_rested, name),
    )
    return Upstream(
        name=name,
        provider=_provider(name, settings, credentials, transport, clock),
        credentials=credentials,
        retry=settings.retry,
        budget=Budget(settings.retry.share, settings.retry.reserve, clock),
        timeouts=settings.timeouts,
    )


def _provider(
    name: str, settings: ProviderSettings, credentials: Credentials, transport: Transport, clock: Clock
) -> Provider:
    if settings.dialect == "demo":
        mistakes = Mistakes()
        demo = convert_settings(settings.settings, DemoSettings, f"providers.{name}.settings", mistakes)
        mistakes.raise_any()
        return Demo(demo or DemoSettings(), clock)
    dialects = tuple(DIALECTS[each] for each in _spoken(settings))
    return HttpProvider(settings, dialects, credentials, transport, clock)


def _spoken(settings: ProviderSettings) -> tuple[str, ...]:
    """The dialects of a provider, less what it does not serve."""
    speaks = SPEAKS[settings.dialect]
    if settings.dialect == "openai" and settings.responses:
        speaks += ("openai.responses",)
    lacks = {
        "openai.completions": not settings.completions,
        "openai.embeddings": not settings.embeddings,
    }
    return tuple(each for each in speaks if not lacks.get(each))
