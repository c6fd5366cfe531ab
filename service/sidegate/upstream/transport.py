"""Transport: the only opener of outgoing HTTP, and the one place of its settings.

aiohttp's defaults are not a gateway's: a total timeout of 300 s, 100 connections in all, redirects followed with the
keys and the prompt, cookies of one caller sent for another. `tests/test_transport.py` fails without each of these.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from io import BytesIO
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from sidegate.errors import ConnectError, CutError, PhaseTimeout, ReplyError

MAX_BODY_BYTES = 64 * 2**20
"""Of a buffered reply or an error body."""
MAX_HEADER_BYTES = 32 * 2**10
LARGE_BODY_BYTES = 2**20
"""Of a request: from here on it is written in pieces."""
LINGER_SECONDS = 1.0
MAX_LINGER_BYTES = 64 * 2**10


class Response:
    """The head of a provider's reply, and its body still to be read."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._content = response.content
        self.complete = False
        """Set by the reader where the reply is over although the bytes may not be: what follows is not wanted."""

    async def piece(self) -> bytes:
        """The next bytes, as they come; empty at the end. Raises `CutError`."""
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise CutError("The provider's reply was cut off.") from error

    async def read(self, limit: int = MAX_BODY_BYTES) -> bytes:
        """The whole body. Raises `ReplyError` beyond `limit`."""
        parts: list[bytes] = []
        size = 0
        while piece := await self.piece():
            size += len(piece)
            if size > limit:
                raise ReplyError("The provider's reply is too large.")
            parts.append(piece)
        return b"".join(parts)


class Transport:
    """A pool of connections to providers. `reconnected` is told of each request that was sent again."""

    def __init__(self, reconnected: Callable[[], None] = lambda: None) -> None:
        self._reconnected = reconnected
        self._session: aiohttp.ClientSession | None = None
        self._lingering: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(
            # No bound here: a pool that is full makes calls hang; the router's bound refuses them.
            connector=_Connector(limit=0, limit_per_host=0, keepalive_timeout=30, ttl_dns_cache=10),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            raise_for_status=False,
            auto_decompress=True,
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept", "Content-Type"),
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            read_bufsize=2**17,
        )

    async def stop(self) -> None:
        for task in self._lingering:
            task.cancel()
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, connect_timeout: float
    ) -> AsyncIterator[Response]:
        """Send, and give the head of the answer. Leaving early closes the connection; read to the end, it is kept.

        Raises `ConnectError` where nothing was reached, `PhaseTimeout` for the connect phase, `CutError` inside a body.
        """
        response = await self._send(url, headers, body, connect_timeout)
        given = Response(response)
        try:
            yield given
        finally:
            self._let_go(response, given)

    @asynccontextmanager
    async def get(self, url: str, headers: Mapping[str, str], *, connect_timeout: float) -> AsyncIterator[Response]:
        """As `post`, with nothing to send."""
        response = await self._send(url, headers, None, connect_timeout)
        given = Response(response)
        try:
            yield given
        finally:
            self._let_go(response, given)

    def _let_go(self, response: aiohttp.ClientResponse, given: Response) -> None:
        if given.complete and not response.content.at_eof():
            self._linger(response)
        else:
            # Keeps a connection that was read to its end, and closes any other at once.
            response.close()

    def _linger(self, response: aiohttp.ClientResponse) -> None:
        """Wait for the last bytes of a complete reply, so that its connection can be used again."""
        task = asyncio.get_running_loop().create_task(_read_out(response))
        self._lingering.add(task)
        task.add_done_callback(self._lingering.discard)

    async def _send(
        self, url: str, headers: Mapping[str, str], body: bytes | None, connect_timeout: float
    ) -> aiohttp.ClientResponse:
        sending = _Sending()
        _SENDING.set(sending)
        try:
            return await self._request(url, headers, body, connect_timeout)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if not sending.may_be_repeated:
                # The request was on its way: whether it cost something is not known.
                raise CutError("The provider closed the connection without a reply.") from error
        # The provider closed a kept connection while the request was on its way; not one byte of a reply came.
        self._reconnected()
        try:
            return await self._request(url, {**headers, "Connection": "close"}, body, connect_timeout)
        except (aiohttp.ClientError, ConnectError) as error:
            raise CutError("The provider closed the connection without a reply.") from error

    async def _request(
        self, url: str, headers: Mapping[str, str], body: bytes | None, connect_timeout: float
    ) -> aiohttp.ClientResponse:
        assert self._session is not None, "the transport was not started"
        ask = self._session.get if body is None else self._session.post
        try:
            return await ask(
                url,
                # aiohttp writes bytes at once, however many; a file it writes piece by piece.
                data=body if body is None or len(body) < LARGE_BODY_BYTES else BytesIO(body),
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout),
            )
        except aiohttp.ClientConnectorError as error:
            # First, since one of a certificate is a ValueError too.
            raise ConnectError("The provider cannot be reached.") from error
        except aiohttp.ServerTimeoutError as error:
            raise PhaseTimeout("connect", connect_timeout) from error
        except (
            aiohttp.ClientResponseError,
            aiohttp.ClientPayloadError,
            aiohttp.NonHttpUrlClientError,
            ValueError,
        ) as error:
            raise ReplyError("The provider's reply is not HTTP.") from error


class _Connection(ResponseHandler):
    """Knows whether anything came on it since it was last taken: a request that was heard is not sent again."""

    received = False

    def data_received(self, data: bytes) -> None:
        self.received = True
        payload = self._payload
        super().data_received(data)
        if payload is not None and self.exception() is not None and not payload.is_eof():
            # A body that stops being HTTP: aiohttp closes the connection, and lets whoever reads the body wait.
            payload.set_exception(aiohttp.ClientPayloadError("malformed"))


class _Sending:
    """One request on its way, and the connection it was given."""

    __slots__ = ("_connection", "_reused")

    def __init__(self) -> None:
        self._connection: _Connection | None = None
        self._reused = False

    def given(self, connection: _Connection) -> None:
        self._reused = connection.received
        self._connection = connection
        connection.received = False

    @property
    def may_be_repeated(self) -> bool:
        """The connection was kept from an earlier request, and not one byte of a reply came."""
        return self._reused and self._connection is not None and not self._connection.received


_SENDING: ContextVar[_Sending] = ContextVar("sending")


class _Connector(aiohttp.TCPConnector):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._factory = cast("partial[ResponseHandler]", partial(_Connection, loop=self._loop))

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        given = await super().connect(req, traces, timeout)
        connection = given.protocol
        if isinstance(connection, _Connection):
            _SENDING.get().given(connection)
        return given


async def _read_out(response: aiohttp.ClientResponse) -> None:
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            left = MAX_LINGER_BYTES
            while left > 0 and (piece := await response.content.readany()):
                left -= len(piece)
    except (aiohttp.ClientError, OSError, TimeoutError):
        pass
    finally:
        response.close()
