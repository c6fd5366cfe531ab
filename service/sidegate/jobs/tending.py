"""Tending: this process says that it lives, finds those that do not, and drops what was kept long enough.

As in the ledger, no two clocks are compared: whoever watches takes a process for dead when its count of beats has not
moved for `lease` seconds of the watcher's own clock, in which it has looked again and again: while the store is away,
nobody is silent. On the same machine one that is gone is known at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from msgspec.structs import replace

from sidegate.contract.host import Clock, Log
from sidegate.errors import SidegateError
from sidegate.jobs.store import JobStore, Owner
from sidegate.ledger.lease import is_gone, machine
from sidegate.ledger.rows import stamp
from sidegate.settings import Jobs

SWEEP_SECONDS = 10.0
"""Between two looks for what has waited, or was kept, too long."""
FORGET = timedelta(days=7)
"""How long it is known that there was a job, after what it said was dropped: until then it is gone, not unknown."""

_logger = logging.getLogger("sidegate.jobs")


def new_owner() -> Owner:
    """This process, this time."""
    return Owner(secrets.token_hex(8), machine(), os.getpid())


class Tending:
    """Runs beside the worker. `again` is told when jobs of the dead are in the queue."""

    def __init__(
        self,
        settings: Jobs,
        store: JobStore,
        clock: Clock,
        log: Log,
        owner: Owner,
        busy: Callable[[], int],
        again: Callable[[], None],
    ) -> None:
        """`busy` gives how many jobs run here; while there are none, nothing is written."""
        self._settings = settings
        self._store = store
        self._clock = clock
        self._log = log
        self._owner = owner
        self._busy = busy
        self._again = again
        self._beats = 0
        self.queued = 0
        """How many wait, as of the last sweep."""
        self._seen: dict[str, tuple[int | None, float]] = {}
        self._looked = 0.0
        self._swept: float | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """What killed gateways of this machine left is in the queue when this returns, if the store answers."""
        with suppress(SidegateError):
            await self._bury()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="jobs tend")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            with suppress(SidegateError):
                await self._store.leave(self._owner.id)

    async def _run(self) -> None:
        pause = min(1.0, self._settings.lease / 4)
        while True:
            await asyncio.sleep(pause)
            try:
                if self._busy():
                    self._beats += 1
                    await self._store.beat(replace(self._owner, beats=self._beats))
                await self._bury()
                await self._sweep()
            except SidegateError:
                # Who could not be seen has not been silent for all that time, nor could they say a word.
                self._seen.clear()

    async def _bury(self) -> None:
        dead = self._dead(await self._store.owners(self._owner.id))
        if not dead:
            return
        now = stamp(self._clock.now())
        buried = await self._store.bury(dead, self._settings.max_kills, now, self._keep_until())
        if buried.again or buried.ended:
            fields = {"again": list(buried.again), "given_up": list(buried.ended)}
            self._log.write("jobs_taken_over", fields)
            self._again()

    def _dead(self, owners: list[tuple[str, str | None, int | None, int | None]]) -> list[str]:
        now = self._clock.monotonic()
        if now - self._looked > self._settings.lease / 2:
            self._seen.clear()
        self._looked = now
        seen: dict[str, tuple[int | None, float]] = {}
        dead = []
        for owner, host, pid, beats in owners:
            before = self._seen.get(owner)
            seen[owner] = before if before is not None and before[0] == beats else (beats, now)
            if now - seen[owner][1] >= self._settings.lease or is_gone(host, pid):
                dead.append(owner)
        self._seen = seen
        return dead

    async def _sweep(self) -> None:
        now = self._clock.monotonic()
        if self._swept is not None and now - self._swept < SWEEP_SECONDS:
            return
        self._swept = now
        at = self._clock.now()
        expired = await self._store.expire(stamp(at), self._keep_until())
        self.queued = (await self._store.count())["queued"]
        removed = await self._store.remove(stamp(at), stamp(at + FORGET))
        if expired:
            _logger.warning("%d jobs have waited too long and were given up", expired)
        if removed:
            _logger.info("%d jobs were kept long enough and were dropped", removed)

    def _keep_until(self) -> str:
        return stamp(self._clock.now() + timedelta(seconds=self._settings.keep))
