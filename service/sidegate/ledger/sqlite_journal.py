"""The journal of a SQLite file: what is opened and what has ended by few statements, what budgets hold one by one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter

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
                for run in _runs(batch):
                    self._write(connection, run, lease.id)
                if beats:
                    lease.beat(self.database)
        except FAILURES as error:
            raise translated(error) from error
        self._holding.difference_update(work.key[0] for work in batch if isinstance(work, Settlement))

    def _write(self, connection: sqlite3.Connection, run: Sequence[Work], owner: str) -> None:
        if isinstance(run[0], Settlement):
            self._settle(connection, run)
        elif isinstance(run[0], Reservation):
            for work in run:
                _reserve(connection, work, owner)
        else:
            sqlite_rows.opened(connection, [work.rows for work in run], owner)

    def _settle(self, connection: sqlite3.Connection, run: Sequence[Work]) -> None:
        taken = sqlite_rows.settle(connection, [work.rows for work in run])
        for work in run if self._holding else ():
            call, _ = work.rows
            if call.id in taken and call.id in self._holding:
                money.settle(connection, call.id, call.cost_nano_usd)


def _reserve(connection: sqlite3.Connection, work: Work, owner: str) -> None:
    if not isinstance(work, Reservation) or work.given_up:
        return
    sqlite_rows.opened(connection, [work.rows], owner)
    work.standings = money.reserve(connection, work.key[0], work.claims)


def _runs(batch: Sequence[Work]) -> Iterable[Sequence[Work]]:
    """What may be written together. Where money is claimed the order counts: what has ended before makes room."""
    if not any(isinstance(work, Reservation) for work in batch):
        # A call opens nothing more once it has ended.
        batch = sorted(batch, key=attrgetter("opens"), reverse=True)
    return [list(run) for _, run in groupby(batch, key=type)]
