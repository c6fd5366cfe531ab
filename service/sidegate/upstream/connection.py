"""Connections: to one provider, one request at a time, closed the moment a call is cancelled.

A connection is kept only where a reply has ended by its own framing and not one byte came after it, so no call can get
the reply of another.
"""

from __future__ import annotations

import asyncio
import select
from typing import Protocol, cast

from sidegate.errors import CutError, ReplyError
from sidegate.upstream.destination import Origin
from sidegate.upstream.reader import Reader
from sidegate.upstream.response import Response

LARGE_BODY_BYTES = 2**20
"""Of a request: from here on it is written in pieces."""
LINGER_SECONDS = 1.0

_WRITE_BYTES = 2**18


class Keeper(Protocol):
    """Who keeps connections: told when one stands, is free, and is gone."""

    def made(self, connection: Connection) -> None: ...
    def give(self, connection: Connection) -> None: ...
    def lost(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """One connection. Usable between `connection_made` and `close`."""

    def __init__(self, origin: Origin, keeper: Keeper, loop: asyncio.AbstractEventLoop) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self._keeper = keeper
        self._loop = loop
        self._reader = Reader()
        self._transport: asyncio.Transport | None = None
        self._poll: select.poll | None = None
        self._response: Response | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._stuck: asyncio.Future[None] | None = None
        self._full = False
        self._sending = False
        self._paused = False

    # --- for the transport --------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether it bears a request."""
        return self._response is not None

    @property
    def heard(self) -> bool:
        """Whether something of the reply to the last request has come, be it a single byte."""
        return self._reader.heard

    def is_fresh(self) -> bool:
        """Whether an idle one may be used: open, with nothing to read, which would be an end or nobody's reply."""
        if self._transport is None or self._transport.is_closing():
            return False
        if self._poll is None:
            if not hasattr(select, "poll"):
                return True
            # Made for a connection that is used again: one that bears a long stream does without.
            self._poll = select.poll()
            self._poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not self._poll.poll(0)

    async def ask(self, head: bytes, body: bytes) -> Response:
        """Send a request, and give the reply when its head has come. Raises `CutError` and `ReplyError`."""
        response = self._response = Response(self, self._loop)
        self._reader.expect(response)
        self._sending = False
        try:
            if len(body) < LARGE_BODY_BYTES:
                self._write(head + body)
            else:
                await self._upload(response, head, memoryview(body))
            await response.head()
        except BaseException:
            response.close()
            raise
        return response

    async def _upload(self, response: Response, head: bytes, body: memoryview) -> None:
        """Piece by piece. A provider that answers meanwhile wants no more."""
        self._sending = True
        self._write(head)
        for at in range(0, len(body), _WRITE_BYTES):
            if response.begun or self._response is not response:
                return
            self._write(body[at : at + _WRITE_BYTES])
            if self._full:
                self._stuck = self._loop.create_future()
                await self._stuck
        self._sending = False

    def _write(self, data: bytes | memoryview) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def close(self) -> None:
        """At once: what is not sent is not wanted."""
        response, self._response = self._response, None
        if self._transport is not None:
            self._transport.abort()
        if response is not None:
            response.end(CutError("The provider's reply was cut off."))

    # --- for the reader of a response ---------------------------------------------------------------------------------

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def let_go(self, *, complete: bool) -> None:
        """Wait a moment for the last bytes of a complete reply, so that the connection can be used again."""
        if not complete or self._transport is None:
            self.close()
            return
        self._reader.unwanted = True
        self._lingering = self._loop.call_later(LINGER_SECONDS, self.close)
        self.resume()

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._keeper.made(self)

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            # Nobody has asked: it would be taken for the answer to the next request.
            self.close()
            return
        reader = self._reader
        try:
            reader.feed(data)
        except (CutError, ReplyError) as error:
            self._fail(response, error)
            return
        if reader.over:
            self._finish(response)
            return
        if self._stuck is not None and response.begun:
            self._unstick()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = self._poll = None
        self._reader.close()
        self._keeper.lost(self)
        response, self._response = self._response, None
        self._unstick()
        if self._lingering is not None:
            self._lingering.cancel()
        if response is None:
            return
        if error is None and self._reader.until_end:
            response.end()
            return
        said = "'s reply was cut off." if response.begun else " closed the connection without a reply."
        cut = CutError(f"The provider{said}")
        cut.__cause__ = error
        response.end(cut)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._unstick()

    def _unstick(self) -> None:
        if self._stuck is not None and not self._stuck.done():
            self._stuck.set_result(None)

    def _fail(self, response: Response, error: Exception) -> None:
        self._response = None
        response.end(error)
        self._unstick()
        self.close()

    def _finish(self, response: Response) -> None:
        """The reply is whole. What the reader has not read yet it has got."""
        self._response = None
        response.end()
        self._unstick()
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        if self._reader.keeps and not self._sending and self._transport is not None:
            # It may have been stopped for a slow reader; idle, its end must be seen.
            self.resume()
            self._keeper.give(self)
        else:
            self.close()
