"""Store: what a ledger is to the rest of the gateway, and which one a URL means."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from sidegate.contract.call import Call
from sidegate.contract.host import Clock
from sidegate.contract.reservations import Claim, Reservations, Standing
from sidegate.ledger.database import is_postgres
from sidegate.ledger.rows import AttemptRow, CallRow, Settled

if TYPE_CHECKING:
    import sqlite3


class Ledger(Reservations, Protocol):
    """The record of calls, and what they hold of budgets. `opened` and `settle` are for the event loop: they never
    wait, never fail and never drop a row."""

    @property
    def room(self) -> bool:
        """Whether more calls may be let in. False: refuse new ones with 503; those that run are settled still."""
        ...

    @property
    def waiting(self) -> int:
        """What was opened or settled and is not yet durable."""
        ...

    @property
    def unsettled(self) -> int | None:
        """How many calls nobody knows the cost of wait to be reconciled, as of a minute ago; `None`: not known."""
        ...

    @property
    def problem(self) -> str | None:
        """Why nothing can be written at present, in one line; `None` while all is well. For the readiness probe."""
        ...

    async def start(self) -> None:
        """Raises `ConfigError` where the store cannot be used."""
        ...

    def opened(self, call: Call) -> None:
        """Record that a call opens its last attempt, before its provider is reached: it is `reserved` until settled."""
        ...

    def settle(self, call: CallRow, attempts: tuple[AttemptRow, ...]) -> None:
        """Record a call that has ended, and charge it to what it holds of. Settling it again changes nothing."""
        ...

    async def call(self, id: str) -> Settled | None:
        """What is on record of a call that is over: everything settled before is seen, durable or not."""
        ...

    async def flush(self) -> None:
        """Returns when everything settled before is durable."""
        ...

    async def stop(self) -> None:
        """Make durable what can be, and close."""
        ...


class NullLedger:
    """No store: the last 1,000 calls are kept in memory, so that they can be asked for, and so is what budgets hold."""

    KEPT = 1000

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: OrderedDict[str, Settled] = OrderedDict()
        self.money: sqlite3.Connection | None = None
        """Where budgets are, once something was held of one."""
        self.room = True
        self.waiting = 0
        self.unsettled: int | None = None
        self.problem: str | None = None

    async def start(self) -> None:
        """Nothing to open."""

    def opened(self, call: Call) -> None:
        """What is not durable need not be said beforehand."""

    async def reserve(self, call: Call, claims: Sequence[Claim]) -> tuple[Standing, ...]:
        # By the same statements as in a file; loaded only where there is a budget.
        from sidegate.ledger import money
        from sidegate.ledger.sqlite_file import open_memory

        self.money = self.money or open_memory()
        return money.reserve(self.money, call.id, claims)

    def settle(self, call: CallRow, attempts: tuple[AttemptRow, ...]) -> None:
        if call.id in self._calls:
            return
        if self.money is not None:
            from sidegate.ledger import money

            money.settle(self.money, call.id, call.cost_nano_usd)
        self._calls[call.id] = (replace(call, settled_at=self._clock.now()), attempts)
        if len(self._calls) > self.KEPT:
            self._calls.popitem(last=False)

    async def call(self, id: str) -> Settled | None:
        return self._calls.get(id)

    def kept(self) -> list[CallRow]:
        """The calls that are remembered, in the order of their ends."""
        return [call for call, _ in self._calls.values()]

    async def flush(self) -> None:
        """Nothing is durable here."""

    async def stop(self) -> None:
        if self.money is not None:
            self.money.close()
            self.money = None


def open_ledger(url: str, clock: Clock, batch_seconds: float, *, patient: bool = False) -> Ledger:
    """The ledger a URL means; nothing is opened before `start`.

    `sqlite:///relative.db`, `sqlite:////absolute.db`, `postgresql://user@host/database`, or empty for none. `patient`
    is for PostgreSQL: it may be down at the start. Raises `ConfigError` for anything else.
    """
    if not url:
        return NullLedger(clock)
    from sidegate.ledger.stored import StoredLedger

    if not is_postgres(url):
        from sidegate.ledger.sqlite_database import SqliteDatabase, sqlite_path
        from sidegate.ledger.sqlite_file import open_reader
        from sidegate.ledger.sqlite_journal import SqliteJournal, step_aside

        path = sqlite_path(url)
        journal = SqliteJournal(SqliteDatabase(path), step_aside)
        return StoredLedger(journal, SqliteDatabase(path, open_reader), clock, batch_seconds)
    from sidegate.ledger.postgres import PATIENCE_SECONDS, PostgresDatabase
    from sidegate.ledger.postgres_journal import PostgresJournal

    writer, reader = (PostgresDatabase(url, PATIENCE_SECONDS) for _ in range(2))
    return StoredLedger(PostgresJournal(writer), reader, clock, batch_seconds, patient=patient)
