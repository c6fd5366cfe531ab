"""The writer: the one thread that writes to the ledger's file, and what waits for it."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable
from concurrent.futures import Future
from itertools import islice
from threading import Condition, Thread
from time import monotonic

from sidegate.errors import SidegateError
from sidegate.ledger.lease import BEAT_SECONDS, Lease
from sidegate.ledger.rows import Settled
from sidegate.ledger.sqlite_file import is_locked
from sidegate.ledger.work import UNAVAILABLE, Key, Settlement, Work

BATCH = 100
"""Pieces of work to a transaction: one sync of the disk for all of them."""

RETRY_SECONDS = 0.5
"""Between tries while the disk takes nothing. A locked file is waited for by SQLite itself, 5 s a try."""

STOP_SECONDS = 5.0
"""How long a stopping gateway tries to write what could not be written before."""

_UNFIT = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    ValueError,
)

log = logging.getLogger("sidegate.ledger")


class Writer:
    """Owns the connection. `add`, `find` and `flushed` may be called from any thread and never wait for the disk."""

    def __init__(self, connection: sqlite3.Connection, batch_seconds: float, lease: Lease) -> None:
        self._connection = connection
        self._batch_seconds = batch_seconds
        self._lease = lease
        self._open: set[str] = set()
        """Calls that are `reserved` in the file, in this process's name: while there are any, it says that it lives."""
        self._changed = Condition()
        self._waiting: dict[Key, tuple[float, int, Work]] = {}
        self._added = 0
        self._hurried = False
        """Somebody waits for what waits."""
        self._flushes: list[tuple[int, Future[None]]] = []
        self._deadline: float | None = None
        """Set when the writer is to stop: until then it may try."""
        self._thread = Thread(target=self._run, name="ledger-writer", daemon=True)
        self._told = False
        self._closed = False
        self.problem: str | None = None
        """Why nothing can be written at present."""

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def start(self) -> None:
        self._thread.start()

    def add(self, work: Work, instead: Iterable[Key] = ()) -> bool:
        """Have it written. What waits by the keys of `instead` need not be any more. False where it comes too late."""
        with self._changed:
            if self._closed:
                log.error("ledger: call %s was not recorded: it ended after the ledger was closed", work.key[0])
                return False
            for key in instead:
                self._waiting.pop(key, None)
            if work.key in self._waiting:
                return True
            self._added += 1
            self._waiting[work.key] = (monotonic(), self._added, work)
            self._hurried = self._hurried or work.urgent
            if work.urgent or len(self._waiting) in (1, BATCH):
                self._changed.notify()
        return True

    def find(self, id: str) -> Settled | None:
        found = self._waiting.get((id, 0))
        return found[2].rows if found is not None and isinstance(found[2], Settlement) else None

    def flushed(self) -> Future[None]:
        """Done when everything added before is in the file."""
        future: Future[None] = Future()
        with self._changed:
            if not self._waiting:
                future.set_result(None)
                return future
            self._flushes.append((self._added, future))
            self._changed.notify()
        return future

    def stop(self) -> None:
        """Write what waits, and close. Waits for it: not for the event loop."""
        with self._changed:
            self._deadline = monotonic() + STOP_SECONDS
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            try:
                self._write(batch)
            except sqlite3.Error as error:
                if not self._goes_on(error):
                    break
                continue
            self._wrote(batch)
            self.tend()
        self._end()

    def _next(self) -> list[Work] | None:
        """The oldest work, once there is enough or the first has waited long enough. None of it when a beat is due;
        `None` when it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._deadline is not None, BEAT_SECONDS)
            if not self._waiting:
                return [] if self._deadline is None else None
            since = next(since for since, _, _ in self._waiting.values())
            self._changed.wait_for(self._due, max(0.0, since + self._batch_seconds - monotonic()))
            batch = [work for _, _, work in islice(self._waiting.values(), BATCH)]
            self._hurried = self._hurried and len(self._waiting) > BATCH
            return batch

    def _due(self) -> bool:
        return self._hurried or len(self._waiting) >= BATCH or bool(self._flushes) or self._deadline is not None

    def _write(self, batch: list[Work]) -> None:
        if not batch and not (self._open and self._lease.due()):
            return
        try:
            self._transact(batch)
        except _UNFIT as error:
            # Not the disk but a row, which must not keep all others from being written.
            if len(batch) == 1:
                batch[0].unfit()
                log.error("ledger: call %s cannot be recorded: %s", batch[0].key[0], error)
                return
            for work in batch:
                self._write([work])

    def _transact(self, batch: list[Work]) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            opens = False
            for work in batch:
                work.write(connection, self._lease.id)
                opens = opens or work.opens
            if (opens or self._open) and self._lease.due():
                self._lease.beat(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _wrote(self, batch: list[Work]) -> None:
        if self._told:
            log.warning("ledger: writing again")
            self._told = False
            self.problem = None
        for work in batch:
            if work.opens:
                self._open.add(work.key[0])
            else:
                self._open.discard(work.key[0])
        with self._changed:
            for work in batch:
                if (found := self._waiting.get(work.key)) is not None and found[2] is work:
                    del self._waiting[work.key]
            oldest = next((number for _, number, _ in self._waiting.values()), self._added + 1)
            done = [future for mark, future in self._flushes if mark < oldest]
            self._flushes = [flush for flush in self._flushes if flush[0] >= oldest]
        for work in batch:
            work.done()
        for future in done:
            if future.set_running_or_notify_cancel():
                future.set_result(None)

    def tend(self) -> None:
        """Look after what other processes may have left open."""
        try:
            count = self._lease.abandon(self._connection)
        except sqlite3.Error as error:
            if not is_locked(error):
                log.warning("ledger: cannot look for what killed gateways left open: %s", error)
            return
        if count:
            log.warning("ledger: %d calls of a gateway that was killed are unknown: sidegate ledger reconcile", count)

    def _goes_on(self, error: sqlite3.Error) -> bool:
        """Whether to try again. A lock passes by itself, so it is no problem until too many rows wait for it."""
        if not self._told:
            log.error("ledger: cannot write: %s; %d calls wait in memory", error, self.waiting)
            self._told = True
        self.problem = None if is_locked(error) else str(error)
        with self._changed:
            self._changed.wait_for(lambda: self._deadline is not None, RETRY_SECONDS)
            return self._deadline is None or monotonic() < self._deadline

    def _end(self) -> None:
        with self._changed:
            self._closed = True
            flushes, self._flushes = self._flushes, []
        lost = {key[0] for key in self._waiting}
        if lost:
            log.error("ledger: %d calls were not recorded", len(lost))
        for _, _, work in self._waiting.values():
            work.unfit()
            work.done()
        for _, future in flushes:
            if future.set_running_or_notify_cancel():
                future.set_exception(SidegateError("The ledger cannot be written.", status=503, code=UNAVAILABLE))
        try:
            if not lost and not self._open:
                self._lease.leave(self._connection)
        except sqlite3.Error:
            log.debug("ledger: the lease is left to expire")
        self._connection.close()
