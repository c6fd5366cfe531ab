"""Counters for tests that run on each of their stores: in memory, and on a real Redis or Valkey that replicas share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sidegate.contract import Grant, RateClaim, SlotClaim, SystemClock
from sidegate.counters.opening import Counters

LONG = 1e6
"""Seconds of a period in which nothing worth naming drains while a test runs."""


class Watched:
    """Log and metrics of one replica's store."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, Mapping[str, Any]]] = []
        self.failures: list[str] = []
        self.trips = 0

    def write(self, event: str, fields: Mapping[str, Any]) -> None:
        self.lines.append((event, fields))

    def store_failed(self, operation: str) -> None:
        self.failures.append(operation)

    def store_took(self, seconds: float) -> None:
        self.trips += 1

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.lines]


class Replica(Counters):
    """The counters of one gateway."""

    def __init__(self, url: str, lease: float = 30, timeout: float = 5) -> None:
        self.seen = Watched()
        super().__init__(SystemClock(), self.seen, self.seen, url=url, prefix="test", timeout=timeout, lease=lease)

    async def take(self, key: str, limit: int, amount: int = 1, period: float = LONG, **more: Any) -> Grant:
        (grant,) = await self.rates.take([RateClaim(key, limit, period, amount, **more)])
        return grant

    async def left(self, key: str, limit: int, period: float = LONG) -> int:
        return (await self.take(key, limit, 0, period)).remaining

    async def tells(self, key: str, limit: int, left: int) -> None:
        """Waits until so much is left, as corrections arrive a little later."""
        await until(lambda: self._is_left(key, limit, left))

    async def _is_left(self, key: str, limit: int, left: int) -> bool:
        return await self.left(key, limit) == left

    async def is_up(self, up: bool = True) -> None:
        """Waits until the store is known to be there, or not."""
        store = self.store
        assert store is not None
        await until(lambda: _now(store.up is up))


async def _now(well: bool) -> bool:
    return well


async def until(well: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await well():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def replica(url: str, lease: float = 30, timeout: float = 5) -> AsyncIterator[Replica]:
    made = Replica(url, lease, timeout)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


class Guest:
    """Somebody who holds slots until told to leave."""

    def __init__(self, counters: Counters, *claims: SlotClaim) -> None:
        self.inside = asyncio.Event()
        self._leave = asyncio.Event()
        self.task = asyncio.create_task(self._stay(counters, claims))

    async def _stay(self, counters: Counters, claims: tuple[SlotClaim, ...]) -> None:
        async with counters.slots.hold(claims):
            self.inside.set()
            try:
                await self._leave.wait()
            finally:
                self.inside.clear()

    async def in_(self) -> Guest:
        """Waits until it has its slots, or raises why not."""
        entered = asyncio.ensure_future(self.inside.wait())
        async with asyncio.timeout(20):
            await asyncio.wait([entered, self.task], return_when=asyncio.FIRST_COMPLETED)
        entered.cancel()
        if self.task.done():
            self.task.result()
        return self

    async def out(self) -> None:
        self._leave.set()
        await self.task
