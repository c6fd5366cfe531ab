"""The gateway: a service with its listeners, from start to drained."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

from sidegate.config import Loaded
from sidegate.contract.host import Clock, SystemClock
from sidegate.errors import ConfigError, SidegateError
from sidegate.ground import Ground
from sidegate.http.admin_app import make_admin_app
from sidegate.http.app import make_app
from sidegate.http.listening import Told, listen, renew
from sidegate.http.server import Face, Runner, check_parser, make_face
from sidegate.reloading.reloader import Reloader, refusal
from sidegate.reloading.watch import Named, Watch
from sidegate.service import Service
from sidegate.settings import Settings
from sidegate.telemetry.logs import JsonLog, configure_logging
from sidegate.telemetry.reloads import Reloaded

Mind = Callable[["Gateway", Callable[[], None]], Coroutine[Any, Any, None]]
"""Told the gateway, and what stops it."""


COLLECT = (10_000, 5, 7)
"""Objects that come before the young ones are searched for cycles, and such searches before the next older.

Python's own (700, 10, 10) search what calls in flight hold again and again: 4 to 6 % of the CPU. A search of all stops
all, 0.4 s with 5,000 streams: it comes after 350,000 objects. A call leaves no cycle, however it ends, so there is
little to find; what a plugin of somebody's leaves of long calls waits for it: 80 MB at most.
"""


class Gateway:
    """`start`, then `url` is served, then `stop`, which drains."""

    def __init__(
        self, loaded: Loaded, log: JsonLog, clock: Clock | None = None, sockets: Sequence[socket.socket] = ()
    ) -> None:
        """`sockets`: listen on these, which somebody else has bound, and others listen on too."""
        self._sockets = sockets
        self.ground = Ground(loaded.settings, clock or SystemClock(), log)
        self.service = Service(self.ground, loaded)
        """What new calls are served by; a reload puts another in its place."""
        self.ground.serve(self.service)
        self.urls: list[str] = []
        """Where clients call, once it has started: TCP first, then `unix:/path`."""
        self.admin_urls: list[str] = []
        self._runners: list[Runner] = []
        self._reloader = Reloader(self, self.ground)
        self.ground.reload = self._asked
        self._opened = AsyncExitStack()

    @property
    def settings(self) -> Settings:
        """The config in force."""
        return self.service.settings

    @property
    def url(self) -> str:
        return self.urls[0] if self.urls else ""

    @property
    def admin_url(self) -> str:
        return self.admin_urls[0] if self.admin_urls else ""

    async def start(self) -> None:
        """Open everything; nothing stays open where one thing fails."""
        check_parser()
        async with AsyncExitStack() as opened:
            opened.push_async_callback(self.ground.stop)
            await self.ground.start()
            await self.service.start()
            opened.push_async_callback(self._stop_service)
            opened.push_async_callback(self._reloader.stop)
            opened.push_async_callback(self.ground.end)
            await self.ground.begin()
            opened.push_async_callback(self._close_runners)
            told = _certificates(self.settings, self.ground)
            runner = await self._runner(make_app(self.service))
            self.urls = await listen(runner, self.settings.listen, self.settings.server, "listen", self._sockets, told)
            self.ground.urls = tuple(self.urls)
            if self.settings.admin is not None:
                admin = await self._runner(make_admin_app(self.service))
                self.admin_urls = await listen(admin, self.settings.admin, self.settings.server, "admin", told=told)
            self._opened = opened.pop_all()

    async def stop(self) -> int:
        """Drain and close. Gives how many calls outlasted the deadline and were stopped."""
        self._reloader.close()
        stopped = await self.ground.live.drain(self.settings.server.drain)
        opened, self._opened = self._opened, AsyncExitStack()
        await opened.aclose()
        return stopped

    async def _runner(self, app: object) -> Runner:
        runner = Runner(app, self.settings.server)  # type: ignore[arg-type]
        await runner.setup()
        self._runners.append(runner)
        return runner

    async def _close_runners(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    async def _stop_service(self) -> None:
        await self.service.stop()

    # --- other configs ------------------------------------------------------------------------------------------------

    async def reload(self, why: str, read: Callable[[], Loaded] | None = None) -> Reloaded:
        """Read the config again, or take what `read` gives, and put it in force; certificates too.

        Raises `ConfigError` where nothing has changed, and `Refusal` where the gateway is about to stop.
        """
        done = await self._reloader.reload(why, read)
        for runner in self._runners:
            await renew(runner)
        return done

    def faces(self, service: Service) -> list[Face]:
        """The applications of a service, in the order of the listeners."""
        apps = [make_app(service)] if service.settings.admin is None else [make_app(service), make_admin_app(service)]
        return [make_face(app) for app in apps]

    def put(self, service: Service, faces: list[Face]) -> Face:
        """From the next request on, this service answers."""
        self.service = service
        server = service.settings.server
        return [runner.show(face, server) for runner, face in zip(self._runners, faces, strict=True)][0]

    async def _asked(self, why: str) -> Reloaded:
        """By somebody who is to be told over HTTP."""
        try:
            return await self.reload(why)
        except ConfigError as error:
            raise refusal(error) from error

    async def watch(self) -> None:
        """Reload whenever the config's files have changed. Never returns."""
        loaded = self.service.loaded
        files, seen = Named(lambda: self.service.loaded), {loaded.path: loaded.stamp}
        await Watch(files, partial(self._tried, "watch"), loaded.settings.reload.seconds, seen).run()

    async def reload_at(self, hangup: asyncio.Event) -> None:
        """Reload each time it is set. Never returns."""
        while True:
            await hangup.wait()
            hangup.clear()
            await self._tried("signal")

    async def _tried(self, why: str) -> None:
        """What went wrong has been said."""
        with suppress(SidegateError):
            await self.ground.reload(why)


