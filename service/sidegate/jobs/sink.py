"""Sink: where the events of a running job go. What is not durable yet waits here, and where that is much, so does the
run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sidegate.errors import Refusal
from sidegate.jobs import frames

MOST_WAITING = 2**20
"""Bytes of one job that may wait to become durable; then its provider is read no further."""


class JobSink:
    """A `Sink` that numbers whole events and keeps them until `take`. `news` is told when there is something."""

    blocked_since = 0.0
    quiet_since = 0.0

    def __init__(self, generation: int, limit: int, news: Callable[[], None]) -> None:
        self._generation = generation
        self._limit = limit
        self._news = news
        self._waiting: list[bytes] = []
        self._first = 1
        self._size = 0
        self._room = asyncio.Event()
        self._room.set()
        self.last = 0
        """The number of the last event."""
        self.size = 0
        """Bytes of all events."""

    async def write(self, data: bytes) -> None:
        self._check(data)
        await self._room.wait()
        self._add(*frames.numbered(data, self._generation, self.last))

    def write_now(self, data: bytes) -> bool:
        if not self._room.is_set() or self.size + len(data) > self._limit:
            return False
        self._add(*frames.numbered(data, self._generation, self.last))
        return True

    async def beat(self) -> None:
        """Who reads the job is shown signs of life of its own."""

    def abort(self) -> None:
        """Nobody stands still here."""

    def add_body(self, body: bytes) -> None:
        """A whole reply. Raises a `Refusal` where it is larger than may be kept."""
        self._check(body)
        self._add(*frames.whole(body, self._generation, self.last))

    def add_last(self, event: bytes) -> None:
        """An error event: bounded by itself."""
        self._add(*frames.numbered(event, self._generation, self.last))

    def take(self) -> tuple[int, int, bytes]:
        """What has come since: the numbers of the first and the last event, and the frames."""
        first, data = self._first, b"".join(self._waiting)
        self._waiting.clear()
        self._first, self._size = self.last + 1, 0
        self._room.set()
        return first, self.last, data

    def _check(self, data: bytes) -> None:
        if self.size + len(data) > self._limit:
            raise Refusal(502, "reply_too_large", f"The reply is larger than the {self._limit} bytes kept of a job.")

    def _add(self, data: bytes, last: int) -> None:
        self.last = last
        self.size += len(data)
        self._size += len(data)
        self._waiting.append(data)
        if self._size > MOST_WAITING:
            self._room.clear()
        self._news()
