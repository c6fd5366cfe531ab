"""The writer: the one thread that writes to the ledger's file, and what waits for it."""

from __future__ import annotations

import logging
import sqlite3
from concurrent.futures import Future
from itertools import islice
from threading import Condition, Thread
from time import monotonic

from sidegate.errors import SidegateError
from sidegate.ledger import sqlite_rows
from sidegate.ledger.rows import Settled
from sidegate.ledger.sqlite_file import is_locked

BATCH = 100
"""Calls to a transaction: one sync of the disk for all of them."""

RETRY_SECONDS = 0.5
"""Between tries while the disk takes nothing. A locked file is waited for by SQLite itself, 5 s a try."""

STOP_SECONDS = 5.0
"""How long a stopping gateway tries to write what could not be written before."""

UNAVAILABLE = "ledger_unavailable"

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

    def __init__(self, connection: sqlite3.Connection, batch_seconds: float) -> None:
        self._connection = connection
        self._batch_seconds = batch_seconds
        self._changed = Condition()
        self._waiting: dict[str, tuple[float, Settled]] = {}
        self._added = 0
        self._written = 0
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

    def add(self, rows: Settled) -> None:
        id = rows[0].id
        with self._changed:
            if self._closed:
                log.error("ledger: call %s was not recorded: it ended after the ledger was closed", id)
                return
            if id in self._waiting:
                return
            self._waiting[id] = (monotonic(), rows)
            self._added += 1
            if len(self._waiting) in (1, BATCH):
                self._changed.notify()

    def find(self, id: str) -> Settled | None:
        found = self._waiting.get(id)
        return None if found is None else found[1]

    def flushed(self) -> Future[None]:
        """Done when everything added before is in the file."""
        future: Future[None] = Future()
        with self._changed:
            if self._written == self._added:
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
        while batch := self._next():
            try:
                self._write(batch)
            except sqlite3.Error as error:
                if not self._goes_on(error):
                    break
                continue
            self._wrote(batch)
        self._end()

    def _next(self) -> list[Settled]:
        """The oldest rows, once there are enough of them or the first has waited long enough; none when it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._deadline is not None)
            since = next((since for since, _ in self._waiting.values()), 0.0)
            self._changed.wait_for(self._due, max(0.0, since + self._batch_seconds - monotonic()))
            return [rows for _, rows in islice(self._waiting.values(), BATCH)]

    def _due(self) -> bool:
        return len(self._waiting) >= BATCH or bool(self._flushes) or self._deadline is not None

    def _write(self, batch: list[Settled]) -> None:
        try:
            self._transact(batch)
        except _UNFIT as error:
            # Not the disk but a row, which must not keep all others from being written.
            if len(batch) == 1:
                log.error("ledger: call %s cannot be recorded: %s", batch[0][0].id, error)
                return
            for rows in batch:
                self._write([rows])

    def _transact(self, batch: list[Settled]) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            for rows in batch:
                sqlite_rows.write(connection, rows)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _wrote(self, batch: list[Settled]) -> None:
        if self._told:
            log.warning("ledger: writing again")
            self._told = False
            self.problem = None
        with self._changed:
            for rows in batch:
                del self._waiting[rows[0].id]
            self._written += len(batch)
            done = [future for mark, future in self._flushes if mark <= self._written]
            self._flushes = [flush for flush in self._flushes if flush[0] > self._written]
        for future in done:
            if future.set_running_or_notify_cancel():
                future.set_result(None)

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
        if self._waiting:
            log.error("ledger: %d calls were not recorded", len(self._waiting))
        for _, future in flushes:
            if future.set_running_or_notify_cancel():
                future.set_exception(SidegateError("The ledger cannot be written.", status=503, code=UNAVAILABLE))
        self._connection.close()
