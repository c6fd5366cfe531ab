"""Rows to SQLite's columns. Times are UTC text of fixed width, so that they sort; tags are a JSON array.

Several rows go in one statement: it is stepped once, and while SQLite works the event loop has Python to itself. Row by
row the two threads would take it from each other at every row. Callers give few at a time: SQLite binds 32,766 values.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import astuple

from sidegate.ledger.rows import AttemptRow, CallRow, Settled, stamp

Columns = list[Any]


class _Insert(NamedTuple):
    """A statement for any number of rows."""

    into: str
    row: str
    conflict: str

    @classmethod
    def of(cls, table: str, fields: Sequence[str], conflict: str) -> _Insert:
        return cls(f"INTO {table} ({', '.join(fields)}) VALUES ", f"({', '.join('?' * len(fields))})", conflict)


_CALL = CallRow.__struct_fields__
_ATTEMPT = AttemptRow.__struct_fields__
_SETTLE_CALL = _Insert.of(
    "calls",
    _CALL,
    " ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _CALL if name != "id")
    # A call that was given up for dead while its process only stood still (a suspended machine) is settled after all.
    + " WHERE calls.state = 'reserved' OR (calls.state = 'unknown' AND calls.error = 'gateway_killed')",
)
_OPEN_CALL = _Insert.of(
    "calls",
    (*_CALL, "owner"),
    " ON CONFLICT (id) DO UPDATE SET provider = excluded.provider WHERE calls.state = 'reserved'",
)
_SETTLE_ATTEMPT = _Insert.of(
    "attempts",
    _ATTEMPT,
    " ON CONFLICT (call_id, number) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _ATTEMPT if name not in ("call_id", "number")),
)
_OPEN_ATTEMPT = _Insert.of("attempts", _ATTEMPT, " ON CONFLICT DO NOTHING")

_TAGS, _STARTED, _SETTLED = (_CALL.index(name) for name in ("tags", "started_at", "settled_at"))
_TRIED = _ATTEMPT.index("started_at")


def opened(connection: sqlite3.Connection, calls: Sequence[Settled], owner: str) -> None:
    """Within a transaction: calls open an attempt each, in the name of `owner`. What is over stays as it is."""

    def columns(call: CallRow) -> Columns:
        return [*_call(call), owner]

    _write(connection, calls, _OPEN_CALL, columns, _OPEN_ATTEMPT)


def settle(connection: sqlite3.Connection, calls: Sequence[Settled]) -> set[str]:
    """Within a transaction: settle calls. What is settled already stays as it is; gives the ids of the others.

    What was written of their attempts when they were opened is among those they have now.
    """
    return _write(connection, calls, _SETTLE_CALL, _call, _SETTLE_ATTEMPT)


def _write(
    connection: sqlite3.Connection,
    rows: Sequence[Settled],
    into: _Insert,
    columns: Callable[[CallRow], Columns],
    attempts: _Insert,
) -> set[str]:
    """All of them; those that are not taken leave their attempts out. Gives the ids of the others."""
    if len(rows) > 1:
        connection.execute("SAVEPOINT rows")
    taken = _insert(connection, into, [columns(call) for call, _ in rows])
    if len(rows) > 1:
        if taken != len(rows):
            connection.execute("ROLLBACK TO rows")
        connection.execute("RELEASE rows")
    if taken != len(rows):
        # Which of them is not said: so once more, one by one.
        alone = [] if len(rows) == 1 else rows
        return set().union(*(_write(connection, [row], into, columns, attempts) for row in alone))
    if tried := [_attempt(attempt) for _, tried in rows for attempt in tried]:
        _insert(connection, attempts, tried)
    return {call.id for call, _ in rows}


def _insert(connection: sqlite3.Connection, into: _Insert, rows: Sequence[Columns]) -> int:
    """Gives how many rows were taken."""
    return connection.execute(_statement(into, len(rows)), list(chain.from_iterable(rows))).rowcount


@lru_cache(maxsize=64)
def _statement(into: _Insert, count: int) -> str:
    return f"INSERT {into.into}{', '.join([into.row] * count)}{into.conflict}"


def _call(row: CallRow) -> Columns:
    columns: Columns = list(astuple(row))
    columns[_TAGS] = msgspec.json.encode(row.tags).decode() if row.tags else "[]"
    columns[_STARTED] = stamp(row.started_at)
    columns[_SETTLED] = None if row.settled_at is None else stamp(row.settled_at)
    return columns


def _attempt(row: AttemptRow) -> Columns:
    columns: Columns = list(astuple(row))
    columns[_TRIED] = stamp(row.started_at)
    return columns