def _certificates(settings: Settings, ground: Ground) -> Told | None:
    """Who hears of certificates, where a listener has any."""
    if settings.listen.tls is None and (settings.admin is None or settings.admin.tls is None):
        return None
    from sidegate.telemetry.certificates import Certificates

    return Certificates(ground.metrics.registry, ground.log)


def serve(
    loaded: Loaded,
    announce: Callable[[Gateway], None],
    sockets: Sequence[socket.socket] = (),
    mind: Mind | None = None,
) -> int:
    """Run until SIGINT or SIGTERM, then drain; SIGHUP reloads. `announce` is called once the gateway is ready.

    `mind` is run beside it, for one that is looked after by another process: it stops the gateway when that is gone,
    and watches the config in its stead.
    """
    log = JsonLog(sys.stdout.buffer, SystemClock())
    restore_logging = configure_logging(log)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_serve(Gateway(loaded, log, sockets=sockets), log, announce, mind))
    finally:
        log.flush()
        restore_logging()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(gateway: Gateway, log: JsonLog, announce: Callable[[Gateway], None], mind: Mind | None) -> int:
    loop = asyncio.get_running_loop()
    hangup = asyncio.Event()
    # Before it starts: until somebody listens, this signal ends a process.
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    await gateway.start()
    # What stands now stands for good: the collector need not look at it, now or later.
    gc.freeze()
    gc.set_threshold(*COLLECT)
    gc.enable()
    stopping = asyncio.Event()

    def stop() -> None:
        """The first signal drains; a second one is somebody who cannot wait."""
        if stopping.is_set():
            gateway.ground.live.hurry()
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    announce(gateway)
    beside = [loop.create_task(gateway.reload_at(hangup))]
    if mind is not None:
        beside.append(loop.create_task(mind(gateway, stop)))
    elif gateway.settings.reload.watch:
        beside.append(loop.create_task(gateway.watch()))
    await stopping.wait()
    stopped = await gateway.stop()
    for task in beside:
        task.cancel()
    await asyncio.wait(beside)
    log.write("stopped", {"calls_stopped": stopped})
    return 0
