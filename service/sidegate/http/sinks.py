"""Sinks: how bytes reach a client over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_request import BaseRequest
from aiohttp_sse import EventSourceResponse

from sidegate.contract.host import Clock
from sidegate.http.server import connection_of

_PING = b": ping\n\n"

Headers = Callable[[], Mapping[str, str]]


class Streamed(web.StreamResponse):
    """Its head leaves with the first bytes of its body, in one write."""

    _send_headers_immediately = False


class _Events(EventSourceResponse, Streamed):
    """A stream without a task and socket options of its own: `live` beats for all streams, and cuts whoever is stuck.

    Measured: that task is a third of what opening and closing a stream costs, and leaves 48 objects in cycles.
    """

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        if request.version >= (1, 1):
            self.enable_chunked_encoding()
        return await web.StreamResponse.prepare(self, request)


class StreamSink:
    """A stream of events to one client: the head leaves with the first byte, or with the first sign of life.

    Whole events only are written, so that a heartbeat always lands between two. `headers` are asked for with the head.
    """

    numbers = True
    """Whether its events may have ids."""

    def __init__(self, request: web.Request, clock: Clock, *, comments: bool) -> None:
        self._request = request
        self._connection = connection_of(request)
        self.comments = comments
        self._ping = _PING if comments else b""
        self._clock = clock
        self._response: web.StreamResponse | None = None
        self._gone = False
        self._chunked: bool | None = None
        """How the body is framed; `None` before its head has left."""
        self.headers: Headers | None = None
        self.blocked_since = 0.0
        """Monotonic seconds since when a write waits for the reader; 0 while none does."""
        self.quiet_since = clock.monotonic()
        """Monotonic seconds of the last sign of life."""

    @property
    def begun(self) -> bool:
        return self._response is not None

    async def _begun(self) -> web.StreamResponse:
        """The response, its head made ready. Nothing here waits, so no heartbeat comes between."""
        if self._response is not None:
            return self._response
        headers = self.headers() if self.headers is not None else None
        self.headers = None
        response = self._head(headers)
        writer = await response.prepare(self._request)
        self._response = response
        self._chunked = None if writer is None else response.chunked
        # They are made bytes of; a stream may last.
        response.headers.clear()
        return response

    def _head(self, headers: Mapping[str, str] | None) -> web.StreamResponse:
        return _Events(headers=headers, allow_all_methods=True)

    async def write(self, data: bytes) -> None:
        """Write whole events. A reader that has left is not an error here: its handler is cancelled, and says so."""
        if self._gone:
            return
        try:
            response = await self._begun()
            self.blocked_since = self.quiet_since = self._clock.monotonic()
            # Of nothing at all a head is made that has not left.
            await response.write(data)
        except ConnectionError:
            self._gone = True
        finally:
            self.blocked_since = 0.0

    def write_now(self, data: bytes) -> bool:
        """Write whole events where the reader has room; else false, and nothing is written.

        Past aiohttp's writer, which would make a coroutine of it, and count: the half of what a token costs here.
        """
        if self._gone:
            return True
        connection = self._connection
        transport = connection.transport
        if self._chunked is None or transport is None or connection.full or transport.is_closing():
            return False
        self.quiet_since = self._clock.monotonic()
        transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        return True

    async def beat(self) -> None:
        """Show a sign of life: a comment; where the dialect has none, the head once."""
        if self._ping or not self.begun:
            await self.write(self._ping)

    async def end(self) -> web.StreamResponse:
        """End the body. Whether it is a clean end of the reply was decided by what was written last."""
        response = await self._begun()
        self._gone = True
        with suppress(ConnectionError):
            await response.write_eof()
        return response

    async def fail(self, event: bytes) -> web.StreamResponse:
        """End the body of a reply that failed: `event` says so in the client's dialect."""
        await self.write(event)
        return await self.end()

    def leave(self) -> None:
        """The reader has gone, or is answered without a stream: nothing is written any more."""
        self._gone = True
        # They come from the call, which has this.
        self.headers = None

    def abort(self) -> None:
        """Cut a reader that stands still."""
        self.leave()
        if self._request.transport is not None:
            self._request.transport.abort()
