"""Keys in the ledger's database: the same SQL for SQLite and PostgreSQL, in threads of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import ParamSpec, TypeVar

import msgspec
from msgspec.structs import replace

from sidegate.contract.allowance import Allowance
from sidegate.keys.asked import Filter
from sidegate.keys.key import Key
from sidegate.keys.store import MANY, unavailable
from sidegate.ledger.database import Database, Row, StoreError, is_postgres
from sidegate.ledger.opening import database_of
from sidegate.ledger.rows import stamp

P = ParamSpec("P")
T = TypeVar("T")

_COLUMNS = (
    "id, digest, previous_digest, previous_until, name, owner, team, tags, names_end_users, allowance,"
    " created_at, expires_at, revoked_at, changed_at"
)
_INSERT = f"INSERT INTO api_keys ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE = (
    "UPDATE api_keys SET digest = ?, previous_digest = ?, previous_until = ?, name = ?, owner = ?, team = ?, tags = ?,"
    " names_end_users = ?, allowance = ?, created_at = ?, expires_at = ?, revoked_at = ?, changed_at = ? WHERE id = ?"
)
_ONE = f"SELECT {_COLUMNS} FROM api_keys WHERE id = ?"
_LATEST = "SELECT max(changed_at) FROM api_keys"
_CHANGED = f"SELECT changed_at, id FROM api_keys WHERE changed_at > ? ORDER BY changed_at DESC LIMIT {MANY + 1}"
_TICK = timedelta(microseconds=1)

_TAGS = msgspec.json.Decoder(tuple[str, ...])
_ALLOWANCE = msgspec.json.Decoder(Allowance)
_JSON = msgspec.json.Encoder()

_logger = logging.getLogger("sidegate.keys")


class _Line:
    """A database with its one thread."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(1, name)

    async def run(self, work: Callable[[Database], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._database)
        except StoreError as error:
            raise unavailable() from error

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown(wait=False)


class SqlKeys:
    """A `KeyStore`. Who looks a key up does not wait behind who changes one."""

    def __init__(self, reading: Database, writing: Database) -> None:
        """Nothing is opened. `reading` and `writing` may be one and the same."""
        self._writing = _Line(writing, "keys-writer")
        self._reading = self._writing if reading is writing else _Line(reading, "keys-reader")

    async def add(self, key: Key) -> Key:
        def work(database: Database) -> Key:
            with database.transaction():
                _alone(database)
                made = replace(key, changed_at=_moment(database, key.changed_at))
                database.execute(_INSERT, (made.id, *_values(made)))
            return made

        return await self._writing.run(work)

    async def get(self, id: str) -> Key | None:
        return await self._reading.run(lambda database: _one(database, id))

    async def page(self, filter: Filter, now: datetime) -> list[Key]:
        where, values = _where(filter, now)
        sql = f"SELECT {_COLUMNS} FROM api_keys{where} ORDER BY created_at, id LIMIT {filter.limit + 1}"
        rows = await self._reading.run(lambda database: database.execute(sql, values).fetchall())
        return [_key(row) for row in rows]

    async def update(self, id: str, change: Callable[[Key], Key]) -> Key | None:
        def work(database: Database) -> Key | None:
            with database.transaction():
                _alone(database)
                key = _one(database, id)
                if key is None or (changed := change(key)) is key:
                    return key
                made = replace(changed, changed_at=_moment(database, changed.changed_at))
                database.execute(_UPDATE, (*_values(made), id))
            return made

        return await self._writing.run(work)

    async def find(self, digests: Sequence[str]) -> list[Key]:
        if not digests:
            return []
        # As many as a power of two, the last one again and again: few statements to remember.
        many = [*digests, *[digests[-1]] * ((1 << (len(digests) - 1).bit_length()) - len(digests))]
        marks = ", ".join("?" * len(many))
        sql = (
            f"SELECT {_COLUMNS} FROM api_keys"
            f" WHERE revoked_at IS NULL AND (digest IN ({marks}) OR previous_digest IN ({marks}))"
        )
        rows = await self._reading.run(lambda database: database.execute(sql, (*many, *many)).fetchall())
        return [key for row in rows if (key := _readable(row)) is not None]

    async def changed(self, since: datetime | None) -> tuple[datetime | None, frozenset[str] | None]:
        after = "" if since is None else stamp(since)
        rows = await self._reading.run(lambda database: database.execute(_CHANGED, (after,)).fetchall())
        if not rows:
            return since, frozenset()
        return _time(rows[0][0]), None if len(rows) > MANY else frozenset(row[1] for row in rows)

    async def close(self) -> None:
        await self._writing.close()
        if self._reading is not self._writing:
            await self._reading.close()


def keys_of(url: str) -> SqlKeys:
    """Where the gateway itself has the ledger open, so that it is there, checked and of this version."""
    if is_postgres(url):
        return SqlKeys(database_of(url, patience=2.0), database_of(url))
    from sidegate.ledger.sqlite_database import SqliteDatabase, sqlite_path
    from sidegate.ledger.sqlite_file import open_reader

    return SqlKeys(SqliteDatabase(sqlite_path(url), open_reader), database_of(url))


def _alone(database: Database) -> None:
    """Until the transaction ends nobody else changes a key: times of change come in the order of commits."""
    if database.dialect == "postgresql":
        database.execute("LOCK TABLE api_keys IN SHARE ROW EXCLUSIVE MODE")


def _moment(database: Database, now: datetime) -> datetime:
    """A time of change after all others, whatever clocks say."""
    row = database.execute(_LATEST).fetchone()
    latest = None if row is None else _time(row[0])
    return now if latest is None else max(now, latest + _TICK)


def _one(database: Database, id: str) -> Key | None:
    row = database.execute(_ONE, (id,)).fetchone()
    return None if row is None else _key(row)


def _where(filter: Filter, now: datetime) -> tuple[str, list[str]]:
    terms: list[str] = []
    values: list[str] = []
    for name in ("owner", "team", "name"):
        if (value := getattr(filter, name)) is not None:
            terms.append(f"{name} = ?")
            values.append(value)
    match filter.state:
        case "revoked":
            terms.append("revoked_at IS NOT NULL")
        case "expired":
            terms.append("revoked_at IS NULL AND expires_at <= ?")
            values.append(stamp(now))
        case "active":
            terms.append("revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?)")
            values.append(stamp(now))
        case None:
            pass
    if filter.after is not None:
        terms.append("(created_at, id) > (SELECT created_at, id FROM api_keys WHERE id = ?)")
        values.append(filter.after)
    return (" WHERE " + " AND ".join(terms) if terms else ""), values


def _values(key: Key) -> tuple[object, ...]:
    """All but the id, in the order of the columns."""
    return (
        key.digest,
        key.previous_digest,
        _stamp(key.previous_until),
        key.name,
        key.owner,
        key.team,
        _JSON.encode(key.tags).decode(),
        key.names_end_users,
        None if key.allowance is None else _JSON.encode(key.allowance).decode(),
        stamp(key.created_at),
        _stamp(key.expires_at),
        _stamp(key.revoked_at),
        stamp(key.changed_at),
    )


def _key(row: Row) -> Key:
    created, changed = _time(row[10]), _time(row[13])
    assert created is not None
    assert changed is not None
    return Key(
        id=row[0],
        digest=row[1],
        previous_digest=row[2],
        previous_until=_time(row[3]),
        name=row[4],
        owner=row[5],
        team=row[6],
        tags=_TAGS.decode(row[7]),
        names_end_users=bool(row[8]),
        allowance=None if row[9] is None else _ALLOWANCE.decode(row[9]),
        created_at=created,
        expires_at=_time(row[11]),
        revoked_at=_time(row[12]),
        changed_at=changed,
    )


def _readable(row: Row) -> Key | None:
    """A key whose restrictions this version cannot read lets nobody in."""
    try:
        return _key(row)
    except (msgspec.MsgspecError, ValueError) as error:
        _logger.error("key %s cannot be read, so it is refused: %s", row[0], error)
        return None


def _stamp(moment: datetime | None) -> str | None:
    return None if moment is None else stamp(moment)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
