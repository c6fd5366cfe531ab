"""Responses: a provider's reply as it is read, apart from the connection that brings it.

A connection that has brought the last byte is free for the next request, whether or not the reader has read it. So a
reader holds what has come and nothing else, and can do no harm to the one after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from sidegate.errors import ReplyError
from sidegate.upstream.headers import Headers
from sidegate.upstream.inflater import Inflater, inflater

MAX_BODY_BYTES = 64 * 2**20
"""Of a buffered reply or an error body."""
BUFFER_BYTES = 2**17
"""What waits for a slow reader; a little more, since a piece is not cut. Beyond it nothing is read of the socket."""

_ENCODING = b"\r\ncontent-encoding:"

Listener = Callable[[bytes], bool]


class Line(Protocol):
    """The connection, as far as a reader may move it."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def let_go(self, *, complete: bool) -> None:
        """The reader has left. `complete`: it has all it wants, though the last bytes may be on their way."""
        ...


NO_HEADERS = Headers(b"\r\n")


class Response:
    """The head of a provider's reply, and its body still to be read."""

    # Every call has one, and sets few of these: so they stand here.
    status = 0
    headers = NO_HEADERS
    complete = False
    """Set by the reader where the reply is over although the bytes may not be: what follows is not wanted."""
    _inflater: Inflater | None = None
    _size = 0
    _enough = 1
    """Bytes of the body that the reader wants to be woken for."""
    _room = BUFFER_BYTES
    _paused = False
    _ended = False
    _error: Exception | None = None
    _waiter: asyncio.Future[None] | None = None
    _listener: Listener | None = None

    def __init__(self, line: Line, loop: asyncio.AbstractEventLoop) -> None:
        self._line: Line | None = line
        self._loop = loop
        self._pieces: list[bytes] = []

    # --- for the connection -------------------------------------------------------------------------------------------

    @property
    def begun(self) -> bool:
        """Whether its head has come."""
        return self.status != 0

    def begin(self, status: int, headers: Headers) -> None:
        """Raises `ReplyError` for a body in an encoding that cannot be read; it has then not begun."""
        self.headers = headers
        if headers.has(_ENCODING):
            self._inflater = inflater(headers["content-encoding"])
        self.status = status
        self._wake()

    def feed(self, data: bytes) -> None:
        """What a read has brought of the body: wakes the reader, and lets no more come than there is room for."""
        if self._listener is not None:
            if not self._listener(data):
                self._wake()
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= self._room and not self._paused and self._line is not None:
            self._paused = True
            self._line.pause()
        if self._size >= self._enough:
            self._wake()

    def end(self, error: Exception | None = None) -> None:
        """Nothing follows: the body is whole, or `error` says why not. The connection is no longer this reply's."""
        self._ended, self._error = True, error
        self._line = None
        self._wake()

    def _wake(self) -> None:
        self._listener = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- for its reader -----------------------------------------------------------------------------------------------

    async def head(self) -> None:
        """Returns when it has come. Raises why it never will."""
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._wait()

    @property
    def inflates(self) -> bool:
        """Whether the body is compressed: then only `piece` and `read` give it."""
        return self._inflater is not None

    @property
    def ended(self) -> bool:
        """Whether nothing more comes, be it that all has come."""
        return self._ended

    def taken(self) -> bytes:
        """What has come; empty where nothing has."""
        return self._taken() if self._pieces else b""

    def listened(self, listener: Listener) -> asyncio.Future[None] | None:
        """Let `listener` have what each read of the socket brings, until it is false, or to the end of the body: then
        what this gives is resolved, and `heard` is to be called. `None` where there is no need to wait."""
        if self._pieces or self._ended:
            return None
        self._listener = listener
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def heard(self) -> None:
        """Nobody listens any more."""
        self._waiter = self._listener = None

    async def piece(self) -> bytes:
        """The next bytes, as they come; empty at the end. Raises `CutError`, once what came before it was given."""
        if self._inflater is not None:
            return await self._inflated(self._inflater)
        return await self._came()

    async def read(self, limit: int = MAX_BODY_BYTES) -> bytes:
        """The whole body. Raises `ReplyError` beyond `limit`, and `CutError`."""
        if self._ended and self._size <= limit and self._error is None and self._inflater is None:
            # It came with its head.
            return self._taken()
        if self._inflater is not None:
            return await self._read_inflated(limit)
        self._enough, self._room = limit + 1, max(limit + 1, BUFFER_BYTES)
        self._go_on()
        while not self._ended and self._size <= limit:
            await self._wait()
        if self._size > limit:
            raise ReplyError("The provider's reply is too large.")
        if self._error is not None:
            raise self._error
        return self._taken()

    def close(self) -> None:
        """Leave. A connection that has brought everything is kept already; any other is closed at once."""
        line, self._line = self._line, None
        self._pieces.clear()
        if line is not None:
            line.let_go(complete=self.complete)

    async def _came(self) -> bytes:
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            await self._wait()
        return self._taken()

    async def _inflated(self, inflate: Inflater) -> bytes:
        while not (data := inflate.more()):
            piece = await self._came()
            if not piece:
                inflate.end()
                return b""
            inflate.feed(piece)
        return data

    async def _read_inflated(self, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        while piece := await self.piece():
            size += len(piece)
            if size > limit:
                raise ReplyError("The provider's reply is too large.")
            parts.append(piece)
        return b"".join(parts)

    def _taken(self) -> bytes:
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._size = 0
        if self._paused:
            self._go_on()
        return data

    def _go_on(self) -> None:
        if self._paused:
            self._paused = False
            if self._line is not None:
                self._line.resume()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = self._listener = None
