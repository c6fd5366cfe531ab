"""Reloader: reads the config again, makes a service of it beside the one in force, and puts it in that one's place.

Until the new one has started nothing is touched, and what is wrong with it is said and changes nothing. The exchange
itself is one step of the event loop: a request is answered by the one or the other. The service before goes on with the
calls that began with it, and is stopped after the last.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

from sidegate.config import Loaded
from sidegate.config.mistakes import one_line
from sidegate.errors import ConfigError, Refusal, SidegateError
from sidegate.finder import Finder, FindError
from sidegate.ground import Ground
from sidegate.http.server import Face
from sidegate.reloading.fixed import changes, check_fixed, needs_restart, said
from sidegate.service import Entrance, Service
from sidegate.telemetry.reloads import Reloaded

STOP_SECONDS = 30.0
"""How long plugins get to stop before they are left to themselves."""

_logger = logging.getLogger("sidegate.reload")


class Stage(Protocol):
    """Where a service stands in front of clients."""

    service: Service

    def faces(self, service: Service) -> list[Face]:
        """The applications of a service, one for each listener, of which the first is the clients'."""
        ...

    def put(self, service: Service, faces: list[Face]) -> Face:
        """From the next request on it is this one that answers. Gives the clients' face of the one before."""
        ...


class Reloader:
    """One reload after the other, each in a task of its own: whoever asked for it may leave."""

    def __init__(self, stage: Stage, ground: Ground) -> None:
        self._stage = stage
        self._ground = ground
        self._turn = asyncio.Lock()
        self._under_way: set[asyncio.Task[Reloaded]] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._closed = False

    async def reload(self, why: str, read: Callable[[], Loaded] | None = None) -> Reloaded:
        """Put what `read` gives, or the file says, in force. `why` stands in the log: `signal`, `admin`, `watch`.

        Raises `ConfigError` where nothing was changed, and `Refusal` where the gateway is about to stop.
        """
        task = asyncio.get_running_loop().create_task(self._reload(why, read), name=f"reload by {why}")
        self._under_way.add(task)
        task.add_done_callback(self._over)
        await asyncio.wait({task})
        if task.cancelled():
            raise _stopping()
        return task.result()

    def _over(self, task: asyncio.Task[Reloaded]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # it has been told, also where nobody waits for it any more

    def close(self) -> None:
        """The gateway is about to stop: no reload from now on, and one that is under way is undone."""
        if self._closed:
            return
        self._closed = True
        for task in self._under_way:
            task.cancel()

    async def stop(self) -> None:
        """After the last call has ended: returns when what was in force before has been stopped, too."""
        self.close()
        if self._under_way:
            await asyncio.wait(self._under_way)
        if self._leaving:
            _, late = await asyncio.wait(self._leaving, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    # --- one reload ---------------------------------------------------------------------------------------------------

    async def _reload(self, why: str, read: Callable[[], Loaded] | None) -> Reloaded:
        async with self._turn:
            began = self._ground.clock.monotonic()
            try:
                self._check_open()
                done = await self._replaced(read or self._stage.service.loaded.again)
            except Refusal:
                raise
            except Exception as error:
                raise self._failed(why, error) from error
            seconds = round(self._ground.clock.monotonic() - began, 3)
            fields = {"generation": done.generation, "by": why, "changed": done.changed, "seconds": seconds}
            self._ground.log.write("reloaded", fields)
            return done

    def _check_open(self) -> None:
        if self._closed or self._ground.live.draining:
            raise _stopping()

    async def _replaced(self, read: Callable[[], Loaded]) -> Reloaded:
        before = self._stage.service
        loaded, finder = await asyncio.to_thread(_read, read, before.loaded)
        service = Service(self._ground, loaded, before, finder)
        faces = self._stage.faces(service)
        await self._start(service)
        if self._ground.live.draining:
            await _bounded(service.stop())
            raise _stopping()
        # From here on nothing is awaited: either all of it is done or nothing.
        face = self._stage.put(service, faces)
        self._ground.serve(service)
        self._ground.reloads.succeeded(service.number, self._ground.clock.now())
        self._leave(before, face)
        return Reloaded(service.number, changes(before.settings, loaded.settings))

    async def _start(self, service: Service) -> None:
        """Within its time, or what has started is stopped again."""
        seconds = service.settings.reload.timeout
        starting = asyncio.get_running_loop().create_task(service.start())
        try:
            await asyncio.wait({starting}, timeout=seconds)
            if not starting.done():
                raise ConfigError(service.starting, f"did not start within {seconds:g} s")
            starting.result()
        except BaseException:
            if not starting.done():
                starting.cancel()
                await asyncio.wait({starting}, timeout=STOP_SECONDS)
            if starting.done() and not starting.cancelled() and starting.exception() is None:
                await _bounded(service.stop())
            raise

    def _failed(self, why: str, error: Exception) -> ConfigError:
        """Say it, and give what whoever asked is told."""
        if not isinstance(error, ConfigError):
            _logger.error("a reload failed", exc_info=error)
            said_so = isinstance(error, SidegateError)
            error = ConfigError("", one_line(str(error)) if said_so else f"the reload failed: {type(error).__name__}")
        told = said(error)
        self._ground.reloads.failed(told)
        self._ground.log.write("reload_failed", {"generation": self._stage.service.number, "by": why, "error": told})
        return error

    # --- the one before -----------------------------------------------------------------------------------------------

    def _leave(self, service: Service, face: Face) -> None:
        task = asyncio.get_running_loop().create_task(self._left(service, face), name=f"leave {service.number}")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _left(self, service: Service, face: Face) -> None:
        """Stop it after its last call. A request that is still being read will be one."""
        try:
            await face.left()
            while calls := self._calls_of(service):
                await asyncio.wait(calls)
        finally:
            self._ground.gone(service)
            service.circuits.retire(self._stage.service.circuits)
            await _bounded(service.stop())
            self._ground.log.write("generation_stopped", {"generation": service.number})

    def _calls_of(self, service: Service) -> list[asyncio.Future[None]]:
        return [
            live.done
            for live in self._ground.live.all()
            if isinstance(live.handler, Entrance) and live.handler.service is service
        ]


def _stopping() -> Refusal:
    return Refusal(503, "gateway_stopping", "The gateway is about to stop: nothing is reloaded.")


def _read(read: Callable[[], Loaded], before: Loaded) -> tuple[Loaded, Finder]:
    """In a thread: files may be slow, and so are modules that are imported for the first time."""
    loaded = read()
    check_fixed(before.settings, loaded.settings)
    finder = Finder(loaded.settings.plugin_prefixes)
    for pipeline in loaded.settings.pipelines.values():
        for use in (*pipeline.plugins, *pipeline.attempt):
            with suppress(FindError):  # the loader says it, with its place
                finder.find(use.use)
    return loaded, finder


def refusal(error: ConfigError) -> Refusal:
    """What whoever asked over HTTP is told."""
    if needs_restart(error):
        return Refusal(409, "restart_needed", said(error))
    return Refusal(422, "config_refused", said(error))


async def _bounded(stopping: Coroutine[Any, Any, None]) -> None:
    task = asyncio.get_running_loop().create_task(stopping)
    await asyncio.wait({task}, timeout=STOP_SECONDS)
    if not task.done():
        task.cancel()
        _logger.error("plugins of a config that is not in force any more could not be stopped in time")
