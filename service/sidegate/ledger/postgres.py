"""PostgreSQL as a `Database`: psycopg, bounded in time, connected when it is used and again after it was lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from sidegate.ledger.database import (
    Conflict,
    Cursor,
    Deadlock,
    Dialect,
    Interrupted,
    Locked,
    Lost,
    Parameters,
    StoreError,
    Unavailable,
    Unfit,
    Unusable,
)
from sidegate.ledger.placeholders import translated
from sidegate.ledger.postgres_schema import check
from sidegate.ledger.postgres_url import driver, parameters, place_of, secrets_of

if TYPE_CHECKING:
    from psycopg import Connection

PATIENCE_SECONDS = 4.0
"""The gateway's own, with each statement: with the margin no longer than a call waits for its reservation."""

MARGIN_SECONDS = 1.0
"""After its patience a statement is ended by the server; so much later the connection is given up from here."""

LOCK_PART = 0.75
"""Of its patience a statement waits so long for a lock: were it all, a lock would be told as a server too slow."""

_DEADLOCK = ("40001", "40P01")
_LOCKED = ("55P03", "55006")
"""A lock is not to be had in time, an object is in use."""

_CLOSED = ("57P01", "57P02", "57P03", "25P03")
"""The server shuts down, crashes, starts up; or has ended a transaction that stood still."""

# Calls are looked for by their keys: a plan that was made while a table was small, and kept, must not read all of it
# when it is large. Nothing asked here is worth compiling.
_SESSION = """SELECT set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false),
    set_config('statement_timeout', %(patience)s, false), set_config('lock_timeout', %(lock)s, false),
    set_config('idle_in_transaction_session_timeout', '5000', false),
    set_config('TimeZone', 'UTC', false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
        ELSE current_setting('synchronous_commit') END, false)"""


class PostgresDatabase:
    """The database that `url` names. `patience`: the longest a statement may take, in seconds.

    Every connection is checked before it is used: its schema must be of this version (`any_schema` leaves that out).
    What ends a connection ends only the statement at hand; the next one connects again.
    """

    dialect: Dialect = "postgresql"
    for_update = " FOR UPDATE"

    def __init__(self, url: str, patience: float, *, any_schema: bool = False) -> None:
        self._parameters = parameters(url)
        self._patience = patience
        self._any_schema = any_schema
        self._connection: Connection[tuple[Any, ...]] | None = None
        self._over: Callable[[], bool] | None = None
        self._within = False
        self.place = place_of(self._parameters)
        """Where it is, without who and how: for messages."""

    def connected(self) -> Connection[tuple[Any, ...]]:
        """The driver's own, connected: for what is written for PostgreSQL only, within `failing`."""
        if self._connection is not None and not self._connection.closed:
            return self._connection
        if self._within:
            raise Unavailable("the connection was lost")
        self._connection = self._connect()
        return self._connection

    def open(self) -> None:
        self.connected()

    def execute(self, sql: str, parameters: Parameters = ()) -> Cursor:
        try:
            return self._execute(sql, parameters)
        except Lost:
            if self._within or not sql.lstrip().startswith("SELECT"):
                raise
        return self._execute(sql, parameters)

    def _execute(self, sql: str, parameters: Parameters) -> Cursor:
        with self.failing():
            connection = self.connected()
            return connection.execute(translated(sql), parameters) if parameters else connection.execute(sql)

    def executemany(self, sql: str, rows: Sequence[Parameters]) -> Cursor:
        with self.failing():
            cursor = self.connected().cursor()
            cursor.executemany(translated(sql), rows)
            return cursor

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[None]:
        begin = "BEGIN READ WRITE" if write else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        try:
            self.execute(begin)
        except Lost:
            # While nobody used it: found out only now, and nothing has been done.
            self.execute(begin)
        with self.within():
            yield
            self.execute("COMMIT")

    @contextmanager
    def within(self) -> Iterator[None]:
        """In a transaction that was begun: it is rolled back where this raises, and its connection never replaced."""
        self._within = True
        try:
            yield
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._within = False

    @contextmanager
    def failing(self) -> Iterator[None]:
        """The driver's errors in the words of all stores. A connection that may be broken is closed."""
        try:
            yield
        except StoreError:
            raise
        except (driver().Error, ValueError, OverflowError) as error:
            said = self._said(error)
            if isinstance(said, Unavailable):
                self.close()
            raise said from error

    def watch(self, over: Callable[[], bool] | None) -> None:
        self._over = over

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def bounded(self, steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """What the driver waits for, given up when it takes too long or nobody waits any more. A server that says
        nothing at all is noticed by nothing else: the kernel sees only what is not acknowledged."""
        deadline = monotonic() + self._patience + MARGIN_SECONDS
        ready = None
        while True:
            try:
                wanted = steps.send(ready)
            except StopIteration as end:
                return end.value
            ready = yield wanted
            if not ready and self._over is not None and self._over():
                self._give_up()
                raise Interrupted("nobody waits for it any more")
            if not ready and monotonic() > deadline:
                self.close()
                raise Unavailable(f"{self.place}: no answer in {self._patience + MARGIN_SECONDS:g} s")

    def _give_up(self) -> None:
        """Have the server stop, too, if it can be told so; what it would answer is not waited for."""
        if self._connection is not None:
            try:
                self._connection.cancel_safe(timeout=1.0)
            except driver().Error:
                pass  # it finds out when it wants to send
        self.close()

    def _connect(self) -> Connection[tuple[Any, ...]]:
        from sidegate.ledger.postgres_connection import BoundedConnection

        # It tells of pipelines that end with their connection, which is told here.
        logging.getLogger("psycopg").setLevel(logging.ERROR)
        with self.failing():
            connection = BoundedConnection.connect(autocommit=True, **self._parameters)  # type: ignore[arg-type]  # libpq's
        connection.bounded = self.bounded
        try:
            with self.failing():
                patience = self._patience * 1000
                connection.execute(_SESSION, {"patience": str(int(patience)), "lock": str(int(patience * LOCK_PART))})
                if not self._any_schema:
                    check(connection, self.place)
        except BaseException:
            connection.close()
            raise
        return connection

    def _roll_back(self) -> None:
        if self._connection is None or self._connection.closed:
            return
        try:
            with self.failing():
                self._connection.execute("ROLLBACK")
        except StoreError:
            self.close()

    def _said(self, error: Exception) -> StoreError:
        text = self._line(error)
        state = getattr(error, "sqlstate", None) or ""
        if state in _DEADLOCK:
            return Deadlock(text)
        if state in _LOCKED:
            return Locked(text)
        if state.startswith("23"):
            return Conflict(text)
        # Class 22 without a state: what the driver itself cannot send.
        if state.startswith("22") or isinstance(error, (ValueError, OverflowError, driver().DataError)):
            return Unfit(text)
        if state in ("42P01", "42703", "3F000"):
            return Unusable(f"{text}: sidegate migrate")
        lost = self._connection is not None and (not state or state in _CLOSED or state.startswith("08"))
        return (Lost if lost else Unavailable)(f"{self.place}: {text}")

    def _line(self, error: Exception) -> str:
        """One line, without a secret."""
        diagnosis = getattr(error, "diag", None)
        text = (diagnosis.message_primary if diagnosis is not None else None) or str(error) or type(error).__name__
        for secret in secrets_of(self._parameters):
            text = text.replace(secret, "***")
        return " ".join(text.split())[:300]
