"""The writer: the one thread that writes to the ledger's store, and what waits for it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import Future
from itertools import islice
from threading import Condition, RLock, Thread
from time import monotonic

from sidegate.errors import SidegateError
from sidegate.ledger.database import Locked, StoreError, Unavailable, Unfit
from sidegate.ledger.journal import Journal
from sidegate.ledger.lease import BEAT_SECONDS, Lease
from sidegate.ledger.rows import Settled
from sidegate.ledger.work import UNAVAILABLE, Key, Settlement, Work

ENOUGH = 100
"""Pieces of work that are written without waiting for more."""

BATCH = 400
"""Most to a transaction: one sync of the disk, and one write of each page, for all that came while another ran."""

RETRY_SECONDS = 0.5
"""Between tries while the store takes nothing. A lock is waited for by the store itself, 5 s a try."""

STOP_SECONDS = 5.0
"""How long a stopping gateway tries to write what could not be written before."""

log = logging.getLogger("sidegate.ledger")


class Writer:
    """Owns the journal. `add`, `find` and `flushed` may be called from any thread and never wait for the store."""

    def __init__(self, journal: Journal, batch_seconds: float, lease: Lease, problem: str | None = None) -> None:
        self._journal = journal
        self._batch_seconds = batch_seconds
        self._lease = lease
        self._open: set[str] = set()
        """Calls that are `reserved` in the store in this process's name: while there are any, it says that it lives."""
        self._lock = RLock()
        self._changed = Condition(self._lock)
        self._waiting: dict[Key, tuple[float, int, Work]] = {}
        self._added = 0
        self._left_out = 0
        self._hurried = False
        """Somebody waits for what waits."""
        self._flushes: list[tuple[int, Future[None]]] = []
        self._deadline: float | None = None
        """Set when the writer is to stop: until then it may try."""
        self._thread = Thread(target=self._run, name="ledger-writer", daemon=True)
        self._told = problem is not None
        self._closed = False
        self.problem = problem
        """Why nothing can be written at present."""

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def start(self) -> None:
        self._thread.start()

    def add(self, work: Work, instead: Iterable[Key] = ()) -> bool:
        """Have it written. What waits by the keys of `instead` need not be any more. False where it comes too late."""
        with self._lock:
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
            if work.urgent or len(self._waiting) in (1, ENOUGH):
                self._changed.notify()
        return True

    def leave_out(self) -> None:
        """A call is not to be written, for too many wait: counted, and said when writing works again."""
        self._left_out += 1

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
                if batch:
                    self._well()
                self._wrote(batch)
                if self.tend():
                    self._well()
            except StoreError as error:
                if not self._goes_on(error):
                    break
            except Exception as error:
                # A fault of this code or a driver's: said, and no reason to stop recording calls without a word.
                log.exception("ledger: a fault while writing")
                if not self._goes_on(Unavailable(f"{type(error).__name__} while writing")):
                    break
        self._end()

    def _next(self) -> list[Work] | None:
        """The oldest work, once there is enough or the first has waited long enough. None of it when a beat is due;
        `None` when it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._deadline is not None, self._pause())
            if not self._waiting:
                return [] if self._deadline is None else None
            since = next(since for since, _, _ in self._waiting.values())
            self._changed.wait_for(self._due, max(0.0, since + self._batch_seconds - monotonic()))
            batch = [work for _, _, work in islice(self._waiting.values(), BATCH)]
            self._hurried = self._hurried and len(self._waiting) > BATCH
            return batch

    def _due(self) -> bool:
        return self._hurried or len(self._waiting) >= ENOUGH or bool(self._flushes) or self._deadline is not None

    def _write(self, batch: list[Work]) -> None:
        if not batch and not (self._open and self._lease.due()):
            return
        beats = self._lease.due() and bool(self._open or any(work.opens for work in batch))
        try:
            self._journal.write(batch, self._lease, beats)
        except Unfit as error:
            # Not the store but a row, which must not keep all others from being written.
            if len(batch) == 1:
                batch[0].unfit()
                log.error("ledger: call %s cannot be recorded: %s", batch[0].key[0], error)
                return
            for work in batch:
                self._write([work])

    def _wrote(self, batch: list[Work]) -> None:
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

    def tend(self) -> bool:
        """Look after what other processes may have left open. Gives whether the store was asked, and answered."""
        try:
            count = self._lease.abandon(self._journal.database, at_once=self._told)
            if count is not None:
                self._lease.count(self._journal.database)
        except Locked:
            return False
        if count:
            log.warning("ledger: %d calls of a gateway that was killed are unknown: sidegate ledger reconcile", count)
        return count is not None

    def _well(self) -> None:
        if self._told:
            log.warning("ledger: writing again")
            if self._left_out:
                log.warning("ledger: %d calls that reached no provider were not recorded", self._left_out)
            self._told, self._left_out = False, 0
            self.problem = None

    def _pause(self) -> float:
        """How long to wait for work: a store that failed is asked whether it is back, also where nothing waits."""
        return RETRY_SECONDS if self._told else BEAT_SECONDS

    def _goes_on(self, error: StoreError) -> bool:
        """Whether to try again. A lock passes by itself, so it is no problem until too many rows wait for it."""
        if not self._told:
            log.error("ledger: cannot write: %s; %d calls wait in memory", error, self.waiting)
            self._told = True
        self.problem = None if isinstance(error, Locked) else str(error)
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
                self._lease.leave(self._journal.database)
        except StoreError:
            log.debug("ledger: the lease is left to expire")
        self._journal.database.close()
