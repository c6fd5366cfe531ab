"""The supervisor: starts the workers, brings back those that die, and ends when all have drained.

It serves nothing and holds no state: a worker that dies takes its own calls with it and nobody else's.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from sidegate.config import Loaded
from sidegate.contract.host import Log
from sidegate.errors import ConfigError
from sidegate.workers.lifeline import Ready
from sidegate.workers.process import Process
from sidegate.workers.reloading import Reloading

if TYPE_CHECKING:
    from sidegate.workers.sockets import Sockets

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a worker that died is started again; they double while it dies young."""
YOUNG_SECONDS = 60.0
LAST_SECONDS = 30.0
"""How long beyond the drain a worker may take to end before it is killed."""

FAILED = 1


class Supervisor:
    """`run` returns when all is over."""

    def __init__(self, loaded: Loaded, sockets: Sockets, log: Log) -> None:
        self._sockets = sockets
        self._log = log
        self._workers = [Process(number) for number in range(loaded.settings.workers)]
        self._stopping = asyncio.Event()
        self._hangup = asyncio.Event()
        self._reloading = Reloading(self._workers, loaded, log)

    async def run(self, announce: Callable[[Sequence[Ready]], None]) -> int:
        """Start all, say so, and look after them until a signal. Gives the exit code.

        The first worker starts alone: what is made once, such as a first key or the ledger's tables, is its to make.
        Where one cannot start, all end.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._hangup.set)
        first, *others = self._workers
        ready = [await self._start(first)]
        if ready[0] is not None:
            ready += await asyncio.gather(*(self._start(worker) for worker in others))
        started = [each for each in ready if each is not None]
        if len(started) < len(self._workers):
            stopped = self._stopping.is_set()
            await self._end()
            return 0 if stopped else max([FAILED, *(worker.code or 0 for worker in self._workers)])
        announce(started)
        keepers = [asyncio.ensure_future(self._keep(worker)) for worker in self._workers]
        self._reloading.start(self._hangup)
        await self._stopping.wait()
        self._reloading.close()
        well = await self._end()
        await asyncio.gather(*keepers)
        return 0 if well else FAILED

    def _stop(self) -> None:
        """The first signal drains; a second one is somebody who cannot wait, and workers hear it as such."""
        if self._stopping.is_set():
            self._tell(signal.SIGTERM)
        self._stopping.set()

    def _tell(self, number: signal.Signals) -> None:
        for worker in self._workers:
            worker.signal(number)

    async def _start(self, worker: Process) -> Ready | None:
        """`None` where it could not start, which it has said itself, or was not to any more."""
        if self._stopping.is_set():
            return None
        try:
            await worker.start(self._reloading.loaded, self._sockets.all)
        except OSError as error:
            self._log.write("worker_not_started", {"worker": worker.number, "error": error.strerror})
            return None
        ready = asyncio.ensure_future(worker.ready())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait([ready, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            # It may take long, or for ever.
            worker.signal(signal.SIGTERM)
        stopping.cancel()
        return await ready

    async def _keep(self, worker: Process) -> None:
        loop = asyncio.get_running_loop()
        pause, since = FIRST_PAUSE, loop.time()
        while True:
            await worker.hear(partial(self._reloading.asked, worker))
            code = await worker.ended()
            if self._stopping.is_set():
                return
            pause = FIRST_PAUSE if loop.time() - since > YOUNG_SECONDS else pause
            self._log.write("worker_died", {"worker": worker.number, "exit_code": code, "starts_again_in": pause})
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
                    return
            pause, since = min(2 * pause, LONGEST_PAUSE), loop.time()
            if await self._start(worker) is not None:
                self._log.write("worker_started", {"worker": worker.number})
                self._reloading.catch_up(worker)

    async def _end(self) -> bool:
        """All drain, each by itself; the listening sockets are theirs alone from here on. Whether all ended well."""
        self._stopping.set()
        self._sockets.close()
        alive = [worker for worker in self._workers if worker.begun and worker.code is None]
        self._tell(signal.SIGTERM)
        try:
            async with asyncio.timeout(self._reloading.loaded.settings.server.drain + LAST_SECONDS):
                await asyncio.gather(*(worker.ended() for worker in alive))
        except TimeoutError:
            self._tell(signal.SIGKILL)
            await asyncio.gather(*(worker.ended() for worker in alive))
        return all(worker.code == 0 for worker in alive if worker.serves)


def supervise(loaded: Loaded, announce: Callable[[Sequence[str]], None]) -> int:
    """Serve with the workers of the config, until SIGINT or SIGTERM; SIGHUP reloads. `announce` gets lines for the
    terminal."""
    from sidegate.contract.host import SystemClock
    from sidegate.telemetry.logs import JsonLog
    from sidegate.workers.sockets import Sockets

    if sys.platform == "win32":
        raise ConfigError("workers", "more than one needs a POSIX system")
    sockets = Sockets(loaded.settings.listen, "listen")
    log = JsonLog(sys.stdout.buffer, SystemClock())
    return asyncio.run(Supervisor(loaded, sockets, log).run(lambda ready: announce(lines(ready))))


def lines(ready: Sequence[Ready]) -> list[str]:
    """What the first worker has to say, and where each is administered."""
    first, *rest = ready[0].said
    own = ", ".join(each.admin_url for each in ready if each.admin_url)
    return [
        first,
        f"  {len(ready)} workers" + (f", each with metrics and health of its own: {own}" if own else ""),
        *rest,
    ]
