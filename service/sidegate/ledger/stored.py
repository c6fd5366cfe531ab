"""The ledger in one SQLite file: one thread writes, in batches; the event loop never waits for the disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from msgspec.structs import replace

from sidegate.contract.call import Call
from sidegate.contract.host import Clock
from sidegate.contract.reservations import Claim, Standing
from sidegate.errors import SidegateError
from sidegate.ledger import settlement, sqlite_rows
from sidegate.ledger.lease import Lease
from sidegate.ledger.rows import AttemptRow, CallRow, Settled
from sidegate.ledger.sqlite_file import open_file, open_reader
from sidegate.ledger.work import UNAVAILABLE, Opening, Reservation, Settlement, unavailable
from sidegate.ledger.writer import Writer

RESERVE_SECONDS = 5.0
"""How long a call waits for its reservation to be durable."""

P = ParamSpec("P")
T = TypeVar("T")


class SqliteLedger:
    """A `Ledger` in the file at `path`.

    What a call opens or settles waits in memory for at most `batch_seconds` before it is written with the others, at
    most 100 to a transaction; a kill loses no more than those. What a call reserves of a budget is written at once,
    with whatever waits. With `max_waiting` waiting, or a disk that takes nothing, `room` is false; what is settled then
    is kept in memory and written when that has passed.
    """

    def __init__(self, path: Path, clock: Clock, batch_seconds: float, max_waiting: int = 10_000) -> None:
        self._path = path
        self._clock = clock
        self._batch_seconds = batch_seconds
        self._max_waiting = max_waiting
        self._lease = Lease(clock)
        self._writer: Writer | None = None
        self._reader: sqlite3.Connection | None = None
        self._reading = ThreadPoolExecutor(1, "ledger-reader")

    @property
    def room(self) -> bool:
        writer = self._started()
        return writer.problem is None and writer.waiting < self._max_waiting

    @property
    def waiting(self) -> int:
        return self._started().waiting

    @property
    def problem(self) -> str | None:
        return self._started().problem

    async def start(self) -> None:
        try:
            connection = await self._in_reader(open_file, self._path)
            self._reader = await self._in_reader(open_reader, self._path)
        except BaseException:
            self._reading.shutdown(wait=False)
            raise
        self._writer = Writer(connection, self._batch_seconds, self._lease)
        await self._in_reader(self._writer.tend)
        self._writer.start()

    def opened(self, call: Call) -> None:
        self._started().add(Opening(settlement.opened(call)))

    async def reserve(self, call: Call, claims: Sequence[Claim]) -> tuple[Standing, ...]:
        work = Reservation(settlement.opened(call), claims)
        if self._started().problem is not None or not self._started().add(work):
            raise unavailable()
        try:
            async with asyncio.timeout(RESERVE_SECONDS):
                return await asyncio.wrap_future(work.answer)
        except TimeoutError as error:
            raise unavailable() from error

    def settle(self, call: CallRow, attempts: tuple[AttemptRow, ...]) -> None:
        numbers = range(1, len(attempts) + 1)
        # What it opened in the same batch need not be written any more.
        instead = [(call.id, sign * number) for number in numbers for sign in (1, -1)]
        self._started().add(Settlement((replace(call, settled_at=self._clock.now()), attempts)), instead)

    async def call(self, id: str) -> Settled | None:
        # First what waits: a row leaves the memory only once it is in the file.
        if (rows := self._started().find(id)) is not None:
            return rows
        assert self._reader is not None
        try:
            return await self._in_reader(sqlite_rows.read, self._reader, id)
        except sqlite3.Error as error:
            raise SidegateError("The ledger cannot be read.", status=503, code=UNAVAILABLE) from error

    async def flush(self) -> None:
        await asyncio.wrap_future(self._started().flushed())

    async def stop(self) -> None:
        """A disk that still takes nothing is tried for a few seconds more; what is lost is then named in the log."""
        if self._writer is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._writer.stop)
        if self._reader is not None:
            await self._in_reader(self._reader.close)
            self._reader = None
        self._reading.shutdown(wait=False)

    def _started(self) -> Writer:
        assert self._writer is not None, "the ledger was not started"
        return self._writer

    async def _in_reader(self, function: Callable[P, T], *arguments: P.args, **_: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, function, *arguments)
