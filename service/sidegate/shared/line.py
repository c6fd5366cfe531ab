"""The line to the store: what many calls ask in one moment goes in one round trip, in the order it was asked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeAlias

from sidegate.shared.script import Order

MOST_AT_ONCE = 256
MOST_QUEUED = 10_000
"""Orders nobody waits for that are kept while the store is away; then the oldest are dropped."""

LAG = 0.005
"""Seconds: a timer that is later than this says that this process was held up, not that the store is slow."""

Late: TypeAlias = Callable[[Any], None]


class Entry(NamedTuple):
    """An order, who waits for its answer, and who is told it where nobody waits any more."""

    order: Order
    answer: asyncio.Future[Any] | None = None
    late: Late | None = None


class StoreDown(Exception):
    """The store did not answer, or cannot do what it is asked. Why is in the log; it is written for no client."""


class Line:
    """Orders that wait to be sent. Of those somebody waits for, no answer takes longer than `timeout` seconds."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._queue: deque[Entry] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self.gather: list[Callable[[], Iterable[Order]]] = []
        """Who is asked for more orders each time that something may be sent."""

    def post(self, order: Order) -> None:
        """Send it soon; nobody waits for the answer."""
        if len(self._queue) >= MOST_QUEUED:
            oldest = self._queue.popleft()
            if oldest.answer is not None:
                fail(oldest.answer, StoreDown("too much to send"))
        self._queue.append(Entry(order))
        self._wake.set()

    def nudge(self) -> None:
        """Ask `gather` soon."""
        self._wake.set()

    async def ask(self, order: Order, late: Late | None = None) -> Any:
        """Its answer. Raises `StoreDown` where none comes in time.

        All is run in the order in which it was asked and posted. Who is cancelled, or told that none came, does not
        know whether it was run: `late` gets the answer that comes after.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._queue.append(Entry(order, answer, late))
        self._wake.set()
        due = loop.time() + self._timeout
        timer = loop.call_at(due, self._expire, answer, due)
        try:
            return await answer
        finally:
            timer.cancel()

    def _expire(self, answer: asyncio.Future[Any], due: float) -> None:
        loop = answer.get_loop()
        if loop.time() - due > LAG:
            # What was said meanwhile has not been read yet.
            loop.call_later(LAG, self._expire, answer, loop.time() + LAG)
            return
        fail(answer, StoreDown("no answer in time"))

    async def batch(self) -> list[Entry]:
        """Waits for something to send, and takes it; also what nobody waits for any more: somebody has to undo it."""
        while True:
            for more in self.gather:
                self._queue.extend(Entry(order) for order in more())
            if self._queue:
                return [self._queue.popleft() for _ in range(min(len(self._queue), MOST_AT_ONCE))]
            self._wake.clear()
            self._idle.set()
            await self._wake.wait()

    async def flushed(self) -> None:
        """Waits until everything has been sent, and answered."""
        self._idle.clear()
        self._wake.set()
        await self._idle.wait()

    def refuse(self, error: StoreDown) -> None:
        """Nobody waits any more; what was posted is kept."""
        for entry in self._queue:
            if entry.answer is not None:
                fail(entry.answer, error)
        self._queue = deque(entry for entry in self._queue if entry.answer is None)


def fail(answer: asyncio.Future[Any], error: StoreDown) -> None:
    """Each gets an error of its own: one that several raise gathers their tracebacks."""
    if not answer.done():
        answer.set_exception(StoreDown(*error.args))


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """`asyncio.timeout`, but a process that was itself held up first reads what has come meanwhile."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def late(due: float) -> None:
        nonlocal timer
        if loop.time() - due > LAG:
            timer = loop.call_later(LAG, late, loop.time() + LAG)
        else:
            bound.reschedule(loop.time())

    async with asyncio.timeout(None) as bound:
        timer = loop.call_later(seconds, late, loop.time() + seconds)
        try:
            yield
        finally:
            timer.cancel()
