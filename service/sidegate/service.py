"""The service: what a config becomes. Providers, models, plugins and pipelines, put together on the ground that stands.

A reload makes another, starts it, and puts it in the place of this one, which is stopped after its last call.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Mapping
from functools import partial
from pathlib import Path

from sidegate.config import Loaded
from sidegate.contract.call import Call
from sidegate.contract.host import Host
from sidegate.contract.keys import NoKeys
from sidegate.contract.plugin import Handler
from sidegate.contract.reply import Reply
from sidegate.errors import Refusal, SidegateError
from sidegate.finder import Finder
from sidegate.ground import Ground
from sidegate.loader import LoadedPipeline, inherit, load, start, stop
from sidegate.pipeline import chain
from sidegate.prices.book import PriceBook
from sidegate.records import answer_models, answer_usage
from sidegate.telemetry.trails import NO_NAMES, Names
from sidegate.upstream.catalogue import make_circuits, make_upstreams
from sidegate.upstream.choice import Catalogue
from sidegate.upstream.circuit import Circuits
from sidegate.upstream.fetching import FETCHES, KEEPING
from sidegate.upstream.router import Router, Upstream, answer

_logger = logging.getLogger("sidegate.plugins")


class Entrance:
    """The outer end of a pipeline. A call in flight that came in by it keeps its service from being stopped."""

    __slots__ = ("handler", "service")

    def __init__(self, handler: Handler, service: Service) -> None:
        self.handler = handler
        self.service = service

    def __call__(self, call: Call) -> Awaitable[Reply]:
        return self.handler(call)


class Service:
    """One config in force: numbered from 1, each reload makes the next."""

    def __init__(
        self, ground: Ground, loaded: Loaded, before: Service | None = None, finder: Finder | None = None
    ) -> None:
        """`before` is the service whose place it is to take: what the two configs have in common goes on. `finder`
        knows the classes of plugins already. Raises `ConfigError`; opens nothing."""
        self.ground = ground
        self.loaded = loaded
        self.settings = settings = loaded.settings
        self.number: int = 1 if before is None else before.number + 1
        self.told: list[str] = []
        """What plugins said while they started."""
        self.starting = ""
        """The place in the config of the plugin that starts."""
        self.stopped = False
        self._take_in(ground)
        self.catalogue = Catalogue(settings.models, settings.translation)
        self.upstreams: dict[str, Upstream] = make_upstreams(
            settings.providers,
            self.transport,
            self.clock,
            self.metrics.key_rested,
            before=None if before is None else (before.settings.providers, before.upstreams),
        )
        self.circuits: Circuits = make_circuits(
            settings.providers,
            self.catalogue,
            self.clock,
            self.metrics.watch_target,
            before=None if before is None else (before.settings.providers, before.circuits),
        )
        self.prices = self._price_book(before)
        self.host = self._host()
        self.plugins = load(settings, self.host, loaded.base, finder)
        if before is not None:
            inherit(self.plugins, before.plugins)
        self._names = {route.name: _names(self.plugins[route.pipeline]) for route in settings.routes}
        self.handlers: Mapping[str, Handler] = {
            name: self._pipeline(pipeline) for name, pipeline in self.plugins.items()
        }
        self._known = (
            {}
            if self.jobs is None and not any("socket" in route.deliveries for route in settings.routes)
            else {name: self._pipeline(pipeline, known=True) for name, pipeline in self.plugins.items()}
        )

    def _take_in(self, ground: Ground) -> None:
        """What stands, at hand for whoever is given a service."""
        self.clock = ground.clock
        self.log = ground.log
        self.metrics = ground.metrics
        self.ledger = ground.ledger
        self.reports = ground.reports
        self.keys = ground.keys
        self.desk = ground.desk
        self.counters = ground.counters
        self.transport = ground.transport
        self.random = ground.random
        self.live = ground.live
        self.calls = ground.calls
        self.responses = ground.responses
        self.jobs = ground.jobs
        self.created = ground.created

    def _price_book(self, before: Service | None) -> PriceBook:
        """That of the config before, where it has the lists of the same providers: they need not be read again."""
        urls = {name: provider.base_url for name, provider in self.settings.providers.items()}
        if before is not None and before.prices.serves(urls):
            return before.prices
        return PriceBook(urls, Path(self.settings.state), self.clock, self.log, self.told.append)

    def _host(self) -> Host:
        """What plugins are lent."""
        settings = self.settings
        return Host(
            clock=self.clock,
            rates=self.counters.rates,
            slots=self.counters.slots,
            shared=self.counters.shared,
            values=self.counters.values,
            log=self.log,
            metrics=self.metrics,
            http=self.ground.client,
            models=self.catalogue.models(),
            ledger=self.ledger,
            keys=self.keys if settings.ledger.url else NoKeys(),
            state=Path(settings.state),
            workers=settings.workers,
            prices=self.prices,
            tell=self.told.append,
        )

    @property
    def ready(self) -> bool:
        """Whether the gateway takes calls."""
        return self.ground.ready

    async def start(self) -> None:
        """Start the plugins in order; those that have started are stopped again where one fails."""
        if self.counters.trouble is not None:
            self.told.append(f"{self.counters.trouble}: see on_store_failure of each limit")
        await start(self.plugins, self._at)

    def _at(self, place: str) -> None:
        self.starting = place

    async def stop(self) -> None:
        """Stop them in reverse."""
        self.stopped = True
        await stop(self.plugins)

    # --- pipelines ----------------------------------------------------------------------------------------------------

    def known(self, pipeline: str) -> Handler:
        """The pipeline for a call whose caller is known, such as a job; that of the config in force, where this one has
        been stopped. Raises `KeyError`, or a `SidegateError` where it has gone with this one."""
        if not self.stopped:
            return self._known[pipeline]
        try:
            return self.ground.serving.known(pipeline)
        except KeyError:
            raise SidegateError("The route is not served any more.", status=410, code="route_gone") from None

    def names(self, route: str) -> Names:
        """The plugins that calls of a route pass."""
        return self._names.get(route, NO_NAMES)

    def router(self, attempt_handler: Handler) -> Router:
        """One for a pipeline; targets, keys, budgets and circuits are those of all."""
        return Router(self.catalogue, self.upstreams, self.circuits, attempt_handler, self.clock, random=self.random)

    def _pipeline(self, pipeline: LoadedPipeline, *, known: bool = False) -> Handler:
        attempt = chain(pipeline.attempt, self._ask, self.clock, self._plugin_failed)
        router = self.router(attempt)
        return self.around(pipeline, partial(self._core, router), known=known)

    def around(self, pipeline: LoadedPipeline, heart: Handler, *, known: bool = False) -> Handler:
        """A pipeline round another heart. `known`: for a caller that is known, so without what names callers."""
        plugins = [loaded for loaded in pipeline.plugins if not (known and loaded.plugin.names_callers)]
        return Entrance(chain(plugins, heart, self.clock, self._plugin_failed), self)

    def _core(self, router: Router, call: Call) -> Awaitable[Reply]:
        """What every pipeline has at its heart, by operation. What it gives is to be awaited at once."""
        if call.asked.wrong is not None:
            raise call.asked.wrong
        match call.operation:
            case "models":
                return answer_models(call, self.catalogue, self.created)
            case "calls":
                return self.calls.answer(call)
            case "usage":
                return answer_usage(call, self.reports, self.clock)
            case "cancel":
                return self.calls.cancel(call)
            case operation:
                if not self.ledger.room:
                    raise Refusal(503, "ledger_unavailable", "The gateway cannot record calls.", retry_after=5)
                if operation in FETCHES:
                    return self.responses.serve(call, router)
                return self.responses.ask(call, router) if call.dialect == KEEPING else router(call)

    async def _ask(self, call: Call) -> Reply:
        """An attempt asks its provider: it is on record before, counted and held of budgets where plugins say so."""
        for opening in call.notes.openings:
            await opening(call)
        if call.notes.reserve is None:
            self.ledger.opened(call)
        else:
            await call.notes.reserve(call)
        return await answer(self.upstreams, call)

    def _plugin_failed(self, name: str, error: Exception | SystemExit) -> None:
        self.metrics.plugin_failed(name)
        _logger.error("plugin %s failed", name, exc_info=error)


def _names(pipeline: LoadedPipeline) -> Names:
    plugins, attempt = ([loaded.name for loaded in each] for each in (pipeline.plugins, pipeline.attempt))
    return Names(pipeline.name, plugins, attempt)
