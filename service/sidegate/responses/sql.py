"""Kept responses in the ledger's database: the same SQL for SQLite and PostgreSQL, in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from msgspec import structs

from sidegate.errors import Refusal
from sidegate.ledger import money
from sidegate.ledger.database import Database, StoreError, Unfit
from sidegate.responses.kept import Bill, Kept

T = TypeVar("T")

_COLUMNS = ", ".join(Kept.__struct_fields__)
_MARKS = ", ".join("?" * len(Kept.__struct_fields__))
_ADD = f"INSERT INTO responses ({_COLUMNS}) VALUES ({_MARKS}) ON CONFLICT DO NOTHING"
_FIND = f"SELECT {_COLUMNS} FROM responses WHERE id = ? ORDER BY kept_at DESC"
_REMOVE = "DELETE FROM responses WHERE id = ? AND provider = ?"

_SUMMED = ("input_tokens", "output_tokens", "cost_nano_usd")
_TOLD = ("cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "audio_input_tokens", "audio_output_tokens")
_STATE = "SELECT state, reconciled, route FROM calls WHERE id = ?"
_ATTEMPT = (
    "UPDATE attempts SET "
    + ", ".join(f"{name} = :{name}" for name in (*_SUMMED, *_TOLD, "rates", "estimated"))
    + " WHERE call_id = :call AND provider_id = :id AND provider = :provider"
)
# Of a call whose gateway was killed it is not on record which id its provider gave.
_LAST = (
    "UPDATE attempts SET provider_id = :id WHERE call_id = :call AND provider = :provider AND provider_id IS NULL"
    " AND number = (SELECT max(number) FROM attempts WHERE call_id = :call)"
)
_ALL = f"SELECT {', '.join((*_SUMMED, *_TOLD, 'estimated'))} FROM attempts WHERE call_id = ?"
_CALL = (
    "UPDATE calls SET state = 'settled', reconciled = :now, "
    + ", ".join(f"{name} = :{name}" for name in (*_SUMMED, *_TOLD, "estimated"))
    + " WHERE id = :call"
)


class SqlStore:
    """A `KeptStore`. `database` is opened when it is first used."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(1, "responses")

    async def add(self, kept: Iterable[Kept]) -> None:
        rows = [structs.astuple(each) for each in kept]

        def work(database: Database) -> None:
            with database.transaction():
                database.executemany(_ADD, rows)

        await self._run(work)

    async def find(self, id: str) -> list[Kept]:
        try:
            rows = await self._run(lambda database: database.execute(_FIND, (id,)).fetchall())
        except Unfit:
            return []
        return [Kept(**dict(zip(Kept.__struct_fields__, row, strict=True))) for row in rows]

    async def remove(self, kept: Kept) -> None:
        await self._run(lambda database: database.execute(_REMOVE, (kept.id, kept.provider)))

    async def settle(self, bill: Bill) -> bool:
        def work(database: Database) -> bool:
            with database.transaction():
                return _settle(database, bill)

        return await self._run(work)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[Database], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._database)
        except Unfit:
            raise
        except StoreError as error:
            raise _unavailable() from error


def _settle(database: Database, bill: Bill) -> bool:
    """Once: what is settled already, by an operator too, stays as it is."""
    call = bill.kept.call_id
    found = database.execute(_STATE + database.for_update, (call,)).fetchone()
    if found is None or found[0] == "reserved":
        return False
    if found[0] != "unknown" or found[1] is not None:
        return True
    if bill.cost is None and bill.route != found[2]:
        return True
    usage = bill.usage
    tokens = {name: getattr(usage, name) for name in (*_SUMMED[:2], *_TOLD)}
    who = {"call": call, "id": bill.kept.id, "provider": bill.kept.provider}
    noted = {"cost_nano_usd": bill.cost, "rates": bill.rates, "estimated": usage.estimated}
    database.execute(_LAST, who)
    database.execute(_ATTEMPT, {**tokens, **noted, **who})
    total = _total(database.execute(_ALL, (call,)).fetchall())
    if total["input_tokens"] is None or total["output_tokens"] is None:
        return True
    database.execute(_CALL, {**total, "now": bill.now, "call": call})
    money.settle(database, call, total["cost_nano_usd"])
    return True


def _total(attempts: list[tuple[Any, ...]]) -> dict[str, int | None]:
    """Of all attempts: what every call needs is unknown where it is of one; of the rest, what was told."""
    *columns, estimated = zip(*attempts, strict=True)
    total: dict[str, int | None] = {"estimated": any(estimated)}
    for name, values in zip((*_SUMMED, *_TOLD), columns, strict=True):
        known = [value for value in values if value is not None]
        complete = len(known) == len(values) if name in _SUMMED else bool(known)
        total[name] = sum(known) if complete else None
    return total


def _unavailable() -> Refusal:
    return Refusal(503, "responses_unavailable", "Where responses are kept cannot be looked up.", retry_after=1)
