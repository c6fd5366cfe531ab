"""Reloading in several processes: the config is read and checked once, then each worker puts it in force.

The first worker goes alone: what it cannot start with, none of them gets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any

from sidegate.config import Loaded
from sidegate.contract.host import Log
from sidegate.errors import ConfigError
from sidegate.reloading.fixed import check_fixed, needs_restart, said
from sidegate.reloading.watch import Named, Watch
from sidegate.workers.lifeline import Asked, Followed, Refused
from sidegate.workers.process import Process

STOPPING = Followed(error="The gateway is about to stop: nothing is reloaded.", status=503, code="gateway_stopping")


class Reloading:
    """Of all workers of a supervisor. `loaded` is the config that those get which come back."""

    def __init__(self, workers: Sequence[Process], loaded: Loaded, log: Log) -> None:
        self.loaded = loaded
        self._workers = workers
        self._log = log
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self, hangup: asyncio.Event) -> None:
        """From now on reload at each `hangup`, and when the files change, where the config says so."""
        self._keep(self._on(hangup))
        reload = self.loaded.settings.reload
        if reload.watch:
            seen = {self.loaded.path: self.loaded.stamp}
            watching = Watch(Named(lambda: self.loaded), partial(self._tried, "watch"), reload.seconds, seen)
            self._keep(watching.run())

    def close(self) -> None:
        """No reload from now on."""
        self._closed = True
        for task in tuple(self._tasks):
            task.cancel()

    def asked(self, worker: Process, asked: Asked) -> None:
        """Somebody asks a worker."""
        self._keep(self._answer(worker, asked))

    def catch_up(self, worker: Process) -> None:
        """A worker that has just come back may have begun with the config before."""
        self._keep(self._caught_up(worker))

    async def _caught_up(self, worker: Process) -> None:
        async with self._turn:
            if worker.loaded is not self.loaded and worker.serves:
                await worker.follow(self.loaded, "supervisor")

    async def reload(self, why: str) -> Followed:
        """Read the config again, and put it in force in all workers. Gives what came of it."""
        async with self._turn:
            if self._closed:
                return STOPPING
            try:
                loaded = await asyncio.to_thread(_read, self.loaded)
            except ConfigError as error:
                return self._refused(why, error)
            return await self._each(loaded, why)

    async def _each(self, loaded: Loaded, why: str) -> Followed:
        serving = [worker for worker in self._workers if worker.serves and worker.code is None]
        if not serving:
            return Followed(error="No worker serves at present.", status=503, code="no_worker")
        first, *others = serving
        done = await first.follow(loaded, why)
        if done.error is not None:
            self._tell(others, done.error)
            return done
        self.loaded = loaded
        followed = await asyncio.gather(*(worker.follow(loaded, why) for worker in others))
        failed = {worker.number: each.error for worker, each in zip(others, followed, strict=True) if each.error}
        self._log.write("workers_reloaded", {"by": why, "changed": done.changed, "failed": failed})
        if failed:
            told = "; ".join(f"worker {number}: {error}" for number, error in failed.items())
            return Followed(error=f"not all workers followed: {told}", status=500, code="workers_differ")
        return done

    def _refused(self, why: str, error: ConfigError) -> Followed:
        told = said(error)
        self._log.write("reload_failed", {"by": why, "error": told})
        self._tell(self._workers, told)
        return Followed(error=told, status=409, code="restart_needed") if needs_restart(error) else Followed(error=told)

    def _tell(self, workers: Sequence[Process], error: str) -> None:
        """So that each shows it."""
        for worker in workers:
            if worker.serves and worker.code is None:
                worker.tell(Refused(error))

    async def _answer(self, worker: Process, asked: Asked) -> None:
        worker.tell(await self.reload(asked.why))

    async def _on(self, hangup: asyncio.Event) -> None:
        while True:
            await hangup.wait()
            hangup.clear()
            await self.reload("signal")

    async def _tried(self, why: str) -> None:
        await self.reload(why)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _read(before: Loaded) -> Loaded:
    loaded = before.again()
    check_fixed(before.settings, loaded.settings)
    return loaded
