"""The ledger in a store: one thread writes, in batches, one reads; the event loop never waits for either."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from msgspec.structs import replace

from sidegate.contract.call import Call
from sidegate.contract.host import Clock
from sidegate.contract.reservations import Claim, Standing
from sidegate.errors import ConfigError, SidegateError
from sidegate.ledger import reading, settlement
from sidegate.ledger.database import PLACE, Database, StoreError
from sidegate.ledger.journal import Journal
from sidegate.ledger.lease import Lease
from sidegate.ledger.rows import AttemptRow, CallRow, Settled
from sidegate.ledger.work import UNAVAILABLE, Opening, Reservation, Settlement, unavailable
from sidegate.ledger.writer import Writer

RESERVE_SECONDS = 5.0
"""How long a call waits for its reservation to be durable."""

log = logging.getLogger("sidegate.ledger")

P = ParamSpec("P")
T = TypeVar("T")


class StoredLedger:
    """A `Ledger` in the store that `journal` writes to and `reader` reads.

    What a call opens or settles waits in memory for at most `batch_seconds` before it is written with the others, at
    most 100 to a transaction; a kill loses no more than those. What a call reserves of a budget is written at once,
    with whatever waits. With `max_waiting` waiting, or a store that takes nothing, `room` is false; what is settled
    then is kept in memory and written when that has passed, but for calls that reached no provider. With `patient`, it
    starts also while the store cannot be used, and has no room until it can.
    """

    def __init__(
        self,
        journal: Journal,
        reader: Database,
        clock: Clock,
        batch_seconds: float,
        *,
        max_waiting: int = 10_000,
        patient: bool = False,
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._clock = clock
        self._batch_seconds = batch_seconds
        self._max_waiting = max_waiting
        self._patient = patient
        self._lease = Lease(clock)
        self._writer: Writer | None = None
        self._closed = False
        self._reading = ThreadPoolExecutor(1, "ledger-reader")

    @property
    def room(self) -> bool:
        writer = self._started()
        return writer.problem is None and writer.waiting < self._max_waiting

    @property
    def waiting(self) -> int:
        return self._started().waiting

    @property
    def unsettled(self) -> int | None:
        return self._lease.unsettled

    @property
    def problem(self) -> str | None:
        return self._started().problem

    async def start(self) -> None:
        problem = None
        try:
            await self._in_reader(self._journal.database.open)
        except StoreError as error:
            problem = str(error)
            if not self._patient:
                await self._close()
                raise ConfigError(PLACE, problem) from error
            log.error("ledger: starting without it: %s", problem)
        except BaseException:
            await self._close()
            raise
        self._writer = Writer(self._journal, self._batch_seconds, self._lease, problem)
        if problem is None:
            await self._in_reader(self._look)
        self._writer.start()

    def opened(self, call: Call) -> None:
        self._started().add(Opening(call, call.attempts[-1]))

    async def reserve(self, call: Call, claims: Sequence[Claim]) -> tuple[Standing, ...]:
        work = Reservation(settlement.opened(call, call.attempts[-1]), claims)
        if self._started().problem is not None or not self._started().add(work):
            raise unavailable()
        try:
            async with asyncio.timeout(RESERVE_SECONDS):
                return await asyncio.wrap_future(work.answer)
        except TimeoutError as error:
            raise unavailable() from error

    def settle(self, call: CallRow, attempts: tuple[AttemptRow, ...]) -> None:
        if not attempts and self.waiting >= self._max_waiting:
            # What was refused meanwhile has spent nothing, and there is no end of it.
            self._started().leave_out()
            return
        if call.settled_at is None:
            call = replace(call, settled_at=self._clock.now())
        # What it opened in the same batch need not be written any more.
        instead = [(call.id, sign * attempt.number) for attempt in attempts for sign in (1, -1)]
        self._started().add(Settlement((call, attempts)), instead)

    async def call(self, id: str) -> Settled | None:
        # First what waits: a row leaves the memory only once it is in the file.
        if (rows := self._started().find(id)) is not None:
            return rows
        try:
            return await self._in_reader(reading.read, self._reader, id)
        except StoreError as error:
            raise SidegateError("The ledger cannot be read.", status=503, code=UNAVAILABLE) from error

    async def flush(self) -> None:
        await asyncio.wrap_future(self._started().flushed())

    async def stop(self) -> None:
        """A store that still takes nothing is tried for a few seconds more; what is lost is then named in the log."""
        if self._writer is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._writer.stop)
        await self._close()

    async def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._writer is None:
            self._journal.database.close()
        await self._in_reader(self._reader.close)
        self._reading.shutdown(wait=False)

    def _look(self) -> None:
        """What killed gateways left on this machine is said at the start already."""
        try:
            self._started().tend()
        except StoreError as error:
            log.warning("ledger: cannot look for what killed gateways left open: %s", error)

    def _started(self) -> Writer:
        assert self._writer is not None, "the ledger was not started"
        return self._writer

    async def _in_reader(self, function: Callable[P, T], *arguments: P.args, **_: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, function, *arguments)
