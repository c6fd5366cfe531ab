"""Socket: the client's end of a WebSocket, on aiohttp's. Opens, receives, sends, pings, and closes within bounds.

What an endpoint does with it:

    socket = ClientSocket(request, settings.sockets, clock)
    await socket.open("realtime")                       # 101; before that a refusal is an HTTP error
    keeping = asyncio.create_task(socket.keep())        # pings; ends with why the client is to be closed
    while (message := await socket.receive()) is not None:
        await socket.send(message.data, message.text)   # returns when the reader has room
    socket.closed                                       # how the client closed, or what it did wrong
    await socket.close(Closed(1000))

`send` may be called by several tasks, `receive` by one. A reader that stands still shows in `blocked_since`, by which
`live` cuts it: a `ClientSocket` is the sink of its call's outlet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import WebSocketError, WSMsgType, web
from multidict import CIMultiDict

from sidegate.contract.host import Clock
from sidegate.errors import Cancelled, Ending, SidegateError
from sidegate.settings.sockets import Sockets
from sidegate.sockets import closing
from sidegate.sockets.closing import Closed
from sidegate.sockets.masking import Masks

if TYPE_CHECKING:
    from aiohttp._websocket.reader import WebSocketDataQueue
    from aiohttp.http_websocket import WebSocketReader, WebSocketWriter
    from aiohttp.web_request import BaseRequest

_ENDS = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED})


class Message(NamedTuple):
    """A whole message, in the bytes it came in."""

    data: bytes
    text: bool


class ClientSocket:
    """One connection, from its handshake to its end."""

    def __init__(self, request: web.Request, settings: Sockets, clock: Clock) -> None:
        self._request = request
        self._settings = settings
        self._clock = clock
        self._socket: _Socket | None = None
        self._waits = False
        """Whoever receives is waiting for the client: what it says is read at once."""
        self.closed: Closed | None = None
        """How the client has ended it, or what is to be told it for what it did."""
        self.blocked_since = 0.0
        """Monotonic seconds since when a write waits for the reader; 0 while none does."""
        self.quiet_since = 0.0
        """None waits for a sign of life but the ticker of `keep`."""
        self.heard = clock.monotonic()
        """When the client last gave a sign of life, monotonic seconds."""
        self.active = self.heard
        """When either side last said something: pings and pongs are nothing said."""

    @property
    def opened(self) -> bool:
        return self._socket is not None

    @staticmethod
    def upgrades(request: web.Request) -> bool:
        """Whether a request is a handshake, and one that can be answered."""
        return _Socket("", 1).can_prepare(request).ok

    async def open(self, protocol: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Answer the handshake; `protocol` is the one chosen of those offered. Raises `ConnectionError`."""
        socket = _Socket(protocol, self._settings.max_message_bytes)
        socket.headers.update(headers or {})
        await socket.prepare(self._request)
        self._socket = socket
        self.heard = self.active = self._clock.monotonic()

    async def receive(self) -> Message | None:
        """The next message; `None` where there are no more, and `closed` says why."""
        while self.closed is None:
            assert self._socket is not None
            self._waits = True
            try:
                message = await self._socket.receive()
            finally:
                self._waits = False
            self.heard = self._clock.monotonic()
            if (found := await self._taken(message)) is not None:
                self.active = self.heard
                return found
        return None

    async def _taken(self, message: Any) -> Message | None:
        assert self._socket is not None
        kind = message.type
        if kind is WSMsgType.TEXT:
            data: bytes = message.data
            if not _is_text(data):
                self.closed = Closed(closing.INVALID_TEXT, "invalid_utf8")
                return None
            return Message(data, True)
        if kind is WSMsgType.BINARY:
            return Message(message.data, False)
        if kind is WSMsgType.PING:
            with suppress(ConnectionError):
                await self._socket.pong(message.data)
        elif kind is WSMsgType.ERROR:
            error = message.data
            code = error.code if isinstance(error, WebSocketError) else closing.ABNORMAL
            self.closed = Closed(int(code), "protocol_error")
        elif kind in _ENDS:
            said: int | None = message.data if kind is WSMsgType.CLOSE else None
            # aiohttp's word for a close frame without a code is 0, and for an end without a frame 1000.
            lost = kind is WSMsgType.CLOSED
            self.closed = Closed(closing.ABNORMAL if lost else said or closing.NO_STATUS, str(message.extra or ""))
        return None

    async def send(self, data: bytes, text: bool) -> None:
        """Returns when the reader has room. To one that has left, nothing is sent, which is no error here."""
        socket = self._socket
        if socket is None or socket.closed:
            return
        now = self._clock.monotonic()
        self.active = now
        self.blocked_since = now
        try:
            await socket.send_frame(data, WSMsgType.TEXT if text else WSMsgType.BINARY)
        except ConnectionError:
            return
        finally:
            self.blocked_since = 0.0

    async def keep(self) -> SidegateError:
        """Ask for a pong where the client is silent; returns with why the session has to end."""
        settings, began = self._settings, self._clock.monotonic()
        while True:
            now = self._clock.monotonic()
            if now - began >= settings.longest:
                return _over("session_too_long", "The session has lasted as long as it may.")
            if now - self.active >= settings.idle:
                return _over("idle_timeout", "Nothing was said for too long.")
            silent = now - self.heard
            if silent >= settings.ping and self._waits:
                if not await self._asked():
                    self.abort()
                    return Cancelled(Ending.CLIENT_GONE, code="no_pong")
                continue
            due = min(began + settings.longest, self.active + settings.idle) - now
            ping = settings.ping - silent if silent < settings.ping else settings.ping
            await asyncio.sleep(max(0.001, min(due, ping)))

    async def _asked(self) -> bool:
        """Whether a ping brought a sign of life. One whose frames nobody takes at present is not to blame."""
        assert self._socket is not None
        asked = self._clock.monotonic()
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(self._settings.pong):
                await self._socket.ping()
        until = asked + self._settings.pong
        while self.heard < asked and self._waits:
            left = until - self._clock.monotonic()
            if left <= 0:
                return False
            await asyncio.sleep(min(left, max(0.001, self._settings.pong / 8)))
        return True

    async def close(self, how: Closed) -> None:
        """Say so, wait for the client to say the same, for a while, and end the connection."""
        socket = self._socket
        if socket is None:
            return
        code = how.code if closing.may_be_sent(how.code) else closing.NORMAL
        try:
            async with asyncio.timeout(self._settings.closing):
                await socket.close(code=code, message=closing.reason_bytes(how.reason))
        except (TimeoutError, ConnectionError):
            self.abort()

    def ended(self) -> web.StreamResponse:
        """For aiohttp, whose handler gives a response."""
        assert self._socket is not None
        return self._socket

    # --- the sink of its call's outlet --------------------------------------------------------------------------------

    async def write(self, data: bytes) -> None:
        await self.send(data, True)

    def write_now(self, data: bytes) -> bool:
        return False

    async def beat(self) -> None:
        """`keep` does."""

    def abort(self) -> None:
        """Cut a client that stands still."""
        if self._request.transport is not None:
            self._request.transport.abort()


