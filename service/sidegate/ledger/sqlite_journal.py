"""The journal of a SQLite file: each piece of work by its own statements, which cost little there."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from sidegate.ledger import money, sqlite_rows
from sidegate.ledger.lease import Lease
from sidegate.ledger.sqlite_database import FAILURES, SqliteDatabase, translated
from sidegate.ledger.work import Reservation, Settlement, Work


class SqliteJournal:
    """Writes to `database`."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.database = database
        self._holding: set[str] = set()
        """Calls that may hold money: one that has ended is looked for among the holds only then."""

    def write(self, batch: Sequence[Work], lease: Lease, beats: bool) -> None:
        connection = self.database.connected()
        self._holding.update(work.key[0] for work in batch if isinstance(work, Reservation))
        try:
            with self.database.transaction():
                for work in batch:
                    self._write(connection, work, lease.id)
                if beats:
                    lease.beat(self.database)
        except FAILURES as error:
            raise translated(error) from error
        self._holding.difference_update(work.key[0] for work in batch if isinstance(work, Settlement))

    def _write(self, connection: sqlite3.Connection, work: Work, owner: str) -> None:
        if isinstance(work, Settlement):
            if sqlite_rows.write(connection, work.rows) and work.key[0] in self._holding:
                money.settle(connection, work.key[0], work.rows[0].cost_nano_usd)
            return
        if isinstance(work, Reservation) and work.given_up:
            return
        sqlite_rows.opened(connection, work.rows, owner)
        if isinstance(work, Reservation):
            work.standings = money.reserve(connection, work.key[0], work.claims)
