"""Wakes: the store says to a process which of its calls may look for a slot now."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from sidegate.shared.store import Store

_MOST_MISSED = 1000
"""Calls that were woken in the moment before they waited. Of those that never do, the oldest are forgotten."""

_PAUSE = 1.0
"""Seconds after which a listener that was cut off tries again. Meanwhile calls look for themselves."""


class Wakes:
    """One subscription of a process, opened when the first of its calls waits."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self.channel = f"{store.tag}wake:"
        self._name = name
        self._waiting: dict[str, asyncio.Event] = {}
        self._missed: dict[str, None] = {}
        self._task: asyncio.Task[None] | None = None
        store.came_up.append(self._again)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @contextmanager
    def listening(self, id: str) -> Iterator[Callable[[float], Awaitable[None]]]:
        """Gives what waits until `id` is woken, for so many seconds at most."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._listen(), name="wakes")
        event = self._waiting[id] = asyncio.Event()
        if id in self._missed:
            del self._missed[id]
            event.set()

        async def woken(seconds: float) -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await event.wait()
            event.clear()

        try:
            yield woken
        finally:
            del self._waiting[id]

    def _again(self) -> None:
        """What was subscribed before an outage may have gone without a word."""
        if self._task is not None:
            self._task.cancel()
            self._task = asyncio.get_running_loop().create_task(self._listen(), name="wakes")

    async def _listen(self) -> None:
        while True:
            with suppress(Exception):
                await self._heard()
            await asyncio.sleep(_PAUSE)

    async def _heard(self) -> None:
        """Until the connection breaks."""
        async with self._store.client() as client, client.pubsub() as listener:
            await listener.subscribe(self.channel + self._name)
            async for message in listener.listen():
                if message["type"] == "message":
                    self.wake(message["data"].decode())
                    continue
                # Whoever was called before this could not be heard.
                for event in self._waiting.values():
                    event.set()

    def wake(self, id: str) -> None:
        """It may look now."""
        event = self._waiting.get(id)
        if event is not None:
            event.set()
            return
        self._missed[id] = None
        if len(self._missed) > _MOST_MISSED:
            del self._missed[next(iter(self._missed))]
