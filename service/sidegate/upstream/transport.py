"""Transport: the only opener of outgoing HTTP. Requests go out on kept connections, and replies come back as they are.

No redirect is followed, with the keys and the prompt; no cookie of one caller is sent for another; no proxy of the
environment is used; and no time bounds a stream but those of the config.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType

from sidegate.errors import ConnectError, CutError, PhaseTimeout
from sidegate.upstream.connection import Connection
from sidegate.upstream.destination import Destination, Opening, Origin, read_url, write_opening
from sidegate.upstream.pool import Pool
from sidegate.upstream.response import Response

MOST_URLS = 256


class Transport:
    """A pool of connections to providers. `reconnected` is told of each request that was sent again."""

    def __init__(self, reconnected: Callable[[], None] = lambda: None) -> None:
        self._reconnected = reconnected
        self._pool: Pool | None = None
        self._read: dict[str, Destination] = {}

    async def start(self) -> None:
        self._pool = Pool()

    async def stop(self) -> None:
        if self._pool is not None:
            await self._pool.stop()

    @property
    def in_use(self) -> list[Connection]:
        """The connections that bear a request."""
        return [] if self._pool is None else self._pool.in_use()

    def post(self, url: str, headers: Mapping[str, str], body: bytes, *, connect_timeout: float) -> Asking:
        """Send, and give the head of the answer. Leaving early closes the connection; read to the end, it is kept.

        Raises as `send`.
        """
        return Asking(self, "POST", url, headers, body, connect_timeout)

    def get(self, url: str, headers: Mapping[str, str], *, connect_timeout: float) -> Asking:
        """As `post`, with nothing to send."""
        return Asking(self, "GET", url, headers, None, connect_timeout)

    def opening(self, method: str, url: str, headers: Mapping[str, str], *, bodiless: bool = False) -> Opening:
        """What requests have in common, to be sent with each. Raises `ConnectError` for what cannot be sent."""
        return write_opening(method, self._destination(url), headers, bodiless=bodiless)

    async def send(self, opening: Opening, body: bytes, connect_timeout: float) -> Response:
        """Send, and give the response when its head has come. It has to be closed: read to the end, its connection is
        kept, else closed.

        Raises `ConnectError` where nothing was sent, `PhaseTimeout` for the connect phase, `ReplyError` for what is no
        HTTP, and `CutError` where the reply stops, in its head too.
        """
        assert self._pool is not None, "the transport was not started"
        head = opening.head(len(body))
        kept = self._pool.take(opening.origin)
        if kept is None:
            return await (await self._open(self._pool, opening.origin, connect_timeout)).ask(head, body)
        try:
            return await kept.ask(head, body)
        except CutError:
            if kept.heard:
                # The request was on its way: whether it cost something is not known.
                raise
        # The provider closed a kept connection while the request was on its way; not one byte of a reply came.
        self._reconnected()
        try:
            return await (await self._open(self._pool, opening.origin, connect_timeout)).ask(head, body)
        except ConnectError as error:
            raise CutError("The provider closed the connection without a reply.") from error

    async def _open(self, pool: Pool, origin: Origin, seconds: float) -> Connection:
        try:
            async with asyncio.timeout(seconds):
                return await pool.open(origin)
        except TimeoutError as error:
            raise PhaseTimeout("connect", seconds) from error

    def _destination(self, url: str) -> Destination:
        known = self._read.get(url)
        if known is None:
            if len(self._read) >= MOST_URLS:
                self._read.clear()
            known = self._read[url] = read_url(url)
        return known


class Asking:
    """`async with` it: the response, and its connection let go at the end."""

    __slots__ = ("_asked", "_response", "_transport")

    def __init__(
        self,
        transport: Transport,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        connect_timeout: float,
    ) -> None:
        self._transport = transport
        self._asked = (method, url, headers, body, connect_timeout)
        self._response: Response | None = None

    async def __aenter__(self) -> Response:
        method, url, headers, body, connect_timeout = self._asked
        opening = self._transport.opening(method, url, headers, bodiless=body is None)
        self._response = await self._transport.send(opening, body or b"", connect_timeout)
        return self._response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._response is not None
        self._response.close()
