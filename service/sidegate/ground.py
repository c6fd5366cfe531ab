"""Ground: what stands while configs come and go. The ledger, limits, calls in flight, connections, metrics, jobs.

A `Service` is what one config becomes on it. A reload puts another in its place; nothing here is opened or closed by
it, so that no limit begins anew, no connection is lost and nothing that was counted is forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from random import Random
from typing import TYPE_CHECKING, Protocol

from sidegate.calls import Calls
from sidegate.contract.call import Call
from sidegate.contract.host import Clock, Log
from sidegate.contract.plugin import Handler
from sidegate.contract.reply import Reply
from sidegate.counters.opening import Counters
from sidegate.errors import Refusal
from sidegate.keys.desk import Desk
from sidegate.keys.opening import open_keys
from sidegate.keys.ring import KeyRing
from sidegate.ledger.books import open_books
from sidegate.ledger.reports import open_reports
from sidegate.ledger.settlement import settle
from sidegate.ledger.store import open_ledger
from sidegate.live import Live
from sidegate.loader import Plugins
from sidegate.responses.desk import Responses
from sidegate.settings import Settings
from sidegate.signals.opening import open_signals
from sidegate.telemetry.metrics import Metrics
from sidegate.telemetry.reloads import Reloaded, Reloads
from sidegate.telemetry.trails import Names, Trails
from sidegate.upstream.choice import UNKNOWN, Catalogue
from sidegate.upstream.client import Client
from sidegate.upstream.router import Upstream
from sidegate.upstream.transport import Transport

if TYPE_CHECKING:
    from sidegate.conversations.house import House
    from sidegate.jobs.opening import Jobs
    from sidegate.streams.desk import Streams

TICK_SECONDS = 0.25
"""How often plugins and readers are checked for standing still."""


class Serving(Protocol):
    """The config in force, as far as what stands asks it."""

    settings: Settings
    catalogue: Catalogue
    upstreams: dict[str, Upstream]
    plugins: Plugins

    def known(self, pipeline: str) -> Handler: ...
    def names(self, route: str) -> Names: ...


async def _cannot(why: str) -> Reloaded:
    raise Refusal(503, "not_reloadable", "Nothing here can read a config again.")


class Ground:
    """Everything that is opened once. `settings` are those of the start; what a reload may change is in `serving`."""

    def __init__(self, settings: Settings, clock: Clock, log: Log) -> None:
        """Opens nothing."""
        self.clock = clock
        self.log = log
        self.metrics = Metrics(self._label)
        kept = settings.ledger
        self.ledger = open_ledger(kept.url, clock, kept.batch_seconds, patient=kept.on_start_failure == "wait")
        self.reports = open_reports(kept.url, self.ledger)
        self.books = open_books(kept.url, self.ledger)
        self.trails = Trails(0 if settings.admin is None else settings.admin.trails)
        keys = open_keys(kept.url)
        known = settings.issued_keys
        self.keys = KeyRing(keys, clock, log, refresh=known.refresh, outage=known.outage)
        self.desk = Desk(keys, clock, log, "admin_api", self.keys.forget)
        self.transport = Transport(self.metrics.reconnected)
        self.client = Client()
        self.random = Random()  # for pauses and weights: no secret hangs on it
        counted = settings.counters
        where = {"url": counted.url, "prefix": counted.prefix}
        self.counters = Counters(clock, log, self.metrics, **where, timeout=counted.timeout, lease=counted.lease)
        server = settings.server
        self.live = Live(clock, self._settle, limit=server.max_calls, plugin_timeout=server.plugin_timeout)
        signals = open_signals(self.counters.store, seconds=counted.signal_wait, workers=settings.workers)
        self.calls = Calls(self.live, self.ledger, clock, signals)
        self.responses = Responses(kept.url, {}, clock, server.unknown_responses)
        self.created = int(clock.now().timestamp())
        self.urls: tuple[str, ...] = ()
        """Where clients call, once it is listened there; set by the gateway."""
        self.started = False
        self.reloads = Reloads(self.metrics.registry, clock.now())
        """Which config is in force, and what became of the last try to replace it."""
        self.reload: Callable[[str], Awaitable[Reloaded]] = _cannot
        """Read the config again; told who asks. Set by the gateway. Raises `Refusal`."""
        self._serving: Serving | None = None
        self._former: list[Serving] = []
        self.jobs = self._jobs(settings)
        self._settings = settings
        self._streams: Streams | None = None
        self._house: House | None = None
        self._opened = AsyncExitStack()
        self._begun = AsyncExitStack()

    # --- what is served on it -----------------------------------------------------------------------------------------

    @property
    def serving(self) -> Serving:
        """What new calls are served by."""
        assert self._serving is not None
        return self._serving

    def serve(self, service: Serving) -> None:
        """From now on by this one. What was served before goes on for its calls until it is told to be `gone`."""
        if self._serving is not None:
            self._former.append(self._serving)
        self._serving = service
        server = service.settings.server
        self.live.bound(limit=server.max_calls, plugin_timeout=server.plugin_timeout)
        self.responses.lead(service.upstreams, server.unknown_responses)

    def gone(self, service: Serving) -> None:
        """Its last call has ended."""
        self._former.remove(service)

    def _label(self, model: str) -> str:
        """For metrics: as the config spells it, or the one before that a call in flight began with."""
        label = self.serving.catalogue.label(model)
        if label == UNKNOWN:
            for former in self._former:
                if (old := former.catalogue.label(model)) != UNKNOWN:
                    return old
        return label

    # --- its life -----------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Started, not draining, and with room in the ledger."""
        return self.started and not self.live.draining and self.ledger.room

    async def start(self) -> None:
        """Open everything that plugins may ask for; what was opened is closed again where something fails."""
        async with AsyncExitStack() as opened:
            opened.push_async_callback(self.responses.stop)
            await self.ledger.start()
            opened.push_async_callback(self.ledger.stop)
            opened.push_async_callback(self.keys.stop)
            opened.callback(self.reports.stop)
            opened.callback(self.books.stop)
            self.metrics.watch_ledger(lambda: self.ledger.waiting, lambda: self.ledger.unsettled)
            self.metrics.in_flight.set_function(lambda: len(self.live))
            for part in (self.transport, self.client, self.counters, self.calls):
                opened.push_async_callback(part.stop)
                await part.start()
            self._opened = opened.pop_all()

    async def begin(self) -> None:
        """Once plugins have started: what happens by itself, without a client that asks."""
        async with AsyncExitStack() as begun:
            self.keys.start()
            if self.jobs is not None:
                begun.push_async_callback(self.jobs.stop)
                await self.jobs.start()
            begun.push_async_callback(self._stop_ticking, asyncio.create_task(self._tick(), name="ticker"))
            self._begun = begun.pop_all()
        self.started = True

    async def end(self) -> None:
        """Before plugins stop: nothing begins by itself any more."""
        self.started = False
        begun, self._begun = self._begun, AsyncExitStack()
        await begun.aclose()
        if self._streams is not None:
            await self._streams.stop()
        if self._house is not None:
            await self._house.stop()

    async def stop(self) -> None:
        """Close the rest in reverse, once. The ledger is last: nothing that ended before is lost."""
        opened, self._opened = self._opened, AsyncExitStack()
        await opened.aclose()

    async def _stop_ticking(self, ticker: asyncio.Task[None]) -> None:
        ticker.cancel()
        await asyncio.wait([ticker])

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            server = self.serving.settings.server
            pause = min(TICK_SECONDS, server.heartbeat)
            due = loop.time() + pause
            await asyncio.sleep(pause)
            self.metrics.lag.observe(max(0.0, loop.time() - due))
            self.responses.tick()
            for _ in self.live.checks(server.send_timeout, server.heartbeat):
                await asyncio.sleep(0)

    # --- its parts ----------------------------------------------------------------------------------------------------

    def house(self) -> House:
        """The conversations; made when the first route asks for it."""
        if self._house is None:
            from sidegate.conversations.house import House

            self._house = House(lambda: self.serving.settings.conversations, self.clock, lambda: self.live.draining)
        return self._house

    def streams(self) -> Streams:
        """The streams that may be read again; made when the first route asks for it."""
        if self._streams is None:
            from sidegate.streams.opening import open_streams

            bounds = lambda: self.serving.settings.streams  # noqa: E731
            draining = lambda: self.live.draining  # noqa: E731
            self._streams = open_streams(self._settings, bounds, self.clock, self.log, self.metrics, draining)
        return self._streams

    def _jobs(self, settings: Settings) -> Jobs | None:
        if settings.jobs is None:
            return None
        # Only where the config accepts jobs.
        from sidegate.jobs.opening import Jobs, open_store

        store = open_store(settings.ledger.url)
        jobs = Jobs(settings.jobs, store, self.live, lambda: self.serving, self.clock, self.log, self.ledger.flush)
        jobs.show(self.metrics)
        return jobs

    def _settle(self, call: Call, reply: Reply, seconds: float) -> None:
        self.ledger.settle(*settle(call, reply, seconds, self.clock.now()))
        self.metrics.ended(call, reply, seconds)
        if self.trails.most:
            self.trails.keep(call, reply, seconds, self.serving.names(call.route))
