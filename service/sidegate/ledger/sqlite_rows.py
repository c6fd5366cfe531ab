"""Rows to and from SQLite's columns. Times are UTC text of fixed width, so that they sort; tags are a JSON array."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from sidegate.ledger.rows import AttemptRow, CallRow, Settled, stamp


def _insert(table: str, row: type[Struct]) -> str:
    fields = row.__struct_fields__
    return f"INSERT INTO {table} ({', '.join(fields)}) VALUES ({', '.join('?' * len(fields))})"


_PLAIN = frozenset((str, int, float, bool, type(None)))
_CALL = CallRow.__struct_fields__
_INSERT_CALL = (
    _insert("calls", CallRow)
    + " ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _CALL if name != "id")
    # A call that was given up for dead while its process only stood still (a suspended machine) is settled after all.
    + " WHERE calls.state = 'reserved' OR (calls.state = 'unknown' AND calls.error = 'gateway_killed')"
)
_OPEN_CALL = f"""INSERT INTO calls ({", ".join(_CALL)}, owner) VALUES ({"?, " * len(_CALL)}?)
    ON CONFLICT (id) DO UPDATE SET provider = excluded.provider WHERE calls.state = 'reserved'"""
_INSERT_ATTEMPT = _insert("attempts", AttemptRow)
_SETTLE_ATTEMPT = _INSERT_ATTEMPT.replace("INSERT", "INSERT OR REPLACE", 1)
_OPEN_ATTEMPT = _INSERT_ATTEMPT + " ON CONFLICT DO NOTHING"


def opened(connection: sqlite3.Connection, rows: Settled, owner: str) -> None:
    """Within a transaction: a call opens an attempt in the name of `owner`. One that is over stays as it is."""
    call, attempts = rows
    if connection.execute(_OPEN_CALL, [*_columns(call), owner]).rowcount == 1:
        connection.executemany(_OPEN_ATTEMPT, [_columns(attempt) for attempt in attempts])


def write(connection: sqlite3.Connection, rows: Settled) -> bool:
    """Within a transaction: settle a call. One that is settled already stays as it is; gives whether this one was not.

    What was written of its attempts when they were opened is among those it has now.
    """
    call, attempts = rows
    if connection.execute(_INSERT_CALL, _columns(call)).rowcount != 1:
        return False
    connection.executemany(_SETTLE_ATTEMPT, [_columns(attempt) for attempt in attempts])
    return True


def _columns(row: Struct) -> list[Any]:
    return [value if type(value) in _PLAIN else _column(value) for value in astuple(row)]


def _column(value: Any) -> Any:
    if isinstance(value, datetime):
        return stamp(value)
    return msgspec.json.encode(value).decode() if value else "[]"
