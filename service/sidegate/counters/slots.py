"""Slots in this process: so many holders of a key at a time, the others in a fair queue of bounded length and wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sidegate.contract.host import Clock
from sidegate.errors import Refusal

_LONGEST_ADVICE = 30.0
"""Seconds: `retry_after` is a guess from the pace so far, and is not stretched beyond this."""


class LocalSlots:
    """`contract.host.Slots` for one process. Keys that nobody holds or waits for take no memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines: dict[str, _Line] = {}

    def __len__(self) -> int:
        """Keys in memory."""
        return len(self._lines)

    def in_use(self, key: str) -> int:
        """Slots of `key` that are held now."""
        line = self._lines.get(key)
        return line.holders if line else 0

    def waiting(self, key: str) -> int:
        """How many wait for a slot of `key` now."""
        line = self._lines.get(key)
        return len(line.waiters) if line else 0

    @asynccontextmanager
    async def hold(self, key: str, limit: int, *, queue: int, wait: float) -> AsyncIterator[None]:
        """Hold a slot for the length of the block. `wait` is in seconds; a `wait` or `queue` of 0 never waits.

        Raises `Refusal` 429 `concurrency_limit_exceeded`; `retry_after` is guessed from how fast slots came free.
        """
        if limit < 1:
            raise ValueError("limit must be at least 1")
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(self._clock.monotonic())
        try:
            await self._enter(line, limit, queue, wait)
            try:
                yield
            finally:
                line.leave()
        finally:
            if line.empty and self._lines.get(key) is line:
                del self._lines[key]

    async def _enter(self, line: _Line, limit: int, queue: int, wait: float) -> None:
        if line.enter(limit):
            return
        if len(line.waiters) >= queue or wait <= 0:
            raise self._refusal(line)
        try:
            async with asyncio.timeout(wait):
                await line.queue(limit)
        except TimeoutError:
            raise self._refusal(line) from None

    def _refusal(self, line: _Line) -> Refusal:
        return Refusal(
            429,
            "concurrency_limit_exceeded",
            "Too many calls at a time. Try again when others have ended.",
            retry_after=line.advice(self._clock.monotonic()),
        )


class _Line:
    """Who holds and who waits for one key. While anybody alive waits, there is no slot left for the first of them."""

    __slots__ = ("_freed", "_since", "holders", "waiters")

    def __init__(self, now: float) -> None:
        self.holders = 0
        self.waiters: deque[tuple[asyncio.Future[None], int]] = deque()
        self._since = now
        self._freed = 0

    @property
    def empty(self) -> bool:
        return not self.holders and not self.waiters

    def enter(self, limit: int) -> bool:
        """Take a slot at once, unless somebody came earlier."""
        if self.holders >= limit or self.waiters:
            return False
        self.holders += 1
        return True

    async def queue(self, limit: int) -> None:
        """Wait for one's turn. Whoever is cancelled leaves the queue, and passes on a slot given in the same moment."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (turn, limit)
        self.waiters.append(place)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            elif place in self.waiters:
                self.waiters.remove(place)
                self._serve()
            raise

    def leave(self) -> None:
        self.holders -= 1
        self._freed += 1
        self._serve()

    def advice(self, now: float) -> float:
        """Seconds until all who wait now, and one more, would have had a slot at the pace of this busy spell."""
        if not self._freed:
            return 1.0
        pace = (now - self._since) / self._freed
        return min(max(pace * (len(self.waiters) + 1), 1.0), _LONGEST_ADVICE)

    def _serve(self) -> None:
        while self.waiters:
            turn, limit = self.waiters[0]
            if turn.done():
                self.waiters.popleft()
                continue
            if self.holders >= limit:
                return
            self.waiters.popleft()
            self.holders += 1
            turn.set_result(None)
