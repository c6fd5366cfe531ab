"""Connections: HTTP/1.1 to one provider, one request at a time, parsed strictly by llhttp (`httptools`).

What is not plainly HTTP is refused and the connection closed (RFC 9112): two lengths, a transfer coding other than
`chunked`, a bare line feed, a space before a colon, more than 32 KiB of head or trailers. A connection is kept only
where a reply has ended by its own framing and not one byte came after it, so no call can get the reply of another.
"""

from __future__ import annotations

import asyncio
import select
from typing import Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from sidegate.errors import CutError, ReplyError
from sidegate.upstream.destination import Origin
from sidegate.upstream.response import Response

MAX_HEADER_BYTES = 32 * 2**10
"""Of a head, those of interim replies and the trailers included; and of framing between two bytes of a body."""
LARGE_BODY_BYTES = 2**20
"""Of a request: from here on it is written in pieces."""
LINGER_SECONDS = 1.0
MAX_LINGER_BYTES = 64 * 2**10

_WRITE_BYTES = 2**18
_HTTP = b"HTTP/"
"""The parser takes RTSP and ICE, too."""
_INTERIM = frozenset({100, 102, 103})
_BODILESS = frozenset({204, 304})
_VERSIONS = frozenset({"1.0", "1.1"})


class Keeper(Protocol):
    """Who keeps connections: told when one stands, is free, and is gone."""

    def made(self, connection: Connection) -> None: ...
    def give(self, connection: Connection) -> None: ...
    def lost(self, connection: Connection) -> None: ...


class _Refused(Exception):
    """Stops the parser."""


class Connection(asyncio.Protocol):
    """One connection. Usable between `connection_made` and `close`."""

    def __init__(self, origin: Origin, keeper: Keeper, loop: asyncio.AbstractEventLoop) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self._keeper = keeper
        self._loop = loop
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._poll: select.poll | None = None
        self._response: Response | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._stuck: asyncio.Future[None] | None = None
        self._full = False
        self._reset()

    def _reset(self) -> None:
        """Before each request."""
        self.heard = False
        """Something of a reply has come, be it a single byte."""
        self._first = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_size = self._dry = self._dropped = 0
        self._interim = self._until_end = self._over = self._keeps = self._sending = False
        self._problem: ReplyError | None = None

    # --- for the transport --------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether it bears a request."""
        return self._response is not None

    def is_fresh(self) -> bool:
        """Whether an idle one may be used: open, with nothing to read, which would be an end or nobody's reply."""
        if self._transport is None or self._transport.is_closing():
            return False
        return self._poll is None or not self._poll.poll(0)

    async def ask(self, head: bytes, body: bytes) -> Response:
        """Send a request, and give the reply when its head has come. Raises `CutError` and `ReplyError`."""
        self._reset()
        response = self._response = Response(self, self._loop)
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
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def let_go(self, *, complete: bool) -> None:
        """Wait a moment for the last bytes of a complete reply, so that the connection can be used again."""
        if not complete or self._transport is None:
            self.close()
            return
        self._dry = 0
        self._lingering = self._loop.call_later(LINGER_SECONDS, self.close)
        self.resume()

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._keeper.made(self)

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None or self._parser is None:
            # Nobody has asked: it would be taken for the answer to the next request.
            self.close()
            return
        self.heard = True
        self._dry += len(data)
        if len(self._first) < len(_HTTP):
            self._first = (self._first + data[:16]).lstrip(b"\r\n")[: len(_HTTP)]
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self._over:
                self._fail(response, error)
                return
            self._keeps = False
        if self._over:
            self._finish(response)
        elif self._dry > MAX_HEADER_BYTES:
            self._fail(response, None)
        else:
            response.arrived()
            if self._stuck is not None and response.begun:
                self._unstick()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = self._poll = None
        # The parser holds this object's methods, and this object the parser.
        self._parser = None
        self._keeper.lost(self)
        response, self._response = self._response, None
        self._unstick()
        if self._lingering is not None:
            self._lingering.cancel()
        if response is None:
            return
        if error is None and self._until_end:
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

    def _fail(self, response: Response, error: Exception | None) -> None:
        self._response = None
        failure: CutError | ReplyError
        if response.begun:
            failure = CutError("The provider's reply was cut off.")
        else:
            failure = self._problem or ReplyError("The provider's reply is not HTTP.")
        failure.__cause__ = error
        response.end(failure)
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
        if self._keeps and not self._sending and self._transport is not None:
            # It may have been stopped for a slow reader; idle, its end must be seen.
            self.resume()
            self._keeper.give(self)
        else:
            self.close()

    # --- what the parser calls ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._over:
            raise _Refused

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value) + 4
        if self._head_size > MAX_HEADER_BYTES:
            raise _Refused
        if self._response is None or self._response.begun:
            return  # a trailer
        name = name.lower()
        value = value.rstrip(b" \t")
        before = self._headers.get(name)
        self._headers[name] = value if before is None else before + b", " + value

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, {}
        if status in _INTERIM:
            self._interim = True
            return
        coding = headers.get(b"transfer-encoding")
        version = self._parser.get_http_version()
        if not 200 <= status < 600 or version not in _VERSIONS or self._first != _HTTP:
            raise _Refused
        if coding is not None and (coding.lower() != b"chunked" or version == "1.0" or status in _BODILESS):
            raise _Refused
        self._until_end = coding is None and b"content-length" not in headers and status not in _BODILESS
        response = self._response
        assert response is not None
        try:
            response.begin(status, headers)
        except ReplyError as problem:
            response.status, self._problem = 0, problem
            raise

    def on_body(self, data: bytes) -> None:
        self._dry = 0
        response = self._response
        assert response is not None
        if self._lingering is None:
            response.feed(data)
            return
        self._dropped += len(data)
        if self._dropped > MAX_LINGER_BYTES:
            raise _Refused

    def on_message_complete(self) -> None:
        assert self._parser is not None
        if self._interim:
            self._interim = False
            return
        self._over = True
        self._keeps = self._parser.should_keep_alive()
