"""The service: what a config becomes. Plugins, pipelines, providers, ledger and the register of calls, put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from sidegate.calls import Calls
from sidegate.contract.call import Call
from sidegate.contract.host import Clock, Host, Log
from sidegate.contract.keys import NoKeys
from sidegate.contract.plugin import Handler
from sidegate.contract.reply import Reply
from sidegate.counters.opening import Counters
from sidegate.errors import Refusal
from sidegate.keys.desk import Desk
from sidegate.keys.opening import open_keys
from sidegate.keys.ring import KeyRing
from sidegate.ledger.reports import open_reports
from sidegate.ledger.settlement import settle
from sidegate.ledger.store import open_ledger
from sidegate.live import Live
from sidegate.loader import LoadedPipeline, load, start, stop
from sidegate.pipeline import chain
from sidegate.prices.book import PriceBook
from sidegate.records import answer_models, answer_usage
from sidegate.responses.desk import Responses
from sidegate.settings import Settings
from sidegate.signals.opening import open_signals
from sidegate.telemetry.metrics import Metrics
from sidegate.upstream.catalogue import make_circuits, make_upstreams
from sidegate.upstream.choice import Catalogue
from sidegate.upstream.client import Client
from sidegate.upstream.fetching import FETCHES, KEEPING
from sidegate.upstream.router import Router, answer
from sidegate.upstream.transport import Transport

if TYPE_CHECKING:
    from sidegate.jobs.opening import Jobs

TICK_SECONDS = 0.25
"""How often plugins and readers are checked for standing still."""

_logger = logging.getLogger("sidegate.plugins")


class Service:
    """One running gateway, without its listeners."""

    def __init__(self, settings: Settings, clock: Clock, log: Log, base: Path) -> None:
        """`base` is the folder that relative paths of the config start from. Raises `ConfigError`; opens nothing."""
        self.settings = settings
        self.clock = clock
        self.log = log
        self.told: list[str] = []
        """What plugins said while they started."""
        self.catalogue = Catalogue(settings.models, settings.translation)
        self.metrics = Metrics(self.catalogue.label)
        kept = settings.ledger
        self.ledger = open_ledger(kept.url, clock, kept.batch_seconds, patient=kept.on_start_failure == "wait")
        self.reports = open_reports(settings.ledger.url)
        keys = open_keys(settings.ledger.url)
        known = settings.issued_keys
        self.keys = KeyRing(keys, clock, log, refresh=known.refresh, outage=known.outage)
        self.desk = Desk(keys, clock, log, "admin_api", self.keys.forget)
        self.transport = Transport(self.metrics.reconnected)
        self.client = Client()
        self.upstreams = make_upstreams(settings.providers, self.transport, clock, self.metrics.key_rested)
        self.circuits = make_circuits(settings.providers, self.catalogue, clock, self.metrics.watch_target)
        urls = {name: provider.base_url for name, provider in settings.providers.items()}
        self.prices = PriceBook(urls, Path(settings.state), clock, log, self.told.append)
        self.random = Random()  # for pauses and weights: no secret hangs on it
        counted = settings.counters
        where = {"url": counted.url, "prefix": counted.prefix}
        self.counters = Counters(clock, log, self.metrics, **where, timeout=counted.timeout, lease=counted.lease)
        self.host = self._host()
        self.plugins = load(settings, self.host, base)
        self.live = Live(
            clock, self._settle, limit=settings.server.max_calls, plugin_timeout=settings.server.plugin_timeout
        )
        signals = open_signals(self.counters.store, seconds=counted.signal_wait, workers=settings.workers)
        self.calls = Calls(self.live, self.ledger, clock, signals)
        self.handlers: Mapping[str, Handler] = {
            name: self._pipeline(pipeline) for name, pipeline in self.plugins.items()
        }
        self.jobs = self._jobs()
        self.responses = Responses(kept.url, self.upstreams, clock, settings.server.unknown_responses)
        self.created = int(clock.now().timestamp())
        self.started = False
        self._opened = AsyncExitStack()

    def _host(self) -> Host:
        """What plugins are lent."""
        settings = self.settings
        return Host(
            clock=self.clock,
            rates=self.counters.rates,
            slots=self.counters.slots,
            shared=self.counters.shared,
            log=self.log,
            metrics=self.metrics,
            http=self.client,
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
        """Started, not draining, and with room in the ledger."""
        return self.started and not self.live.draining and self.ledger.room

    async def start(self) -> None:
        """Open everything in order; what was opened is closed again where something fails."""
        async with AsyncExitStack() as opened:
            opened.push_async_callback(self.responses.stop)
            await self.ledger.start()
            opened.push_async_callback(self.ledger.stop)
            opened.push_async_callback(self.keys.stop)
            opened.callback(self.reports.stop)
            self.metrics.watch_ledger(lambda: self.ledger.waiting, lambda: self.ledger.unsettled)
            self.metrics.in_flight.set_function(lambda: len(self.live))
            for part in (self.transport, self.client, self.counters, self.calls):
                opened.push_async_callback(part.stop)
                await part.start()
            if self.counters.trouble is not None:
                self.told.append(f"{self.counters.trouble}: see on_store_failure of each limit")
            await start(self.plugins)
            opened.push_async_callback(stop, self.plugins)
            self.keys.start()
            if self.jobs is not None:
                opened.push_async_callback(self.jobs.stop)
                await self.jobs.start()
            opened.push_async_callback(self._stop_ticking, asyncio.create_task(self._tick(), name="ticker"))
            self._opened = opened.pop_all()
        self.started = True

    async def stop(self) -> None:
        """Close it in reverse, once. The ledger is last: nothing that ended before is lost."""
        self.started = False
        opened, self._opened = self._opened, AsyncExitStack()
        await opened.aclose()

    async def _stop_ticking(self, ticker: asyncio.Task[None]) -> None:
        ticker.cancel()
        await asyncio.wait([ticker])

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
        return chain(plugins, heart, self.clock, self._plugin_failed)

    def _jobs(self) -> Jobs | None:
        if self.settings.jobs is None:
            return None
        # Only where the config accepts jobs.
        from sidegate.jobs.opening import Jobs, open_store

        known = {name: self._pipeline(pipeline, known=True) for name, pipeline in self.plugins.items()}
        store = open_store(self.settings.ledger.url)
        jobs = Jobs(
            self.settings,
            self.settings.jobs,
            store,
            self.live,
            self.catalogue,
            self.clock,
            self.log,
            known.__getitem__,
            self.ledger.flush,
        )
        jobs.show(self.metrics)
        return jobs

    async def _core(self, router: Router, call: Call) -> Reply:
        """What every pipeline has at its heart, by operation."""
        if call.asked.wrong is not None:
            raise call.asked.wrong
        match call.operation:
            case "models":
                return await answer_models(call, self.catalogue, self.created)
            case "calls":
                return await self.calls.answer(call)
            case "usage":
                return await answer_usage(call, self.reports, self.clock)
            case "cancel":
                return await self.calls.cancel(call)
            case operation:
                if not self.ledger.room:
                    raise Refusal(503, "ledger_unavailable", "The gateway cannot record calls.", retry_after=5)
                if operation in FETCHES:
                    return await self.responses.serve(call, router)
                return await (self.responses.ask(call, router) if call.dialect == KEEPING else router(call))

    async def _ask(self, call: Call) -> Reply:
        """An attempt asks its provider: it is on record before, counted and held of budgets where plugins say so."""
        for opening in call.notes.openings:
            await opening(call)
        if call.notes.reserve is None:
            self.ledger.opened(call)
        else:
            await call.notes.reserve(call)
        return await answer(self.upstreams, call)

    def _settle(self, call: Call, reply: Reply, seconds: float) -> None:
        self.ledger.settle(*settle(call, reply, seconds, self.clock.now()))
        self.metrics.ended(call, reply, seconds)

    def _plugin_failed(self, name: str, error: Exception) -> None:
        self.metrics.plugin_failed(name)
        _logger.error("plugin %s failed", name, exc_info=error)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        server = self.settings.server
        pause = min(TICK_SECONDS, server.heartbeat)
        while True:
            due = loop.time() + pause
            await asyncio.sleep(pause)
            self.metrics.lag.observe(max(0.0, loop.time() - due))
            self.responses.tick()
            self.live.check(server.send_timeout, server.heartbeat)