class _Socket(web.WebSocketResponse):
    """aiohttp's, told of nothing but its own protocol, and strict about masks."""

    def __init__(self, protocol: str, max_message_bytes: int) -> None:
        super().__init__(
            protocols=(protocol,) if protocol else (),
            autoclose=False,
            autoping=False,
            compress=False,
            # It refuses what is as large as its bound.
            max_msg_size=max_message_bytes + 1,
            decode_text=False,
        )

    def _handshake(self, request: BaseRequest) -> tuple[CIMultiDict[str], str | None, int, bool]:
        # aiohttp logs the protocols that are offered where none fits, and one of them may bear a key.
        headers = CIMultiDict(request.headers)
        headers.popall("Sec-WebSocket-Protocol", None)
        if self._protocols:
            headers["Sec-WebSocket-Protocol"] = next(iter(self._protocols))
        return super()._handshake(request.clone(headers=headers))

    def _post_start(self, request: BaseRequest, protocol: str | None, writer: WebSocketWriter) -> None:
        connection = request.protocol
        early, connection._message_tail = connection._message_tail, b""
        super()._post_start(request, protocol, writer)
        assert self._parser is not None
        assert self._reader is not None
        self._masked = _Masked(self._parser, self._reader)
        connection._payload_parser = self._masked
        if early:
            self._masked.feed_data(early)


class _Masked:
    """A reader of frames, before which each is seen to be masked."""

    def __init__(self, reader: WebSocketReader, queue: WebSocketDataQueue) -> None:
        self._reader = reader
        self._queue = queue
        self._masks = Masks()
        self._refused = False

    def check(self, data: bytes) -> bool:
        if not self._refused and not self._masks.hold(data):
            self._refused = True
            self._queue.set_exception(WebSocketError(closing.PROTOCOL_ERROR, "a frame of a client that is not masked"))
        return not self._refused

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        return self._reader.feed_data(data) if self.check(data) else (True, b"")

    def feed_eof(self) -> None:
        self._reader.feed_eof()


def _is_text(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _over(code: str, message: str) -> SidegateError:
    error = SidegateError(message, status=408, code=code)
    error.ending = Ending.TIMED_OUT
    return error
