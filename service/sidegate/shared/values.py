"""Values in the shared store, behind `host.values`: by a line of their own, since limits must not wait behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sidegate.contract.host import Log
from sidegate.shared.line import StoreDown
from sidegate.shared.script import Order, Script
from sidegate.shared.store import Store, Watch

TIMEOUT_SECONDS = 0.5
"""The least that a value is waited for: it may be large."""
MOST_UNDER_WAY = 64 * 2**20
"""Bytes on their way to the store; what comes beyond is lost."""

_GET = Script("return redis.call('GET', KEYS[1])")
_PUT = Script("return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])")


class SharedValues:
    """Opens nothing before it is first asked."""

    def __init__(self, url: str, prefix: str, timeout: float, log: Log, watch: Watch) -> None:
        self._store = Store(url, prefix, max(timeout, TIMEOUT_SECONDS), _OwnWords(log), watch)
        # No hash tag: each is by itself, on whichever node of a cluster.
        self._prefix = f"{prefix}:value:"
        self._starting: asyncio.Task[None] | None = None
        self._puts: set[asyncio.Task[None]] = set()
        self._size = 0

    async def get(self, key: str) -> bytes | None:
        try:
            starting = self._reached()
            if not starting.done():
                async with asyncio.timeout(self._store.timeout):
                    await asyncio.shield(starting)
            found = await self._store.ask("values", Order(_GET, [self._prefix + key], []))
        except (StoreDown, TimeoutError):
            return None
        return found if isinstance(found, bytes) else None

    def put(self, key: str, value: bytes, seconds: float) -> None:
        if not self._store.up or self._size + len(value) > MOST_UNDER_WAY:
            return
        order = Order(_PUT, [self._prefix + key], [value, max(1, int(seconds * 1000))])
        self._size += len(value)
        task = asyncio.get_running_loop().create_task(self._put(order, len(value)), name="value put")
        self._puts.add(task)
        task.add_done_callback(self._puts.discard)

    async def stop(self) -> None:
        """Bring what is under way there, in the time that a value has."""
        if self._puts:
            await asyncio.wait(self._puts, timeout=self._store.timeout)
        if self._starting is not None:
            await asyncio.wait([self._starting])
            await self._store.stop()

    async def _put(self, order: Order, size: int) -> None:
        try:
            with suppress(StoreDown):
                await self._store.ask("values", order)
        finally:
            self._size -= size

    def _reached(self) -> asyncio.Task[None]:
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._store.start(), name="values store")
        return self._starting


class _OwnWords:
    """Outages of this line are told as such."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def write(self, event: str, fields: Mapping[str, Any]) -> None:
        self._log.write(event.replace("counter_store", "value_store"), fields)
