"""Opening: what a config's `jobs` becomes, on the store that the ledger's URL names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sidegate.contract.host import Clock, Log
from sidegate.jobs.desk import Desk
from sidegate.jobs.serving import Serving
from sidegate.jobs.sql import SqlJobs
from sidegate.jobs.store import JobStore
from sidegate.jobs.tending import Tending, new_owner
from sidegate.jobs.watch import Watch
from sidegate.jobs.worker import Worker
from sidegate.ledger.database import is_postgres
from sidegate.ledger.opening import database_of
from sidegate.live import Live
from sidegate.settings import Jobs as JobSettings
from sidegate.telemetry.metrics import Metrics

PATIENCE_SECONDS = 4.0
"""The longest that one statement may take on PostgreSQL."""


class Jobs:
    """The jobs of one gateway: `desk` for clients, a worker, and what looks after both."""

    def __init__(
        self,
        bounds: JobSettings,
        store: JobStore,
        live: Live,
        serving: Callable[[], Serving],
        clock: Clock,
        log: Log,
        settled: Callable[[], Awaitable[None]],
    ) -> None:
        """`serving` gives the config in force; `settled` returns when what has ended is in the ledger. Opens
        nothing."""
        owner = self.owner = new_owner()
        self.store = store
        self.watch = Watch(store, lambda: live.draining)
        self.worker = Worker(bounds, store, live, clock, owner, self.watch, serving, settled)
        self.desk = Desk(bounds, store, self.worker, self.watch, serving, clock, lambda: live.draining)
        self._tending = Tending(bounds, store, clock, log, owner, self.worker.__len__, self.worker.wake)

    async def start(self) -> None:
        """Jobs that a killed gateway of this machine has left run again from now on."""
        await self._tending.start()
        self.worker.start()

    async def stop(self) -> None:
        """After the drain: what could not be finished is in the queue, for another gateway or the next start."""
        await self.worker.stop()
        await self._tending.stop()
        await self.watch.stop()
        await self.store.close()

    def show(self, metrics: Metrics) -> None:
        """How many there are, on the gateway's metrics page."""
        metrics.watch_jobs(lambda: len(self.worker), lambda: self._tending.queued)


def open_store(url: str) -> SqlJobs:
    """Where the gateway itself has the ledger open, so that it is there, checked and of this version."""
    if is_postgres(url):
        return SqlJobs(database_of(url, patience=PATIENCE_SECONDS), database_of(url, patience=PATIENCE_SECONDS))
    from sidegate.ledger.sqlite_database import SqliteDatabase, sqlite_path
    from sidegate.ledger.sqlite_file import open_reader

    return SqlJobs(database_of(url), SqliteDatabase(sqlite_path(url), open_reader))
