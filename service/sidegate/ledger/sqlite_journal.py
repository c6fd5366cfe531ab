"""The journal of a SQLite file: what is opened and what has ended by few statements, what budgets hold one by one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from time import sleep

from sidegate.ledger import money, sqlite_rows
from sidegate.ledger.lease import Lease
from sidegate.ledger.sqlite_database import FAILURES, SqliteDatabase, translated
from sidegate.ledger.work import Reservation, Settlement, Work

PIECE = 8
"""Calls that are written before the writer steps aside: a fraction of a millisecond's work."""
LONG = 100
"""Of a batch of so many calls and more, many are under way."""
LONG_PIECE = 32
"""Of those: a call waits for the others in any case, and each change of threads costs both of them."""


def step_aside(hurried: bool) -> None:
    """Have the event loop served first: both want the interpreter.

    A call that is served meanwhile is to wait for one piece at most, and not for the next at each of its system calls;
    `hurried`, where a call waits for the batch itself.
    """
    sleep(0.0001 if hurried else 0.001)


class SqliteJournal:
    """Writes to `database`, and calls `between` whenever it has done a piece of a batch."""

    def __init__(self, database: SqliteDatabase, between: Callable[[bool], None] = lambda hurried: None) -> None:
        self.database = database
        self._between = between
        self._holding: set[str] = set()
        """Calls that may hold money: one that has ended is looked for among the holds only then."""

    def write(self, batch: Sequence[Work], lease: Lease, beats: bool) -> None:
        connection = self.database.connected()
        claims = [work.key[0] for work in batch if isinstance(work, Reservation)]
        self._holding.update(claims)
        try:
            with self.database.transaction():
                for piece in _pieces(batch):
                    self._write(connection, piece, lease.id)
                    self._between(bool(claims))
                if beats:
                    lease.beat(self.database)
        except FAILURES as error:
            raise translated(error) from error
        self._holding.difference_update(work.key[0] for work in batch if isinstance(work, Settlement))

    def _write(self, connection: sqlite3.Connection, piece: Sequence[Work], owner: str) -> None:
        if isinstance(piece[0], Settlement):
            self._settle(connection, piece)
        elif isinstance(piece[0], Reservation):
            for work in piece:
                _reserve(connection, work, owner)
        else:
            sqlite_rows.opened(connection, [work.rows for work in piece], owner)

    def _settle(self, connection: sqlite3.Connection, piece: Sequence[Work]) -> None:
        taken = sqlite_rows.settle(connection, [work.rows for work in piece])
        for work in piece if self._holding else ():
            call, _ = work.rows
            if call.id in taken and call.id in self._holding:
                money.settle(connection, call.id, call.cost_nano_usd)


def _reserve(connection: sqlite3.Connection, work: Work, owner: str) -> None:
    if not isinstance(work, Reservation) or work.given_up:
        return
    sqlite_rows.opened(connection, [work.rows], owner)
    work.standings = money.reserve(connection, work.key[0], work.claims)


def _pieces(batch: Sequence[Work]) -> Iterator[Sequence[Work]]:
    """What may be written together. Where money is claimed the order counts: what has ended before makes room."""
    if not any(isinstance(work, Reservation) for work in batch):
        # A call opens nothing more once it has ended.
        batch = sorted(batch, key=attrgetter("opens"), reverse=True)
    size = PIECE if len(batch) < LONG else LONG_PIECE
    for _, run in groupby(batch, key=type):
        some = list(run)
        yield from (some[at : at + size] for at in range(0, len(some), size))
