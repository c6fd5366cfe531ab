"""Socket: the provider's end of a WebSocket. Opened here, as every connection that goes out; imported where a route
serves sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

import aiohttp
from aiohttp import ClientWebSocketResponse, WSMsgType, WSServerHandshakeError

from sidegate import __version__
from sidegate.contract.host import Clock
from sidegate.errors import ConnectError, PhaseTimeout, ProviderError, ReplyError
from sidegate.settings.sockets import Sockets
from sidegate.sockets import closing
from sidegate.sockets.closing import Closed
from sidegate.wire.faults import provider_error

_ENDS: Final = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED})


class Message(NamedTuple):
    """A whole message, in the bytes it came in."""

    data: bytes
    text: bool


class ProviderSocket:
    """A connection that stands. One task receives; several may send."""

    def __init__(
        self, session: aiohttp.ClientSession, socket: ClientWebSocketResponse[Any], settings: Sockets, clock: Clock
    ) -> None:
        self._session = session
        self._socket = socket
        self._settings = settings
        self._clock = clock
        self._waits = False
        self._heard = clock.monotonic()
        self.closed: Closed | None = None
        """How the provider has ended it."""

    async def receive(self) -> Message | None:
        """The next message; `None` where there are no more, and `closed` says why."""
        while self.closed is None:
            self._waits = True
            try:
                message = await self._socket.receive()
            finally:
                self._waits = False
            self._heard = self._clock.monotonic()
            kind = message.type
            if kind is WSMsgType.TEXT:
                return Message(message.data, True)
            if kind is WSMsgType.BINARY:
                return Message(message.data, False)
            if kind is WSMsgType.PING:
                with suppress(ConnectionError):
                    await self._socket.pong(message.data)
            elif kind is WSMsgType.ERROR:
                self.closed = Closed(closing.ABNORMAL)
            elif kind in _ENDS:
                code = message.data if kind is WSMsgType.CLOSE else None
                lost = closing.ABNORMAL if kind is not WSMsgType.CLOSE else closing.NO_STATUS
                self.closed = Closed(code or lost, str(message.extra or ""))
        return None

    async def send(self, data: bytes, text: bool) -> None:
        """Returns when the provider has room. Raises `ConnectionError` where it has gone."""
        await self._socket.send_frame(data, WSMsgType.TEXT if text else WSMsgType.BINARY)

    async def keep(self) -> None:
        """Ask a silent provider for a pong; returns when none came: the connection is lost."""
        every, pong = self._settings.ping, self._settings.pong
        while True:
            silent = self._clock.monotonic() - self._heard
            if silent < every or not self._waits:
                await asyncio.sleep(max(0.001, every - silent if silent < every else every))
                continue
            asked = self._clock.monotonic()
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(pong):
                    await self._socket.ping()
            while self._heard < asked and self._waits:
                if self._clock.monotonic() - asked > pong:
                    self.closed = Closed(closing.ABNORMAL, "no_pong")
                    return
                await asyncio.sleep(max(0.001, pong / 8))

    async def close(self, code: int, reason: str = "") -> None:
        """Say so, wait a while for the other side, and end the connection, whatever it does."""
        try:
            with suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(self._settings.closing):
                    await self._socket.close(code=code, message=closing.reason_bytes(reason))
        finally:
            await self._session.close()


async def open_socket(
    url: str, headers: Mapping[str, str], settings: Sockets, clock: Clock, connect: float
) -> ProviderSocket:
    """Reach a provider, within `connect` seconds, handshake and all.

    Raises `ConnectError`, `PhaseTimeout`, or for an answer in HTTP the `ProviderError` of its status.
    """
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[_no_redirects()],
        auto_decompress=False,
    )
    try:
        async with asyncio.timeout(connect):
            socket = await session.ws_connect(
                url,
                headers={"User-Agent": f"sidegate/{__version__}", **headers},
                autoclose=False,
                autoping=False,
                compress=0,
                max_msg_size=settings.max_message_bytes + 1,
                decode_text=False,
            )
    except BaseException as error:
        await session.close()
        raise _translated(error, connect) from error
    return ProviderSocket(session, socket, settings, clock)


def _translated(error: BaseException, connect: float) -> BaseException:
    if isinstance(error, WSServerHandshakeError):
        return _refused(error)
    if isinstance(error, TimeoutError):
        return PhaseTimeout("connect", connect)
    if isinstance(error, aiohttp.ClientError | OSError | ValueError):
        return ConnectError("The provider could not be reached.")
    return error


def _refused(error: WSServerHandshakeError) -> ProviderError:
    """The provider answers in HTTP. What it says stays with it, but for the status."""
    if 400 <= error.status < 600:
        return provider_error(error.status, error.headers or {}, message="The provider did not open the session.")
    return ReplyError("The provider does not speak WebSocket there.", provider_status=error.status)


def _no_redirects() -> aiohttp.TraceConfig:
    async def refuse(*_: object) -> None:
        raise aiohttp.ClientConnectionError("redirects are not followed")

    config = aiohttp.TraceConfig()
    config.on_request_redirect.append(refuse)
    return config
