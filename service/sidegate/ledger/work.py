"""Work: what waits for the ledger's writer. Each knows its rows, and what is to be told when they are in the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol, TypeAlias

from sidegate.contract.reservations import Claim, Standing
from sidegate.errors import SidegateError
from sidegate.ledger import money, sqlite_rows
from sidegate.ledger.rows import Settled

UNAVAILABLE = "ledger_unavailable"

Key: TypeAlias = tuple[str, int]
"""The call, and 0 for its settlement, its attempt's number for an opening, the same below 0 for a reservation."""


def unavailable() -> SidegateError:
    """What a caller is told whose call cannot be recorded."""
    return SidegateError("The gateway cannot record calls.", status=503, code=UNAVAILABLE, retry_after=5)


class Work(Protocol):
    """`write` stands in a transaction and may run again; `done` comes once, after the commit, in the same thread."""

    key: Key
    urgent: bool
    opens: bool

    def write(self, connection: sqlite3.Connection, owner: str) -> None: ...
    def done(self) -> None: ...
    def unfit(self) -> None:
        """No database takes it."""
        ...


class Settlement:
    """A call has ended."""

    __slots__ = ("key", "rows")
    urgent = False
    opens = False

    def __init__(self, rows: Settled) -> None:
        self.key: Key = (rows[0].id, 0)
        self.rows = rows

    def write(self, connection: sqlite3.Connection, owner: str) -> None:
        sqlite_rows.write(connection, self.rows)

    def done(self) -> None:
        """Nobody waits."""

    def unfit(self) -> None:
        """Said in the log."""


class Opening:
    """A call opens an attempt."""

    __slots__ = ("key", "rows")
    urgent = False
    opens = True

    def __init__(self, rows: Settled) -> None:
        self.key: Key = (rows[0].id, rows[1][0].number)
        self.rows = rows

    def write(self, connection: sqlite3.Connection, owner: str) -> None:
        sqlite_rows.opened(connection, self.rows, owner)

    def done(self) -> None:
        """Nobody waits."""

    def unfit(self) -> None:
        """Said in the log."""


class Reservation:
    """A call opens an attempt, and claims what it may cost. Written at once: somebody waits for `answer`."""

    __slots__ = ("_claims", "_failed", "_standings", "answer", "key", "rows")
    urgent = True
    opens = True

    def __init__(self, rows: Settled, claims: Sequence[Claim]) -> None:
        self.key: Key = (rows[0].id, -rows[1][0].number)
        self.rows = rows
        self._claims = claims
        self._standings: tuple[Standing, ...] = ()
        self._failed = False
        self.answer: Future[tuple[Standing, ...]] = Future()

    def write(self, connection: sqlite3.Connection, owner: str) -> None:
        if self.answer.cancelled():
            return
        sqlite_rows.opened(connection, self.rows, owner)
        self._standings = money.reserve(connection, self.key[0], self._claims)

    def done(self) -> None:
        if not self.answer.set_running_or_notify_cancel():
            return
        if self._failed:
            self.answer.set_exception(unavailable())
        else:
            self.answer.set_result(self._standings)

    def unfit(self) -> None:
        self._failed = True
