"""Sink: what a call says to its client, numbered and kept. The client reads as ever, and is waited for as ever."""

from __future__ import annotations

from collections.abc import Callable

from sidegate.jobs import frames
from sidegate.outlet import NullSink, Sink
from sidegate.streams.log import GENERATION, StreamLog

PING = b": ping\n"
"""A line, and no block of lines: where ids are, some clients take that for an event."""


class LogSink:
    """A `Sink` before another one. `kept` is told how much memory each write took."""

    def __init__(self, log: StreamLog, inner: Sink, kept: Callable[[int], None], *, comments: bool) -> None:
        self._log = log
        self._inner = inner
        self._kept = kept
        self._comments = comments

    @property
    def blocked_since(self) -> float:
        return self._inner.blocked_since

    @property
    def quiet_since(self) -> float:
        return self._inner.quiet_since

    async def write(self, data: bytes) -> None:
        numbered, last = frames.numbered(data, GENERATION, self._log.last)
        if numbered:
            self._add(numbered, last)
            await self._inner.write(numbered)

    def write_now(self, data: bytes) -> bool:
        numbered, last = frames.numbered(data, GENERATION, self._log.last)
        if not self._inner.write_now(numbered):
            return False
        if numbered:
            self._add(numbered, last)
        return True

    async def beat(self) -> None:
        if self._comments:
            await self._inner.write(PING)
        else:
            await self._inner.beat()

    def abort(self) -> None:
        self._inner.abort()

    def left(self) -> None:
        """The client has gone: what still comes is kept, and nobody is waited for."""
        self._inner = NullSink()

    def add_last(self, event: bytes) -> bytes:
        """An event that the client is told by somebody else: kept, and given as it is to be told."""
        numbered, last = frames.numbered(event, GENERATION, self._log.last)
        self._add(numbered, last)
        return numbered

    def _add(self, numbered: bytes, last: int) -> None:
        before = self._log.size
        self._log.add(numbered, last)
        self._kept(self._log.size - before)
