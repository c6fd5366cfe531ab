"""Database: one connection to the store a ledger's URL names. SQL is written once, for SQLite and for PostgreSQL.

    StoreError            what a statement may come to, in one line that holds no secret
    ├── Unavailable       the store is down, full, too slow or unreadable; trying again later may help
    │   └── Lost          the connection broke; the next one may be well
    ├── Locked            another is at work; trying again soon helps
    │   └── Deadlock      at once
    ├── Unfit             no database takes these values, however often they are tried
    │   └── Conflict      a rule of the schema is against them: such a key is there already
    ├── Unusable          this is no ledger of this version; nothing helps but an operator
    └── Interrupted       `watch` has said that nobody waits any more

`ledger/opening.py` gives the one that a URL names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, TypeAlias

PLACE = "ledger.url"

Dialect: TypeAlias = Literal["sqlite", "postgresql"]
Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any]
Row: TypeAlias = tuple[Any, ...]


class StoreError(Exception):
    """A store did not do what it was asked. Its text is one line, and holds no secret."""


class Unavailable(StoreError):
    """The store is down, full, too slow, read-only or cannot be read: it may be tried again later."""


class Lost(Unavailable):
    """The connection broke. What was under way may have happened; a new one may be had at once."""


class Locked(StoreError):
    """Another is at work on the same rows (or the same file): it passes by itself."""


class Deadlock(Locked):
    """Two waited for each other and this one was ended: it may be tried again at once."""


class Unfit(StoreError):
    """These values cannot be stored: trying again changes nothing."""


class Conflict(Unfit):
    """A rule of the schema is against them: unique, not null, check."""


class Unusable(StoreError):
    """What is there is no ledger of this version: empty, behind, newer, damaged, or another program's."""


class Interrupted(StoreError):
    """The statement was given up, because `watch` said so."""


class Cursor(Protocol):
    """What a statement has found. Reading from it raises a `StoreError`, as executing does."""

    @property
    def rowcount(self) -> int:
        """Rows that were inserted, updated or deleted."""
        ...

    def fetchone(self) -> Row | None: ...
    def fetchall(self) -> list[Row]: ...


class Executes(Protocol):
    """What a function needs that writes within its caller's transaction: a `Database`, or SQLite's own connection."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Cursor: ...


class Database(Protocol):
    """One connection, for one thread at a time. It connects when it is first used, and again after it was lost."""

    @property
    def dialect(self) -> Dialect:
        """For the few statements that differ: `STATEMENT[database.dialect]`."""
        ...

    @property
    def for_update(self) -> str:
        """The end of a SELECT in a transaction that is to keep others from its rows; empty where all wait anyway."""
        ...

    def open(self) -> None:
        """Connect, and see that the schema is of this version. Not needed before `execute`, but says early what is
        wrong: `Unusable`, or `Unavailable`."""
        ...

    def execute(self, sql: str, parameters: Parameters = (), /) -> Cursor:
        """Placeholders are `?`, with a sequence, or `:name`, with a mapping; never both in one statement.

        Outside a transaction each statement is one of its own. Raises a `StoreError`.
        """
        ...

    def executemany(self, sql: str, rows: Sequence[Parameters]) -> Cursor:
        """The same statement for each of the rows."""
        ...

    def transaction(self, *, write: bool = True) -> AbstractContextManager[None]:
        """`with database.transaction():` commits at its end, or rolls back where that raises.

        With `write`, SQLite takes its lock at once. Without, all that is read is as of one moment. Where the answer to
        the commit is lost it raises `Unavailable`, although it may have happened: write so that it can be done twice.
        """
        ...

    def watch(self, over: Callable[[], bool] | None) -> None:
        """From now on statements are given up (`Interrupted`) soon after `over` is true. It is called often."""
        ...

    def close(self) -> None:
        """May be called twice. Using it again opens it again."""
        ...


def is_postgres(url: str) -> bool:
    """Both schemes are libpq's."""
    return url.startswith(("postgresql://", "postgres://"))
