"""Member: one who takes part, and what it has not been sent yet. One that is too far behind is let go alone."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from sidegate.contract.call import Call
from sidegate.contract.host import Clock
from sidegate.contract.plugin import Handler
from sidegate.conversations.words import Told, encode
from sidegate.live import Live
from sidegate.settings import Route, Settings
from sidegate.sockets.closing import GOING_AWAY, NORMAL, TRY_AGAIN, Closed

TOO_SLOW = Closed(TRY_AGAIN, "too_slow")
OVER = Closed(NORMAL, "closed")
STOPPING = Closed(GOING_AWAY, "gateway_stopping")


def _nothing() -> None:
    """Nobody waits."""


class Serving(Protocol):
    """The config that a connection came in by."""

    settings: Settings
    clock: Clock
    live: Live

    def known(self, pipeline: str) -> Handler:
        """The pipeline for calls whose caller is known."""
        ...


@dataclass(frozen=True, slots=True)
class Seat:
    """By what a connection's turns are run: who asks, and the config that it came in by."""

    call: Call
    service: Serving
    route: Route


class Member:
    """Its connection takes what is pushed, in order."""

    def __init__(self, seat: Seat, limit: int) -> None:
        self.seat = seat
        self.id = ""
        self.name = ""
        self.how: Closed | None = None
        """How its connection is to be closed, once all is sent."""
        self.drained: Callable[[], None] = _nothing
        """Told when it has room again."""
        self._limit = limit
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self.lost = asyncio.Event()
        """It is too far behind to wait until it has taken what it was sent."""

    def tell(self, told: Told) -> None:
        """To this one alone."""
        self.push(encode(told))

    def push(self, data: bytes) -> None:
        """Have it sent. Who reads too slowly, so that more waits than may, is let go."""
        if self.how is not None:
            return
        if self._size + len(data) > self._limit and self._waiting:
            self._waiting.clear()
            self.let_go(TOO_SLOW)
            self.lost.set()
            return
        self._waiting.append(data)
        self._size += len(data)
        self._news.set()

    @property
    def full(self) -> bool:
        """It is so far behind that an answer had better wait, if all are."""
        return self._size > self._limit // 2

    def let_go(self, how: Closed) -> None:
        """Nothing more is told."""
        self.how = self.how or how
        self._news.set()

    async def send(self, write: Callable[[bytes, bool], Awaitable[None]]) -> Closed:
        """Everything, as it comes, until it is to be closed."""
        while True:
            while self._waiting:
                data = self._waiting.popleft()
                await write(data, True)
                full = self.full
                self._size -= len(data)
                if full and not self.full:
                    self.drained()
            if self.how is not None:
                return self.how
            self._news.clear()
            await self._news.wait()
