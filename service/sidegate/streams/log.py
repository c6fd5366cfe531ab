"""Log: what one stream has said, as numbered frames, in memory and bounded."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager

from sidegate.jobs import frames

GENERATION = 1
"""A stream is told once: unlike a job, it never begins anew."""
MOST_AT_ONCE = 256 * 1024
"""Bytes that a reader is given at a time."""
_OVERHEAD = 100
"""Bytes that a piece costs besides its own."""


class StreamLog:
    """Frames `trimmed + 1` to `last`. Readers are woken when there is more."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._lasts: list[int] = []
        self._readers: set[asyncio.Event] = set()
        self.trimmed = 0
        """The number of the last frame that is not kept any more."""
        self.last = 0
        self.size = 0
        """Bytes in memory."""
        self.ended: str | None = None
        """How it ended, once it has."""

    def add(self, data: bytes, last: int) -> None:
        """Whole frames up to this number."""
        self._pieces.append(data)
        self._lasts.append(last)
        self.last = last
        self.size += len(data) + _OVERHEAD
        if self.size > self._limit:
            self._trim()
        for reader in self._readers:
            reader.set()

    def end(self, ending: str) -> None:
        """Nothing comes any more."""
        self.ended = ending
        for reader in self._readers:
            reader.set()

    def forget(self) -> None:
        """Give its memory back: it cannot be read again."""
        self.trimmed = self.last
        self._pieces, self._lasts, self.size = [], [], 0

    def since(self, number: int, most: int = MOST_AT_ONCE) -> tuple[bytes, int]:
        """Frames behind a number that is not trimmed, and the number of the last one given."""
        start = index = bisect_right(self._lasts, number)
        size = 0
        while index < len(self._pieces) and size < most:
            size += len(self._pieces[index])
            index += 1
        if index == start:
            return b"", number
        before = self._lasts[start - 1] if start else self.trimmed
        head = frames.after(self._pieces[start], before + 1, number)
        return head + b"".join(self._pieces[start + 1 : index]), self._lasts[index - 1]

    @contextmanager
    def following(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever there is more."""
        news = asyncio.Event()
        self._readers.add(news)
        try:
            yield news
        finally:
            self._readers.discard(news)

    def _trim(self) -> None:
        count = 0
        while count < len(self._pieces) and self.size > self._limit * 9 // 10:
            self.size -= len(self._pieces[count]) + _OVERHEAD
            count += 1
        self.trimmed = self._lasts[count - 1]
        del self._pieces[:count], self._lasts[:count]
