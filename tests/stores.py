"""The stores of a ledger, for tests that run on each of them: `store` is an empty one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from sidegate.contract.host import Clock
from sidegate.ledger.database import Database, Dialect, Row
from sidegate.ledger.migrate import migrate
from sidegate.ledger.opening import open_database
from sidegate.ledger.rows import CallRow, stamp
from sidegate.ledger.sqlite_database import SqliteDatabase
from sidegate.ledger.sqlite_file import open_memory
from sidegate.ledger.store import open_ledger
from sidegate.ledger.stored import StoredLedger

KINDS: tuple[Dialect, ...] = ("sqlite", "postgresql")


@dataclass
class Store:
    """Where a ledger is, and a look into it from beside."""

    kind: Dialect
    url: str

    def made(self, clock: Clock, batch_seconds: float = 0.0, *, max_waiting: int | None = None) -> StoredLedger:
        """A ledger on it, not started."""
        ledger = open_ledger(self.url, clock, batch_seconds)
        assert isinstance(ledger, StoredLedger)
        if max_waiting is not None:
            ledger._max_waiting = max_waiting
        return ledger

    @asynccontextmanager
    async def ledger(
        self, clock: Clock, batch_seconds: float = 0.0, *, max_waiting: int | None = None
    ) -> AsyncIterator[StoredLedger]:
        """A ledger on it, until the block ends."""
        ledger = self.made(clock, batch_seconds, max_waiting=max_waiting)
        await ledger.start()
        try:
            yield ledger
        finally:
            await ledger.stop()

    @contextmanager
    def database(self) -> Iterator[Database]:
        """A connection beside the ledger's own."""
        with closing(open_database(self.url)) as database:
            yield database

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Another program keeps all others from writing, until the block ends."""
        with self.database() as database:
            database.execute("BEGIN EXCLUSIVE" if self.kind == "sqlite" else "BEGIN")
            if self.kind == "postgresql":
                database.execute("LOCK TABLE calls IN EXCLUSIVE MODE")
            yield
            database.execute("ROLLBACK")

    def rows(self, sql: str, *parameters: Any) -> list[Row]:
        with self.database() as database:
            return database.execute(sql, parameters).fetchall()

    def execute(self, sql: str, *parameters: Any) -> int:
        with self.database() as database:
            return database.execute(sql, parameters).rowcount


def empty(kind: Dialect, databases: Callable[[], AbstractContextManager[str]]) -> AbstractContextManager[Database]:
    """An open database with the present schema: SQLite's in memory, PostgreSQL's one of `databases`."""

    @contextmanager
    def made() -> Iterator[Database]:
        if kind == "sqlite":
            with closing(SqliteDatabase(Path(), lambda _: open_memory())) as database:
                yield database
        else:
            with databases() as url, prepared(kind, url).database() as database:
                yield database

    return made()


def fill(database: Database, calls: Iterable[CallRow]) -> None:
    """Have these calls on record, and no others."""
    names = CallRow.__struct_fields__
    insert = f"INSERT INTO calls ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    with database.transaction():
        database.execute("DELETE FROM calls")
        database.executemany(insert, [columns(call) for call in calls])


def columns(row: CallRow) -> list[Any]:
    """As they stand in either store."""
    return [
        stamp(value) if isinstance(value, datetime) else json.dumps(value) if isinstance(value, tuple) else value
        for value in asdict(row).values()
    ]


def prepared(kind: Dialect, url: str) -> Store:
    """The store at a URL where nothing is yet, brought to the present schema."""
    migrate(url)
    return Store(kind, url)
