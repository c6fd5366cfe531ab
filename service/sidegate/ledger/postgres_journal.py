"""The journal of a PostgreSQL database: a batch takes one round trip, two where a budget is claimed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sidegate.ledger import postgres_money as money
from sidegate.ledger import postgres_rows as rows
from sidegate.ledger.database import Deadlock, Lost, Row
from sidegate.ledger.lease import Lease
from sidegate.ledger.postgres import PostgresDatabase
from sidegate.ledger.work import Opening, Reservation, Settlement, Work

if TYPE_CHECKING:
    from psycopg import Connection

TRIES = 4
"""Of a batch that was ended because of a deadlock, or whose connection turns out to be broken."""


class PostgresJournal:
    """Writes to `database`."""

    def __init__(self, database: PostgresDatabase) -> None:
        self.database = database
        self._holding: set[str] = set()
        """Calls that may hold money: one that has ended is looked for among the holds only then."""

    def write(self, batch: Sequence[Work], lease: Lease, beats: bool) -> None:
        if not batch and not beats:
            return
        for _ in range(TRIES - 1):
            try:
                self._write(_Batch(batch), lease, beats)
            except (Deadlock, Lost):
                continue
            else:
                break
        else:
            self._write(_Batch(batch), lease, beats)
        self._holding.difference_update(work.key[0] for work in batch if isinstance(work, Settlement))

    def _write(self, batch: _Batch, lease: Lease, beats: bool) -> None:
        self._holding.update(work.key[0] for work in batch.reservations)
        settled = [id for id in batch.settled if id in self._holding]
        with self.database.failing():
            connection = self.database.connected()
            with self.database.within(), connection.pipeline():
                connection.execute("BEGIN READ WRITE")
                locked: Iterable[Row] = ()
                if batch.claims:
                    connection.execute(money.LOCK_SUBJECTS, {"keys": money.locks(batch.claims)})
                # Before the claims are decided: where this connection is given up for dead, and its last words still
                # reach the server after the call was settled by another, they are not those that hold money.
                if batch.opened:
                    calls, attempts = batch.opened_rows()
                    connection.execute(rows.OPEN, {"owner": lease.id, "calls": calls, "attempts": attempts})
                if batch.claims or settled:
                    claimed = {"calls": settled, "claimed": money.claimed(batch.claims)}
                    locked = connection.execute(money.LOCK_ROWS, claimed)
                if batch.settlements:
                    calls, attempts = batch.settled_rows()
                    connection.execute(rows.SETTLE, {"calls": calls, "attempts": attempts})
                if settled:
                    connection.execute(money.CHARGE, {"calls": settled})
                # What has just been let go may be claimed.
                if batch.claims:
                    self._claim(connection, batch, locked)
                if beats:
                    lease.beat(self.database)
                connection.execute("COMMIT")

    def _claim(self, connection: Connection[Row], batch: _Batch, locked: Iterable[Row]) -> None:
        """Decide the batch's claims, and hold what is granted."""
        held = connection.execute(money.READ_HELD, {"calls": [work.key[0] for work in batch.reservations]})
        used = connection.execute(money.READ_USED, {"windows": money.windows(batch.claims)})
        known = {(budget, subject, period) for budget, subject, period in locked}
        book = money.Book()
        for call, budget, subject, period, amount in held:
            book.held[call, (budget, subject, period)] = amount
        book.used = {(budget, subject, since): int(sum) for budget, subject, since, sum in used}
        for reservation in batch.reservations:
            reservation.standings = book.decide(reservation.key[0], reservation.claims)
        if not book.changes:
            return
        changes = {"changes": money.changes(book)}
        connection.execute(money.OPEN_PERIODS, changes)
        connection.execute(money.CHANGE, changes)
        connection.execute(money.HOLD, {"holds": money.holds(book)})
        for forgotten in money.forgotten(batch.reservations, known):
            connection.execute(money.FORGET, forgotten)


class _Batch:
    """Work by its kind. What is opened is written first, then what is settled, then what is claimed: it comes to the
    same as in the order it was given, for a call opens before it is settled; what opens afterwards has no effect."""

    def __init__(self, batch: Sequence[Work]) -> None:
        self.settlements = [work for work in batch if isinstance(work, Settlement)]
        self.settled = {work.key[0] for work in self.settlements}
        reservations = [work for work in batch if isinstance(work, Reservation) and not work.given_up]
        for late in (work for work in reservations if work.key[0] in self.settled):
            late.unfit()
        self.reservations = [work for work in reservations if work.key[0] not in self.settled]
        opened: list[Opening | Reservation] = [
            *(work for work in batch if isinstance(work, Opening)),
            *self.reservations,
        ]
        self.claims = [claim for reservation in self.reservations for claim in reservation.claims]
        self.opened = [work for work in opened if work.key[0] not in self.settled]

    def opened_rows(self) -> tuple[str, str]:
        """Each call once, as its last attempt says it; all of its attempts, each once."""
        self.opened.sort(key=lambda work: abs(work.key[1]))
        calls = {work.key[0]: work.rows[0] for work in self.opened}
        attempts = {(row.call_id, row.number): row for work in self.opened for row in work.rows[1]}
        return rows.as_json(calls.values()), rows.as_json(attempts.values())

    def settled_rows(self) -> tuple[str, str]:
        calls = [work.rows[0] for work in self.settlements]
        return rows.as_json(calls), rows.as_json(row for work in self.settlements for row in work.rows[1])
