"""Books: who can be asked for the calls and budgets on record, by the ledger's URL."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from sidegate.ledger import records
from sidegate.ledger.asking import Asking
from sidegate.ledger.records import CallsAsked, Spent, Subject
from sidegate.ledger.rows import CallRow
from sidegate.ledger.store import Ledger, NullLedger


class Books(Protocol):
    """Reads what a ledger has on record: what has ended in this process before; of others, what is durable by then."""

    async def calls(self, asked: CallsAsked) -> list[CallRow]:
        """A page, and one more where there is one. Raises a `SidegateError` of 503 where it takes too long."""
        ...

    async def subjects(self, after: tuple[str, str], limit: int, budget: str | None = None) -> list[Subject]:
        """Who has spent of which budget, in their order."""
        ...

    async def touched(self, asked: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether anybody has spent of each budget since a period."""
        ...

    async def spent(self, asked: Sequence[tuple[str, str, str]]) -> list[Spent]:
        """Of each budget and subject, since a period."""
        ...

    def stop(self) -> None:
        """What is under way is given up."""
        ...


class StoredBooks:
    """Of a ledger in a store, past its writer."""

    def __init__(self, url: str, ledger: Ledger) -> None:
        self._asking = Asking(url, "records", ledger)

    async def calls(self, asked: CallsAsked) -> list[CallRow]:
        return await self._asking.ask(partial(records.calls, asked=asked))

    async def subjects(self, after: tuple[str, str], limit: int, budget: str | None = None) -> list[Subject]:
        return await self._asking.ask(partial(records.subjects, after=after, limit=limit, budget=budget))

    async def touched(self, asked: Sequence[tuple[str, str]]) -> list[bool]:
        return await self._asking.ask(partial(records.touched, asked=asked)) if asked else []

    async def spent(self, asked: Sequence[tuple[str, str, str]]) -> list[Spent]:
        return await self._asking.ask(partial(records.spent, asked=asked)) if asked else []

    def stop(self) -> None:
        self._asking.stop()


class MemoryBooks:
    """Of a ledger in memory: the last 1,000 calls."""

    def __init__(self, ledger: NullLedger) -> None:
        self._ledger = ledger

    async def calls(self, asked: CallsAsked) -> list[CallRow]:
        found = sorted(self._ledger.kept(), key=lambda row: row.id, reverse=True)
        return [row for row in found if _fits(row, asked)][: asked.limit + 1]

    async def subjects(self, after: tuple[str, str], limit: int, budget: str | None = None) -> list[Subject]:
        money = self._ledger.money
        return [] if money is None else records.subjects(money, after, limit, budget)

    async def touched(self, asked: Sequence[tuple[str, str]]) -> list[bool]:
        money = self._ledger.money
        return [False for _ in asked] if money is None else records.touched(money, asked)

    async def spent(self, asked: Sequence[tuple[str, str, str]]) -> list[Spent]:
        money = self._ledger.money
        return [Spent() for _ in asked] if money is None else records.spent(money, asked)

    def stop(self) -> None:
        """Nothing is under way."""


def _fits(row: CallRow, asked: CallsAsked) -> bool:
    if any(getattr(row, records.COLUMNS.get(name, name)) != value for name, value in asked.where):
        return False
    return all(row.id >= bound if sign == ">=" else row.id < bound for sign, bound in records.bounds(asked))


def open_books(url: str, ledger: Ledger) -> Books:
    """Those of the ledger a URL means, which `open_ledger` has found right. Nothing is opened before a question."""
    return MemoryBooks(ledger) if isinstance(ledger, NullLedger) else StoredBooks(url, ledger)
