"""What is configured, by HTTP: the config without its secrets, routes, pipelines, installed plugins, models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Literal

import msgspec
from aiohttp import web
from msgspec import Struct

from sidegate import shown
from sidegate.config import Loaded
from sidegate.contract.prices import Pricing, Rates
from sidegate.contract.timeouts import TimeoutChanges
from sidegate.finder import Available, available
from sidegate.http.admin.answers import Page, no_parameters, said
from sidegate.loader import LoadedPlugin, Plugins
from sidegate.service import Service
from sidegate.settings import Route, Target
from sidegate.upstream.choice import Chosen
from sidegate.upstream.circuit import CircuitState


class ShownConfig(Struct, frozen=True, kw_only=True):
    """The config in force, with secrets as `***`."""

    object: Literal["config"] = "config"
    path: str
    """The file it came from."""
    yaml: str
    """What it says besides the defaults, with variables and presets filled in."""
    settings: dict[str, Any]
    """All of it."""
    warnings: tuple[str, ...]


class ShownRoute(Struct, frozen=True, kw_only=True):
    """Which calls take which pipeline."""

    name: str
    prefix: str
    pipeline: str
    operations: tuple[str, ...] | None
    """Null for all."""
    on_disconnect: str
    resumable: bool
    timeouts: TimeoutChanges | None
    default_model: str


class ShownPlugin(Struct, frozen=True, kw_only=True):
    """A plugin of a pipeline, with what it did since this process started. By its name: plugins of one name in several
    pipelines are counted together."""

    name: str
    kind: Literal["guard", "observer"]
    class_: str = msgspec.field(name="class")
    settings: dict[str, Any]
    calls: int
    seconds: float
    """Its own time, summed."""
    failures: int


class ShownPipeline(Struct, frozen=True, kw_only=True):
    """Plugins in order, outermost first; those of `attempt` run once per try, inside them."""

    name: str
    plugins: tuple[ShownPlugin, ...]
    attempt: tuple[ShownPlugin, ...]


class ShownPrice(Struct, frozen=True, kw_only=True):
    """Nano-USD per million tokens, by the plugin of one pipeline, or by the price lists where none prices."""

    pipeline: str | None
    rates: Rates | None
    """Null where the price is unknown."""


class ShownTarget(Struct, frozen=True, kw_only=True):
    """A provider with a model."""

    provider: str
    model: str | None
    """Null where the name asked for is passed on."""
    weight: int
    prices: tuple[ShownPrice, ...]
    circuit: CircuitState | None
    """Null where its provider has none, or the target is not known before it is asked for."""


class ShownModel(Struct, frozen=True, kw_only=True):
    """A model name that clients use, or the beginning of such names and `*`."""

    name: str
    strategy: Literal["ordered", "weighted"]
    targets: tuple[ShownTarget, ...]


def add_config(app: web.Application, current: Callable[[], Service]) -> None:
    """The routes of what is configured. `current` gives the config in force."""

    async def config(request: web.Request) -> web.Response:
        no_parameters(request)
        service = current()
        return said(shown_config(service.loaded, service.plugins))

    async def routes(request: web.Request) -> web.Response:
        no_parameters(request)
        return said(Page(data=[_route(route) for route in current().settings.routes]))

    async def pipelines(request: web.Request) -> web.Response:
        no_parameters(request)
        return said(Page(data=shown_pipelines(current())))

    async def plugins(request: web.Request) -> web.Response:
        no_parameters(request)
        # Looks through the installed packages and imports what no config has named.
        found: list[Available] = await asyncio.get_running_loop().run_in_executor(None, available)
        return said(Page(data=found))

    async def models(request: web.Request) -> web.Response:
        no_parameters(request)
        service = current()
        return said(Page(data=[_model(service, chosen) for chosen in service.catalogue.all()]))

    for name, endpoint in (
        ("config", config),
        ("routes", routes),
        ("pipelines", pipelines),
        ("plugins", plugins),
        ("models", models),
    ):
        app.router.add_get(f"/admin/{name}", endpoint, allow_head=False)


def secrets_of(service: Service) -> Collection[str]:
    """Every secret value of the config in force."""
    return service.loaded.secrets | shown.plugin_secrets(service.plugins)


def shown_config(loaded: Loaded, plugins: Plugins) -> ShownConfig:
    """A config with its plugins."""
    secrets, settings = loaded.secrets | shown.plugin_secrets(plugins), loaded.settings
    return ShownConfig(
        path=str(loaded.path),
        yaml=shown.as_yaml(shown.settings(settings, secrets, defaults=False)),
        settings=shown.settings(settings, secrets, defaults=True),
        warnings=loaded.warnings,
    )


def _route(route: Route) -> ShownRoute:
    return ShownRoute(
        name=route.name,
        prefix=route.prefix,
        pipeline=route.pipeline,
        operations=route.operations or None,
        on_disconnect=route.on_disconnect,
        resumable=route.resumable,
        timeouts=route.timeouts,
        default_model=route.default_model,
    )


# --- pipelines --------------------------------------------------------------------------------------------------------


def shown_pipelines(service: Service) -> list[ShownPipeline]:
    """Those of the config in force, in its order."""
    secrets = secrets_of(service)
    return [
        ShownPipeline(
            name=name,
            plugins=tuple([_plugin(service, plugin, secrets) for plugin in pipeline.plugins]),
            attempt=tuple([_plugin(service, plugin, secrets) for plugin in pipeline.attempt]),
        )
        for name, pipeline in service.plugins.items()
    ]


def _plugin(service: Service, loaded: LoadedPlugin, secrets: Collection[str]) -> ShownPlugin:
    plain = shown.plugin(loaded, secrets)
    done = service.metrics.of_plugin(loaded.name)
    return ShownPlugin(
        name=plain["name"],
        kind=plain["kind"],
        class_=plain["class"],
        settings=plain["settings"],
        calls=done.calls,
        seconds=done.seconds,
        failures=done.failures,
    )


# --- models -----------------------------------------------------------------------------------------------------------


def _model(service: Service, chosen: Chosen) -> ShownModel:
    return ShownModel(
        name=chosen.name,
        strategy=chosen.strategy,
        targets=tuple([_target(service, chosen, target) for target in chosen.targets]),
    )


def _target(service: Service, chosen: Chosen, target: Target) -> ShownTarget:
    model = target.model or chosen.name
    circuit = service.circuits.known(target.provider, model)
    return ShownTarget(
        provider=target.provider,
        model=None if model.endswith("*") else model,
        weight=target.weight,
        prices=tuple(
            [
                ShownPrice(pipeline=name, rates=_rates(pricing, target.provider, model))
                for name, pricing in _pricings(service)
            ]
        ),
        circuit=None if circuit is None else circuit.state,
    )


def _pricings(service: Service) -> list[tuple[str | None, Pricing]]:
    found: list[tuple[str | None, Pricing]] = [
        (name, loaded.plugin)
        for name, pipeline in service.plugins.items()
        for loaded in (*pipeline.plugins, *pipeline.attempt)
        if isinstance(loaded.plugin, Pricing)
    ]
    return found or [(None, service.prices)]


def _rates(pricing: Pricing, provider: str, model: str) -> Rates | None:
    return None if model.endswith("*") else pricing.find_rates(provider, model)
