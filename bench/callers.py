"""Keys that were issued, by the million: written to a gateway's database before it starts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from sidegate.contract.keys import key_digest
from sidegate.ledger.migrate import migrate

MOMENT = "2026-11-01T00:00:00.000000+00:00"
_INSERT = (
    "INSERT INTO api_keys (id, digest, name, tags, names_end_users, created_at, changed_at)"
    " VALUES (?, ?, ?, '[]', 0, ?, ?)"
)


def secret(number: int) -> str:
    """The key of that caller."""
    return f"sg-bench-{number:010d}"


def issue(path: Path, count: int) -> None:
    """Write that many keys; their callers are all called `bench`."""
    migrate(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as database, database:
        database.executemany(_INSERT, _rows(count))


def _rows(count: int) -> Iterator[tuple[str, str, str, str, str]]:
    return ((f"key-{number:010d}", key_digest(secret(number)), "bench", MOMENT, MOMENT) for number in range(count))
